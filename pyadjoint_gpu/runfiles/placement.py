"""Run files of sensor placement: TOML tables that make the same as the Python API."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..core.checks import as_text, check_choice, check_keys, count, finite_array, positive
from ..core.errors import ConfigError, DataError
from ..core.grid import Grid
from ..core.outputs import inputs
from ..core.quantities import converter
from ..core.quantities import numbers as given_numbers
from ..engines.base import Engine
from ..engines.choose import get_engine
from ..geophysics.bathymetry import continental_margin
from ..geophysics.rupture import Rupture
from ..lti.toeplitz import DTYPES
from ..models import Explicit, build
from ..models.forcing import ForcingSpace, Sites
from ..placement.network import Network, indices
from ..problem.specification import build_grid
from ..statistics.space_time import SpaceTimePrior
from .inversion import sampled
from .tables import field, load_model, numbers, open_dataset, outputs, parse, titled, under

SOURCE = "source"
"""The forcing that sensors are to tell of."""
_KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "title",
        "engine",
        "grid",
        "model",
        "parameters",
        "sensors",
        "prior",
        "placement",
        "forecast",
        "rupture",
        "output",
    ),
    "sensors": ("candidates", "sigma", "existing", "forbidden", "costs"),
    "candidates": ("low", "high", "shape"),
    "prior": ("sd", "length", "duration"),
    "placement": ("budget", "random", "seed", "dtype", "goal"),
    "forecast": ("points", "names", "until"),
    "rupture": ("file", *(f.name for f in fields(Rupture))),
    "output": ("path", "figure", "journal", "covariance"),
}
_REQUIRED = ("grid", "model", "sensors", "prior", "placement")
_PROFILES = {"continental-margin": continental_margin}
PARAMETER, FORECAST = "parameter", "forecast"


@dataclass(frozen=True)
class PlacementFile:
    """A run file of sensor placement, read and checked.

    Attributes
    ----------
    model : Explicit
    parameters : dict of array
        What is known of it.
    engine : Engine
    candidates : array, shape (n, 2)
        Positions (y, x).
    sigma : array, shape (n,)
        Standard deviations of their errors.
    existing, forbidden : list of int
        Numbers of candidates, from 0.
    costs : array, shape (n,), or None
    prior : SpaceTimePrior
        Of the source.
    placement : dict
        ``budget``, ``random``, ``seed`` and ``dtype``, for `place_sensors`.
    goal : str
        What sensors are to tell of: "parameter" or "forecast".
    points : array, shape (q, 2)
        Where a forecast is wanted.
    names : tuple of str
        Of the points.
    known : int
        Intervals whose data a forecast is made from.
    truth : array or None
        A source to try the sensors on.
    title : str or None
    specification : dict
        The tables, with arrays for files.
    output : dict of Path
        ``path``, ``figure``, ``journal`` and ``covariance``, where given; with the last two,
        ``selection``, the journal of the choice.
    reads : dict of Path
        The files that it names, and itself.
    """

    model: Explicit
    parameters: dict[str, np.ndarray]
    engine: Engine
    candidates: np.ndarray
    sigma: np.ndarray
    existing: list[int]
    forbidden: list[int]
    costs: np.ndarray | None
    prior: SpaceTimePrior
    placement: dict[str, Any]
    goal: str
    points: np.ndarray
    names: tuple[str, ...]
    known: int
    truth: np.ndarray | None
    title: str | None
    specification: dict[str, Any]
    output: dict[str, Path]
    reads: dict[str, Path]


def read(path: str | Path, overrides: Iterable[str] = ()) -> PlacementFile:
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


def checked(tables: dict[str, Any], path: Path) -> PlacementFile:
    """The run file of tables, whose paths are relative to that of the file."""
    other = "fault slip" if sampled(tables) else "an inversion" if "controls" in tables else None
    if other is not None and "placement" not in tables:
        raise ConfigError(f"{path}: a run file of {other}, for `pyadjoint-gpu run`")
    tables, base = check_keys(tables, _KEYS[""], ""), path.parent
    for key in _REQUIRED:
        if key not in tables:
            raise ConfigError(f"{path}: table [{key}] is missing")
    reads = inputs(tables, path)
    title, output = titled(tables), outputs(tables, _KEYS["output"], base)
    journal = output.get("journal", Path())
    if "covariance" in output and journal.name:
        output["selection"] = journal.with_name(f"{journal.stem}-selection{journal.suffix}")
    given = tables
    tables = load_model(tables, base)
    grid = build_grid(tables["grid"])
    model = _model(grid, tables["model"])
    space: Any = model.space(SOURCE)
    parameters = _parameters(model, tables.get("parameters", {}))
    sensors = _sensors(grid, tables["sensors"], model.unknowns[0].units, base)
    points, names, known = _forecast(grid, space, tables.get("forecast"))
    prior = check_keys(tables["prior"], _KEYS["prior"], "prior")
    for key in ("sd", "length"):
        if key not in prior:
            raise ConfigError(f"prior.{key} is missing")
    prior["sd"] = positive("prior.sd", prior["sd"])
    placement = _placement(tables["placement"], sensors, bool(len(points)))
    goal = placement.pop("goal")
    truth = _truth(model, space, tables["rupture"], base) if "rupture" in tables else None
    box = {k: getattr(grid, k) for k in ("shape", "extent", "origin", "units")}
    arrays = {"grid": box, "parameters": parameters, "sensors": sensors, "rupture": truth}
    return PlacementFile(
        model=model,
        parameters=parameters,
        engine=get_engine(tables.get("engine", "auto"), model),
        prior=SpaceTimePrior.matern(space, **prior),
        placement=placement,
        goal=goal,
        points=points,
        names=names,
        known=known,
        truth=truth,
        title=title,
        specification=given | arrays,
        output=output,
        reads=reads,
        **sensors,
    )


# The model


def _model(grid: Grid, table: Any) -> Explicit:
    model = build(grid, table, None)
    if not isinstance(model, Explicit):
        raise ConfigError(f"model.name: found {model.name!r}, expected one of explicit steps")
    if grid.ndim != 2:
        raise ConfigError(f"grid.shape: found {grid.ndim} axes, expected two, y and x")
    places = getattr(model, SOURCE, None)
    if places is None:
        raise ConfigError("model.source is missing: 'cells', or a box {low = [...], high = [...]}")
    if places.at_points:
        raise ConfigError("model.source: found points, expected cells, which maps can show")
    return model


def _parameters(model: Explicit, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Of the medium; the source is what is not known."""
    given = {}
    for name, value in table.items():
        where = f"parameters.{name}"
        if name in model.linear_in:
            raise ConfigError(
                f"{where}: found one, but the model starts at rest, and the source is unknown"
            )
        profiled = isinstance(value, Mapping) and "profile" in value
        given[name] = _profile(where, model.domain, dict(value)) if profiled else value
    found = model.fields(given)
    return {k: v for k, v in found.items() if k not in model.linear_in}


def _profile(where: str, grid: Grid, table: dict[str, Any]) -> np.ndarray:
    kind = table.pop("profile")
    check_choice(f"{where}.profile", kind, tuple(_PROFILES))
    make = _PROFILES[kind]
    check_keys(table, list(make.__kwdefaults__ or ()), where)
    with under(where):
        return make(grid, **table)


# The sensors


def _sensors(grid: Grid, table: Any, units: str, base: Path) -> dict[str, Any]:
    table = check_keys(table, _KEYS["sensors"], "sensors")
    for key in ("candidates", "sigma"):
        if key not in table:
            raise ConfigError(f"sensors.{key} is missing")
    where = _candidates(grid, table["candidates"], base)
    n = len(where)
    found: dict[str, Any] = {
        "candidates": where,
        "sigma": _each("sensors.sigma", table["sigma"], n, units, base),
        "costs": None,
    }
    if "costs" in table:
        found["costs"] = _each("sensors.costs", table["costs"], n, "1", base)
    for key in ("existing", "forbidden"):
        found[key] = list(indices(table.get(key, []), n, f"sensors.{key}"))
    both = sorted(set(found["existing"]) & set(found["forbidden"]))
    if both:
        raise ConfigError(f"sensors.forbidden: found {both[0]}, which is also in sensors.existing")
    return found


def _candidates(grid: Grid, value: Any, base: Path) -> np.ndarray:
    where = "sensors.candidates"
    if isinstance(value, Mapping):
        table = check_keys(value, _KEYS["candidates"], where)
        for key in _KEYS["candidates"]:
            if key not in table:
                raise ConfigError(f"{where}.{key} is missing")
        low, high, shape = (numbers(f"{where}.{k}", table[k], 2) for k in _KEYS["candidates"])
        counts = [count(f"{where}.shape", n) for n in table["shape"]]
        axes = [np.linspace(*ends) for ends in zip(low, high, counts, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))
    elif isinstance(value, str):
        points = _positions(where, open_dataset(base / value, where), grid)
    else:
        points = _points(where, value)
    grid.check_inside(points, f"{where}: number")
    return points


def _positions(where: str, data: xr.Dataset, grid: Grid) -> np.ndarray:
    """Of a file's variables y and x."""
    columns = []
    for d in grid.dims:
        if d not in data.variables:
            raise DataError(f"{where}: no variable {d!r} in the file, expected {grid.dims}")
        columns.append(np.atleast_1d(_finite(f"{where}: {d!r}", data[d], grid.units)))
    sizes = {c.shape for c in columns}
    if len(sizes) > 1 or columns[0].ndim != 1 or not columns[0].size:
        raise DataError(f"{where}: found shapes {sorted(sizes)}, expected one y and x a candidate")
    return np.stack(columns, axis=1)


def _finite(where: str, array: xr.DataArray, units: str) -> np.ndarray:
    """The values of a file's variable, none of them missing, in `units`."""
    values = finite_array(where, given_numbers(where, array))
    return converter(where, array.attrs.get("units"), units)(values)


def _points(where: str, value: Any) -> np.ndarray:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}: found {value!r:.60}, expected a list of positions [y, x]")
    return np.array([numbers(f"{where}[{k}]", p, 2) for k, p in enumerate(value)])


def _each(where: str, value: Any, n: int, units: str, base: Path) -> np.ndarray:
    """A positive number for each candidate."""
    if isinstance(value, str):
        found = field(value, base, where)
        value = _finite(where, found, units)
    elif isinstance(value, list):
        value = np.array(numbers(where, value, n))
    else:
        value = np.full(n, positive(where, value))
    if value.shape != (n,):
        raise DataError(f"{where}: found shape {value.shape}, expected ({n},), one a candidate")
    if not np.all(np.isfinite(value) & (value > 0)):
        raise DataError(f"{where}: found {np.min(value):g}, expected finite values > 0")
    return value


def _forecast(
    grid: Grid, space: ForcingSpace, table: Any
) -> tuple[np.ndarray, tuple[str, ...], int]:
    """Where, with which names, and from how many intervals' data."""
    if table is None:
        return np.empty((0, 2)), (), space.count
    table = check_keys(table, _KEYS["forecast"], "forecast")
    if "points" not in table:
        raise ConfigError("forecast.points is missing")
    points = _points("forecast.points", table["points"])
    grid.check_inside(points, "forecast.points: number")
    names = table.get("names", [chr(ord("A") + k % 26) for k in range(len(points))])
    if not isinstance(names, list) or len(names) != len(points):
        raise ConfigError(f"forecast.names: found {names!r}, expected {len(points)} texts")
    last = space.count * space.interval
    until = positive("forecast.until", table.get("until", last))
    known = int(until / space.interval * (1.0 + 1e-9))
    if not 1 <= known <= space.count:
        raise ConfigError(
            f"forecast.until: found {until:g}, expected {space.interval:g} to {last:g}"
            f" {space.time_units}"
        )
    return points, tuple(as_text(n, "forecast.names") for n in names), known


# What is asked for


def _placement(table: Any, sensors: dict[str, Any], forecast: bool) -> dict[str, Any]:
    table = check_keys(table, _KEYS["placement"], "placement")
    if "budget" not in table:
        raise ConfigError("placement.budget is missing")
    within = [sensors[k] for k in ("costs", "existing", "forbidden")]
    with under("placement"):
        Network.of(len(sensors["candidates"]), table["budget"], *within)
    for key, usual in (("random", 100), ("seed", 0)):
        table[key] = count(f"placement.{key}", table.get(key, usual), 0)
    check_choice("placement.dtype", table.setdefault("dtype", "float64"), DTYPES)
    check_choice("placement.goal", table.setdefault("goal", PARAMETER), (PARAMETER, FORECAST))
    if table["goal"] == FORECAST and not forecast:
        raise ConfigError("placement.goal: found 'forecast', but table [forecast] is missing")
    return table


def _truth(model: Explicit, space: ForcingSpace, table: Any, base: Path) -> np.ndarray:
    table = check_keys(table, _KEYS["rupture"], "rupture")
    if "file" in table:
        if len(table) > 1:
            raise ConfigError(f"rupture.{min(set(table) - {'file'})}: found beside rupture.file")
        as_text(table["file"], "rupture.file")
        return _source("rupture.file", field(table["file"], base, "rupture.file"), model)
    for f in fields(Rupture):
        if f.name not in table and f.name not in ("origin", "strike"):
            raise ConfigError(f"rupture.{f.name} is missing")
    with under("rupture"):
        found = space.fill(Rupture(**table), SOURCE)
    # A rate by the time of its rise, in the model's unit of time.
    found = found / converter("model.time_units", space.time_units, "s").scale
    if not np.any(found):
        raise ConfigError("rupture: nothing moves at the places and in the time of the source")
    return found


def _source(where: str, given: xr.DataArray, model: Explicit) -> np.ndarray:
    """Values of the source at its places, from those of all cells or of the places."""
    space, of = model.space(SOURCE), model.parameter(SOURCE)
    assert isinstance(space, ForcingSpace)
    everywhere = replace(space, sites=Sites(space.grid, ("cells",)))
    if set(given.dims) != set(everywhere.dims):
        return space.fill(given, where, of)
    whole = everywhere.fill(given, where, of)
    if space.sites.everywhere:
        return whole
    return whole.reshape(space.count, math.prod(space.grid.shape))[:, space.sites.indices]
