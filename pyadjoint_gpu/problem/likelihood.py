"""Misfits: how far a state is from the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..core.errors import ConfigError, DataError, nearest, shown
from ..core.quantities import converter, numbers, spelling, stated
from ..core.texts import counted, sizes, span
from ..models.base import Fields, Model
from ..models.declarations import Variable
from ..results.dataset import MISSING
from .observation import Observation, axis_units, check_inside, point_coordinates

_STANDARD_NAMES = {
    "x": ("projection_x_coordinate",),
    "y": ("projection_y_coordinate",),
    "z": ("height", "altitude"),
    "time": ("time",),
}


class LeastSquares:
    """Weighted squares of the differences at points.

        J = 1/2 sum_k w_k ((predicted_k - observed_k) / sigma_k)^2,

    predicted_k the state, interpolated (multi)linearly between the points where it lives (cell
    centres, or faces for fluxes) and constant beyond the outermost ones; w_k = 1 unless given.

    Parameters
    ----------
    observations : Dataset
        One-dimensional (``observation``), with a coordinate for every axis of the grid and a
        variable named as an unknown of the model, or as another field of its state; or a map,
        whose dimensions are these coordinates. What is in other units is converted. Its
        ``<variable>_sigma`` are the errors' standard deviations, ``<variable>_weight`` the w_k.
        A value that is NaN or masked, or whose sigma is infinite or whose weight is zero, is not
        observed. Texts along the dimension (names of wells) are kept to the result.
    variable : str, optional
        Name of the observed variable in the Dataset, where there are several.
    observes : str, optional
        What of the model's state it is, where it is not named like that.
    sigma : float or array, optional
        Standard deviation of the errors, in the units of the variable unless it states others;
        without it, the variable ``<variable>_sigma``.

    Raises
    ------
    DataError
        On binding to a model: where a variable or coordinate is missing or not one-dimensional,
        the model has nothing of its name, nothing is observed, a sigma is not positive, a unit
        cannot be converted, or a point lies outside the grid.
    """

    def __init__(
        self,
        observations: xr.Dataset,
        *,
        variable: str | None = None,
        observes: str | None = None,
        sigma: float | np.ndarray | None = None,
    ):
        if not isinstance(observations, xr.Dataset):
            found, path = type(observations).__name__, isinstance(observations, str | Path)
            how = "; xarray.open_dataset reads one" if path else ""
            raise DataError(f"observations: found {found}, expected an xarray.Dataset{how}")
        self.observations = observations
        self.variable = variable
        self.observes = observes
        self.sigma = sigma

    def __repr__(self) -> str:
        """As it was made, of data only their sizes."""
        names = ", ".join(map(str, self.observations)) or "nothing"
        given = [f"{names} ({sizes(self.observations.sizes.values())})"]
        for name in ("variable", "observes", "sigma"):
            value = getattr(self, name)
            given += [] if value is None else [f"{name}={shown(value)}"]
        return f"LeastSquares({', '.join(given)})"

    def bind(self, model: Model) -> BoundLeastSquares:
        """The misfit on a model's grid."""
        observed, name = self._observed(model)
        if self.observations[name].ndim > 1:
            listed = _listed(self.observations, name, model.dims)
            sigma = self._listed_sigma(name)
            return LeastSquares(listed, variable=name, observes=observed, sigma=sigma).bind(model)
        values = self._vector(name)
        if not values.size:
            raise DataError(f"observations: {name!r} is empty, expected at least one value")
        dim = self.observations[name].dims[0]
        points = np.stack([self._coordinate(d, dim, model) for d in model.dims], axis=1)
        of = model.observables[observed][0]
        how = self._converter(name, of)
        sigma = self._sigmas(name, values.shape, of.units)
        used = ~np.isnan(values) & np.isfinite(sigma)
        if not np.any(used):
            raise DataError(
                f"observations: none of {values.size} values of {name!r} is observed (each"
                " missing, of sigma inf or NaN, or of weight 0), expected at least one finite value"
            )
        values, sigma, points = values[used], sigma[used], points[used]
        where = np.flatnonzero(used)
        _finite({name: values} | dict(zip(model.dims, points.T, strict=True)), where)
        check_inside(model, points, "observation", where)
        return BoundLeastSquares(
            model,
            observed,
            points,
            how(values),
            how.difference(sigma),
            labels={k: v[used] for k, v in self._labels(dim).items()},
            missing=int(np.count_nonzero(~used) + self.observations.attrs.get(MISSING, 0)),
        )

    def _listed_sigma(self, name: str) -> Any:
        """`sigma` in the order of a map's values, where it is one itself."""
        if self.sigma is None or np.ndim(self.sigma) == 0:
            return self.sigma
        array = self.observations[name]
        sigma: Any = self.sigma
        if isinstance(sigma, xr.DataArray) and set(sigma.dims) == set(array.dims):
            sigma = sigma.transpose(*array.dims)
            return xr.DataArray(sigma.values.ravel(), dims="observation", attrs=sigma.attrs)
        if np.shape(sigma) != array.shape:
            raise DataError(f"sigma: found shape {np.shape(sigma)}, expected {array.shape}")
        return np.ma.ravel(sigma) if np.ma.isMaskedArray(sigma) else np.ravel(sigma)

    @property
    def units(self) -> dict[str, str]:
        """Units of the data that state them, by what of a state they may be of."""
        names = self.observations.data_vars if self.variable is None else [self.variable]
        if self.observes is not None:
            names = [self.variable or self.observes]
        stated = {
            n: self.observations[n].attrs.get("units") for n in names if n in self.observations
        }
        return {self.observes or str(n): u for n, u in stated.items() if u is not None}

    def _observed(self, model: Model) -> tuple[str, str]:
        """What of the state is observed, and its variable in the Dataset."""
        found = sorted(map(str, self.observations.data_vars))
        able, name = model.observables, self.variable
        if self.observes is not None and self.observes not in able:
            raise ConfigError(
                f"observes: {self.observes!r} is nothing of model {model.name!r}"
                + nearest(str(self.observes), able)
            )
        if name is None:
            wanted = list(able) if self.observes is None else [self.observes]
            matches = [n for n in wanted if n in self.observations]
            if len(matches) != 1 and self.observes is None:  # unknowns before outputs
                matches = [u.name for u in model.unknowns if u.name in self.observations]
            if len(matches) != 1:
                raise DataError(
                    f"observations: found variables {', '.join(found) or 'none'},"
                    f" expected one of {', '.join(wanted)} (or name the variable)"
                )
            name = matches[0]
        elif name not in self.observations:
            raise DataError(f"observations: no variable {name!r}{nearest(str(name), found)}")
        observed = name if self.observes is None else self.observes
        if observed not in able:
            raise DataError(
                f"observations: {name!r} is nothing of model {model.name!r}"
                f"{nearest(name, able)}; or say what it is of: observes={model.unknowns[0].name!r}"
            )
        return observed, name

    def _vector(self, name: str) -> np.ndarray:
        """A variable's numbers, NaN where one is missing."""
        array = self.observations[name]
        if array.ndim != 1:
            raise DataError(
                f"observations: {name!r} has dimensions {array.dims}, expected one (observation)"
            )
        return numbers(f"observations: {name!r}", array)

    def _labels(self, dim: Any) -> dict[str, np.ndarray]:
        """Texts along the dimension."""
        return {
            str(n): v.values.astype(str)
            for n, v in self.observations.variables.items()
            if v.dims == (dim,)
            and (v.dtype.kind in "US" or (v.dtype == object and isinstance(v.values[0], str)))
        }

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
        what = f"observations: coordinate {name!r}"
        return converter(what, data[name].attrs.get("units"), expected)(values)

    def _converter(self, name: str, of: Variable) -> Any:
        meaning = f"as the model's {of.name}; set the model's units or convert the data"
        units = self.observations[name].attrs.get("units")
        what = f"observations: {name!r}"
        return converter(what, units, of.units, density=of.density, meaning=meaning)

    def _sigmas(self, name: str, shape: tuple[int, ...], units: str) -> np.ndarray:
        """Standard deviations in the data's units, or `units` where these have none; infinite where
        nothing is observed."""
        if self.sigma is not None:
            label, given = "sigma", self.sigma
        elif f"{name}_sigma" in self.observations:
            label = f"{name}_sigma"
            given = self.observations[label]
            self._vector(label)  # one-dimensional
        else:
            raise DataError(f"observations: no variable '{name}_sigma', and no sigma is given")
        what = f"observations: {label!r}"
        array = numbers(what, given)
        if array.ndim and array.shape != shape:
            raise DataError(f"{what} has shape {array.shape}, expected {shape}")
        if np.any(array <= 0):
            raise DataError(
                f"{what} has values <= 0 (smallest {np.nanmin(array):g}),"
                " expected positive standard deviations"
            )
        own = spelling(self.observations[name].attrs.get("units"))
        own = units if own == "1" else own
        array = converter(what, stated(given), own).difference(array)
        array = np.where(np.isnan(array), np.inf, np.broadcast_to(array, shape))
        with np.errstate(divide="ignore"):
            return array / np.sqrt(self._weights(name, shape))

    def _weights(self, name: str, shape: tuple[int, ...]) -> Any:
        """Those that multiply the squares."""
        label = f"{name}_weight"
        if label not in self.observations:
            return 1.0
        weights = np.nan_to_num(self._vector(label), nan=0.0)
        if weights.shape != shape or np.any(weights < 0):
            raise DataError(
                f"observations: {label!r} has shape {weights.shape}, smallest {np.min(weights):g},"
                f" expected {shape} and no weight < 0"
            )
        return weights


@jax.tree_util.register_pytree_node_class
class BoundLeastSquares:
    """`LeastSquares` on a model's grid. As an argument of compiled code it is its observation, data
    and sigmas.

    Parameters
    ----------
    model : Model
    observed : str
        What of its state.
    points : array, shape (n, number of `Model.dims`)
        In the units of the model's domain and times.
    values, sigma : array, shape (n,)
        In the model's units.
    labels : dict of array of str
        Names of the observations.
    missing : int
        How many more there were that nobody observed.
    """

    def __init__(
        self,
        model: Model,
        observed: str,
        points: np.ndarray,
        values: np.ndarray,
        sigma: np.ndarray,
        *,
        labels: Mapping[str, np.ndarray] | None = None,
        missing: int = 0,
    ):
        self.model = model
        self.variable = model.observables[observed][0]
        self.points = points
        self.observed = values
        self.sigma = sigma
        self.labels = dict(labels or {})
        self.missing = missing
        self.observation = Observation.at(model, observed, points)

    def __repr__(self) -> str:
        """What is observed, on one line."""
        of = self.variable
        missing = f", {self.missing} more missing" if self.missing else ""
        return (
            f"least squares of {counted(self.size, 'value')} of {of.name} [{of.units}],"
            f" {span(self.observed)}, sigma {span(self.sigma)}{missing}"
        )

    @property
    def size(self) -> int:
        return len(self.observed)

    def predict(self, state: Fields) -> Any:
        """The state at the points."""
        return self.observation(state)

    def __call__(self, state: Fields) -> Any:
        residual = (self.predict(state) - self.observed) / self.sigma
        return 0.5 * jnp.sum(jnp.square(residual))

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        return (self.observation, self.observed, self.sigma), None

    @classmethod
    def tree_unflatten(cls, _: None, arrays: tuple[Any, ...]) -> BoundLeastSquares:
        out = object.__new__(cls)
        out.observation, out.observed, out.sigma = arrays
        return out

    def dataset(self) -> xr.Dataset:
        """The data in the form `LeastSquares` reads."""
        name, units = self.variable.name, self.variable.units
        return xr.Dataset(
            {
                name: ("observation", self.observed, self.variable.attributes),
                f"{name}_sigma": (
                    "observation",
                    np.array(self.sigma),
                    {"units": units, "long_name": f"standard deviation of {name}"},
                ),
            },
            point_coordinates(self.model, self.points) | self.label_coordinates(),
            {MISSING: self.missing} if self.missing else None,
        )

    def label_coordinates(self) -> dict[str, Any]:
        """The labels as coordinates along ``observation``."""
        return {
            k: ("observation", v, {"units": "1", "long_name": k.replace("_", " ")})
            for k, v in self.labels.items()
        }


def _finite(columns: Mapping[str, np.ndarray], numbers: np.ndarray) -> None:
    """A `DataError` where one of what is used is no finite number; `numbers` are their places."""
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise DataError(
                f"observations: {name!r} has {bad.size} NaN or infinite values, the first of"
                f" observation {numbers[bad[0]]}, expected finite numbers"
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
    for key in (name, f"{name}_sigma", f"{name}_weight"):
        if key in observations and set(observations[key].dims) == set(array.dims):
            found = observations[key].transpose(*array.dims)
            columns[key] = ("observation", found.values.ravel(), found.attrs)
    return xr.Dataset(columns)


def as_dataset(observations: Mapping[str, Any]) -> xr.Dataset:
    """A Dataset from plain columns of numbers or texts, as a run file's or a journal's."""
    columns = {}
    for name, column in observations.items():
        array = np.asarray(column)
        if array.dtype.kind != "U":
            array = numbers(f"misfit.observations.{name}", column)
        columns[name] = ("observation", array)
    try:
        return xr.Dataset(columns)
    except ValueError as error:
        raise ConfigError(f"misfit.observations: {error}") from None
