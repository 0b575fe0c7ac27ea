"""Problems as plain tables and back, for run files, journals and results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from ..core.errors import keyed
from ..core.fingerprint import model_part
from ..core.grid import Grid
from ..engines.choose import get_engine
from ..models import build
from ..results.dataset import MISSING
from ..statistics.bound_noise import arrays
from ..statistics.noise import Noise
from .columns import as_dataset
from .control import Control
from .likelihood import BoundLeastSquares, LeastSquares
from .penalty import Smoothness
from .prior_table import PRIORS, prior_of, prior_table, short
from .problem import ADAPTIVE, Problem

_KEYS = {
    "solver": "solver.method",
    **{k: f"solver.{k}" for k in ("tolerance", "adjoint_tolerance", "max_iterations")},
    "noise": "misfit.noise",
}
"""Keys of a run file by the arguments that they become."""


def build_problem(tables: Mapping[str, Any]) -> Problem:
    """The problem of a run file's tables (see `runfiles.inversion`), with fields as numbers, arrays
    or DataArrays, and observations as a Dataset or a mapping of columns."""
    misfit = _misfit(tables["misfit"])
    model = build(build_grid(tables["grid"]), tables["model"], misfit.units)
    solver = dict(tables.get("solver", {}))
    with keyed(_KEYS):
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
            [_control(name, options) for name, options in tables["controls"].items()],
            misfit,
            [
                Smoothness(name, options["weight"], options["length"])
                for name, options in tables.get("penalty", {}).items()
            ],
            parameters=tables.get("parameters"),
            engine=engine,
            **solver,
        )


def _control(name: str, table: Mapping[str, Any]) -> Control:
    options = dict(table)
    if options.get("prior") is not None:
        with keyed({"prior": f"controls.{name}.prior"}):
            options["prior"] = prior_of(options["prior"])
    return Control(name, **options)


def build_grid(table: Mapping[str, Any]) -> Grid:
    """The grid of its table: the arguments of `Grid`, or a DataArray under ``like``."""
    return Grid.like(table["like"]) if "like" in table else Grid(**table)


def _misfit(table: Mapping[str, Any]) -> LeastSquares:
    options = dict(table)
    data, missing = options.pop("observations"), options.pop("missing", None)
    methods = options.pop("cell_methods", None)
    if "noise" in options:
        noise = dict(options["noise"])
        with keyed(_KEYS):
            if "scale" in noise:
                noise["scale"] = prior_of(noise["scale"])
            options["noise"] = Noise.of_table(noise)
    data = data if isinstance(data, xr.Dataset) else as_dataset(data)
    if methods is not None:
        name = str(options["variable"])
        data = data.assign({name: data[name].assign_attrs(cell_methods=methods)})
    return LeastSquares(
        data if missing is None else data.assign_attrs({MISSING: missing}), **options
    )


def specification(problem: Problem) -> dict[str, Any] | None:
    """The tables from which `build_problem` makes this problem, with arrays for fields; None for a
    problem with a user's model, misfit, penalty, prior or engine."""
    model = problem.model.specification()
    smooth = [p for p in problem.penalties if isinstance(p, Smoothness)]
    engine = problem.engine.settings()
    known = type(None), *PRIORS.values()
    if (
        model is None
        or engine is None
        or not isinstance(problem.misfit, BoundLeastSquares)
        or len({p.name for p in smooth}) < len(problem.penalties)
        or any(type(c.control.prior) not in known for c in problem.controls)
    ):
        return None
    data = problem.misfit.dataset()
    observations = {str(k): np.asarray(v.values) for k, v in data.variables.items()}
    controls: dict[str, dict[str, Any]] = {}
    for c in problem.controls:
        options: dict[str, Any] = {
            "initial": short(c.initial),
            "transform": c.control.transform,
            "basis": c.control.basis,
        }
        if c.control.bounds is not None:
            options["bounds"] = [float(b) for b in c.control.bounds]
        if c.truth is not None:
            options["truth"] = short(c.truth)
        if c.control.prior is not None:
            lengths = c.space.grid.units
            options["prior"] = prior_table(c.control.prior, c.units, lengths, c.prior_mean)
        controls[c.name] = options
    return {
        **engine,
        "grid": asdict(problem.model.domain),
        "model": model,
        "parameters": {k: short(v) for k, v in problem.known.items()},
        "controls": controls,
        "misfit": {
            "observations": {
                k: v.tolist() if v.dtype.kind == "U" else v for k, v in observations.items()
            },
            "variable": problem.misfit.variable.name,
            "missing": problem.misfit.missing,
        }
        | problem.misfit.support.attributes()
        | _noise(problem.misfit),
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


def _noise(misfit: BoundLeastSquares) -> dict[str, Any]:
    """The table of a noise that is correlated or of unknown scale; others are columns of the
    observations."""
    errors = misfit.errors
    if isinstance(errors, np.ndarray) and misfit.scale is None:
        return {}
    noise: dict[str, Any]
    noise = {"sd": errors} if isinstance(errors, np.ndarray) else arrays(errors)
    if misfit.scale is not None:
        noise["scale"] = prior_table(misfit.scale, "1")
    return {"noise": noise}


def plain(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables for JSON, with arrays by their shape and digest."""
    return json.loads(json.dumps(tables, default=_summary))


def _summary(value: object) -> Any:
    array = np.asarray(value)
    if not isinstance(value, np.ndarray):
        return array.item()  # a scalar of NumPy's
    raw = np.ascontiguousarray(array, dtype="<f8").tobytes()
    return {"shape": list(array.shape), "sha256": hashlib.sha256(raw).hexdigest()}


def problem_parts(problem: Problem) -> dict[str, Any]:
    """The parts of a problem by name, for its fingerprint: all that J depends on, whatever the
    number of ranks."""
    misfit, engine = problem.misfit, problem.engine
    if isinstance(misfit, BoundLeastSquares):
        # What the others determine.
        own = "model", "observation", "noise", "nuisances", "log_scale"
        kept = {k: v for k, v in vars(misfit).items() if k not in own}
        misfit = [type(misfit), kept | {"errors": arrays(misfit.errors)}]
    found = engine.settings() or {"engine": type(engine)}
    controls = [vars(c.control) | {"initial": c.initial, "truth": None} for c in problem.controls]
    return {
        "grid": problem.model.domain,
        "model": model_part(problem.model),
        "parameters": problem.known,
        "controls": controls,
        "misfit": misfit,
        "penalty": problem.penalties,
        "engine": {k: v for k, v in found.items() if k not in ("launcher", "topology")},
        "solver": [
            problem.tolerance,
            problem.adjoint_tolerance,
            problem.max_iterations,
            problem.adaptive,
        ],
    }
