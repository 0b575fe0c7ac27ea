"""Variables of results: controls and their gradients, observations and their predictions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..core.grid import Grid
from ..core.quantities import inverse
from ..models.base import Fields
from ..results.dataset import grid_coordinates, named
from .likelihood import BoundLeastSquares
from .observation import point_coordinates

if TYPE_CHECKING:
    from .control import BoundControl


def gradient_dataset(controls: Iterable[BoundControl], gradients: Fields, grid: Grid) -> xr.Dataset:
    """A gradient as a Dataset, one variable a control; `grid` is the model's domain."""
    coordinates = {k: v for k, v in grid_coordinates(grid).items() if k in grid.dims}
    for c in controls:
        coordinates |= c.coordinates
    return xr.Dataset(
        {c.name: (c.dims, gradients[c.name], gradient_attributes(c)) for c in controls},
        coordinates,
        {"kind": "gradient"},
    )


def gradient_attributes(control: BoundControl) -> dict[str, str]:
    """Units and name of the derivative by theta."""
    of = transformed_attributes(control)
    return named(f"derivative of the objective by {of['long_name']}", inverse(of["units"]))


def transformed_attributes(control: BoundControl) -> dict[str, str]:
    """Units and name of theta."""
    transform = control.control.transform
    inner = {"identity": "", "log": "ln ", "logistic": "logit "}[transform]
    units = control.parameter.units if transform == "identity" else "1"
    return named(f"{inner}{control.name}", units)


def control_variables(
    controls: Iterable[BoundControl], fields: Fields, gradients: Fields
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recovered fields, their starts, truths and gradients, and their coordinates."""
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for c in controls:
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
    """The data, their predictions, residuals and sigmas, and their coordinates; none for a user's
    misfit."""
    if not isinstance(misfit, BoundLeastSquares):
        return {}, {}
    units, name = misfit.variable.units, misfit.variable.name
    predicted = np.asarray(misfit.predict(state))
    columns = {
        "observed": (misfit.observed, f"observed {name}"),
        "predicted": (predicted, f"predicted {name}"),
        "residual": (misfit.observed - predicted, f"observed less predicted {name}"),
        "sigma": (np.array(misfit.sigma), f"standard deviation of observed {name}"),
    }
    points = point_coordinates(misfit.model, misfit.points)
    return (
        {k: ("observation", v, named(text, units)) for k, (v, text) in columns.items()},
        {f"observation_{d}": at for d, at in points.items()} | misfit.label_coordinates(),
    )
