"""Where data are taken: at points, or over intervals of the axes, as CF metadata say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from ..core.errors import DataError
from ..core.quantities import points as positions
from ..core.quantities import power
from ..models.base import Model
from ..models.declarations import Variable
from ..results.dataset import named
from ..statistics.noise import Layout
from .cell_methods import METHODS, bounds_of, cell_methods, method_along


def axis_units(model: Model, axis: str) -> str:
    """Units of positions along an axis of the model's states."""
    return model.time_units if axis == "time" else model.domain.units


@dataclass(frozen=True)
class Support:
    """The supports of n data: along each axis of a model's states points, or intervals of which
    the data are means or integrals. Those over several axes are boxes.

    Attributes
    ----------
    axes, units : tuple of str
        Names of the axes, `Model.dims`, and the units of positions along them.
    methods : tuple of {"point", "mean", "sum"}
        For each axis what a datum is of the values along it.
    points : array, shape (n, axes)
        Positions.
    bounds : array, shape (n, axes, 2)
        Lower and upper ends of the intervals; the positions along axes of points.
    """

    axes: tuple[str, ...]
    units: tuple[str, ...]
    methods: tuple[str, ...]
    points: Float[np.ndarray, "n axes"]
    bounds: Float[np.ndarray, "n axes 2"]

    @classmethod
    def of(cls, model: Model, given: Any, key: str, what: str) -> Support:
        """The support of the positions that are the argument `key`, each called `what`, as
        `synthetic.observe` takes them."""
        points = positions(key, given, {d: axis_units(model, d) for d in model.dims})
        data = given if isinstance(given, xr.Dataset) else xr.Dataset()
        methods = cell_methods(key, data, *data.data_vars.values())
        out = cls.read(model, points, data, {d: d for d in model.dims}, methods, key)
        out.check(model, what)
        return out

    @classmethod
    def read(
        cls,
        model: Model,
        points: Float[np.ndarray, "n axes"],
        data: xr.Dataset,
        columns: Mapping[str, str],
        methods: Mapping[str, str],
        what: str,
    ) -> Support:
        """The support of data at `points`, with the bounds of a Dataset's coordinates, by axis the
        `columns`, and the `methods` of its `cell_methods`."""
        dims, units = model.dims, tuple(axis_units(model, d) for d in model.dims)
        bounds, found = np.repeat(points[:, :, None], 2, axis=2), ["point"] * len(dims)
        for k, (axis, unit) in enumerate(zip(dims, units, strict=True)):
            ends = bounds_of(data, columns[axis], unit, what)
            found[k] = method_along(axis, columns[axis], methods, what, bounded=ends is not None)
            if ends is not None and found[k] != "point":
                bounds[:, k] = ends
        return cls(dims, units, tuple(found), points, bounds)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, which: Any) -> Support:
        """The supports of some of the data."""
        return replace(self, points=self.points[which], bounds=self.bounds[which])

    @property
    def intervals(self) -> dict[str, Float[np.ndarray, "n 2"]]:
        """Ends of the intervals, by the axis."""
        each = zip(self.axes, self.methods, np.moveaxis(self.bounds, 1, 0), strict=True)
        return {axis: ends for axis, method, ends in each if method != "point"}

    def measured(self, of: Variable) -> Variable:
        """The variable that the data are of: that of the field, or its integral."""
        over = [u for u, method in zip(self.units, self.methods, strict=True) if method == "sum"]
        if not over:
            return of
        units = power((of.units, 1), *((u, 1) for u in over))
        text = f"integral of {of.attributes['long_name']}"
        return replace(of, units=units, long_name=text, standard_name=None)

    def layout(self, units: str) -> Layout:
        """The layout of data for their noise: those with the same support in space are of one
        place."""
        space = self.bounds[:, self.timed :].reshape(len(self), -1)
        _, sites = np.unique(space, axis=0, return_inverse=True)
        time_units = self.units[0] if self.timed else "1"
        return Layout(len(self), units, self.times, time_units, sites.ravel())

    @property
    def timed(self) -> bool:
        """Whether the first axis is time."""
        return self.axes[0] == "time"

    @property
    def times(self) -> Float[np.ndarray, " n"] | None:
        """Times of the data."""
        return self.points[:, 0] if self.timed else None

    @property
    def places(self) -> Float[np.ndarray, "n ndim"]:
        """Positions in space."""
        return self.points[:, self.timed :]

    # Datasets

    def coordinates(self, dim: str = "observation", prefix: str = "") -> dict[str, Any]:
        """Positions along `dim` and the bounds of intervals, as a Dataset takes them."""
        out: dict[str, Any] = {}
        for d, units, column in zip(self.axes, self.units, self.points.T, strict=True):
            about = named("time" if d == "time" else f"{d} coordinate", units)
            if d in self.intervals:
                about["bounds"] = f"{prefix}{d}_bounds"
                text = named(f"bounds of {about['long_name']}", units)
                out[about["bounds"]] = (dim, "bounds"), self.intervals[d], text
            out[prefix + d] = dim, column, about
        return out

    def attributes(self, prefix: str = "") -> dict[str, str]:
        """The attribute ``cell_methods`` of the data, where they are not of points."""
        text = ""
        for method in METHODS[1:]:
            along = zip(self.axes, self.methods, strict=True)
            axes = [f"{prefix}{d}: " for d, own in along if own == method]
            text += f" {''.join(axes)}{method}" if axes else ""
        return {"cell_methods": text.strip()} if text else {}

    # Checks

    def check(self, model: Model, what: str, names: Int[np.ndarray, " n"] | None = None) -> None:
        """Raise a `DataError` that names the first datum whose support is empty or lies outside the
        grid or the times, by its number among `names` (0, 1, ... if not given)."""
        names = np.arange(len(self)) if names is None else names
        for axis, ends in self.intervals.items():
            at = self.points[:, self.axes.index(axis)]
            slack = 1e-9 * (ends[:, 1] - ends[:, 0])
            for wrong, expected in (
                (ends[:, 0] == ends[:, 1], "two different numbers (a point has no bounds)"),
                (~(np.abs(at - np.clip(at, *ends.T)) <= slack), f"{axis} between them"),
            ):
                if np.any(wrong):
                    n = np.argmax(wrong)
                    raise DataError(
                        f"{what} {names[n]}: found {axis} = {at[n]:g} with bounds {ends[n, 0]:g}"
                        f" and {ends[n, 1]:g}, expected {expected}"
                    )
        corner = what if not self.intervals else f"a corner of {what}"
        for corners in np.moveaxis(self.bounds, 2, 0)[: 1 + bool(self.intervals)]:
            model.domain.check_inside(corners[:, self.timed :], corner, names)
            if model.times is not None:
                _check_times(model.times, corners[:, 0], what, names)


def _check_times(
    times: Float[np.ndarray, " times"],
    found: Float[np.ndarray, " n"],
    what: str,
    names: Int[np.ndarray, " n"],
) -> None:
    """Raise a `DataError` that names the first time `found` outside those of the state."""
    slack = 1e-9 * times[-1]
    bad = (found < times[0] - slack) | (found > times[-1] + slack)
    if np.any(bad):
        n = np.argmax(bad)
        raise DataError(
            f"{what} {names[n]} (time={found[n]:g}) lies outside the times of the state,"
            f" {times[0]:g} to {times[-1]:g}"
        )
