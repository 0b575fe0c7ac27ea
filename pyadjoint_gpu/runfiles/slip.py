"""Run files of fault slip: TOML tables that make the same samplers as the Python API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import xarray as xr

from ..core.checks import (
    as_text,
    check_choice,
    check_keys,
    check_table,
    count,
    finite,
    finite_array,
    positive,
)
from ..core.errors import ConfigError, DataError
from ..core.outputs import inputs
from ..core.precision import double
from ..core.quantities import conversion, converter, spelling
from ..core.quantities import numbers as given_numbers
from ..geophysics.faults import GEOMETRY, LIMITS, Fault
from ..geophysics.slip_data import DISPLACEMENT, SlipData, covariance, slip_data
from ..sampling.fixed import LinearSMC
from ..sampling.hierarchical import HierarchicalSMC
from ..sampling.linear import Settings
from ..statistics.observed import factor, observed
from .tables import field, numbers, open_dataset, outputs, parse, titled, under

_MEASURED = ("gnss", "insar")
_KEYS: dict[str, tuple[str, ...]] = {
    "": ("title", "fault", "data", "slip_prior", "sampler", "output"),
    "fault": ("units", *(f.name for f in fields(Fault)), *GEOMETRY),
    "data": (*_MEASURED, "green", "displacement", "sigma", "covariance"),
    "slip_prior": ("kind", "sd", "length", "bounds"),
    "output": ("path", "journal", "figure"),
}
_INNER = tuple(f.name for f in fields(Settings))
_RUN = ("seed", "repeats", "dtype")
_OUTER = ("particles", "moves", "ess", "batch", "draws")
SMOOTH, GAUSSIAN = "smooth", "gaussian"
_BEYOND = 1e-9
"""Prior probability of a geometry beyond its limits that is as good as none."""


@dataclass(frozen=True)
class Geometry:
    """How a fault lies, as far as it is known.

    Attributes
    ----------
    fault : Fault
    units : str
        Of its lengths.
    known : dict of float
    priors : dict
        Distributions of what is not known.
    """

    fault: Fault
    units: str
    known: dict[str, float]
    priors: dict[str, Any]


@dataclass(frozen=True)
class SlipFile:
    """A run file of fault slip, read and checked.

    Attributes
    ----------
    sampler : LinearSMC or HierarchicalSMC
        The latter where part of the geometry is unknown.
    options : dict
        ``seed`` and ``repeats`` of its method `run`.
    geometry : Geometry or None
    data : SlipData or None
        None where G is given.
    specification : dict
        The tables, with arrays for files.
    title : str or None
    output : dict of Path
        ``path``, ``journal`` and ``figure``, where given.
    reads : dict of Path
        The files that it names, and itself.
    """

    sampler: LinearSMC | HierarchicalSMC
    options: dict[str, int]
    geometry: Geometry | None
    data: SlipData | None
    specification: dict[str, Any]
    title: str | None
    output: dict[str, Path]
    reads: dict[str, Path]


def read(path: str | Path, overrides: Iterable[str] = ()) -> SlipFile:
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


def checked(tables: dict[str, Any], path: Path) -> SlipFile:
    """The run file of tables, whose paths are relative to that of the file."""
    tables = check_keys(tables, _KEYS[""], "")
    reads = inputs(tables, path)
    title, output = titled(tables), outputs(tables, _KEYS["output"], path.parent)
    data = check_keys(tables.get("data", {}), _KEYS["data"], "data")
    given = "green" in data
    for key in ("data", "slip_prior") if given else ("fault", "data", "slip_prior"):
        if key not in tables:
            raise ConfigError(f"{path}: table [{key}] is missing")
    geometry = _geometry(tables["fault"], given) if "fault" in tables else None
    options = _sampler(tables.get("sampler", {}), bool(geometry and geometry.priors))
    if given:
        measured, (green, d, noise) = None, _given(data, geometry, path.parent)
        arrays = {"green": green, "displacement": d, "noise": noise}
    else:
        assert geometry is not None
        measured = _measured(data, geometry, path.parent)
        green = None if geometry.priors else _green(geometry, measured)
        d, noise = measured.displacement, measured.noise
        arrays = vars(measured)
    n = green.shape[1] if geometry is None else geometry.fault.components  # type: ignore
    prior, bounds = _slip_prior(tables["slip_prior"], geometry, n)
    run = {k: options.pop(k) for k in ("seed", "repeats") if k in options}
    if green is not None:
        if "journal" in output:
            raise ConfigError(
                "output.journal: found one, but the whole geometry is fixed; such a problem is"
                " sampled in one piece, without a journal"
            )
        with _as_keys():
            sampler = LinearSMC(green, d, noise, prior, bounds, **options)
    else:
        assert geometry is not None and measured is not None
        forward = geometry.fault.forward(measured.points, measured.look, **geometry.known)
        with _as_keys():
            sampler = HierarchicalSMC(forward, d, noise, prior, geometry.priors, bounds, **options)
    specification = tables | {"data": arrays}
    return SlipFile(sampler, run, geometry, measured, specification, title, output, reads)


@contextmanager
def _as_keys() -> Iterator[None]:
    """Errors of a sampler's arguments, by the keys that they are in the file."""
    try:
        yield
    except ConfigError as error:
        name = str(error).partition(":")[0]
        table = {"draws": "sampler.", "bounds": "slip_prior."}.get(name, "")
        raise ConfigError(f"{table}{error}") from None


# The fault


def _geometry(table: Any, given: bool) -> Geometry:
    table = check_keys(table, _KEYS["fault"], "fault")
    units = as_text(table.pop("units", "m"), "fault.units")
    if spelling(units) == "1" or conversion(units, "m") is None:
        raise ConfigError(f"fault.units: found {units!r}, expected a unit of length")
    placed = {k: table.pop(k) for k in GEOMETRY if k in table}
    for key in ("length", "width"):
        if key not in table:
            raise ConfigError(f"fault.{key} is missing")
    with under("fault"):
        fault = Fault(**table)
    if given and placed:
        raise ConfigError(f"fault.{min(placed)}: found beside data.green, which is already of one")
    if not given:
        for key in GEOMETRY:
            if key not in placed:
                raise ConfigError(
                    f"fault.{key} is missing: a number where it is known, or a prior such as"
                    " {uniform = [low, high]}"
                )
    priors = {
        k: _distribution(f"fault.{k}", v, LIMITS.get(k))
        for k, v in placed.items()
        if isinstance(v, Mapping)
    }
    known = {}
    for key in placed.keys() - priors.keys():
        where, (low, high) = f"fault.{key}", LIMITS.get(key, (-np.inf, np.inf))
        known[key] = finite(
            where, placed[key], "a number, or a prior such as {normal = [mean, sd]}"
        )
        if not low <= known[key] <= high:
            raise ConfigError(f"{where}: found {known[key]:g}, expected {low:g} to {high:g}")
    return Geometry(fault, units, {k: known[k] for k in GEOMETRY if k in known}, priors)


def _distribution(where: str, table: Any, limits: tuple[float, float] | None) -> Any:
    """Of `scipy.stats`."""
    table = check_keys(table, ("uniform", "normal", "bounds"), where)
    prior: Any
    kinds = [k for k in ("uniform", "normal") if k in table]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        raise ConfigError(f"{where}: found {found}, expected one of uniform and normal")
    if kinds == ["uniform"]:
        if "bounds" in table:
            raise ConfigError(f"{where}.bounds: found beside uniform, which has its own")
        low, high = _pair(f"{where}.uniform", table["uniform"])
        prior = scipy.stats.uniform(low, high - low)
    else:
        values = numbers(f"{where}.normal", table["normal"], 2)
        mean, sd = values
        if not (np.all(np.isfinite(values)) and sd > 0):
            raise ConfigError(f"{where}.normal: found {table['normal']!r}, expected [mean, sd > 0]")
        if "bounds" in table:
            low, high = _pair(f"{where}.bounds", table["bounds"], infinite=True)
            prior = scipy.stats.truncnorm((low - mean) / sd, (high - mean) / sd, mean, sd)
            if not np.isfinite(prior.logpdf(np.clip(mean, low, high))):
                raise ConfigError(f"{where}.bounds: found {table['bounds']!r}, far from the mean")
        else:
            prior = scipy.stats.norm(mean, sd)
    if limits and prior.cdf(limits[0]) + prior.sf(limits[1]) > _BEYOND:
        low, high = limits
        raise ConfigError(
            f"{where}: its prior reaches beyond {low:g} to {high:g}; give narrower limits, or cut a"
            f" normal one by bounds = [{low:g}, {high:g}]"
        )
    return prior


# The data


def _measured(table: dict[str, Any], geometry: Geometry, base: Path) -> SlipData:
    for key in ("displacement", "sigma", "covariance"):
        if key in table:
            raise ConfigError(f"data.{key}: found without data.green, to which it belongs")
    if not table:
        raise ConfigError("data: found nothing, expected gnss, insar or green")
    parts = []
    for kind in _MEASURED:
        value = table.get(kind, [])
        files = [value] if isinstance(value, str) else value
        if not isinstance(files, list) or (kind in table and not files):
            raise ConfigError(f"data.{kind}: found {value!r}, expected a file or a list of files")
        for k, file in enumerate(files):
            where = f"data.{kind}" if isinstance(value, str) else f"data.{kind}[{k}]"
            found = open_dataset(base / as_text(file, where), where)
            with under(f"{where}: {file}", kind):
                parts.append(slip_data(**{kind: found}, units=geometry.units))
    return reduce(add, parts)


def _given(
    table: dict[str, Any], geometry: Geometry | None, base: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G, d and the noise of a problem that was made elsewhere."""
    for key in _MEASURED:
        if key in table:
            raise ConfigError(f"data.{key}: found beside data.green, expected one of them")
    if "displacement" not in table:
        raise ConfigError("data.displacement is missing")
    if ("sigma" in table) == ("covariance" in table):
        found = "both" if "sigma" in table else "neither"
        raise ConfigError(f"data: found {found} of sigma and covariance, expected one of them")
    d, vector = _array(table, "displacement", base)
    if vector.ndim != 1:
        raise DataError(f"data.displacement: found shape {vector.shape}, expected one dimension")
    green = finite_array("data.green", _array(table, "green", base)[1])
    patches = geometry and geometry.fault.components
    if (
        green.ndim != 2
        or len(green) != len(vector)
        or green.shape[1] != (patches or green.shape[1])
    ):
        raise DataError(
            f"data.green: found shape {green.shape}, expected ({len(vector)}, {patches or 'n'}),"
            " data by components of slip"
        )
    own = d.attrs.get("units")
    metres = converter("data.displacement", own, DISPLACEMENT)
    if "covariance" in table:
        noise = covariance(_array(table, "covariance", base)[0], d, "data.covariance")
    elif isinstance(table["sigma"], str):
        sigma, noise = _array(table, "sigma", base)
        noise = converter("data.sigma", sigma.attrs.get("units", own), DISPLACEMENT)(noise)
    else:
        noise = np.asarray(metres(positive("data.sigma", table["sigma"])))
    name = f"data.{'sigma' if noise.ndim < 2 else 'covariance'}"
    _, seen, errors = observed("data.displacement", vector, name, noise)
    factor(name, errors, len(seen))
    return green, metres(vector), noise


def _array(table: dict[str, Any], key: str, base: Path) -> tuple[xr.DataArray, np.ndarray]:
    where = f"data.{key}"
    found = field(as_text(table[key], where), base, where)
    return found, given_numbers(where, found)


@double
def _green(geometry: Geometry, data: SlipData) -> np.ndarray:
    return np.asarray(geometry.fault.green(data.points, data.look, **geometry.known))


# The prior of slip


def _slip_prior(table: Any, geometry: Geometry | None, n: int) -> tuple[Any, Any]:
    """The prior, and the bounds or None."""
    table = check_keys(table, _KEYS["slip_prior"], "slip_prior")
    for key in ("kind", "sd"):
        if key not in table:
            raise ConfigError(f"slip_prior.{key} is missing")
    kind = table["kind"]
    check_choice("slip_prior.kind", kind, (GAUSSIAN, SMOOTH))
    fault = geometry and geometry.fault
    sd = np.array(_by_kind("slip_prior.sd", table["sd"], fault, n, positive))
    bounds = None
    if "bounds" in table:
        pairs = _by_kind("slip_prior.bounds", table["bounds"], fault, n, _sides)
        bounds = tuple(np.array(side) for side in zip(*pairs, strict=True))
    if kind == GAUSSIAN:
        if "length" in table:
            raise ConfigError("slip_prior.length: found with kind = 'gaussian', it is of 'smooth'")
        return sd, bounds
    if fault is None:
        raise ConfigError(
            "slip_prior.kind: 'smooth' needs the table [fault], which says how patches lie"
        )
    if "length" not in table:
        raise ConfigError(
            "slip_prior.length is missing: Laplacian smoothing without one is an improper prior, of"
            " which uniform slip may have any size"
        )
    with under("slip_prior"):
        return fault.smooth_prior(sd, table["length"]), bounds


def _by_kind(where: str, value: Any, fault: Fault | None, n: int, of: Any) -> list[Any]:
    """One value for each component, from one for all or a table of one for each kind of slip."""
    if not isinstance(value, Mapping):
        return [of(where, value)] * n
    if fault is None:
        raise ConfigError(
            f"{where}: found a table, but there is no table [fault] with kinds of slip"
        )
    check_keys(value, fault.slips, where)
    missing = [s for s in fault.slips if s not in value]
    if missing:
        raise ConfigError(f"{where}.{missing[0]} is missing")
    each = [of(f"{where}.{s}", value[s]) for s in fault.slips]
    return [v for v in each for _ in range(fault.along * fault.down)]


def _sides(where: str, value: Any) -> tuple[float, float]:
    return _pair(where, value, infinite=True)


# The sampler


def _sampler(table: Any, unknown: bool) -> dict[str, Any]:
    """Arguments of the sampler and of its method `run`."""
    table = check_table(table, "sampler")
    if not unknown:
        if "inner" in table:
            raise ConfigError(
                "sampler.inner: found, but the whole geometry is fixed; the settings of the one"
                " sampler go into [sampler] itself"
            )
        table = check_keys(table, (*_RUN, *_INNER), "sampler")
        settings = _settings({k: table.pop(k) for k in _INNER if k in table}, "sampler")
        return _checked(table, "sampler") | {"settings": settings}
    for key in ("leapfrogs", "jitter"):
        if key in table:
            raise ConfigError(f"sampler.{key}: it is of the samplers of slip: sampler.inner.{key}")
    table = check_keys(table, (*_RUN, *_OUTER, "inner"), "sampler")
    inner = check_keys(table.pop("inner", {}), _INNER, "sampler.inner")
    table = _checked(table, "sampler")
    if not 0 < table.get("ess", 0.5) < 1:
        raise ConfigError(f"sampler.ess: found {table['ess']}, expected a number between 0 and 1")
    return table | {"inner": _settings(inner, "sampler.inner")}


def _settings(table: dict[str, Any], where: str) -> Settings:
    settings = Settings(**_checked(table, where))
    with under(where):
        settings.check()
    return settings


def _checked(table: dict[str, Any], where: str) -> dict[str, Any]:
    """Of the right types."""
    out = {}
    for key, value in table.items():
        name = f"{where}.{key}"
        if key == "dtype":
            check_choice(name, value, ("float64", "float32"))
            out[key] = value
        elif key in ("ess", "jitter"):
            out[key] = finite(name, value)
        else:
            out[key] = count(name, value, 0 if key == "seed" else 1)
    return out


# Values


def _pair(where: str, value: Any, infinite: bool = False) -> tuple[float, float]:
    low, high = numbers(where, value, 2)
    if not low < high or not (infinite or np.isfinite([low, high]).all()):
        raise ConfigError(f"{where}: found {value!r}, expected [low, high] with low < high")
    return low, high
