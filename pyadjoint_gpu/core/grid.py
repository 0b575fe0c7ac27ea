"""Regular cell-centred grids, and the spaces on which parameters live."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .checks import number
from .errors import ConfigError, DataError
from .quantities import conversion, converter, numbers, stated
from .texts import sizes

if TYPE_CHECKING:
    import jax
    import xarray as xr

AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Grid:
    """A box of equal cells; fields sit at cell centres ``origin + (i + 1/2) extent / shape``.

    Parameters
    ----------
    shape : sequence of int
        Number of cells along each axis, in array order: ``(x,)``, ``(y, x)`` or ``(z, y, x)``.
    extent : sequence of float
        Length of the box along each axis, in ``units``.
    origin : sequence of float, optional
        Lower corner of the box; zero by default.
    units : str
        Unit of length of ``extent``, ``origin`` and all positions; "1" for a box without one.
        Models compute in metres: their results do not depend on it.

    Raises
    ------
    ConfigError
        If a count is not a positive integer, a length is not positive and finite, or the unit is
        not one of length.
    """

    shape: tuple[int, ...]
    extent: tuple[float, ...]
    origin: tuple[float, ...]
    units: str

    def __init__(
        self,
        shape: Sequence[int],
        extent: Sequence[float],
        origin: Sequence[float] | None = None,
        *,
        units: str = "m",
    ):
        counts: list[Any] = [shape] if np.ndim(shape) == 0 else list(shape)
        if not 1 <= len(counts) <= 3:
            raise ConfigError(f"grid.shape: found {shape!r}, expected 1 to 3 cell counts")
        for n in counts:
            if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
                raise ConfigError(f"grid.shape: found {shape!r}, expected whole numbers >= 2")
        values: dict[str, tuple[float, ...]] = {}
        given = {"extent": extent, "origin": [0.0] * len(counts) if origin is None else origin}
        for key, value in given.items():
            try:
                numbers = tuple(number(v) for v in ([value] if np.ndim(value) == 0 else value))
            except (TypeError, ValueError):
                raise ConfigError(f"grid.{key}: found {value!r}, expected numbers") from None
            if len(numbers) != len(counts):
                raise ConfigError(
                    f"grid.{key}: found {len(numbers)} numbers, expected {len(counts)} as in shape"
                )
            if not all(math.isfinite(v) for v in numbers):
                raise ConfigError(f"grid.{key}: found {value!r}, expected finite numbers")
            values[key] = numbers
        if min(values["extent"]) <= 0:
            raise ConfigError(f"grid.extent: found {extent!r}, expected positive lengths")
        object.__setattr__(self, "shape", tuple(int(n) for n in counts))
        object.__setattr__(self, "extent", values["extent"])
        object.__setattr__(self, "origin", values["origin"])
        if not isinstance(units, str) or not units:
            raise ConfigError(f"grid.units: found {units!r}, expected a text")
        if units != "1" and conversion(units, "m") is None:
            raise ConfigError(f"grid.units: found {units!r}, expected a unit of length")
        object.__setattr__(self, "units", units)

    @classmethod
    def like(cls, field: xr.DataArray) -> Grid:
        """The grid whose cell centres are the coordinates of a DataArray, in any order of
        dimensions and either direction.

        Raises
        ------
        DataError
            If dimensions are not ``x`` (``y``, ``z``), or a coordinate is not one of equal steps.
        """
        if not (hasattr(field, "dims") and hasattr(field, "coords")):
            raise DataError(f"grid: found {type(field).__name__}, expected a DataArray")
        dims = [d for d in AXES if d in field.dims]
        if set(dims) != set(field.dims) or tuple(dims) != AXES[-len(dims) :]:
            raise DataError(
                f"grid: found dimensions {field.dims}, expected x, y and z from the end"
            )
        ends = []
        for d in dims:
            if d not in field.coords:
                raise DataError(f"grid: dimension {d!r} has no coordinate")
            at = np.sort(np.asarray(field[d].values, dtype=float))
            step = np.diff(at)
            if not (step.size and np.ptp(step) <= 1e-3 * np.mean(step)):
                raise DataError(f"grid: coordinate {d!r} has no equal steps")
            ends.append((at[0], at[-1], len(at)))
        steps = [(high - low) / (n - 1) for low, high, n in ends]
        units = {str(field[d].attrs.get("units", "m")).strip() for d in dims}
        if len(units) > 1:
            raise DataError(
                f"grid: coordinates are in {', '.join(sorted(units))}, expected one unit"
            )
        for d in dims:
            converter(f"grid: coordinate {d!r}", field[d].attrs.get("units"), "m")
        return cls(
            [n for _, _, n in ends],
            [n * h for (_, _, n), h in zip(ends, steps, strict=True)],
            [low - 0.5 * h for (low, _, _), h in zip(ends, steps, strict=True)],
            units=units.pop(),
        )

    @cached_property
    def si(self) -> Grid:
        """The same box in metres; the grid itself if it has no unit."""
        if self.units in ("m", "1"):
            return self
        how = converter("grid", self.units, "m")
        return Grid(self.shape, [*map(how, self.extent)], [*map(how, self.origin)])

    @property
    def text(self) -> str:
        """A one-line description: cells and lengths."""
        lengths = sizes(f"{e:.6g}" for e in self.extent)
        unit = "" if self.units == "1" else f" {self.units}"
        return f"{sizes(self.shape)} cells ({', '.join(self.dims)}), extent {lengths}{unit}"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return AXES[-self.ndim :]

    @property
    def spacing(self) -> tuple[float, ...]:
        return tuple(e / n for e, n in zip(self.extent, self.shape, strict=True))

    @property
    def cell_volume(self) -> float:
        return math.prod(self.spacing)

    @property
    def volume(self) -> float:
        return math.prod(self.extent)

    @cached_property
    def centers(self) -> tuple[np.ndarray, ...]:
        """Coordinates of the cell centres along each axis."""
        return tuple(
            o + (np.arange(n) + 0.5) * h
            for o, n, h in zip(self.origin, self.shape, self.spacing, strict=True)
        )

    @cached_property
    def faces(self) -> tuple[np.ndarray, ...]:
        """Coordinates of the faces (one more than cells) along each axis."""
        return tuple(
            o + np.arange(n + 1) * h
            for o, n, h in zip(self.origin, self.shape, self.spacing, strict=True)
        )

    def outside(self, points: np.ndarray) -> np.ndarray:
        """Mask of the rows of `points`, shape (n, ndim) in array order, outside the box."""
        low = np.asarray(self.origin)
        high = low + np.asarray(self.extent)
        slack = 1e-9 * np.asarray(self.extent)
        return np.any((points < low - slack) | (points > high + slack), axis=1)

    def cell_containing(self, position: Sequence[float]) -> tuple[int, ...]:
        """Index of the cell that contains `position` (array order)."""
        point = np.atleast_1d(np.asarray(position, dtype=float))
        if point.shape != (self.ndim,):
            raise ConfigError(
                f"position {position!r}: found {point.size} numbers, expected {self.ndim}"
                f" ({', '.join(self.dims)})"
            )
        if not np.all(np.isfinite(point)) or self.outside(point[None])[0]:
            raise ConfigError(f"position {position!r}: lies outside the grid ({self._box()})")
        index = np.floor((point - self.origin) / self.spacing).astype(int)
        return tuple(int(i) for i in np.clip(index, 0, np.asarray(self.shape) - 1))

    def interpolation(
        self, points: np.ndarray, on_faces: Sequence[bool] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Multilinear interpolation of a field at `points`.

        ``value[k] = sum_j weights[k, j] * field.ravel()[indices[k, j]]``; beyond the outermost
        centres the value is that of the nearest centre.

        Parameters
        ----------
        points : array, shape (n, ndim)
            Positions in array order.
        on_faces : sequence of bool, optional
            Whether the field sits on the faces across each axis, one more than cells; by default at
            cell centres.

        Returns
        -------
        indices, weights : arrays, shape (n, 2 ** ndim)
        """
        indices = np.zeros((len(points), 1), dtype=np.int64)
        weights = np.ones((len(points), 1))
        faces = on_faces or (False,) * self.ndim
        for axis, (n, h, o) in enumerate(zip(self.shape, self.spacing, self.origin, strict=True)):
            s = (points[:, axis] - o) / h
            s, n = (s, n + 1) if faces[axis] else (s - 0.5, n)
            s = np.clip(s, 0.0, n - 1.0)
            left = np.minimum(s.astype(np.int64), n - 2)
            w = s - left
            indices = np.concatenate([indices * n + (left + k)[:, None] for k in (0, 1)], axis=1)
            weights = np.concatenate([weights * f[:, None] for f in (1.0 - w, w)], axis=1)
        return indices, weights

    def check_inside(
        self, points: np.ndarray, what: str, numbers: np.ndarray | None = None
    ) -> None:
        """Raise a `DataError` that names the first of `points` outside the box, by its number in
        `numbers` or else by its index."""
        bad = np.flatnonzero(self.outside(points))
        if bad.size:
            first = bad[0] if numbers is None else numbers[bad[0]]
            at = ", ".join(f"{d}={v:g}" for d, v in zip(self.dims, points[bad[0]], strict=True))
            raise DataError(
                f"{what} {first} ({at}) lies outside the grid ({self._box()});"
                f" {bad.size} of {len(points)} do"
            )

    def _box(self) -> str:
        return ", ".join(
            f"{d} in [{o:g}, {o + e:g}] {self.units}"
            for d, o, e in zip(self.dims, self.origin, self.extent, strict=True)
        )


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
    """The only variable of a Dataset, or the one that has the name of `of`."""
    found = list(data.data_vars)
    wanted = of.name if of is not None and of.name in found else None
    if wanted is None and len(found) != 1:
        raise DataError(
            f"{name}: found a Dataset of {', '.join(map(str, found)) or 'no variable'},"
            " expected a DataArray"
        )
    return data[found[0] if wanted is None else wanted]


class Space:
    """The space of a parameter: points with coordinates, measures and neighbours."""

    grid: Grid

    @property
    def shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def dims(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def measure(self) -> float:
        """Volume (or area) that belongs to each point."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def positions(self) -> tuple[np.ndarray, ...]:
        """Coordinates of every point, one array of ``shape`` an axis of the grid."""
        raise NotImplementedError

    def dirichlet(self, field: jax.Array) -> jax.Array | float:
        """Integral of ``|grad field|^2`` over the space (differentiable by JAX)."""
        raise NotImplementedError

    def coordinates(self) -> dict[str, Any]:
        """Coordinates of the space's own dimensions, if any, as a Dataset takes them."""
        return {}

    def fill(self, value: Any, name: str, of: Quantity | None = None) -> np.ndarray:
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
        elif isinstance(value, Mapping):
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

    def _plane(self, value: Mapping[str, Any], name: str) -> np.ndarray:
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

    def _aligned(self, array: xr.DataArray, name: str) -> np.ndarray:
        extra = [d for d in array.dims if d not in self.dims and array.sizes[d] == 1]
        array = array.squeeze(extra)
        if array.ndim and set(array.dims) != set(self.dims):
            raise DataError(f"{name}: found dimensions {array.dims}, expected {self.dims}")
        return array.transpose(*(d for d in self.dims if d in array.dims)).values


@dataclass(frozen=True)
class CellSpace(Space):
    """Fields with one value a cell."""

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

    def positions(self) -> tuple[np.ndarray, ...]:
        return tuple(np.meshgrid(*self.grid.centers, indexing="ij"))

    def dirichlet(self, field: jax.Array) -> jax.Array | float:
        import jax.numpy as jnp

        total = 0.0
        for axis, h in enumerate(self.grid.spacing):
            total = total + jnp.sum(jnp.square(jnp.diff(field, axis=axis))) / h**2
        return total * self.grid.cell_volume

    def _aligned(self, array: xr.DataArray, name: str) -> np.ndarray:
        for dim, expected, h in zip(self.dims, self.grid.centers, self.grid.spacing, strict=True):
            if dim not in array.dims or dim not in array.coords:
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


@dataclass(frozen=True)
class BoundarySpace(Space):
    """Fields with one value a face of the named sides of the box, side after side, each in array
    order."""

    grid: Grid
    sides: tuple[str, ...]
    label: str = "boundary"
    """The prefix of its dimension, ``<label>_face``, and of its coordinates."""

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
        out = []
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
        """Mean face area."""
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

    def positions(self) -> tuple[np.ndarray, ...]:
        columns: list[list[np.ndarray]] = [[] for _ in self.grid.dims]
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

    def dirichlet(self, field: jax.Array) -> jax.Array | float:
        """Integral of ``|grad field|^2`` along each side, and in 2-D around the corners where two
        named sides meet."""
        import jax.numpy as jnp

        i, j, length, area = self._edges
        return jnp.sum(area / length * jnp.square(field[j] - field[i]))

    @cached_property
    def _edges(self) -> tuple[np.ndarray, ...]:
        """Indices i, j of neighbouring faces, their distance and the width they share."""
        index = np.arange(self.size)
        pairs: list[tuple[np.ndarray, np.ndarray, float, float]] = []
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

    def _corners(self) -> Iterator[tuple[np.ndarray, np.ndarray, float, float]]:
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

    def fill(self, value: Any, name: str, of: Quantity | None = None) -> np.ndarray:
        """`Space.fill`, which here also takes a mapping from each side to its value."""
        sides = isinstance(value, Mapping) and not hasattr(value, "data_vars")
        if sides and not set(value) & {"value", "gradient"}:
            if set(value) != set(self.sides):
                raise ConfigError(
                    f"{name}: found sides {', '.join(map(str, value))},"
                    f" expected {', '.join(self.sides)}"
                )
            parts = []
            for side in self.sides:
                one = BoundarySpace(self.grid, (side,))
                parts.append(one.fill(value[side], f"{name}.{side}", of))
            return np.concatenate(parts)
        return super().fill(value, name, of)


FieldLike = float | np.ndarray | Mapping[str, Any] | Callable[..., Any]
"""Values that a user may give for a field: see `Space.fill`."""
