"""Spaces of parameters and unknowns: the cells of a grid, the faces of its sides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .checks import number
from .errors import ConfigError, DataError
from .grid import AXES, Grid
from .guards import is_mapping
from .quantities import converter, coordinates, numbers, stated

if TYPE_CHECKING:
    import xarray as xr
    from jaxtyping import Array, Float, Int

    _Pairs = tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], float, float]


class Quantity(Protocol):
    """The physical quantity of a field, such as a model's `Variable`."""

    @property
    def name(self) -> str: ...
    @property
    def units(self) -> str: ...
    @property
    def long_name(self) -> str: ...
    @property
    def density(self) -> float | None: ...


def _only(data: xr.Dataset, name: str, of: Quantity | None) -> xr.DataArray:
    """The variable of a Dataset with the name of `of`, or its only one."""
    found = list(data.data_vars)
    if of is not None and of.name in found:
        return data[of.name]
    if len(found) != 1:
        raise DataError(
            f"{name}: found a Dataset of {', '.join(map(str, found)) or 'no variable'},"
            " expected a DataArray"
        )
    return data[found[0]]


class Space:
    """The space of a parameter: points with coordinates, measures and neighbours."""

    grid: Grid

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a field."""
        raise NotImplementedError

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of a field's dimensions."""
        raise NotImplementedError

    @property
    def measure(self) -> float:
        """Volume (or area) that belongs to each point."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @property
    def box(self) -> Grid | None:
        """The grid of which the points are all cells, in C order, if there is one: once, or
        several times one after the other."""
        return None

    def positions(self) -> tuple[Float[np.ndarray, "*shape"], ...]:
        """Coordinates of every point, one array for each axis of the grid."""
        raise NotImplementedError

    def dirichlet(self, field: Float[Array, "*shape"]) -> Float[Array, ""] | float:
        """Integral of ``|grad field|^2`` over the space, differentiable by JAX."""
        raise NotImplementedError

    def coordinates(self) -> dict[str, Any]:
        """Coordinates of the space's own dimensions, if any, as a Dataset takes them."""
        return {}

    def fill(
        self, value: Any, name: str, of: Quantity | None = None
    ) -> Float[np.ndarray, "*shape"]:
        """`value` as a field of this space, in the units of `of`.

        Parameters
        ----------
        value : number, array, DataArray, Dataset, function or mapping
            An array, masked or not, has this space's ``shape``; a DataArray has its dimensions, in
            any order; a Dataset has one variable, or one with the name of `of`. A function takes
            the coordinates (array order); ``{"value": v, "gradient": [g, ...]}`` is a linear
            function with value v in the middle of the grid. Values that state their units are
            converted.
        name : str
            The name in error messages.
        of : Quantity, optional

        Raises
        ------
        ConfigError, DataError
            If `value` is none of these, its units do not convert, or a value is missing (masked,
            NaN).
        """
        if hasattr(value, "data_vars"):
            value = _only(value, name, of)
        elif is_mapping(value):
            value = self._plane(value, name)
        elif callable(value):
            value = value(*self.positions())
        units = stated(value)
        if hasattr(value, "dims") and hasattr(value, "transpose"):
            value = self._aligned(value.copy(data=numbers(name, value)), name)
        array = numbers(name, value, expected=f"a number or an array of shape {self.shape}")
        if units is not None and of is not None:
            how = converter(name, units, of.units, density=of.density, meaning=of.long_name)
            array = how(array)
        if array.ndim and array.shape != self.shape:
            raise DataError(f"{name}: found shape {array.shape}, expected {self.shape}")
        bad = ~np.isfinite(array)
        if np.any(bad):
            at = tuple(map(int, np.argwhere(bad)[0])) if array.ndim else ""
            raise DataError(
                f"{name}: found {np.count_nonzero(bad)} NaN or infinite values"
                f"{at and f' of {array.size}, the first at {at}'}, expected finite numbers"
            )
        return np.broadcast_to(array, self.shape)

    def _plane(self, value: Mapping[str, Any], name: str) -> Float[np.ndarray, "*shape"]:
        """The linear function ``{"value": v, "gradient": [g, ...]}``."""
        grid = self.grid
        if set(value) != {"value", "gradient"}:
            raise ConfigError(f"{name}: found keys {sorted(value)}, expected value and gradient")
        try:
            slope = np.atleast_1d(np.asarray(value["gradient"], dtype=float))
            middle_value = number(value["value"])
        except (TypeError, ValueError):
            raise ConfigError(f"{name}: found {dict(value)!r}, expected numbers") from None
        if slope.shape != (grid.ndim,):
            raise ConfigError(
                f"{name}.gradient: found {slope.size} numbers, expected {grid.ndim}"
                f" ({', '.join(grid.dims)})"
            )
        middle = [o + 0.5 * e for o, e in zip(grid.origin, grid.extent, strict=True)]
        out = np.full(self.shape, middle_value)
        for g, p, c in zip(slope, self.positions(), middle, strict=True):
            out = out + g * (p - c)
        return out

    def _aligned(self, array: xr.DataArray, name: str) -> Float[np.ndarray, " ..."]:
        """The values of a DataArray with its dimensions in this space's order, less those of
        length 1 that are not of this space."""
        extra = [d for d in array.dims if d not in self.dims and array.sizes[d] == 1]
        array = array.squeeze(extra)
        if array.ndim and set(array.dims) != set(self.dims):
            raise DataError(f"{name}: found dimensions {array.dims}, expected {self.dims}")
        return array.transpose(*(d for d in self.dims if d in array.dims)).values


@dataclass(frozen=True)
class CellSpace(Space):
    """The cells of a grid: fields have one value a cell."""

    grid: Grid

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def dims(self) -> tuple[str, ...]:
        return self.grid.dims

    @property
    def measure(self) -> float:
        return self.grid.cell_volume

    @property
    def box(self) -> Grid | None:
        return self.grid

    def positions(self) -> tuple[Float[np.ndarray, "*shape"], ...]:
        return tuple(np.meshgrid(*self.grid.centers, indexing="ij"))

    def dirichlet(self, field: Float[Array, "*shape"]) -> Float[Array, ""] | float:
        import jax.numpy as jnp

        total = 0.0
        for axis, h in enumerate(self.grid.spacing):
            total = total + jnp.sum(jnp.square(jnp.diff(field, axis=axis))) / h**2
        return total * self.grid.cell_volume

    def _aligned(self, array: xr.DataArray, name: str) -> Float[np.ndarray, " ..."]:
        for dim, expected, h in zip(self.dims, self.grid.centers, self.grid.spacing, strict=True):
            if dim not in array.dims or dim not in coordinates(array):
                continue
            what = f"{name}: coordinate {dim!r}"
            how = converter(what, array[dim].attrs.get("units"), self.grid.units)
            found = how(numbers(what, array[dim]))
            step = np.diff(found)
            if not (np.all(step > 0) or np.all(step < 0)):
                raise DataError(f"{name}: coordinate {dim!r} is not monotonic")
            if step.size and step[0] < 0:
                array = array.isel({dim: slice(None, None, -1)})
                found = found[::-1]
            if found.shape == expected.shape and np.max(np.abs(found - expected)) > 1e-3 * h:
                raise DataError(
                    f"{name}: coordinate {dim!r} runs from {found[0]:g} to {found[-1]:g},"
                    f" expected the cell centres {expected[0]:g} to {expected[-1]:g}"
                )
        return super()._aligned(array, name)


SIDES = {f"{axis}_{end}": (axis, end) for axis in AXES for end in ("min", "max")}
"""Axis and end of each side of a grid, by name."""


@dataclass(frozen=True)
class BoundarySpace(Space):
    """The faces of the named sides of a grid: fields have one value a face, side after side, each
    side in array order."""

    grid: Grid
    sides: tuple[str, ...]
    label: str = "boundary"
    """Prefix of the dimension's name, ``<label>_face``, and of those of its coordinates."""

    def __post_init__(self) -> None:
        allowed = [s for s, (axis, _) in SIDES.items() if axis in self.grid.dims]
        for side in self.sides:
            if side not in allowed:
                raise ConfigError(f"side {side!r}: expected one of {', '.join(allowed)}")
        if len(set(self.sides)) != len(self.sides):
            raise ConfigError(f"sides {self.sides}: one is named twice")

    @property
    def dims(self) -> tuple[str, ...]:
        return (f"{self.label}_face",)

    @cached_property
    def _layout(self) -> tuple[tuple[int, tuple[int, ...], slice], ...]:
        """For each side its axis, the shape of its faces, and their slice of the vector."""
        out: list[tuple[int, tuple[int, ...], slice]] = []
        start = 0
        for side in self.sides:
            axis = self.grid.dims.index(SIDES[side][0])
            shape = tuple(n for a, n in enumerate(self.grid.shape) if a != axis)
            stop = start + math.prod(shape)
            out.append((axis, shape, slice(start, stop)))
            start = stop
        return tuple(out)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._layout[-1][2].stop if self.sides else 0,)

    @property
    def measure(self) -> float:
        """Mean area of a face."""
        areas = [
            self.grid.cell_volume / self.grid.spacing[axis] * math.prod(shape)
            for axis, shape, _ in self._layout
        ]
        return sum(areas) / self.size

    def parts(self, values: Any) -> Iterator[tuple[int, int, Any]]:
        """For each side its axis, the index of its cells along that axis (0 or -1), and its values
        as an array of the grid's rank with one cell along that axis."""
        for side, (axis, _, where) in zip(self.sides, self._layout, strict=True):
            shape = tuple(1 if a == axis else n for a, n in enumerate(self.grid.shape))
            yield axis, 0 if SIDES[side][1] == "min" else -1, values[where].reshape(shape)

    def positions(self) -> tuple[Float[np.ndarray, "*shape"], ...]:
        columns: list[list[Float[np.ndarray, " faces"]]] = [[] for _ in self.grid.dims]
        for side, (axis, _, _) in zip(self.sides, self._layout, strict=True):
            ends = self.grid.faces[axis]
            at = ends[:1] if SIDES[side][1] == "min" else ends[-1:]
            axes = [at if a == axis else c for a, c in enumerate(self.grid.centers)]
            for column, p in zip(columns, np.meshgrid(*axes, indexing="ij"), strict=True):
                column.append(p.ravel())
        return tuple(np.concatenate(c) for c in columns)

    def coordinates(self) -> dict[str, Any]:
        return {
            f"{self.label}_{d}": (
                self.dims,
                p,
                {"units": self.grid.units, "long_name": f"{d} coordinate of boundary faces"},
            )
            for d, p in zip(self.grid.dims, self.positions(), strict=True)
        }

    def dirichlet(self, field: Float[Array, "*shape"]) -> Float[Array, ""] | float:
        """Integral of ``|grad field|^2`` along each side, and in 2-D around the corners where two
        named sides meet."""
        import jax.numpy as jnp

        i, j, length, area = self._edges
        return jnp.sum(area / length * jnp.square(field[j] - field[i]))

    @cached_property
    def _edges(self) -> tuple[np.ndarray, ...]:
        """Indices i, j of neighbouring faces, their distance and the width they share."""
        index = np.arange(self.size)
        pairs: list[_Pairs] = []
        for axis, shape, where in self._layout:
            block = index[where].reshape(shape)
            others = [h for a, h in enumerate(self.grid.spacing) if a != axis]
            for k, h in enumerate(others):
                low = np.take(block, np.arange(block.shape[k] - 1), axis=k).ravel()
                high = np.take(block, np.arange(1, block.shape[k]), axis=k).ravel()
                pairs.append((low, high, h, math.prod(others) / h))
        if self.grid.ndim == 2:
            pairs += list(self._corners())
        nothing = np.zeros(0, dtype=int)  # on a line, whose ends are no neighbours
        return tuple(
            np.concatenate([nothing, *(np.broadcast_to(p[k], p[0].shape) for p in pairs)])
            for k in range(4)
        )

    def _corners(self) -> Iterator[_Pairs]:
        """Neighbours around the corners where two sides meet, in 2-D."""
        hy, hx = self.grid.spacing
        ends = {
            s: np.arange(self.size)[w][[0, -1]]
            for s, (_, _, w) in zip(self.sides, self._layout, strict=True)
        }
        for end_y, sy in enumerate(("y_min", "y_max")):
            for end_x, sx in enumerate(("x_min", "x_max")):
                if sy in ends and sx in ends:
                    i, j = ends[sy][[end_x]], ends[sx][[end_y]]
                    yield i, j, 0.5 * (hx + hy), 1.0

    def fill(
        self, value: Any, name: str, of: Quantity | None = None
    ) -> Float[np.ndarray, " faces"]:
        """`Space.fill`, which here also takes a mapping from each side to its value."""
        by_key = is_mapping(value) and not hasattr(value, "data_vars")
        if by_key and not set(value) & {"value", "gradient"}:
            if set(value) != set(self.sides):
                raise ConfigError(
                    f"{name}: found sides {', '.join(map(str, value))},"
                    f" expected {', '.join(self.sides)}"
                )
            each = {side: BoundarySpace(self.grid, (side,)) for side in self.sides}
            return np.concatenate(
                [one.fill(value[s], f"{name}.{s}", of) for s, one in each.items()]
            )
        return super().fill(value, name, of)
