"""Run files of fault slip: TOML tables that make the same samplers as the Python API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import scipy.stats
import xarray as xr
from annotated_types import Predicate
from pydantic import Field, SkipValidation, model_validator

from ..core.checks import check_keys, finite_array
from ..core.errors import ConfigError, DataError, keyed
from ..core.precision import double
from ..core.quantities import conversion, converter, spelling
from ..core.quantities import numbers as given_numbers
from ..geophysics.faults import GEOMETRY, LIMITS, Fault
from ..geophysics.slip_data import DISPLACEMENT, SlipData, covariance, slip_data
from ..sampling.fixed import LinearSMC
from ..sampling.hierarchical import HierarchicalSMC
from ..sampling.linear import Settings
from ..statistics.observed import factor, observed
from .files import field, open_dataset, under
from .tables import (
    Case,
    Count,
    Finite,
    Kind,
    OrTable,
    Positive,
    Real,
    Stored,
    Table,
    Text,
    Whole,
    expected,
    table_of,
)

_BEYOND = 1e-9
"""Prior probability of a geometry beyond its limits that is as good as none."""
_ONLY_UNKNOWN = ("batch", "draws", "inner")
_ONLY_FIXED = ("leapfrogs", "jitter")
"""Keys of [sampler] where part of the geometry is unknown, and where none is."""


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
class SlipCase(Case):
    """A problem of fault slip, and how it is sampled.

    Attributes
    ----------
    sampler : LinearSMC or HierarchicalSMC
        The latter where part of the geometry is unknown.
    options : dict
        ``seed`` and ``repeats`` of its method `run`.
    geometry : Geometry or None
    data : SlipData or None
        None where G is given.
    """

    sampler: LinearSMC | HierarchicalSMC
    options: dict[str, int]
    geometry: Geometry | None
    data: SlipData | None


# Tables


Two = Annotated[list[Real], Field(min_length=2, max_length=2)]
Bounds = Annotated[
    Two, Predicate(lambda p: p[0] < p[1]), expected("2 numbers [low, high] with low < high")
]
Range = Annotated[
    Two,
    Predicate(lambda p: -np.inf < p[0] < p[1] < np.inf),
    expected("2 numbers [low, high], finite, with low < high"),
]
MeanAndSd = Annotated[
    Two,
    Predicate(lambda p: bool(np.isfinite(p[0])) and 0 < p[1] < np.inf),
    expected("2 numbers [mean, sd > 0]"),
]


class DistributionTable(Table):
    """A prior of one number: uniform, or normal and perhaps cut."""

    uniform: Range | None = None
    """[low, high]."""
    normal: MeanAndSd | None = None
    """[mean, standard deviation]."""
    bounds: Bounds | None = None
    """Where a normal one is cut."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        kinds = [k for k in ("uniform", "normal") if getattr(self, k) is not None]
        if len(kinds) != 1:
            found = " and ".join(kinds) or "none"
            raise ConfigError(f": found {found}, expected one of uniform and normal")
        if self.uniform and self.bounds:
            raise ConfigError("bounds: found beside uniform, which has its own")
        return self

    def distribution(self) -> Any:
        """That of `scipy.stats`."""
        if self.uniform:
            low, high = self.uniform
            return scipy.stats.uniform(low, high - low)
        assert self.normal
        mean, sd = self.normal
        if not self.bounds:
            return scipy.stats.norm(mean, sd)
        low, high = self.bounds
        prior: Any = scipy.stats.truncnorm((low - mean) / sd, (high - mean) / sd, mean, sd)
        if not np.isfinite(prior.logpdf(np.clip(mean, low, high))):
            raise ConfigError(f"bounds: found {self.bounds!r}, far from the mean")
        return prior


Place = OrTable[
    Annotated[Finite, expected("a number, or a prior such as {normal = [mean, sd]}")],
    DistributionTable,
]


class FaultTable(table_of(Fault)):
    """A rectangle of patches. What places it is a number where it is known, else a prior:
    {uniform = [low, high]}, {normal = [mean, sd]} or {normal = [mean, sd], bounds = [low, high]}.
    """

    units: Text = "m"
    """Of its lengths."""
    east: Place | None = None
    """Of the middle of the upper edge."""
    north: Place | None = None
    """Of the middle of the upper edge."""
    depth: Place | None = None
    """Of the upper edge."""
    strike: Place | None = None
    """In degrees, clockwise from north; the fault dips to the right of it."""
    dip: Place | None = None
    """In degrees, 0 to 180."""


Files = Annotated[
    str | Annotated[list[str], Field(min_length=1)], expected("a file or a list of files")
]


class DataTable(Table):
    """Displacements by GNSS and InSAR, or a problem that was made elsewhere."""

    gnss: Files | None = None
    """NetCDF files of stations: x, y, displacement_east, _north, _up and their _sigma."""
    insar: Files | None = None
    """NetCDF files of pixels: x, y, look_east, _north, _up, displacement_los and its _sigma or
    _covariance."""
    green: Stored | None = None
    """In their place: G, data by components of slip."""
    displacement: Stored | None = None
    """What was measured, beside green."""
    sigma: (
        Annotated[
            Annotated[Finite, Field(gt=0)] | str,
            expected("a positive number or 'file.nc:variable'"),
        ]
        | None
    ) = None
    """Standard deviations of the errors, beside green."""
    covariance: Stored | None = None
    """Covariance of the errors, beside green."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = self.given()
        if not given:
            raise ConfigError(": found nothing, expected gnss, insar or green")
        if "green" not in given:
            for key in given.keys() - {"gnss", "insar"}:
                raise ConfigError(f"{key}: found without data.green, to which it belongs")
            return self
        for key in given.keys() & {"gnss", "insar"}:
            raise ConfigError(f"{key}: found beside data.green, expected one of them")
        if "displacement" not in given:
            raise ConfigError("displacement is missing")
        if ("sigma" in given) == ("covariance" in given):
            found = "both" if "sigma" in given else "neither"
            raise ConfigError(f": found {found} of sigma and covariance, expected one of them")
        return self


class SlipPriorTable(Table):
    """Of the components of slip, around zero."""

    kind: Literal["gaussian", "smooth"]
    """Independent components, or smooth ones, by an elliptic operator."""
    sd: OrTable[Positive, dict[str, Positive]]
    """Standard deviation in m: a number, or a table of one for each of the fault's slips."""
    length: SkipValidation[float | None] = None
    """Correlation length of smooth slip, in the fault's unit."""
    bounds: OrTable[Bounds, dict[str, Bounds]] | None = None
    """[low, high] in m, or a table of one for each of the fault's slips."""

    @model_validator(mode="after")
    def _length(self) -> Self:
        if self.kind == "gaussian" and self.length is not None:
            raise ConfigError("length: found with kind = 'gaussian', it is of 'smooth'")
        return self


class InnerTable(table_of(Settings)):
    """Of the samplers of slip, where part of the geometry is unknown."""


class SamplerTable(table_of(HierarchicalSMC, "moves", "ess", "batch", "draws", "dtype")):
    """Sequential Monte Carlo."""

    seed: Whole = 0
    """The same seed gives the same samples."""
    repeats: Count = 1
    """Runs: how far they are apart says how well ln Z is known."""
    particles: Count | None = None
    """Samples: of the geometry where part of it is unknown, else of slip."""
    leapfrogs: SkipValidation[int | None] = None
    """As of [sampler.inner], where the whole geometry is fixed."""
    jitter: SkipValidation[float | None] = None
    """As of [sampler.inner], where the whole geometry is fixed."""
    inner: InnerTable = InnerTable()
    """Of the samplers of slip, where part of the geometry is unknown."""


class Sampling(Kind):
    """Run file of fault slip: `pyadjoint-gpu run`."""

    subject: ClassVar[str] = "fault slip"
    command: ClassVar[str] = "run"
    example: ClassVar[str] = "slip"

    kind: Literal["sampling"] = "sampling"
    """What the file is of."""
    fault: FaultTable | None = None
    """How the fault lies, as far as it is known."""
    data: DataTable
    """What was measured."""
    slip_prior: SlipPriorTable
    """Of the components of slip."""
    sampler: SamplerTable = SamplerTable()
    """How samples are drawn."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Where tables do not fit each other."""
        fault, given = self.fault, self.data.green is not None
        if fault is None:
            if not given:
                raise ConfigError(": table [fault] is missing")
            if self.slip_prior.kind == "smooth":
                raise ConfigError(
                    "slip_prior.kind: 'smooth' needs the table [fault], which says how patches lie"
                )
        elif given and self._placed:
            raise ConfigError(
                f"fault.{min(self._placed)}: found beside data.green, which is already of one"
            )
        elif not given and len(self._placed) < len(GEOMETRY):
            missing = next(k for k in GEOMETRY if k not in self._placed)
            raise ConfigError(
                f"fault.{missing} is missing: a number where it is known, or a prior such as"
                " {uniform = [low, high]}"
            )
        if self.slip_prior.kind == "smooth" and self.slip_prior.length is None:
            raise ConfigError(
                "slip_prior.length is missing: Laplacian smoothing without one is an improper"
                " prior, of which uniform slip may have any size"
            )
        self._check_sampler()
        return self

    @property
    def _placed(self) -> dict[str, Any]:
        """What is given of the fault's place."""
        given = {} if self.fault is None else self.fault.given()
        return {k: given[k] for k in GEOMETRY if k in given}

    @property
    def _unknown(self) -> bool:
        """Whether part of the geometry is."""
        return any(isinstance(v, DistributionTable) for v in self._placed.values())

    def _check_sampler(self) -> None:
        """A `ConfigError` where a key is of the sampler of the other case."""
        given = self.sampler.given()
        if self._unknown:
            for key in given.keys() & _ONLY_FIXED:
                raise ConfigError(
                    f"sampler.{key}: it is of the samplers of slip: sampler.inner.{key}"
                )
        elif "inner" in given:
            raise ConfigError(
                "sampler.inner: found, but the whole geometry is fixed; the settings of the one"
                " sampler go into [sampler] itself"
            )
        else:
            for key in given.keys() & _ONLY_UNKNOWN:
                raise ConfigError(f"sampler.{key}: unknown key where the whole geometry is fixed")
            if self.output.journal is not None:
                raise ConfigError(
                    "output.journal: found one, but the whole geometry is fixed; such a problem is"
                    " sampled in one piece, without a journal"
                )

    def build(self) -> SlipCase:
        geometry = None if self.fault is None else _geometry(self.fault, self._placed)
        table = self.sampler.given()
        run = {k: table.pop(k) for k in ("seed", "repeats") if k in table}
        if self.data.green is not None:
            measured, (green, d, noise) = None, _given(self.data, geometry, self.base)
            arrays = {"green": green, "displacement": d, "noise": noise}
        else:
            assert geometry is not None
            measured = _measured(self.data, geometry, self.base)
            green = None if geometry.priors else _green(geometry, measured)
            d, noise = measured.displacement, measured.noise
            arrays = vars(measured)
        n = green.shape[1] if geometry is None else geometry.fault.components  # type: ignore
        prior, bounds = _slip_prior(self.slip_prior, geometry and geometry.fault, n)
        keys = {k: f"sampler.{k}" for k in SamplerTable.model_fields}
        with keyed({**keys, "bounds": "slip_prior.bounds"}):
            if green is not None:
                dtype = {k: table.pop(k) for k in ("dtype",) if k in table}
                settings = Settings(**table).check()
                sampler = LinearSMC(green, d, noise, prior, bounds, settings, **dtype)
            else:
                assert geometry is not None and measured is not None
                if "inner" in table:
                    table["inner"] = _inner(table["inner"])
                forward = geometry.fault.forward(measured.points, measured.look, **geometry.known)
                priors = geometry.priors
                sampler = HierarchicalSMC(forward, d, noise, prior, priors, bounds, **table)
        return SlipCase(self, {"data": arrays}, sampler, run, geometry, measured)


def _inner(table: InnerTable) -> Settings:
    with under("sampler.inner"):
        return Settings(**table.given()).check()


# The fault


def _geometry(table: FaultTable, placed: dict[str, Any]) -> Geometry:
    if spelling(table.units) == "1" or conversion(table.units, "m") is None:
        raise ConfigError(f"fault.units: found {table.units!r}, expected a unit of length")
    with under("fault"):
        shape = table.given()
        fault = Fault(**{k: v for k, v in shape.items() if k not in (*GEOMETRY, "units")})
    known, priors = {}, {}
    for key, value in placed.items():
        where, (low, high) = f"fault.{key}", LIMITS.get(key, (-np.inf, np.inf))
        if not isinstance(value, DistributionTable):
            if not low <= value <= high:
                raise ConfigError(f"{where}: found {value:g}, expected {low:g} to {high:g}")
            known[key] = value
            continue
        with under(where):
            priors[key] = prior = value.distribution()
        if prior.cdf(low) + prior.sf(high) > _BEYOND:
            raise ConfigError(
                f"{where}: its prior reaches beyond {low:g} to {high:g}; give narrower limits, or"
                f" cut a normal one by bounds = [{low:g}, {high:g}]"
            )
    return Geometry(fault, table.units, known, priors)


@double
def _green(geometry: Geometry, data: SlipData) -> np.ndarray:
    return np.asarray(geometry.fault.green(data.points, data.look, **geometry.known))


# The data


def _measured(table: DataTable, geometry: Geometry, base: Path) -> SlipData:
    parts = []
    for kind in ("gnss", "insar"):
        value = getattr(table, kind) or []
        for k, file in enumerate([value] if isinstance(value, str) else value):
            where = f"data.{kind}" if isinstance(value, str) else f"data.{kind}[{k}]"
            found = open_dataset(base / file, where)
            with under(f"{where}: {file}", kind):
                parts.append(slip_data(**{kind: found}, units=geometry.units))
    return reduce(add, parts)


def _given(
    table: DataTable, geometry: Geometry | None, base: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G, d and the noise of a problem that was made elsewhere."""

    def array(key: str) -> tuple[xr.DataArray, np.ndarray]:
        found = field(getattr(table, key), base, f"data.{key}")
        return found, given_numbers(f"data.{key}", found)

    d, vector = array("displacement")
    if vector.ndim != 1:
        raise DataError(f"data.displacement: found shape {vector.shape}, expected one dimension")
    green = finite_array("data.green", array("green")[1])
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
    if table.covariance is not None:
        noise = covariance(array("covariance")[0], d, "data.covariance")
    elif isinstance(table.sigma, str):
        sigma, noise = array("sigma")
        noise = converter("data.sigma", sigma.attrs.get("units", own), DISPLACEMENT)(noise)
    else:
        noise = np.asarray(metres(table.sigma))
    name = f"data.{'sigma' if noise.ndim < 2 else 'covariance'}"
    _, seen, errors = observed("data.displacement", vector, name, noise)
    factor(name, errors, len(seen))
    return green, metres(vector), noise


# The prior of slip


def _slip_prior(table: SlipPriorTable, fault: Fault | None, n: int) -> tuple[Any, Any]:
    """The prior, and the bounds or None."""
    sd = np.array(_by_kind("slip_prior.sd", table.sd, fault, n))
    bounds = None
    if table.bounds is not None:
        pairs = _by_kind("slip_prior.bounds", table.bounds, fault, n)
        bounds = tuple(np.array(side) for side in zip(*pairs, strict=True))
    if table.kind == "gaussian":
        return sd, bounds
    assert fault is not None and table.length is not None
    with under("slip_prior"):
        return fault.smooth_prior(sd, table.length), bounds


def _by_kind(where: str, value: Any, fault: Fault | None, n: int) -> list[Any]:
    """One value for each component, from one for all or a table of one for each kind of slip."""
    if not isinstance(value, Mapping):
        return [value] * n
    if fault is None:
        raise ConfigError(
            f"{where}: found a table, but there is no table [fault] with kinds of slip"
        )
    check_keys(value, fault.slips, where)
    for slip in fault.slips:
        if slip not in value:
            raise ConfigError(f"{where}.{slip} is missing")
    return [value[s] for s in fault.slips for _ in range(fault.along * fault.down)]
