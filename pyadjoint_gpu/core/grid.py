"""Regular cell-centred grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import number
from .errors import ConfigError, DataError
from .frozen import Frozen
from .quantities import conversion, converter, coordinates
from .texts import sizes

if TYPE_CHECKING:
    import xarray as xr
    from jaxtyping import Bool, Float, Int

AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Grid(Frozen):
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
            if isinstance(n, bool) or not isinstance(n, Integral) or int(n) < 2:
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
        if units != "1" and (not units or conversion(units, "m") is None):
            raise ConfigError(f"grid.units: found {units!r}, expected a unit of length, a text")
        self._set(shape=tuple(int(n) for n in counts), units=units, **values)

    @classmethod
    def like(cls, field: xr.DataArray) -> Grid:
        """The grid whose cell centres are the coordinates of a DataArray.

        Its dimensions may be in any order, its coordinates in either direction.

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
        shape: list[int] = []
        extent: list[float] = []
        origin: list[float] = []
        for d in dims:
            if d not in coordinates(field):
                raise DataError(f"grid: dimension {d!r} has no coordinate")
            at = np.sort(np.asarray(field[d].values, dtype=float))
            steps, n = np.diff(at), len(at)
            if not (steps.size and np.ptp(steps) <= 1e-3 * np.mean(steps)):
                raise DataError(f"grid: coordinate {d!r} has no equal steps")
            step = (at[-1] - at[0]) / (n - 1)
            shape.append(n)
            extent.append(n * step)
            origin.append(at[0] - 0.5 * step)
        units = {str(field[d].attrs.get("units", "m")).strip() for d in dims}
        if len(units) > 1:
            raise DataError(
                f"grid: coordinates are in {', '.join(sorted(units))}, expected one unit"
            )
        for d in dims:
            converter(f"grid: coordinate {d!r}", field[d].attrs.get("units"), "m")
        return cls(shape, extent, origin, units=units.pop())

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
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return AXES[-self.ndim :]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Length of a cell along each axis."""
        return tuple(e / n for e, n in zip(self.extent, self.shape, strict=True))

    @property
    def cell_volume(self) -> float:
        """Volume of a cell (area, length)."""
        return math.prod(self.spacing)

    @property
    def volume(self) -> float:
        """Volume of the box (area, length)."""
        return math.prod(self.extent)

    @cached_property
    def centers(self) -> tuple[Float[np.ndarray, " cells"], ...]:
        """Coordinates of the cell centres along each axis."""
        return tuple(
            o + (np.arange(n) + 0.5) * h
            for o, n, h in zip(self.origin, self.shape, self.spacing, strict=True)
        )

    @cached_property
    def faces(self) -> tuple[Float[np.ndarray, " faces"], ...]:
        """Coordinates of the faces (one more than cells) along each axis."""
        return tuple(
            o + np.arange(n + 1) * h
            for o, n, h in zip(self.origin, self.shape, self.spacing, strict=True)
        )

    def outside(self, points: Float[np.ndarray, "points ndim"]) -> Bool[np.ndarray, " points"]:
        """Mask of the `points`, in array order, that lie outside the box."""
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

    def check_inside(
        self,
        points: Float[np.ndarray, "points ndim"],
        what: str,
        numbers: Int[np.ndarray, " points"] | None = None,
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
        """The bounds of the box, in messages."""
        return ", ".join(
            f"{d} in [{o:g}, {o + e:g}] {self.units}"
            for d, o, e in zip(self.dims, self.origin, self.extent, strict=True)
        )


FieldLike = float | np.ndarray | Mapping[str, Any] | Callable[..., Any]
"""Values that a user may give for a field: see `Space.fill`."""
