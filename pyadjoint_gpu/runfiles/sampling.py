"""Run files of fault slip: TOML tables that make the same samplers as the Python API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import SkipValidation, model_validator

from ..core.checks import check_keys, positive
from ..core.errors import ConfigError, keyed
from ..geophysics.faults import GEOMETRY, Fault
from ..geophysics.slip_data import SlipData
from ..sampling.fixed import LinearSMC
from ..sampling.hierarchical import HierarchicalSMC
from ..sampling.inputs import STIFFEST
from ..sampling.linear import Settings
from ..statistics.densities import BoundPrior
from ..statistics.priors import Independent, Matern
from .displacements import DataTable
from .fault import Bounds, FaultTable
from .kind import Case, Kind
from .tables import Count, OrTable, Positive, Table, Whole, table_of

_INNER = {
    "particles": "Number of samples of slip for each geometry.",
    "moves": "Hamiltonian trajectories a stage.",
    "leapfrogs": "Steps of a trajectory.",
    "ess": "Effective sample size after a stage, as a fraction of the samples.",
}
_SAMPLER = {
    "moves": "Moves of every sample a stage: random walks of the geometry, or Hamiltonian"
    " trajectories of slip where the whole geometry is known.",
    "ess": "Effective sample size after a stage, as a fraction of the particles.",
    "batch": "Samplers of slip that run together on one device. Results do not depend on how many"
    " devices or processes there are, but may on this, in the last digits.",
    "draws": "Samples of slip that are kept for each geometry.",
    "dtype": "Precision of the samplers of slip.",
}
_ONLY_UNKNOWN = ("batch", "draws", "inner")
_ONLY_FIXED = ("leapfrogs", "jitter")
"""Keys of [sampler] where part of the geometry is unknown, and where none is."""


class SlipPriorTable(Table):
    """Gaussian prior of the components of slip, around zero."""

    kind: Literal["gaussian", "smooth"]
    """"gaussian" for independent components; "smooth" for neighbouring patches that slip alike."""
    sd: OrTable[Positive, dict[str, Positive]]
    """Standard deviation in m: a number, or a table of one for each of the fault's slips."""
    length: SkipValidation[float | None] = None
    """Correlation length of smooth slip, in the fault's unit: there the correlation is 0.6."""
    bounds: OrTable[Bounds, dict[str, Bounds]] | None = None
    """[low, high] in m, to which the prior is truncated, or a table of such pairs, one for each of
    the fault's slips."""

    @model_validator(mode="after")
    def _length(self) -> Self:
        if self.kind == "gaussian" and self.length is not None:
            raise ConfigError("length: found with kind = 'gaussian', it is of 'smooth'")
        if self.kind == "smooth" and self.length is None:
            raise ConfigError(
                "length is missing: Laplacian smoothing without one is an improper prior, of which"
                " uniform slip may have any size"
            )
        return self

    def build(self, fault: Fault | None, n: int) -> tuple[BoundPrior, Any]:
        """The prior of `n` components, and their bounds or None."""
        sd = np.array(_each("slip_prior.sd", self.sd, fault, n))
        bounds = None
        if self.bounds is not None:
            pairs = _each("slip_prior.bounds", self.bounds, fault, n)
            bounds = tuple(np.array(side) for side in zip(*pairs, strict=True))
        if self.length is None:
            return Independent(sd).on(n, where="slip_prior"), bounds
        assert fault is not None
        _check_proper(self.length, fault)
        return Matern(sd, self.length).on(fault.space, where="slip_prior"), bounds


def _check_proper(length: Any, fault: Fault) -> None:
    """Raise a `ConfigError` for a correlation length with which uniform slip could have any size,
    beside what differs from patch to patch."""
    key = "slip_prior.length"
    if length != np.inf:
        positive(key, length)
    patches = np.array([fault.length / fault.along, fault.width / fault.down])
    # Eigenvalues of the precision are from 1 to this, in units of the smallest.
    stiffest = (1.0 + 4.0 * float(np.sum(np.square(length / patches)))) ** 2
    if not stiffest < STIFFEST:
        raise ConfigError(
            f"{key}: found {length:g}, with which the prior is improper: uniform slip could have"
            f" any size; expected about the fault's length, {fault.length:g}, or less"
        )


def _each(where: str, value: Any, fault: Fault | None, n: int) -> list[Any]:
    """A value for each component, from one for all or a table of one for each kind of slip."""
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


class InnerTable(table_of(Settings, told=_INNER)):
    """Samplers of slip given the geometry, where part of the geometry is unknown."""

    @model_validator(mode="after")
    def _settings(self) -> Self:
        _ = self.settings
        return self

    @property
    def settings(self) -> Settings:
        return Settings(**self.given()).check()


class SamplerTable(table_of(HierarchicalSMC, *_SAMPLER, told=_SAMPLER)):
    """Sequential Monte Carlo: samples of slip, and of the geometry where part of it is unknown."""

    seed: Whole = 0
    """Seed of the random numbers: the same one gives the same samples."""
    repeats: Count = 1
    """Independent runs, whose scatter gives the error of the evidence ln Z."""
    particles: Count | None = None
    """Number of samples: of the geometry where part of it is unknown, else of slip."""
    leapfrogs: SkipValidation[int | None] = None
    """Steps of a Hamiltonian trajectory, where the whole geometry is known."""
    jitter: SkipValidation[float | None] = None
    """Relative variation of the steps' length between trajectories, where the whole geometry is
    known."""
    inner: InnerTable = InnerTable()


@dataclass(frozen=True, kw_only=True)
class SlipCase(Case):
    """A problem of fault slip."""

    file: Sampling
    sampler: LinearSMC | HierarchicalSMC
    """The latter where part of the geometry is unknown."""
    data: SlipData | None
    """None where G is given."""


class Sampling(Kind):
    """Run file of fault slip: sample the slip, and the geometry where it is unknown, of a fault
    that moved the surface. For `pyadjoint-gpu run`."""

    subject: ClassVar[str] = "fault slip"
    commands: ClassVar[tuple[str, ...]] = ("run",)
    example: ClassVar[str] = "slip"

    kind: Literal["sampling"] = "sampling"
    """Kind of run file."""
    fault: FaultTable | None = None
    """Rectangular fault; needed unless the design matrix is given."""
    data: DataTable
    slip_prior: SlipPriorTable
    sampler: SamplerTable = SamplerTable()

    @model_validator(mode="after")
    def _tables_fit(self) -> Self:
        given = self.data.green is not None
        placed = {} if self.fault is None else self.fault.placed
        if self.fault is None:
            if not given:
                raise ConfigError(": table [fault] is missing")
            if self.slip_prior.kind == "smooth":
                raise ConfigError(
                    "slip_prior.kind: 'smooth' needs the table [fault], which says how patches lie"
                )
        elif given and placed:
            raise ConfigError(
                f"fault.{min(placed)}: found beside data.green, which is already of one"
            )
        elif not given and len(placed) < len(GEOMETRY):
            missing = next(k for k in GEOMETRY if k not in placed)
            raise ConfigError(
                f"fault.{missing} is missing: a number where it is known, or a prior such as"
                " {uniform = [low, high]}"
            )
        return self

    @model_validator(mode="after")
    def _sampler_fits(self) -> Self:
        given = self.sampler.given()
        if self.fault is not None and self.fault.priors:
            for key in given.keys() & _ONLY_FIXED:
                raise ConfigError(
                    f"sampler.{key}: it is of the samplers of slip: sampler.inner.{key}"
                )
            return self
        if "inner" in given:
            raise ConfigError(
                "sampler.inner: found, but the whole geometry is fixed; the settings of the one"
                " sampler go into [sampler] itself"
            )
        for key in given.keys() & _ONLY_UNKNOWN:
            raise ConfigError(f"sampler.{key}: unknown key where the whole geometry is fixed")
        return self

    def build(self) -> SlipCase:
        fault = self.fault
        green: Any  # or the function that gives it
        if self.data.green is not None:
            measured, (green, d, noise) = None, self.data.stored(self.base)
            arrays = {"green": green, "displacement": d, "noise": noise}
            n = np.atleast_1d(green).shape[-1] if fault is None else fault.rectangle.components
        else:
            assert fault is not None
            measured = self.data.measured(fault.units, self.base)
            d, noise = measured.displacement, measured.noise
            arrays = vars(measured) | {"noise": measured.errors}
            green, n = fault.design_matrix(measured), fault.rectangle.components
        prior, bounds = self.slip_prior.build(fault and fault.rectangle, n)
        problem: dict[str, Any] = {"data": d, "noise": noise, "prior": prior, "bounds": bounds}
        options = self.sampler.given("seed", "repeats", "inner")
        problem |= {k: options.pop(k) for k in ("dtype",) if k in options}
        noise_key = "sigma" if self.data.covariance is None else "covariance"
        keys = {k: f"sampler.{k}" for k in SamplerTable.model_fields} | {
            "green": "data.green",
            "data": "data.displacement",
            "noise": f"data.{noise_key}",
            "prior": "slip_prior",
            "bounds": "slip_prior.bounds",
        }
        with keyed(keys):
            if fault is not None and fault.priors:
                theta, inner = fault.priors, self.sampler.inner.settings
                sampler = HierarchicalSMC(
                    green, **problem, theta_prior=theta, inner=inner, **options
                )
            else:
                settings = Settings(**options)
                sampler = LinearSMC(green, **problem, settings=settings)
        return SlipCase(
            file=self,
            config_json=self.config_json({"data": arrays}),
            sampler=sampler,
            data=measured,
        )
