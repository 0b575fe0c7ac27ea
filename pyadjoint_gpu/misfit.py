"""Misfits: how far a state is from the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from .errors import ConfigError, DataError
from .models.base import Fields, Model, Variable
from .units import conversion

_STANDARD_NAMES = {
    "x": ("projection_x_coordinate",),
    "y": ("projection_y_coordinate",),
    "z": ("height", "altitude"),
    "time": ("time",),
}


class LeastSquares:
    """Weighted squares of the differences at points.

        J = 1/2 sum_k ((predicted_k - observed_k) / sigma_k)^2,

    predicted_k the state, interpolated (multi)linearly between cell centres and constant beyond
    the outermost ones.

    Parameters
    ----------
    observations : Dataset
        One-dimensional (``observation``), with a coordinate for every axis of the grid and a
        variable for an unknown of the model; or a map, whose dimensions are these coordinates.
        Coordinates and values in other units of length or pressure are converted.
    variable : str, optional
        Name of the observed variable, where it is not named as the unknown.
    sigma : float or array, optional
        Standard deviation of the errors; without it, the variable ``<variable>_sigma``.

    Raises
    ------
    DataError
        On binding to a model: where a variable or coordinate is missing or not one-dimensional,
        a value is NaN or infinite, a sigma is not positive, a unit cannot be converted, or a
        point lies outside the grid.
    """

    def __init__(
        self,
        observations: xr.Dataset,
        *,
        variable: str | None = None,
        sigma: float | np.ndarray | None = None,
    ):
        if not isinstance(observations, xr.Dataset):
            raise DataError(
                f"observations: found {type(observations).__name__}, expected an xarray.Dataset"
            )
        self.observations = observations
        self.variable = variable
        self.sigma = sigma

    def bind(self, model: Model) -> BoundLeastSquares:
        """The misfit on a model's grid."""
        unknown, name = self._observed(model)
        if self.observations[name].ndim > 1:
            listed = _listed(self.observations, name, model.dims)
            return LeastSquares(listed, variable=name, sigma=self._listed_sigma(name)).bind(model)
        values = self._vector(name)
        if not values.size:
            raise DataError(f"observations: {name!r} is empty, expected at least one value")
        dim = self.observations[name].dims[0]
        points = np.stack([self._coordinate(d, dim, model) for d in model.dims], axis=1)
        factor = self._factor(name, unknown)
        sigma = self._sigmas(name, values.shape, factor)
        check_inside(model, points, "observation")
        return BoundLeastSquares(model, unknown, points, values * factor, sigma)

    def _listed_sigma(self, name: str) -> Any:
        """`sigma` in the order of a map's values, where it is one itself."""
        if self.sigma is None or np.ndim(self.sigma) == 0:
            return self.sigma
        shape = self.observations[name].shape
        if np.shape(self.sigma) != shape:
            raise DataError(f"sigma: found shape {np.shape(self.sigma)}, expected {shape}")
        return np.ravel(self.sigma)

    def units(self, model: Model) -> str | None:
        """Unit of the observed variable, where it has one."""
        return self.observations[self._observed(model)[1]].attrs.get("units")

    def _observed(self, model: Model) -> tuple[Variable, str]:
        found = sorted(map(str, self.observations.data_vars))
        names = [u.name for u in model.unknowns]
        name = self.variable
        if name is None:
            matches = [n for n in names if n in self.observations]
            if len(matches) != 1:
                raise DataError(
                    f"observations: found variables {', '.join(found) or 'none'},"
                    f" expected one of {', '.join(names)} (or name the variable)"
                )
            name = matches[0]
        elif name not in self.observations:
            raise DataError(
                f"observations: no variable {name!r}; found {', '.join(found) or 'none'}"
            )
        unknown = model.unknowns[names.index(name) if name in names else 0]
        if name not in names and len(names) > 1:
            raise DataError(f"observations: variable {name!r} is none of {', '.join(names)}")
        return unknown, name

    def _vector(self, name: str) -> np.ndarray:
        array = self.observations[name]
        if array.ndim != 1:
            raise DataError(
                f"observations: {name!r} has dimensions {array.dims}, expected one (observation)"
            )
        return _finite(array.values, f"observations: {name!r}")

    def _coordinate(self, axis: str, dim: Any, model: Model) -> np.ndarray:
        data, expected = self.observations, axis_units(model, axis)
        candidates = (
            [axis]
            if axis in data.variables
            else [
                str(n)
                for n, v in data.variables.items()
                if str(v.attrs.get("axis", "")).lower() == axis
                or v.attrs.get("standard_name") in _STANDARD_NAMES[axis]
            ]
        )
        if len(candidates) != 1:
            raise DataError(
                f"observations: no coordinate {axis!r};"
                f" found {', '.join(sorted(map(str, data.variables)))}"
            )
        name = candidates[0]
        values = self._vector(name)
        if data[name].dims[0] != dim:
            raise DataError(
                f"observations: coordinate {name!r} runs along {data[name].dims[0]!r},"
                f" expected {dim!r}"
            )
        units = data[name].attrs.get("units")
        factor = conversion(units, expected)
        if factor is None:
            raise DataError(
                f"observations: coordinate {name!r} is in {units!r}, the grid in {expected!r}"
            )
        return values * factor

    def _factor(self, name: str, unknown: Variable) -> float:
        units = self.observations[name].attrs.get("units")
        factor = conversion(units, unknown.units)
        if factor is None:
            raise DataError(
                f"observations: {name!r} is in {units!r}, the model's {unknown.name} in"
                f" {unknown.units!r}; set the model's units or convert the data"
            )
        return factor

    def _sigmas(self, name: str, shape: tuple[int, ...], factor: float) -> np.ndarray:
        """Standard deviations in the model's units; a `sigma` given is in the data's."""
        if self.sigma is not None:
            label, given = "sigma", self.sigma
        elif f"{name}_sigma" in self.observations:
            label = f"{name}_sigma"
            given = self._vector(label)
            units = self.observations[label].attrs.get("units")
            own = conversion(units, self.observations[name].attrs.get("units") or "1")
            if own is None:
                raise DataError(f"observations: {label!r} is in {units!r}, unlike {name!r}")
            given = given * own
        else:
            raise DataError(f"observations: no variable '{name}_sigma', and no sigma is given")
        array = _finite(given, f"observations: {label!r}")
        if array.ndim and array.shape != shape:
            raise DataError(f"observations: {label!r} has shape {array.shape}, expected {shape}")
        if not np.all(array > 0):
            raise DataError(
                f"observations: {label!r} has values <= 0 (smallest {np.min(array):g}),"
                " expected positive standard deviations"
            )
        return np.broadcast_to(array * factor, shape)


class BoundLeastSquares:
    """`LeastSquares` on a model's grid: points of shape (n, number of `Model.dims`), values and
    sigmas in model units."""

    def __init__(
        self,
        model: Model,
        unknown: Variable,
        points: np.ndarray,
        observed: np.ndarray,
        sigma: np.ndarray,
    ):
        self.model = model
        self.unknown = unknown
        self.points = points
        self.observed = observed
        self.sigma = sigma
        self._indices, self._weights = interpolation(model, points)

    @property
    def size(self) -> int:
        return len(self.observed)

    def predict(self, state: Fields) -> Any:
        """The state at the points."""
        flat = jnp.ravel(state[self.unknown.name])
        return jnp.sum(flat[self._indices] * self._weights, axis=1)

    def __call__(self, state: Fields) -> Any:
        residual = (self.predict(state) - self.observed) / self.sigma
        return 0.5 * jnp.sum(jnp.square(residual))

    def dataset(self) -> xr.Dataset:
        """The data in the form `LeastSquares` reads."""
        name, units = self.unknown.name, self.unknown.units
        return xr.Dataset(
            {
                name: ("observation", self.observed, self.unknown.attributes),
                f"{name}_sigma": (
                    "observation",
                    np.array(self.sigma),
                    {"units": units, "long_name": f"standard deviation of {name}"},
                ),
            },
            point_coordinates(self.model, self.points),
        )


def _listed(observations: xr.Dataset, name: str, dims: tuple[str, ...]) -> xr.Dataset:
    """A map as a list of points."""
    array = observations[name]
    if set(array.dims) != set(dims):
        raise DataError(
            f"observations: {name!r} has dimensions {array.dims}, expected one (observation), or"
            f" those of a map ({', '.join(dims)})"
        )
    for d in array.dims:
        if d not in array.coords:
            raise DataError(f"observations: dimension {d!r} of {name!r} has no coordinate")
    axes = np.meshgrid(*(array[d].values for d in array.dims), indexing="ij")
    columns: dict[Any, Any] = {
        d: ("observation", a.ravel(), array[d].attrs) for d, a in zip(array.dims, axes, strict=True)
    }
    for key in (name, f"{name}_sigma"):
        if key in observations and observations[key].dims == array.dims:
            found = observations[key]
            columns[key] = ("observation", found.values.ravel(), found.attrs)
    return xr.Dataset(columns)


def axis_units(model: Model, axis: str) -> str:
    return model.time_units if axis == "time" else model.grid.units


def point_coordinates(model: Model, points: np.ndarray) -> dict[str, Any]:
    """Coordinates of `points` along the dimension ``observation``."""
    return {
        d: (
            "observation",
            points[:, k],
            {
                "units": axis_units(model, d),
                "long_name": "time" if d == "time" else f"{d} coordinate",
            },
        )
        for k, d in enumerate(model.dims)
    }


def check_inside(model: Model, points: np.ndarray, what: str) -> None:
    """Raise `DataError` naming the first of `points` outside the grid, or the times."""
    model.grid.check_inside(points[:, -model.grid.ndim :], what)
    if model.times is not None:
        times, found = model.times, points[:, 0]
        slack = 1e-9 * times[-1]
        bad = np.flatnonzero((found < times[0] - slack) | (found > times[-1] + slack))
        if bad.size:
            raise DataError(
                f"{what} {bad[0]} (time={found[bad[0]]:g}) lies outside the times of the state,"
                f" {times[0]:g} to {times[-1]:g}"
            )


def interpolation(model: Model, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices into a state's field, flat, and their weights: multilinear in space and time."""
    indices, weights = model.grid.interpolation(points[:, -model.grid.ndim :])
    if model.times is None:
        return indices, weights
    s = np.interp(points[:, 0], model.times, np.arange(len(model.times)))
    before = np.minimum(s.astype(np.int64), len(model.times) - 2)
    w = s - before
    return (
        np.concatenate([indices + (before + k)[:, None] * model.grid.size for k in (0, 1)], axis=1),
        np.concatenate([weights * f[:, None] for f in (1.0 - w, w)], axis=1),
    )


def as_dataset(observations: Mapping[str, Any]) -> xr.Dataset:
    """A Dataset from plain columns, as a run file's or a journal's."""
    try:
        return xr.Dataset(
            {k: ("observation", np.asarray(v, dtype=float)) for k, v in observations.items()}
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"misfit.observations: {error}") from None


def _finite(values: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise DataError(f"{what} is not numeric") from None
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise DataError(f"{what} has {bad} NaN or infinite values, expected finite numbers")
    return array
