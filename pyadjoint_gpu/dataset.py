"""Results as CF Datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from . import __version__, accessor  # noqa: F401  (registers Dataset.inversion)
from .files import sealed
from .grid import Grid
from .misfit import BoundLeastSquares, point_coordinates
from .models.base import Fields, Model, Variable

if TYPE_CHECKING:
    from .control import BoundControl
    from .engines import Engine, Solution
    from .problem import Problem


def clean(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that NetCDF can hold: None is left out, bool becomes int8, a dict JSON."""
    out: dict[str, Any] = {}
    for key, value in attributes.items():
        if value is None:
            continue
        if isinstance(value, bool | np.bool_):
            out[key] = np.int8(value)
        elif isinstance(value, Mapping):
            out[key] = json.dumps(value, sort_keys=True, default=str)
        else:
            out[key] = value
    return out


def named(long_name: str, units: str = "1") -> dict[str, str]:
    """Attributes of a variable."""
    return {"units": units, "long_name": long_name}


def describe(event: str, engine: Engine, /, **attributes: Any) -> dict[str, Any]:
    """The global attributes of an engine's result."""
    return provenance(event, **engine.info(), **attributes)


def provenance(event: str, /, **attributes: Any) -> dict[str, Any]:
    """The global attributes of any result."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return clean(
        {
            "Conventions": "CF-1.11",
            "title": attributes.pop("title", None) or "pyadjoint_gpu result",
            "source": f"pyadjoint_gpu {__version__}",
            "history": f"{now} {event}",
            "created_at": now,
            "pyadjoint_gpu_version": __version__,
            **attributes,
        }
    )


def state_coordinates(model: Model) -> dict[str, Any]:
    """Coordinates of the grid, and of time where the model is transient."""
    out = grid_coordinates(model.grid)
    if model.times is not None:
        out["time"] = ("time", model.times, {"units": model.time_units, "long_name": "time"})
    return out


def grid_coordinates(grid: Grid) -> dict[str, Any]:
    """Coordinates of cell centres (``x``) and faces (``x_face``)."""
    out: dict[str, Any] = {}
    for d, centers, faces in zip(grid.dims, grid.centers, grid.faces, strict=True):
        axis = {"units": grid.units, "axis": d.upper()}
        out[d] = (d, centers, axis | {"long_name": f"{d} coordinate of cell centres"})
        out[f"{d}_face"] = (
            f"{d}_face",
            faces,
            axis | {"long_name": f"{d} coordinate of cell faces", "c_grid_axis_shift": -0.5},
        )
    return out


def state_variables(model: Model, u: Fields, m: Fields) -> dict[str, Any]:
    """Unknowns and outputs as variables of a Dataset."""
    out: dict[str, Any] = {
        v.name: (model.dims, np.asarray(u[v.name]), v.attributes) for v in model.unknowns
    }
    extra = model.outputs(u, m)
    for variable, dims in model.output_variables:
        if variable.name in extra:
            out[variable.name] = (dims, np.asarray(extra[variable.name]), variable.attributes)
    return out


def parameter_variables(model: Model, m: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameter fields as variables and coordinates of a Dataset."""
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for name, value in m.items():
        space = model.space(name)
        variables[name] = (space.dims, np.asarray(value), model.parameter(name).attributes)
        coordinates |= space.coordinates()
    return variables, coordinates


def state_dataset(model: Model, m: Fields, solution: Solution, engine: Engine) -> xr.Dataset:
    """The Dataset of one forward solve."""
    c = solution.convergence
    variables, coordinates = parameter_variables(model, m)
    data = xr.Dataset(
        state_variables(model, solution.fields, m) | variables,
        state_coordinates(model) | coordinates,
        describe(
            f"forward solve of {model.name}",
            engine,
            status=c.status,
            message=c.message,
            solver=c.method,
            iterations=c.iterations,
            residual=c.residual,
            tolerance=c.tolerance,
            wall_time=c.wall_time,
            effective_throughput=c.throughput,
        ),
    )
    data["convergence"] = (
        "check",
        c.history[:, 1],
        {"units": "1", "long_name": "relative residual, max norm"},
    )
    data["convergence_iteration"] = (
        "check",
        c.history[:, 0].astype(np.int64),
        {"units": "1", "long_name": "iteration of the check"},
    )
    return data


def gradient_dataset(problem: Problem, gradient: np.ndarray) -> xr.Dataset:
    """A gradient, one variable a control."""
    parts = problem.split(gradient)
    return xr.Dataset(
        {c.name: (c.dims, parts[c.name], gradient_attributes(c)) for c in problem.controls},
        _used(problem),
    )


def gradient_attributes(control: BoundControl) -> dict[str, str]:
    of = transformed_attributes(control)
    return {
        "units": "1" if of["units"] == "1" else f"({of['units']})-1",
        "long_name": f"derivative of the objective by {of['long_name']}",
    }


def transformed_attributes(control: BoundControl) -> dict[str, str]:
    """Of theta."""
    transform = control.control.transform
    inner = {"identity": "", "log": "ln ", "logistic": "logit "}[transform]
    units = control.parameter.units if transform == "identity" else "1"
    return {"units": units, "long_name": f"{inner}{control.name}"}


def _used(problem: Problem) -> dict[str, Any]:
    """Coordinates of the cell centres and of the controls' own spaces."""
    grid = problem.model.grid
    out = {k: v for k, v in grid_coordinates(grid).items() if k in grid.dims}
    for c in problem.controls:
        out |= c.space.coordinates()
    return out


def control_variables(
    problem: Problem, theta: np.ndarray, gradient: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recovered fields, their starts, truths and gradients, and their coordinates."""
    fields, gradients = problem.physical(theta), problem.split(gradient)
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for c in problem.controls:
        label = c.name.replace("_", " ")
        for suffix, text, value in (
            ("", "recovered", fields[c.name]),
            ("_initial", "start of", c.initial),
            ("_true", "true", c.truth),
        ):
            if value is not None:
                named = Variable(c.name, c.parameter.units, f"{text} {label}")
                variables[c.name + suffix] = (c.space.dims, value, named.attributes)
        variables[f"{c.name}_gradient"] = (c.dims, gradients[c.name], gradient_attributes(c))
        coordinates |= c.space.coordinates()
    return variables, coordinates


def observation_variables(misfit: Any, state: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    """observed, predicted, residual and sigma, and where."""
    if not isinstance(misfit, BoundLeastSquares):
        return {}, {}
    units, name = misfit.unknown.units, misfit.unknown.name
    predicted = np.asarray(misfit.predict(state))
    columns = {
        "observed": (misfit.observed, f"observed {name}"),
        "predicted": (predicted, f"predicted {name}"),
        "residual": (misfit.observed - predicted, f"observed less predicted {name}"),
        "sigma": (np.array(misfit.sigma), f"standard deviation of observed {name}"),
    }
    return (
        {
            k: ("observation", v, {"units": units, "long_name": text})
            for k, (v, text) in columns.items()
        },
        {
            f"observation_{d}": value
            for d, value in point_coordinates(misfit.model, misfit.points).items()
        },
    )


_HISTORY = {
    "objective": "objective J",
    "misfit": "data misfit",
    "penalty": "penalty",
    "gradient_norm": "L2 norm of the projected gradient",
    "step_length": "L2 norm of the step",
    "evaluations": "evaluations so far",
    "forward_iterations": "iterations of the forward solves since the last iterate",
    "adjoint_iterations": "iterations of the adjoint solves since the last iterate",
    "work": "operator applications of these solves",
    "wall_time": "wall time so far",
}


def history_variables(rows: list[dict[str, float]]) -> dict[str, Any]:
    """What an inversion did, by iteration of the optimiser."""
    out: dict[str, Any] = {}
    for key, text in _HISTORY.items():
        column = np.array([row[key] for row in rows])
        if key in ("evaluations", "forward_iterations", "adjoint_iterations"):
            column = column.astype(np.int64)
        units = "s" if key == "wall_time" else "1"
        out[key] = ("iteration", column, {"units": units, "long_name": text})
    out["iteration"] = (
        "iteration",
        np.arange(len(rows)),
        {"units": "1", "long_name": "iteration of the optimiser"},
    )
    return out


def save(data: xr.Dataset, path: str | Path) -> None:
    """Write NetCDF-4, whole or not at all."""
    with sealed(Path(path)) as beside:
        data.to_netcdf(beside, engine="h5netcdf")
