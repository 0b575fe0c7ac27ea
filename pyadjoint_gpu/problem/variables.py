"""Variables of results: parts of theta and their gradients, observations and their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.checks import check_mapping, finite_array
from ..core.errors import ConfigError, DataError, nearest
from ..core.grid import Grid
from ..core.quantities import inverse
from ..models.base import Fields
from ..results.dataset import grid_coordinates, named
from ..statistics.residuals import chi2_p, data_sets, runs_test, series_order
from .likelihood import BoundLeastSquares

if TYPE_CHECKING:
    from .part import Part


def gradient_dataset(parts: Sequence[Part], gradients: Fields, grid: Grid) -> xr.Dataset:
    """A gradient as a Dataset, one variable a part of theta; `grid` is the model's domain."""
    values = {c.name: (c.dims, gradients[c.name], gradient_attributes(c)) for c in parts}
    return _dataset(parts, values, grid, "gradient")


def product_dataset(parts: Sequence[Part], products: Fields, grid: Grid) -> xr.Dataset:
    """A Hessian product as a Dataset, likewise."""
    values = {c.name: (c.dims, products[c.name], _product_attributes(c)) for c in parts}
    return _dataset(parts, values, grid, "hessian product")


def _dataset(parts: Sequence[Part], values: dict[str, Any], grid: Grid, kind: str) -> xr.Dataset:
    coordinates = {k: v for k, v in grid_coordinates(grid).items() if k in grid.dims}
    for c in parts:
        coordinates |= c.coordinates
    return xr.Dataset(values, coordinates, {"kind": kind})


def direction_of(
    parts: Sequence[Part], given: Mapping[str, Any] | xr.Dataset
) -> Float[np.ndarray, " n"]:
    """A change of theta from one by part, in the form of a gradient; zero where not given.

    Raises
    ------
    ConfigError, DataError
        If a name is not a control's, or a value has another shape than its theta or is not finite.
    """
    by_name = dict(given.data_vars) if isinstance(given, xr.Dataset) else given
    check_mapping("direction", by_name, "changes of the transformed controls by name")
    names = [c.name for c in parts]
    for name in by_name:
        if name not in names:
            raise ConfigError(f"direction: {name!r} is not a control{nearest(str(name), names)}")
    vector: list[Float[np.ndarray, " part"]] = []
    for c in parts:
        value = by_name.get(c.name, np.zeros(c.shape))
        if isinstance(value, xr.DataArray) and set(value.dims) == set(c.dims):
            value = value.transpose(*c.dims)
        part = finite_array(f"direction.{c.name}", value)
        if part.shape != c.shape:
            raise DataError(f"direction.{c.name}: found shape {part.shape}, expected {c.shape}")
        vector.append(part.ravel())
    return np.concatenate(vector)


def gradient_attributes(part: Part) -> dict[str, str]:
    """Units and name of the derivative by theta."""
    of = transformed_attributes(part)
    return named(f"derivative of the objective by {of['long_name']}", inverse(of["units"]))


def _product_attributes(part: Part) -> dict[str, str]:
    of = transformed_attributes(part)
    name = f"product of the objective's Hessian with a change, by {of['long_name']}"
    return named(name, inverse(of["units"]))


def transformed_attributes(part: Part) -> dict[str, str]:
    """Units and name of theta."""
    transform = part.physical.transform
    inner = {"identity": "", "log": "ln ", "logistic": "logit "}[transform]
    return named(f"{inner}{part.name}", part.units)


def part_variables(
    parts: Sequence[Part], fields: Fields, gradients: Fields
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recovered fields of parts of theta, their starts, truths and gradients, and their
    coordinates."""
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for c in parts:
        label = c.name.replace("_", " ")
        for suffix, text, value in (
            ("", "recovered", fields[c.name]),
            ("_initial", "start of", c.initial),
            ("_true", "true", c.truth),
        ):
            if value is not None:
                attributes = named(f"{text} {label}", c.parameter.units)
                variables[c.name + suffix] = (c.field_dims, value, attributes)
        variables[f"{c.name}_gradient"] = (c.dims, gradients[c.name], gradient_attributes(c))
        coordinates |= c.coordinates
    return variables, coordinates


def observation_variables(misfit: object, state: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data, their predictions, residuals, sigmas and whitened residuals, and their coordinates;
    chi2 and the number of data by set, where labels divide the data. None for a user's misfit.
    Those of a noise of unknown scale are of the scale that the misfit is at."""
    if not isinstance(misfit, BoundLeastSquares):
        return {}, {}
    units, name = misfit.variable.units, misfit.variable.name
    predicted = np.asarray(misfit.predict(state))
    columns = {
        "observed": (misfit.observed, f"observed {name}"),
        "predicted": (predicted, f"predicted {name}"),
        "residual": (misfit.observed - predicted, f"observed less predicted {name}"),
        "sigma": (misfit.sigma, f"standard deviation of observed {name}"),
    }
    variables: dict[str, Any] = {
        k: ("observation", v, named(text, units)) for k, (v, text) in columns.items()
    }
    for k in ("observed", "predicted"):
        variables[k][2].update(misfit.support.attributes("observation_"))
    white = np.asarray(misfit.whitened(state))
    text = f"residual of {name}, whitened: independent, of variance one, if sigma is right"
    variables["residual_whitened"] = "observation", white, named(text)
    points = misfit.support.coordinates(prefix="observation_")
    coordinates = points | misfit.label_coordinates()
    by_set = _data_set_variables(misfit, white)
    return variables | by_set[0], coordinates | by_set[1]


def _data_set_variables(
    misfit: BoundLeastSquares, white: Float[np.ndarray, " n"]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """chi2 and the number of data of each set, by the label that they share."""
    label = data_sets(misfit.labels)
    if label is None:
        return {}, {}
    names, which = np.unique(misfit.labels[label], return_inverse=True)
    counts = np.bincount(which)
    chi2 = np.bincount(which, np.square(white)) / counts
    columns = {
        "observation_set_chi2": (chi2, "mean squared whitened residual of a data set"),
        "observation_set_size": (counts, "number of observations of a data set"),
    }
    variables = {k: ("observation_set", v, named(text)) for k, (v, text) in columns.items()}
    return variables, {
        "observation_set": ("observation_set", names, named(label.replace("_", " ")))
    }


def residual_attributes(misfit: object, state: Fields) -> dict[str, float]:
    """Probabilities of a larger chi2, and of fewer changes of sign of the residuals, by chance (see
    `statistics.residuals`); none for a user's misfit."""
    if not isinstance(misfit, BoundLeastSquares):
        return {}
    white = np.asarray(misfit.whitened(state))
    order = series_order(misfit.support.places, misfit.support.times)
    return {
        "chi2_p": chi2_p(float(np.mean(np.square(white))), misfit.size),
        "runs_test_p": runs_test(white[order]),
    }
