"""A problem to plain tables and back: what run files, journals and results are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..core.checks import (
    as_text,
    check_choice,
    check_iterations,
    check_keys,
    check_table,
    check_tolerance,
)
from ..core.errors import ConfigError, nearest
from ..core.fingerprint import model_part
from ..core.grid import Grid
from ..engines.choose import get_engine
from ..engines.embedded import SOLVERS
from ..models import build
from ..results.dataset import MISSING
from .control import Control, Smoothness
from .likelihood import BoundLeastSquares, LeastSquares, as_dataset
from .problem import ADAPTIVE, Problem

PENALTIES = ("smoothness",)
KEYS: dict[str, tuple[str, ...]] = {
    "grid": ("shape", "extent", "origin", "units", "like"),
    "controls": ("initial", "transform", "bounds", "basis", "truth"),
    "misfit": ("observations", "observes", "sigma"),
    "penalty": ("kind", "weight", "length"),
    "solver": ("tolerance", "adjoint_tolerance", "max_iterations", "method", "dtype", "backend"),
}


def check_numbers(table: Mapping[str, Any], where: str) -> None:
    for key in ("tolerance", "adjoint_tolerance"):
        if key in table and (where, key, table[key]) != ("solver", "tolerance", ADAPTIVE):
            check_tolerance(f"{where}.{key}", table[key])
    if "max_iterations" in table:
        check_iterations(f"{where}.max_iterations", table["max_iterations"], 1)


def build_problem(tables: Mapping[str, Any]) -> Problem:
    """The problem of a run file's tables, whose fields are numbers, arrays or DataArrays and
    whose observations are a Dataset or a mapping of columns."""
    grid = build_grid(tables["grid"])
    misfit = _misfit(tables["misfit"])
    model = build(grid, tables["model"], None)
    units = misfit.units(model)
    if units is not None:
        model = build(grid, tables["model"], units)
    solver = check_keys(tables.get("solver", {}), KEYS["solver"], "solver")
    check_numbers(solver, "solver")
    method = solver.pop("method", "auto")
    check_choice("solver.method", method, SOLVERS)
    engine = get_engine(
        tables.get("engine", "auto"),
        model,
        launcher=tables.get("launcher"),
        topology=tables.get("topology"),
        solver=method,
        dtype=solver.pop("dtype", None),
        backend=solver.pop("backend", None),
    )
    return Problem(
        model,
        _controls(tables["controls"]),
        misfit,
        _penalties(tables.get("penalty", {})),
        parameters=check_table(tables.get("parameters", {}), "parameters"),
        engine=engine,
        **solver,
    )


def build_grid(table: Any) -> Grid:
    """The grid of its table, ``like`` a DataArray."""
    table = check_keys(table, KEYS["grid"], "grid")
    like = table.pop("like", None)
    if like is not None:
        if table:
            raise ConfigError(f"grid.{min(table)}: found beside 'like', which gives the whole grid")
        if not hasattr(like, "coords"):
            raise ConfigError(f"grid.like: found {like!r}, expected 'file.nc:variable'")
        return Grid.like(like)
    for key in ("shape", "extent"):
        if key not in table:
            raise ConfigError(f"grid.{key} is missing")
    return Grid(**table)


def _controls(table: Any) -> list[Control]:
    out = []
    for name, options in check_table(table, "controls").items():
        options = check_keys(options, KEYS["controls"], f"controls.{name}")
        out.append(Control(name, options.pop("initial", None), **options))
    return out


def _penalties(table: Any) -> list[Smoothness]:
    out = []
    for name, options in check_table(table, "penalty").items():
        options = check_keys(options, KEYS["penalty"], f"penalty.{name}")
        kind = options.pop("kind", "smoothness")
        if kind not in PENALTIES:
            raise ConfigError(f"penalty.{name}.kind: found {kind!r}{nearest(str(kind), PENALTIES)}")
        for key in ("weight", "length"):
            if key not in options:
                raise ConfigError(f"penalty.{name}.{key} is missing")
        out.append(Smoothness(name, **options))
    return out


def _misfit(table: Any) -> LeastSquares:
    table = check_keys(table, (*KEYS["misfit"], "variable", "missing"), "misfit")
    if "observations" not in table:
        raise ConfigError("misfit.observations is missing")
    data = table["observations"]
    data = data if isinstance(data, xr.Dataset) else as_dataset(data)
    if "missing" in table:
        data = data.assign_attrs({MISSING: table["missing"]})
    sigma = table.get("sigma")
    if sigma is not None:
        values = np.asarray(sigma) if isinstance(sigma, int | float | list) else np.array("")
        if values.dtype.kind not in "if" or not np.all(values > 0):
            raise ConfigError(f"misfit.sigma: found {sigma!r}, expected a number > 0")
        sigma = values
    observes = table.get("observes")
    if observes is not None:
        as_text(observes, "misfit.observes")
    return LeastSquares(data, variable=table.get("variable"), observes=observes, sigma=sigma)


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
        kept = {k: v for k, v in vars(misfit).items() if k != "model" and not k.startswith("_")}
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
