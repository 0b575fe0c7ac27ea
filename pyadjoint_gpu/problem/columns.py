"""Columns of observations: read from a Dataset, with their units, missing values and labels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from ..core.errors import ConfigError, DataError
from ..core.quantities import Conversion, converter, numbers, spelling, stated
from ..models.base import Model, Variable
from ..statistics.bound_noise import Errors, scaled
from ..statistics.noise import Layout, Noise
from .cell_methods import bounds_name, cell_methods
from .support import Support, axis_units

_STANDARD_NAMES = {
    "x": ("projection_x_coordinate",),
    "y": ("projection_y_coordinate",),
    "z": ("height", "altitude"),
    "time": ("time",),
}


def check_dataset(observations: object) -> None:
    """Raise a `DataError` unless the observations are a Dataset."""
    if not isinstance(observations, xr.Dataset):
        found, path = type(observations).__name__, isinstance(observations, str | Path)
        how = "; xarray.open_dataset reads one" if path else ""
        raise DataError(f"observations: found {found}, expected an xarray.Dataset{how}")


def as_dataset(observations: Mapping[str, Any]) -> xr.Dataset:
    """A Dataset of columns of numbers or texts, such as those of a run file or a journal."""
    columns: dict[str, Any] = {}
    for name, column in observations.items():
        array = np.asarray(column)
        if array.dtype.kind != "U":
            array = numbers(f"misfit.observations.{name}", column)
        columns[name] = ("observation", array)
        if f"{name}_bounds" in observations:
            columns[name] += ({"bounds": f"{name}_bounds"},)
        if array.ndim == 2:
            columns[name] = ("observation", "bounds"), array
    try:
        return xr.Dataset(columns)
    except ValueError as error:
        raise ConfigError(f"misfit.observations: {error}") from None


def vector(observations: xr.Dataset, name: str) -> Float[np.ndarray, " n"]:
    """A column of numbers, NaN where one is missing."""
    array = observations[name]
    if array.ndim != 1:
        raise DataError(
            f"observations: {name!r} has dimensions {array.dims}, expected one (observation)"
        )
    return numbers(f"observations: {name!r}", array)


def labels(observations: xr.Dataset, dim: Hashable) -> dict[str, np.ndarray]:
    """The columns of texts along `dim`, such as names of wells."""
    columns = {
        str(n): np.asarray(v.values) for n, v in observations.variables.items() if v.dims == (dim,)
    }
    return {
        n: a.astype(str)
        for n, a in columns.items()
        if a.dtype.kind in "US" or (a.dtype == object and isinstance(a[0], str))
    }


def support(observations: xr.Dataset, name: str, model: Model) -> Support:
    """The support of the data of a variable: positions along the axes of the model's states, in its
    units, and the bounds of averages and integrals."""
    dim = observations[name].dims[0]
    columns = {d: _column(observations, d) for d in model.dims}
    each = [_coordinate(observations, d, column, dim, model) for d, column in columns.items()]
    methods = cell_methods("observations", observations[name])
    return Support.read(
        model, np.stack(each, axis=1), observations, columns, methods, "observations"
    )


def _column(observations: xr.Dataset, axis: str) -> str:
    """The name of the coordinate along an axis: the axis's own, or that of the one whose attributes
    ``axis`` or ``standard_name`` say so."""
    columns = observations.variables
    candidates = (
        [axis]
        if axis in columns
        else [
            str(n)
            for n, v in columns.items()
            if str(v.attrs.get("axis", "")).lower() == axis
            or v.attrs.get("standard_name") in _STANDARD_NAMES[axis]
        ]
    )
    if len(candidates) != 1:
        raise DataError(
            f"observations: no coordinate {axis!r}; found {', '.join(sorted(map(str, columns)))}"
        )
    return candidates[0]


def _coordinate(
    observations: xr.Dataset, axis: str, name: str, dim: Hashable, model: Model
) -> Float[np.ndarray, " n"]:
    """Positions along an axis of the model's states, in its units."""
    values = vector(observations, name)
    if observations[name].dims[0] != dim:
        raise DataError(
            f"observations: coordinate {name!r} runs along {observations[name].dims[0]!r},"
            f" expected {dim!r}"
        )
    what, units = f"observations: coordinate {name!r}", observations[name].attrs.get("units")
    return converter(what, units, axis_units(model, axis))(values)


def to_model(observations: xr.Dataset, name: str, of: Variable) -> Conversion:
    """Conversion of the data's units to those of the model's variable."""
    return converter(
        f"observations: {name!r}",
        observations[name].attrs.get("units"),
        of.units,
        density=of.density,
        meaning=f"as the model's {of.name}; set the model's units or convert the data",
    )


def sigmas(observations: xr.Dataset, name: str, sigma: Any, units: str) -> Errors:
    """Standard deviations, divided by the roots of the weights, in the data's units, or in `units`
    if these state none; infinite where nothing is observed.

    They are `sigma`, or the column ``<name>_sigma`` if that is None.
    """
    shape = observations[name].shape
    if sigma is not None:
        label, given = "sigma", sigma
    elif f"{name}_sigma" in observations:
        label = f"{name}_sigma"
        given = observations[label]
        vector(observations, label)  # refuses other ranks
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
    own = spelling(observations[name].attrs.get("units"))
    own = units if own == "1" else own
    array = converter(what, stated(given), own).difference(array)
    array = np.where(np.isnan(array), np.inf, np.broadcast_to(array, shape))
    return weighted(observations, name, array)


def noise_errors(observations: xr.Dataset, name: str, noise: Noise, layout: Layout) -> Errors:
    """Errors of a noise as for `sigmas`: in the data's units, or in those of the layout if these
    state none."""
    own = spelling(observations[name].attrs.get("units"))
    found = noise.errors(layout if own == "1" else replace(layout, units=own))
    return weighted(observations, name, found)


def weighted(observations: xr.Dataset, name: str, errors: Errors) -> Errors:
    """Errors divided by the roots of the weights."""
    with np.errstate(divide="ignore"):
        factor = 1.0 / np.sqrt(_weights(observations, name, observations[name].shape))
    return scaled(errors, factor)


def _weights(
    observations: xr.Dataset, name: str, shape: tuple[int, ...]
) -> Float[np.ndarray, " n"] | float:
    """Weights of the squares, zero where one is missing."""
    label = f"{name}_weight"
    if label not in observations:
        return 1.0
    weights = np.nan_to_num(vector(observations, label), nan=0.0)
    if weights.shape != shape or np.any(weights < 0):
        raise DataError(
            f"observations: {label!r} has shape {weights.shape}, smallest {np.min(weights):g},"
            f" expected {shape} and no weight < 0"
        )
    return weights


def check_finite(
    columns: Mapping[str, Float[np.ndarray, " n"]], numbers: Int[np.ndarray, " n"]
) -> None:
    """Raise a `DataError` if a column has a value that is not finite; `numbers` are those of the
    observations in the Dataset."""
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise DataError(
                f"observations: {name!r} has {bad.size} NaN or infinite values, the first of"
                f" observation {numbers[bad[0]]}, expected finite numbers"
            )


# Maps, whose dimensions are the coordinates


def listed(observations: xr.Dataset, name: str, dims: tuple[str, ...]) -> xr.Dataset:
    """A map with dimensions `dims`, in any order, as a list of points."""
    array = observations[name]
    if set(array.dims) != set(dims):
        raise DataError(
            f"observations: {name!r} has dimensions {array.dims}, expected one (observation), or"
            f" those of a map ({', '.join(dims)})"
        )
    for d in array.dims:
        if d not in observations.variables:
            raise DataError(f"observations: dimension {d!r} of {name!r} has no coordinate")
    columns = [
        key
        for key in (name, f"{name}_sigma", f"{name}_weight")
        if key in observations and set(observations[key].dims) == set(array.dims)
    ]
    maps = observations[columns].reset_coords(drop=True)
    bounds = {d: bounds_name(observations[d]) for d in map(str, array.dims)}
    for d, own in bounds.items():
        if own in observations.variables and observations[own].dims[:1] == (d,):
            ends = observations[own].reset_coords(drop=True)
            maps[own] = ends.expand_dims({k: array.sizes[k] for k in array.dims if k != d})
    stacked = maps.stack({"observation": array.dims}, create_index=False)
    return stacked.transpose("observation", ...)


def listed_sigma(observations: xr.Dataset, name: str, sigma: Any) -> Any:
    """`sigma` in the order of the values of `listed`, if it is a map itself."""
    if sigma is None or np.ndim(sigma) == 0:
        return sigma
    array = observations[name]
    if isinstance(sigma, xr.DataArray) and set(sigma.dims) == set(array.dims):
        sigma = sigma.transpose(*array.dims)
        return xr.DataArray(sigma.values.ravel(), dims="observation", attrs=sigma.attrs)
    if np.shape(sigma) != array.shape:
        raise DataError(f"sigma: found shape {np.shape(sigma)}, expected {array.shape}")
    return np.ma.ravel(sigma) if np.ma.isMaskedArray(sigma) else np.ravel(sigma)
