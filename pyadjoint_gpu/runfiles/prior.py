"""Tables of run files for the priors of controls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..core.errors import ConfigError, nearest, shown
from ..core.guards import is_mapping
from ..statistics.priors import Independent, Matern, Uniform
from .tables import Number, table_of

_MEAN = {
    "mean": 'Physical field in the middle of the prior: a number or "file.nc:variable"; the start'
    " of the control unless given.",
    "sd": 'Standard deviation of the transformed control, such as ln K under transform "log".',
}

_SCALE = {
    "mean": "Mean of ln s; 0 unless given.",
    "sd": "Standard deviation of ln s: with 0.5, s is right to a factor of 1.6.",
}


class MaternTable(table_of(Matern, told=_MEAN)):
    """Prior of a smooth field."""

    kind: Literal["matern"]
    """Smooth Gaussian field of Matern covariance, with a correlation length."""


class IndependentTable(table_of(Independent, told=_MEAN)):
    """Prior of independent numbers."""

    kind: Literal["independent"]
    """Independent Gaussian numbers: of a constant, of a plane, or of every cell."""


class UniformTable(table_of(Uniform, "low", "high")):
    """Prior between bounds."""

    kind: Literal["uniform"]
    """Uniform between the bounds of the control, or those given here."""
    low: Number | None = None
    """Lower bound, in physical units."""
    high: Number | None = None
    """Upper bound, in physical units."""


PriorTable = Annotated[IndependentTable | MaternTable | UniformTable, Field(discriminator="kind")]
KINDS = "independent", "matern", "uniform"


class ScaleTable(table_of(Independent, "sd", "mean", told=_SCALE)):
    """Prior of ln s, where the noise is s times as large as its sd says, with an unknown s."""

    kind: Literal["independent"]
    """Gaussian number."""


def of_known_kind(table: object, kinds: tuple[str, ...] = KINDS) -> object:
    """The table of a prior, or a `ConfigError` unless its kind is known."""
    if not is_mapping(table):
        raise ConfigError(f": found {shown(table)}, expected a table")
    if "kind" not in table:
        raise ConfigError(f"kind is missing, expected one of {', '.join(kinds)}")
    if table["kind"] not in kinds:
        raise ConfigError(f"kind: found {shown(table['kind'])}{nearest(str(table['kind']), kinds)}")
    return table
