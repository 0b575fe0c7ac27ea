"""Forcing in time and space: where it acts, and the space of its values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.checks import check_keys, number
from ..core.errors import ConfigError, DataError
from ..core.grid import Grid
from ..core.quantities import points
from ..core.spaces import CellSpace, Quantity, Space
from ..core.texts import counted


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Places:
    """Cells where a forcing acts: all of them, some, or those that contain given points.

    A value in a cell is an amount a time and volume; one at a point is an amount a time, spread
    over the cell that contains it.

    Attributes
    ----------
    given : tuple
        ``("cells",)``, ``("box", low, high)``, ``("mask", bytes)`` or ``("points", positions)``.
    """

    grid: Grid
    given: tuple[Any, ...]

    @classmethod
    def of(cls, grid: Grid, option: Any, name: str) -> Places:
        """From a model's option of that name: ``"cells"``, a mask of the grid's shape, positions
        in array order, or a box ``{"low": [...], "high": [...]}``.

        Raises
        ------
        ConfigError
            If it is none of these, or leaves no cell.
        """
        if isinstance(option, str):
            if option != "cells":
                raise ConfigError(f"{name}: found {option!r}, expected 'cells', or which of them")
            return cls(grid, ("cells",))
        columns = hasattr(option, "data_vars")
        if isinstance(option, Mapping) and not columns:
            places = cls(grid, _box(grid, option, name))
        elif not columns and _logical(option):
            places = cls(grid, ("mask", _mask(grid, option, name).tobytes()))
        else:
            places = cls(grid, ("points", _positions(grid, option, name)))
        if not places.indices.size:
            raise ConfigError(f"{name}: found no cell, expected one at least")
        return places

    @cached_property
    def indices(self) -> np.ndarray:
        """Of the cells, in the flat array of all."""
        # Of 32 bits: JAX remembers how it took an index before.
        return self._indices().astype(np.int32)

    def _indices(self) -> np.ndarray:
        kind, *rest = self.given
        if kind == "points":
            cells = [self.grid.cell_containing(p) for p in rest[0]]
            return np.asarray(np.ravel_multi_index(tuple(np.transpose(cells)), self.grid.shape))
        if kind == "mask":
            return np.flatnonzero(np.frombuffer(rest[0], dtype=bool))
        inside = np.ones(self.grid.shape, dtype=bool)
        if kind == "box":
            for p, low, high in zip(CellSpace(self.grid).positions(), *rest, strict=True):
                inside &= (p >= low) & (p <= high)
        return np.flatnonzero(inside)

    @property
    def everywhere(self) -> bool:
        return self.given == ("cells",)

    @property
    def at_points(self) -> bool:
        return self.given[0] == "points"

    @property
    def text(self) -> str:
        """Where, in a few words."""
        if self.everywhere:
            return "all cells"
        return counted(self.indices.size, "point" if self.at_points else "cell")

    def specification(self) -> Any:
        """The option again."""
        kind, *rest = self.given
        if kind == "cells":
            return "cells"
        if kind == "box":
            return {"low": list(rest[0]), "high": list(rest[1])}
        if kind == "points":
            return [list(p) for p in rest[0]]
        return np.frombuffer(rest[0], dtype=bool).reshape(self.grid.shape)

    def julia_spec(self) -> dict[str, Any]:
        """For Julia: the cells, and what a value is in one."""
        cells = None if self.everywhere else self.indices.tolist()
        amount = 1.0 / self.grid.si.cell_volume if self.at_points else 1.0
        return {"cells": cells, "amount": amount}

    def spread(self, values: Any) -> Any:
        """Values at the places as an amount a time and volume in every cell."""
        if self.everywhere:
            return values
        if self.at_points:
            values = values / self.grid.si.cell_volume
        empty = jnp.zeros(self.grid.size, values.dtype)
        return empty.at[self.indices].add(values).reshape(self.grid.shape)

    # As an argument of compiled code: the cells are data, where there are some.

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        kind = self.given[0]
        return () if self.everywhere else (self.indices,), (self.grid, kind)

    @classmethod
    def tree_unflatten(cls, structure: Any, arrays: tuple[Any, ...]) -> Places:
        grid, kind = structure
        out = cls(grid, (kind,))
        if arrays:
            vars(out)["indices"] = arrays[0]
        return out


def _logical(option: Any) -> bool:
    try:
        return np.asarray(option).dtype.kind == "b"
    except ValueError:  # rows of different lengths
        return False


def _mask(grid: Grid, option: Any, name: str) -> np.ndarray:
    """As an array of the grid; a DataArray in any order of dimensions and either direction."""
    shape = np.shape(option)
    if len(shape) != grid.ndim or math.prod(shape) != grid.size:
        raise ConfigError(f"{name}: found a mask of shape {shape}, expected {grid.shape}")
    if np.ma.isMaskedArray(option):
        option = option.filled(False)
    values = option.astype(float) if hasattr(option, "astype") else np.asarray(option, float)
    return CellSpace(grid).fill(values, name) > 0.5


def _box(grid: Grid, option: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    table = check_keys(option, ("low", "high"), name)
    corners = []
    for key in ("low", "high"):
        try:
            corner = tuple(number(v) for v in np.atleast_1d(table[key]).tolist())
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"{name}.{key}: found {table.get(key)!r}, expected numbers") from None
        if len(corner) != grid.ndim:
            raise ConfigError(
                f"{name}.{key}: found {len(corner)} numbers, expected {grid.ndim}"
                f" ({', '.join(grid.dims)})"
            )
        corners.append(corner)
    return "box", *corners


def _positions(grid: Grid, option: Any, name: str) -> tuple[Any, ...]:
    expected = (
        f"'cells', a mask of shape {grid.shape}, a box, or positions of shape (n, {grid.ndim})"
    )
    try:
        array = points(name, option, dict.fromkeys(grid.dims, grid.units), expected=expected)
    except DataError as error:
        raise ConfigError(str(error)) from None
    return tuple(tuple(p) for p in array.tolist())


@dataclass(frozen=True)
class ForcingSpace(Space):
    """One value a place and interval of time, in which it is constant.

    Attributes
    ----------
    interval : float
        Length of one.
    count : int
    time_units : str
    """

    places: Places
    interval: float
    count: int
    time_units: str

    @property
    def grid(self) -> Grid:  # type: ignore[override]
        return self.places.grid

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        where = self.grid.shape if self.places.everywhere else (self.places.indices.size,)
        return (self.count, *where)

    @property
    def dims(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("interval", *(self.grid.dims if self.places.everywhere else ("source",)))

    @property
    def measure(self) -> float:  # type: ignore[override]
        return self.grid.cell_volume

    @property
    def times(self) -> np.ndarray:
        """The middles of the intervals."""
        return (np.arange(self.count) + 0.5) * self.interval

    def positions(self) -> tuple[np.ndarray, ...]:
        return tuple(np.broadcast_to(p, self.shape) for p in self._places())

    def _places(self) -> tuple[np.ndarray, ...]:
        """Coordinates of the places, at any time."""
        if self.places.at_points:
            return tuple(np.transpose(self.places.given[1]))
        everywhere = CellSpace(self.grid).positions()
        if self.places.everywhere:
            return everywhere
        return tuple(p.ravel()[self.places.indices] for p in everywhere)

    def fill(self, value: Any, name: str, of: Quantity | None = None) -> np.ndarray:
        """As for any space, but a function is one of time and the coordinates."""
        if callable(value):
            times = self.times.reshape(-1, *(1 for _ in self.shape[1:]))
            value = value(np.broadcast_to(times, self.shape), *self.positions())
        return super().fill(value, name, of)

    def dirichlet(self, field: Any) -> Any:
        """Summed over the intervals; along space alone, between neighbouring cells of those named.
        Points have no neighbours."""
        if self.places.at_points:
            return jnp.zeros(())
        flat = jnp.reshape(field, (self.count, -1))
        total = 0.0
        for (low, high), h in zip(self._pairs, self.grid.spacing, strict=True):
            total = total + jnp.sum(jnp.square(flat[:, high] - flat[:, low])) / h**2
        return total * self.grid.cell_volume

    @cached_property
    def _pairs(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Along each axis, neighbours by their places in the list of cells."""
        places = np.full(self.grid.size, -1)
        places[self.places.indices] = np.arange(self.places.indices.size)
        cells = places.reshape(self.grid.shape)
        out = []
        for axis, n in enumerate(self.grid.shape):
            low = np.take(cells, np.arange(n - 1), axis=axis).ravel()
            high = np.take(cells, np.arange(1, n), axis=axis).ravel()
            both = (low >= 0) & (high >= 0)
            out.append((low[both], high[both]))
        return tuple(out)

    def coordinates(self) -> dict[str, Any]:
        time = {"units": self.time_units, "long_name": "middle of the interval"}
        out: dict[str, Any] = {"interval": ("interval", self.times, time)}
        if self.places.everywhere:
            return out
        for d, p in zip(self.grid.dims, self._places(), strict=True):
            attributes = {"units": self.grid.units, "long_name": f"{d} coordinate of sources"}
            out[f"source_{d}"] = ("source", p, attributes)
        return out
