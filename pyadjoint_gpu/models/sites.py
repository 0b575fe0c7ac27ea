"""Sites of a forcing: all cells, some of them, or points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..core.checks import check_keys, number
from ..core.errors import ConfigError, DataError
from ..core.grid import Grid
from ..core.quantities import points
from ..core.spaces import CellSpace
from ..core.texts import counted

Mask = Bool[np.ndarray, "*cells"]
Indices = Int[np.ndarray, " sites"]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Sites:
    """Sites of a forcing: all cells, some of them, or points.

    A value in a cell is an amount per time and volume; a value at a point is an amount per time,
    spread over the cell that contains the point.

    Attributes
    ----------
    given : tuple
        ``("cells",)``, ``("box", low, high)``, ``("mask", bytes)`` or ``("points", positions)``.
    """

    grid: Grid
    given: tuple[Any, ...]

    @classmethod
    def of(cls, grid: Grid, option: Any, name: str) -> Sites:
        """The sites given by a model's option of that name: ``"cells"``, a mask of the grid's
        shape, positions in array order, or a box ``{"low": [...], "high": [...]}``.

        Raises
        ------
        ConfigError
            If it is none of these, or leaves no cell.
        """
        if isinstance(option, str):
            if option != "cells":
                raise ConfigError(
                    f"{name}: found {option!r}, expected 'cells', or a selection of them"
                )
            return cls(grid, ("cells",))
        columns = hasattr(option, "data_vars")
        if isinstance(option, Mapping) and not columns:
            sites = cls(grid, _box(grid, option, name))
        elif not columns and _logical(option):
            sites = cls(grid, ("mask", _mask(grid, option, name).tobytes()))
        else:
            sites = cls(grid, ("points", _positions(grid, option, name)))
        if not sites.indices.size:
            raise ConfigError(f"{name}: found no cell, expected one at least")
        return sites

    @cached_property
    def indices(self) -> Indices:
        """Indices of the cells in the flattened grid."""
        kind, *rest = self.given
        if kind == "points":
            cells = np.transpose([self.grid.cell_containing(p) for p in rest[0]])
            found = np.asarray(np.ravel_multi_index(tuple(cells), self.grid.shape))
        elif kind == "mask":
            found = np.flatnonzero(np.frombuffer(rest[0], dtype=bool))
        else:
            inside = np.ones(self.grid.shape, dtype=bool)
            if kind == "box":
                for p, low, high in zip(CellSpace(self.grid).positions(), *rest, strict=True):
                    inside &= (p >= low) & (p <= high)
            found = np.flatnonzero(inside)
        # 32 bits, for which JAX's cached indexing code holds with and without 64-bit types.
        return found.astype(np.int32)

    @property
    def everywhere(self) -> bool:
        """Whether all cells are sites."""
        return self.given == ("cells",)

    @property
    def at_points(self) -> bool:
        """Whether the sites are points."""
        return self.given[0] == "points"

    @property
    def text(self) -> str:
        """The sites in a few words."""
        if self.everywhere:
            return "all cells"
        return counted(self.indices.size, "point" if self.at_points else "cell")

    def specification(self) -> str | dict[str, list[float]] | list[list[float]] | Mask:
        """The option from which `of` makes these sites."""
        kind, *rest = self.given
        if kind == "cells":
            return "cells"
        if kind == "box":
            return {"low": list(rest[0]), "high": list(rest[1])}
        if kind == "points":
            return [list(p) for p in rest[0]]
        return np.frombuffer(rest[0], dtype=bool).reshape(self.grid.shape)

    def julia_spec(self) -> dict[str, Any]:
        """Options for Julia: the indices of the cells, and the amount per time and volume that a
        value of one is there."""
        cells = None if self.everywhere else self.indices.tolist()
        amount = 1.0 / self.grid.si.cell_volume if self.at_points else 1.0
        return {"cells": cells, "amount": amount}

    def spread(self, values: Float[Array, "*sites"]) -> Float[Array, "*cells"]:
        """The amount per time and volume in every cell, from the values at the sites."""
        if self.everywhere:
            return values
        if self.at_points:
            values = values / self.grid.si.cell_volume
        empty = jnp.zeros(self.grid.size, values.dtype)
        return empty.at[self.indices].add(values).reshape(self.grid.shape)

    # As a pytree the cells are data, so that compiled code does not depend on which they are.

    def tree_flatten(self) -> tuple[tuple[Indices, ...], tuple[Grid, str]]:
        kind = self.given[0]
        return () if self.everywhere else (self.indices,), (self.grid, kind)

    @classmethod
    def tree_unflatten(cls, structure: tuple[Grid, str], arrays: tuple[Indices, ...]) -> Sites:
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


def _mask(grid: Grid, option: Any, name: str) -> Mask:
    """A mask as an array of the grid's shape; from a DataArray in any order of dimensions."""
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
