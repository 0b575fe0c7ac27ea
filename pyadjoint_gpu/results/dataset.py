"""Results as CF Datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..core.files import sealed
from ..core.grid import Grid
from ..core.spaces import Space
from ..core.version import __version__
from ..models.base import Fields, Model, outputs

if TYPE_CHECKING:
    from ..engines.base import Engine
    from ..engines.solutions import Solution


Variables = dict[str, Any]
"""Variables or coordinates by name, as xarray takes them: dimensions, values and attributes."""


def clean(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as NetCDF can hold them: without None, bool as int8, a dict as JSON."""
    out: dict[str, Any] = {}
    for key, value in attributes.items():
        if isinstance(value, bool | np.bool_):
            value = np.int8(value)
        elif isinstance(value, Mapping):
            value = json.dumps(value, sort_keys=True, default=str)
        if value is not None:
            out[key] = value
    return out


def named(long_name: str, units: str = "1") -> dict[str, str]:
    """The attributes ``units`` and ``long_name`` of a variable."""
    return {"units": units, "long_name": long_name}


def describe(event: str, engine: Engine, /, **attributes: Any) -> dict[str, Any]:
    """Global attributes of a result that an engine computed."""
    return provenance(event, **engine.info(), **attributes)


def provenance(event: str, /, **attributes: Any) -> dict[str, Any]:
    """Global attributes of a result."""
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


def state_coordinates(model: Model) -> Variables:
    """Coordinates of the grid, and of time if the model has it."""
    out = grid_coordinates(model.domain)
    if model.times is not None:
        out["time"] = "time", model.times, named("time", model.time_units)
    return out


def grid_coordinates(grid: Grid) -> Variables:
    """Coordinates of cell centres (``x``) and faces (``x_face``)."""
    out: Variables = {}
    for d, centers, faces in zip(grid.dims, grid.centers, grid.faces, strict=True):
        axis = {"units": grid.units, "axis": d.upper()}
        out[d] = (d, centers, axis | {"long_name": f"{d} coordinate of cell centres"})
        out[f"{d}_face"] = (
            f"{d}_face",
            faces,
            axis | {"long_name": f"{d} coordinate of cell faces", "c_grid_axis_shift": -0.5},
        )
    return out


def state_variables(model: Model, u: Fields, m: Fields) -> Variables:
    """Unknowns and outputs as variables of a Dataset."""
    out: Variables = {}
    for v in model.unknowns:
        field = np.asarray(u[v.name])
        out[v.name] = (_unknown_dims(model, v.name, field.shape), field, v.attributes)
    # Outputs have the precision of the state, whatever that of the parameters.
    dtype = np.result_type(*(u[v.name].dtype for v in model.unknowns))
    extra = outputs(model, u, {k: np.asarray(a, dtype) for k, a in m.items()})
    for variable, dims in model.output_variables:
        if variable.name in extra:
            out[variable.name] = (
                dims,
                np.asarray(extra[variable.name], dtype),
                variable.attributes,
            )
    return out


def _unknown_dims(model: Model, name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Dimensions of an unknown: those of cells, of faces across an axis (one more), or its own."""
    if len(shape) != len(model.shape):
        return tuple(f"{name}_{k}" for k in range(len(shape)))
    return tuple(
        d if n == cells else f"{d}_face" if n == cells + 1 and d != "time" else f"{name}_{d}"
        for d, n, cells in zip(model.dims, shape, model.shape, strict=True)
    )


def layout(model: Model) -> dict[str, tuple[tuple[str, ...], Variables]]:
    """Dimensions of every parameter in a Dataset and their coordinates, those of its own space.
    Where the state or an earlier parameter has a dimension of that name with other coordinates,
    all are prefixed with the parameter's name."""
    taken = state_coordinates(model)
    sizes = {v[0]: len(v[1]) for v in taken.values()}
    known: list[tuple[Space, tuple[str, ...], Variables]] = []
    out = {}
    for p in model.parameters:
        space = model.space(p.name)
        dims, coordinates = next((k[1:] for k in known if k[0] == space), (None, {}))
        if dims is None:
            own = {k: v for k, v in grid_coordinates(space.grid).items() if k in space.dims}
            dims, coordinates = tuple(space.dims), own | space.coordinates()
            same = all(sizes.get(d, n) == n for d, n in zip(dims, space.shape, strict=True))
            if not same or not all(_same(taken.get(k, v), v) for k, v in coordinates.items()):
                new = {d: f"{p.name}_{d}" for d in dims}
                coordinates = {
                    f"{p.name}_{k}": (
                        new[v[0]] if isinstance(v[0], str) else tuple(new[d] for d in v[0]),
                        *v[1:],
                    )
                    for k, v in coordinates.items()
                }
                dims = tuple(new.values())
            known.append((space, dims, coordinates))
            sizes |= dict(zip(dims, space.shape, strict=True))
            taken |= coordinates
        out[p.name] = dims, coordinates
    return out


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """True if two coordinates are the same."""
    return (
        np.array_equal(a[0], b[0])
        and np.shape(a[1]) == np.shape(b[1])
        and np.allclose(a[1], b[1], rtol=1e-12, atol=0.0)
        and a[2].get("units") == b[2].get("units")
    )


def parameter_variables(model: Model, m: Fields) -> tuple[Variables, Variables]:
    """Parameter fields as variables and coordinates of a Dataset."""
    variables: Variables = {}
    coordinates: Variables = {}
    layouts = layout(model)
    for name, value in m.items():
        dims, own = layouts[name]
        variables[name] = (dims, np.asarray(value), model.parameter(name).attributes)
        coordinates |= own
    return variables, coordinates


def state_dataset(model: Model, m: Fields, solution: Solution, engine: Engine) -> xr.Dataset:
    """The Dataset of a forward solve."""
    c = solution.convergence
    variables, coordinates = parameter_variables(model, m)
    data = xr.Dataset(
        state_variables(model, solution.fields, m) | variables,
        state_coordinates(model) | coordinates,
        describe(
            f"forward solve of {model.name}",
            engine,
            kind="forward",
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
    iterations, residuals = c.history.T
    data["convergence"] = "check", residuals, named("relative residual, max norm")
    data["convergence_iteration"] = (
        "check",
        iterations.astype(np.int64),
        named("iteration of the check"),
    )
    return data


_HISTORY = {
    "objective": "objective J",
    "misfit": "data misfit",
    "penalty": "penalty",
    "gradient_norm": "L2 norm of the projected gradient",
    "step_length": "L2 norm of the step",
    "evaluations": "evaluations so far",
    "products": "Hessian products so far",
    "forward_iterations": "iterations of the forward and tangent solves since the last iterate",
    "adjoint_iterations": "iterations of the adjoint solves since the last iterate",
    "work": "operator applications of these solves",
    "wall_time": "wall time so far",
}


def history_variables(rows: list[dict[str, float]]) -> Variables:
    """History of an inversion, by iteration of the optimiser."""
    out: Variables = {}
    for key, text in _HISTORY.items():
        column = np.array([row[key] for row in rows])
        if key in ("evaluations", "products", "forward_iterations", "adjoint_iterations"):
            column = column.astype(np.int64)
        out[key] = "iteration", column, named(text, "s" if key == "wall_time" else "1")
    number = np.arange(len(rows))
    return out | {"iteration": ("iteration", number, named("iteration of the optimiser"))}


def save(data: xr.Dataset, path: str | Path) -> None:
    """Write a NetCDF-4 file, whole or not at all."""
    with sealed(Path(path)) as beside:
        data.to_netcdf(beside, engine="h5netcdf")


MISSING = "observed_missing"
"""Attribute for the number of missing observations."""


def used_and_missing(used: int, missing: int) -> dict[str, int]:
    """Attributes for the numbers of data observed and missing."""
    return {"observed_used": used, MISSING: missing}


NINETY = 1.6449
"""Half width of the central 90 % interval of a Gaussian, in standard deviations."""
