"""Run files: TOML tables that build the same `Problem` as the Python API."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .control import Control, Smoothness
from .engines import SOLVERS, get_engine
from .errors import ConfigError, DataError, check_choice, check_keys, check_table, nearest
from .files import intact
from .grid import Grid
from .misfit import MISSING, BoundLeastSquares, LeastSquares, as_dataset
from .models import build
from .outputs import inputs
from .problem import ADAPTIVE, Problem
from .solves import check_iterations, check_tolerance

_KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "title",
        "engine",
        "launcher",
        "topology",
        "grid",
        "model",
        "parameters",
        "controls",
        "misfit",
        "penalty",
        "solver",
        "inversion",
        "output",
    ),
    "grid": ("shape", "extent", "origin", "units", "like"),
    "controls": ("initial", "transform", "bounds", "basis", "truth"),
    "misfit": ("observations", "observes", "sigma"),
    "penalty": ("kind", "weight", "length"),
    "solver": ("tolerance", "adjoint_tolerance", "max_iterations", "method", "dtype", "backend"),
    "inversion": ("method", "max_iterations", "tolerance", "discrepancy"),
    "output": ("path", "journal", "figure"),
}
_REQUIRED = ("grid", "model", "controls", "misfit")
PENALTIES = ("smoothness",)


@dataclass(frozen=True)
class RunFile:
    """A run file, read and checked, its fields loaded.

    Attributes
    ----------
    tables : dict
        For `build_problem`.
    title : str or None
    inversion : dict
        Options of `invert`.
    output : dict of Path
        ``path``, ``journal``, ``figure``, where given.
    reads : dict of Path
        The files that it names, and itself.
    """

    tables: dict[str, Any]
    title: str | None
    inversion: dict[str, Any]
    output: dict[str, Path]
    reads: dict[str, Path]


def read(path: str | Path, overrides: Iterable[str] = ()) -> RunFile:
    """Read a run file.

    Parameters
    ----------
    path : path
        Paths in the file are relative to it.
    overrides : iterable of str
        ``"a.b=value"``, as on the command line.

    Raises
    ------
    ConfigError, DataError
        In one line: the key or variable, what was found, what was expected.
    """
    return checked(parse(path, overrides), Path(path))


def parse(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a run file of any kind, as they stand in it but for `overrides`."""
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for override in overrides:
        _override(tables, override)
    return tables


def sampled(tables: Mapping[str, Any]) -> bool:
    """Whether these are tables of fault slip, for `bayes.run_file`."""
    if "fault" in tables or "slip_prior" in tables:
        return True
    return "grid" not in tables and ("data" in tables or "sampler" in tables)


def checked(tables: dict[str, Any], path: Path) -> RunFile:
    """The run file of tables, whose paths are relative to that of the file."""
    if "sensors" in tables or "placement" in tables:
        raise ConfigError(f"{path}: a run file of sensor placement, for `pyadjoint-gpu place`")
    check_keys(tables, _KEYS[""], "")
    for key in _REQUIRED:
        if key not in tables:
            raise ConfigError(f"{path}: table [{key}] is missing")
    reads, output = inputs(tables, path), outputs(tables, _KEYS["output"], path.parent)
    inversion = check_keys(tables.pop("inversion", {}), _KEYS["inversion"], "inversion")
    _check_numbers(inversion, "inversion")
    if not isinstance(inversion.get("discrepancy", False), bool):
        found = inversion["discrepancy"]
        raise ConfigError(f"inversion.discrepancy: found {found!r}, expected true or false")
    title = titled(tables)
    return RunFile(_load(tables, path.parent), title, inversion, output, reads)


def outputs(tables: dict[str, Any], keys: Iterable[str], base: Path) -> dict[str, Path]:
    """Takes [output] out of the tables: the places where results go."""
    table = check_keys(tables.pop("output", {}), keys, "output")
    return {k: base / as_text(v, f"output.{k}") for k, v in table.items()}


def titled(tables: dict[str, Any]) -> str | None:
    """Takes the title out of the tables."""
    title = tables.pop("title", None)
    return None if title is None else as_text(title, "title")


def _check_numbers(table: Mapping[str, Any], where: str) -> None:
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
    solver = check_keys(tables.get("solver", {}), _KEYS["solver"], "solver")
    _check_numbers(solver, "solver")
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
    table = check_keys(table, _KEYS["grid"], "grid")
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
        options = check_keys(options, _KEYS["controls"], f"controls.{name}")
        out.append(Control(name, options.pop("initial", None), **options))
    return out


def _penalties(table: Any) -> list[Smoothness]:
    out = []
    for name, options in check_table(table, "penalty").items():
        options = check_keys(options, _KEYS["penalty"], f"penalty.{name}")
        kind = options.pop("kind", "smoothness")
        if kind not in PENALTIES:
            raise ConfigError(f"penalty.{name}.kind: found {kind!r}{nearest(str(kind), PENALTIES)}")
        for key in ("weight", "length"):
            if key not in options:
                raise ConfigError(f"penalty.{name}.{key} is missing")
        out.append(Smoothness(name, **options))
    return out


def _misfit(table: Any) -> LeastSquares:
    table = check_keys(table, (*_KEYS["misfit"], "variable", "missing"), "misfit")
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


# Files


def _load(tables: dict[str, Any], base: Path) -> dict[str, Any]:
    """Tables with every "file.nc:variable" that stands for a field replaced by its DataArray."""
    out = load_model(tables, base)
    for name, options in check_table(out["controls"], "controls").items():
        options = check_table(options, f"controls.{name}")
        for key in ("initial", "truth"):
            if key in options:
                options[key] = field(options[key], base, f"controls.{name}.{key}")
        out["controls"] = out["controls"] | {name: options}
    misfit = check_keys(out["misfit"], _KEYS["misfit"], "misfit")
    if "observations" not in misfit:
        raise ConfigError("misfit.observations is missing")
    file, variable = _reference(misfit["observations"], "misfit.observations")
    data = open_dataset(base / file, "misfit.observations")
    out["misfit"] = misfit | {"observations": data} | ({"variable": variable} if variable else {})
    return out


def load_model(tables: dict[str, Any], base: Path) -> dict[str, Any]:
    """Tables with this done to those of the grid, of the model and of its parameters."""
    out = dict(tables)
    for name, value in check_table(out.get("parameters", {}), "parameters").items():
        out["parameters"] = out["parameters"] | {name: field(value, base, f"parameters.{name}")}
    model = check_table(out["model"], "model")
    sides = model.get("fixed_pressure")
    if isinstance(sides, Mapping):
        model["fixed_pressure"] = {
            k: field(v, base, f"model.fixed_pressure.{k}") for k, v in sides.items()
        }
    out["model"] = model
    grid = check_table(out["grid"], "grid")
    if "like" in grid:
        out["grid"] = grid | {"like": field(grid["like"], base, "grid.like")}
    return out


def field(value: Any, base: Path, where: str) -> Any:
    """The DataArray of "file.nc:variable"; what is no text, as it is."""
    if not isinstance(value, str):
        return value
    file, variable = _reference(value, where)
    if not variable:
        raise ConfigError(f"{where}: found {value!r}, expected a number or 'file.nc:variable'")
    data = open_dataset(base / file, where)
    if variable not in data:
        raise DataError(
            f"{where}: no variable {variable!r} in {file}{nearest(variable, map(str, data))}"
        )
    return data[variable]


def _reference(value: Any, where: str) -> tuple[str, str]:
    text = as_text(value, where)
    file, _, variable = text.rpartition(":")
    return (file, variable) if file else (text, "")


def open_dataset(path: Path, where: str) -> xr.Dataset:
    """A file, loaded; a `DataError` that begins with `where` if it cannot be."""
    if not path.is_file():
        raise DataError(f"{where}: no file {path}")
    try:
        intact(path)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    try:
        with xr.open_dataset(path, decode_times=False) as data:
            return data.load()
    except Exception as error:  # xarray's backends raise all kinds
        reason = str(error).splitlines()[0][:120]
        raise DataError(f"{where}: {path} is not a NetCDF file, or truncated ({reason})") from None


def as_text(value: Any, where: str) -> str:
    """A text that is not empty, or a `ConfigError`."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: found {value!r}, expected a text")
    return value


def numbers(where: str, value: Any, n: int) -> list[float]:
    """A list of so many numbers, or a `ConfigError`."""
    given = value if isinstance(value, list) else []
    if len(given) != n or any(isinstance(v, bool) or not isinstance(v, int | float) for v in given):
        raise ConfigError(f"{where}: found {value!r}, expected {n} numbers")
    return [float(v) for v in given]


@contextmanager
def under(where: str, said: str = "") -> Iterator[None]:
    """Errors of what a table was made into, under the table's name (in place of `said`)."""
    try:
        yield
    except (ConfigError, DataError) as error:
        text = str(error).removeprefix(said)
        raise type(error)(f"{where}{text}" if said else f"{where}.{text}") from None


def _override(tables: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    path = [p.strip() for p in key.split(".")]
    if not equals or not all(path):
        raise ConfigError(f"--set {text!r}: expected a.b=value")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    node = tables
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {text!r}: {part!r} is not a table")
    node[path[-1]] = parsed


# The other way


def specification(problem: Problem) -> dict[str, Any] | None:
    """The tables that `build_problem` makes this problem of, with arrays for fields; None where
    it holds code (a model, a misfit, a penalty or an engine of the user's)."""
    model = problem.model.specification()
    smooth = [p for p in problem.penalties if isinstance(p, Smoothness)]
    settings = getattr(problem.engine, "settings", None)
    if (
        model is None
        or settings is None
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
    engine = settings()
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
