"""The space of a block column's forcing, in its attributes and coordinates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from ..core.grid import Grid
from ..models.forcing import ForcingSpace
from ..models.sites import Sites

NAME = "forcing_space"
"""Attribute of a block column with its forcing's grid, and whether sites are points of it."""


def told(space: ForcingSpace) -> dict[str, str]:
    """The attribute from which, with its coordinates, `space_of` a block column makes the space."""
    grid = space.grid
    table = {k: getattr(grid, k) for k in ("shape", "extent", "origin", "units")}
    return {NAME: json.dumps(table | {"at_points": space.sites.at_points})}


def space_of(column: xr.DataArray) -> ForcingSpace | None:
    """The space of a block column's forcing; None where the column does not say."""
    lag = column.coords.get("lag")
    if NAME not in column.attrs or lag is None or lag.size < 2:
        return None
    table: dict[str, Any] = json.loads(column.attrs[NAME])
    at_points = table.pop("at_points")
    grid = Grid(**table)
    option: Any = "cells"
    if "source" in column.dims:
        names = [f"source_{d}" for d in grid.dims]
        if not {*names} <= {*column.coords}:
            return None
        option = np.stack([column[n].values for n in names], axis=-1)
        if not at_points:
            cells = np.floor((option - grid.origin) / grid.spacing).astype(int)
            option = np.zeros(grid.shape, dtype=bool)
            option[tuple(cells.T)] = True
    sites = Sites.of(grid, option, "source")
    interval = float(lag[1] - lag[0])
    space = ForcingSpace(sites, interval, lag.size, lag.attrs.get("units", "1"))
    return space if space.shape == (column.shape[0], *column.shape[2:]) else None
