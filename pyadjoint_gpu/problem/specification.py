"""A problem to plain tables and back: what run files, journals and results are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..core.errors import keyed
from ..core.fingerprint import model_part
from ..core.grid import Grid
from ..engines.choose import get_engine
from ..models import build
from ..results.dataset import MISSING
from .control import Control, Smoothness
from .likelihood import BoundLeastSquares, LeastSquares, as_dataset
from .problem import ADAPTIVE, Problem

_SOLVER = {
    "solver": "solver.method",
    **{k: f"solver.{k}" for k in ("tolerance", "adjoint_tolerance", "max_iterations")},
}
"""Keys of a run file by the arguments that they are."""


def build_problem(tables: Mapping[str, Any]) -> Problem:
    """The problem of a run file's tables (see `runfiles.inversion`), whose fields are numbers,
    arrays or DataArrays and whose observations are a Dataset or a mapping of columns."""
    misfit = _misfit(tables["misfit"])
    model = build(build_grid(tables["grid"]), tables["model"], misfit.units)
    solver = dict(tables.get("solver", {}))
    with keyed(_SOLVER):
        engine = get_engine(
            tables.get("engine", "auto"),
            model,
            launcher=tables.get("launcher"),
            topology=tables.get("topology"),
            solver=solver.pop("method", "auto"),
            dtype=solver.pop("dtype", None),
            backend=solver.pop("backend", None),
        )
        return Problem(
            model,
            [Control(name, **options) for name, options in tables["controls"].items()],
            misfit,
            [
                Smoothness(name, options["weight"], options["length"])
                for name, options in tables.get("penalty", {}).items()
            ],
            parameters=tables.get("parameters"),
            engine=engine,
            **solver,
        )


def build_grid(table: Mapping[str, Any]) -> Grid:
    """The grid of its table, ``like`` a DataArray."""
    return Grid.like(table["like"]) if "like" in table else Grid(**table)


def _misfit(table: Mapping[str, Any]) -> LeastSquares:
    options = dict(table)
    data, missing = options.pop("observations"), options.pop("missing", None)
    data = data if isinstance(data, xr.Dataset) else as_dataset(data)
    return LeastSquares(
        data if missing is None else data.assign_attrs({MISSING: missing}), **options
    )


def specification(problem: Problem) -> dict[str, Any] | None:
    """The tables that `build_problem` makes this problem of, with arrays for fields; None where
    it holds code (a model, a misfit, a penalty or an engine of the user's)."""
    model = problem.model.specification()
    smooth = [p for p in problem.penalties if isinstance(p, Smoothness)]
    engine = problem.engine.settings()
    if (
        model is None
        or engine is None
        or not isinstance(problem.misfit, BoundLeastSquares)
        or len({p.name for p in smooth}) < len(problem.penalties)
    ):
        return None
    grid = problem.model.domain
    observations = problem.misfit.dataset()
    controls = {}
    for c in problem.controls:
        options: dict[str, Any] = {
            "initial": _short(c.initial),
            "transform": c.control.transform,
            "basis": c.control.basis,
        }
        if c.control.bounds is not None:
            options["bounds"] = [float(b) for b in c.control.bounds]
        if c.truth is not None:
            options["truth"] = _short(c.truth)
        controls[c.name] = options
    return {
        **engine,
        "grid": {
            "shape": list(grid.shape),
            "extent": list(grid.extent),
            "origin": list(grid.origin),
            "units": grid.units,
        },
        "model": model,
        "parameters": {k: _short(v) for k, v in problem.known.items()},
        "controls": controls,
        "misfit": {
            "observations": {
                str(k): v.values.tolist() if v.dtype.kind == "U" else v.values
                for k, v in observations.variables.items()
            },
            "variable": problem.misfit.variable.name,
            "missing": problem.misfit.missing,
        },
        "penalty": {
            p.name: {"kind": "smoothness", "weight": float(p.weight), "length": float(p.length)}
            for p in smooth
        },
        "solver": {
            "tolerance": ADAPTIVE if problem.adaptive else problem.tolerance,
            "max_iterations": problem.max_iterations,
        }
        | ({} if problem.adaptive else {"adjoint_tolerance": problem.adjoint_tolerance})
        | engine["solver"],
    }


def _short(field: np.ndarray) -> Any:
    """A number where the field is constant."""
    return float(field.flat[0]) if np.all(field == field.flat[0]) else field


def plain(tables: Any) -> Any:
    """Tables as JSON can hold them: arrays stand by their shape and digest."""
    if isinstance(tables, Mapping):
        return {k: plain(v) for k, v in tables.items()}
    if isinstance(tables, list | tuple):
        return [plain(v) for v in tables]
    if isinstance(tables, np.ndarray):
        raw = np.ascontiguousarray(tables, dtype="<f8").tobytes()
        return {"shape": list(tables.shape), "sha256": hashlib.sha256(raw).hexdigest()}
    return tables.item() if isinstance(tables, np.generic) else tables


def problem_parts(problem: Problem) -> dict[str, Any]:
    """What a problem is made of, by name, for its fingerprint: all that decides J, on any number of
    ranks."""
    misfit, engine = problem.misfit, problem.engine
    if isinstance(misfit, BoundLeastSquares):
        kept = {k: v for k, v in vars(misfit).items() if k not in ("model", "observation")}
        misfit = [type(misfit), kept]
    found = engine.settings() or {"engine": type(engine)}
    return {
        "grid": problem.model.domain,
        "model": model_part(problem.model),
        "parameters": problem.known,
        "controls": [(vars(c.control) | {"initial": c.initial, "truth": None}) for c in
                     problem.controls],
        "misfit": misfit,
        "penalty": problem.penalties,
        "engine": {k: v for k, v in found.items() if k not in ("launcher", "topology")},
        "solver": [
            problem.tolerance,
            problem.adjoint_tolerance,
            problem.max_iterations,
            problem.adaptive,
        ],
    }  # fmt: skip
