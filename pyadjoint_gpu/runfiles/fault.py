"""Table [fault] of run files of slip: a rectangle of patches, and what is known of its place."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
import scipy.stats
from pydantic import Field, model_validator

from ..core.errors import ConfigError
from ..core.precision import double
from ..core.quantities import conversion, spelling
from ..geophysics.faults import GEOMETRY, LIMITS, Fault
from ..geophysics.slip_data import SlipData
from .tables import Finite, OrTable, Real, Table, Text, expected, table_of

_BEYOND = 1e-9
"""Prior probability of a geometry beyond its limits that is as good as none."""

_FAULT = {
    "length": "Extent along strike, in units.",
    "width": "Extent down dip, in units.",
    "along": "Number of patches along strike.",
    "down": "Number of patches down dip.",
}

Two = Field(min_length=2, max_length=2)
Bounds = Annotated[
    list[Real], Two, expected("2 numbers [low, high] with low < high", lambda p: p[0] < p[1])
]
Range = Annotated[
    list[Finite],
    Two,
    expected("2 numbers [low, high], finite, with low < high", lambda p: p[0] < p[1]),
]
MeanAndSd = Annotated[list[Finite], Two, expected("2 numbers [mean, sd > 0]", lambda p: p[1] > 0)]


class DistributionTable(Table):
    """Prior of one number: uniform, or normal and perhaps truncated."""

    uniform: Range | None = None
    """[low, high]."""
    normal: MeanAndSd | None = None
    """[mean, standard deviation]."""
    bounds: Bounds | None = None
    """[low, high], to which a normal distribution is truncated."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        kinds = [k for k in ("uniform", "normal") if getattr(self, k) is not None]
        if len(kinds) != 1:
            found = " and ".join(kinds) or "none"
            raise ConfigError(f": found {found}, expected one of uniform and normal")
        if self.uniform and self.bounds:
            raise ConfigError("bounds: found beside uniform, which has its own")
        _ = self.distribution
        return self

    @cached_property
    def distribution(self) -> Any:
        """A frozen distribution of `scipy.stats`."""
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


class FaultTable(table_of(Fault, told=_FAULT)):
    """Rectangular fault, cut in equal patches. What places it is a number where it is known, else a
    prior: {uniform = [low, high]}, {normal = [mean, sd]} or {normal = [mean, sd], bounds = [low,
    high]}."""

    units: Text = "m"
    """Unit of the fault's lengths and of the data's coordinates."""
    east: Place | None = None
    """East coordinate of the middle of the upper edge."""
    north: Place | None = None
    """North coordinate of the middle of the upper edge."""
    depth: Place | None = None
    """Depth of the upper edge."""
    strike: Place | None = None
    """Strike in degrees, clockwise from north; the fault dips to the right of it."""
    dip: Place | None = None
    """Dip in degrees from the horizontal, 0 to 180."""

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        _ = self.rectangle
        if spelling(self.units) == "1" or conversion(self.units, "m") is None:
            raise ConfigError(f"units: found {self.units!r}, expected a unit of length")
        for key, value in self.placed.items():
            low, high = LIMITS.get(key, (-np.inf, np.inf))
            if not isinstance(value, DistributionTable):
                if not low <= value <= high:
                    raise ConfigError(f"{key}: found {value:g}, expected {low:g} to {high:g}")
            elif value.distribution.cdf(low) + value.distribution.sf(high) > _BEYOND:
                raise ConfigError(
                    f"{key}: its prior reaches beyond {low:g} to {high:g}; give narrower limits, or"
                    f" cut a normal one by bounds = [{low:g}, {high:g}]"
                )
        return self

    @cached_property
    def rectangle(self) -> Fault:
        """The fault itself, wherever it lies."""
        return Fault(**self.given("units", *GEOMETRY))

    @property
    def placed(self) -> dict[str, Any]:
        """The entries of the table that state the fault's position and orientation."""
        return {k: v for k, v in self.given().items() if k in GEOMETRY}

    @property
    def known(self) -> dict[str, float]:
        """The part of the geometry that is known."""
        return {k: v for k, v in self.placed.items() if not isinstance(v, DistributionTable)}

    @property
    def priors(self) -> dict[str, Any]:
        """Distributions of the part of the geometry that is not."""
        placed = self.placed.items()
        return {k: v.distribution for k, v in placed if isinstance(v, DistributionTable)}

    @double
    def design_matrix(self, data: SlipData) -> Any:
        """G where the whole geometry is known, else the function that gives it, of the rest."""
        if self.priors:
            return self.rectangle.forward(data.points, data.look, **self.known)
        return np.asarray(self.rectangle.green(data.points, data.look, **self.known))
