"""Run files of sensor placement: TOML tables that make the same as the Python API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import xarray as xr
from jaxtyping import Float
from pydantic import Discriminator, Field, SkipValidation, Tag, model_validator

from ..core.errors import ConfigError, keyed
from ..core.grid import Grid
from ..core.quantities import converter
from ..engines.base import Engine
from ..engines.choose import get_engine
from ..geophysics.bathymetry import continental_margin
from ..geophysics.rupture import Rupture
from ..models import Explicit, build
from ..models.forcing import ForcingSpace
from ..models.sites import Sites
from ..placement.network import Network
from ..problem.specification import build_grid
from ..statistics.densities import BoundPrior
from ..statistics.priors import Matern
from ..statistics.space_time import SpaceTime
from .files import field, fields, load_model
from .kind import Case, EngineName, Kind, Output
from .sensors import Positions, SensorsTable
from .tables import GridTable, ModelTable, Positive, Stored, Table, Text, Whole, table_of

SOURCE = "source"
"""The forcing that sensors are to tell of."""
_MARGIN = {
    "side": 'Side of the coast: "x_min", "x_max", "y_min" or "y_max".',
    "coast": "Depth at the coast, in m.",
    "shelf": "Depth at the edge of the shelf, in m.",
    "deep": "Depth of the abyssal plain, in m.",
    "shelf_width": "Width of the shelf, in the grid's unit of length.",
    "slope_width": "Width of the slope, in the grid's unit of length.",
}
_RUPTURE = {
    "centre": "Centre of the uplift, [y, x].",
    "length": "Length along strike, in the grid's unit of length.",
    "width": "Width across strike, in the grid's unit of length.",
    "rise_time": "How long a point moves, in the model's unit of time.",
    "origin": "Where the rupture begins, [y, x]; at the centre unless given.",
}


class ContinentalMarginTable(table_of(continental_margin, told=_MARGIN)):
    """Depth of water from a coast over a shelf and a slope to the abyssal plain."""

    profile: Literal["continental-margin"]
    """Name of the profile."""


Medium = Annotated[
    Annotated[SkipValidation[float | list[Any] | str | dict[str, Any]], Tag("value")]
    | Annotated[ContinentalMarginTable, Tag("table")],
    Discriminator(lambda v: "table" if isinstance(v, Mapping) and "profile" in v else "value"),
]


class PriorTable(Table):
    """Gaussian prior of the source, around zero: a Matern field."""

    sd: Positive
    """Standard deviation of the source, in its units."""
    length: SkipValidation[float]
    """Correlation length, in the grid's unit of length."""
    duration: SkipValidation[float | None] = None
    """Correlation time, in the model's unit of time; uncorrelated in time unless given."""

    @property
    def prior(self) -> SpaceTime:
        return SpaceTime(Matern(self.sd, self.length), self.duration)


class PlacementTable(Table):
    """How many sensors are wanted, and what they are to tell."""

    budget: SkipValidation[float]
    """Number of sensors; where they have costs, the most that they may cost together."""
    random: Whole = 100
    """Number of random networks to compare with."""
    seed: Whole = 0
    """Seed of the random networks, and of the errors in synthetic data."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision in which covariances of the data are kept."""
    goal: Literal["parameter", "forecast"] = "parameter"
    """Quantity that sensors inform on: the source ("parameter"), or the waves at the points of
    [forecast]."""


class ForecastTable(Table):
    """Points where waves are to be forecast from the sensors' first data."""

    points: Positions
    """Positions of the points, [y, x] each."""
    names: list[Text] | None = None
    """Names of the points; A, B, ... unless given."""
    until: Positive | None = None
    """Time up to which there are data, in the model's unit; to the end unless given."""

    def build(
        self, grid: Grid, space: ForcingSpace
    ) -> tuple[Float[np.ndarray, "points 2"], tuple[str, ...], int]:
        """The points, their names, and the number of intervals whose data a forecast is made of."""
        points = np.array(self.points)
        grid.check_inside(points, "forecast.points: number")
        names = self.names or [chr(ord("A") + k % 26) for k in range(len(points))]
        if len(names) != len(points):
            raise ConfigError(f"forecast.names: found {names!r}, expected {len(points)} texts")
        last = space.count * space.interval
        until = last if self.until is None else self.until
        known = int(until / space.interval * (1.0 + 1e-9))
        if not 1 <= known <= space.count:
            raise ConfigError(
                f"forecast.until: found {until:g}, expected {space.interval:g} to {last:g}"
                f" {space.time_units}"
            )
        return points, tuple(names), known


class RuptureTable(table_of(Rupture, unless="file", told=_RUPTURE)):
    """Rupture on which the chosen sensors are tried: uplift of the sea floor that spreads from a
    point."""

    file: Stored | None = None
    """In place of all others: "file.nc:variable", the source at each time and place."""

    @model_validator(mode="after")
    def _rupture(self) -> Self:
        if self.file is None:
            _ = self.rupture
        return self

    @property
    def rupture(self) -> Rupture:
        return Rupture(**self.given())


class PlacementOutput(Output):
    """Files that the run writes; paths are relative to the run file."""

    covariance: Text | None = None
    """Covariances of the data (HDF5), for more candidates than memory holds."""


@dataclass(frozen=True, kw_only=True)
class PlacementCase(Case):
    """A placement of sensors."""

    file: Placement
    model: Explicit
    parameters: dict[str, Float[np.ndarray, "*shape"]]
    """The medium."""
    engine: Engine
    candidates: Float[np.ndarray, "candidates 2"]
    """Positions (y, x)."""
    sigma: Float[np.ndarray, " candidates"]
    """Standard deviations of the errors."""
    choice: dict[str, Any]
    """Arguments of `place_sensors`: the budget, costs, sensors in place, ..."""
    prior: BoundPrior
    points: Float[np.ndarray, "points 2"]
    """Positions (y, x) where a forecast is wanted."""
    names: tuple[str, ...]
    """Names of these points."""
    known: int
    """Number of intervals whose data a forecast is made from."""
    truth: Float[np.ndarray, " intervals *sites"] | None
    """A source to try the sensors on."""


class Placement(Kind):
    """Run file of sensor placement: choose where sensors tell most of an unknown source. For
    `pyadjoint-gpu place`."""

    subject: ClassVar[str] = "sensor placement"
    commands: ClassVar[tuple[str, ...]] = ("place",)
    example: ClassVar[str] = "tsunami"

    kind: Literal["placement"] = "placement"
    """Kind of run file."""
    engine: EngineName = "auto"
    grid: GridTable
    model: ModelTable
    """Physics of the model, one of explicit steps."""
    parameters: dict[str, Medium] = Field({})
    """The medium, by the names of the model's parameters: numbers, "file.nc:variable" or profiles
    such as {profile = "continental-margin"}."""
    sensors: SensorsTable
    prior: PriorTable
    placement: PlacementTable
    forecast: ForecastTable | None = None
    """Points where waves are to be forecast from the sensors' first data."""
    rupture: RuptureTable | None = None
    """Rupture on which the chosen sensors are tried."""
    output: PlacementOutput = PlacementOutput()  # type: ignore  # tables are frozen, so it may narrow

    @model_validator(mode="after")
    def _goal(self) -> Self:
        if self.placement.goal == "forecast" and self.forecast is None:
            raise ConfigError("placement.goal: found 'forecast', but table [forecast] is missing")
        return self

    @property
    def writes(self) -> dict[str, Path]:
        """With ``selection``, the journal of the choice, where there are one and a covariance."""
        out = super().writes
        journal = out.get("journal", Path())
        if "covariance" in out and journal.name:
            out["selection"] = journal.with_name(f"{journal.stem}-selection{journal.suffix}")
        return out

    def build(self) -> PlacementCase:
        tables = load_model(self._tables, self.base)
        grid = build_grid(tables["grid"])
        model = _model(grid, tables["model"])
        space: Any = model.space(SOURCE)
        parameters = _parameters(model, fields(self.parameters, self.base, "parameters"))
        table, options = self.sensors, self.placement
        candidates = table.positions(grid, self.base)
        n = len(candidates)
        sigma = table.each("sigma", n, model.unknowns[0].units, self.base)
        costs = None if table.costs is None else table.each("costs", n, "1", self.base)
        network = {"existing": table.existing, "forbidden": table.forbidden, "costs": costs}
        with keyed({k: f"sensors.{k}" for k in network} | {"budget": "placement.budget"}):
            Network.of(n, options.budget, **network)
        points, names, known = np.empty((0, 2)), (), space.count
        if self.forecast is not None:
            points, names, known = self.forecast.build(grid, space)
        truth = None if self.rupture is None else _truth(model, space, self.rupture, self.base)
        arrays = {
            "grid": {k: getattr(grid, k) for k in ("shape", "extent", "origin", "units")},
            "parameters": parameters,
            "sensors": network | {"candidates": candidates, "sigma": sigma},
            "rupture": truth,
        }
        return PlacementCase(
            file=self,
            config_json=self.config_json(arrays),
            model=model,
            parameters=parameters,
            engine=get_engine(self.engine, model),
            candidates=candidates,
            sigma=sigma,
            choice=network
            | {k: getattr(options, k) for k in ("budget", "random", "seed", "dtype")},
            prior=self.prior.prior.on(space),
            points=points,
            names=names,
            known=known,
            truth=truth,
        )


def _model(grid: Grid, table: Mapping[str, Any]) -> Explicit:
    model = build(grid, table)
    if not isinstance(model, Explicit):
        raise ConfigError(f"model.name: found {model.name!r}, expected one of explicit steps")
    if grid.ndim != 2:
        raise ConfigError(f"grid.shape: found {grid.ndim} axes, expected two, y and x")
    sites = getattr(model, SOURCE, None)
    if sites is None:
        raise ConfigError("model.source is missing: 'cells', or a box {low = [...], high = [...]}")
    if sites.at_points:
        raise ConfigError("model.source: found points, expected cells, which maps can show")
    return model


def _parameters(
    model: Explicit, given: Mapping[str, Any]
) -> dict[str, Float[np.ndarray, "*shape"]]:
    """Fields of the medium; the source and where it all starts are no part of it."""
    values = {}
    for name, value in given.items():
        where = f"parameters.{name}"
        if name in model.linear_in:
            raise ConfigError(
                f"{where}: found one, but the model starts at rest, and the source is unknown"
            )
        if isinstance(value, ContinentalMarginTable):
            with keyed({k: f"{where}.{k}" for k in ContinentalMarginTable.model_fields}):
                value = continental_margin(model.domain, **value.given("profile"))
        values[name] = value
    return {k: v for k, v in model.fields(values).items() if k not in model.linear_in}


def _truth(
    model: Explicit, space: ForcingSpace, table: RuptureTable, base: Path
) -> Float[np.ndarray, " intervals *sites"]:
    if table.file is not None:
        return _source("rupture.file", field(table.file, base, "rupture.file"), model, space)
    found = space.fill(table.rupture, SOURCE)
    # A rate by the time of its rise, in the model's unit of time.
    found = found / converter("model.time_units", space.time_units, "s").scale
    if not np.any(found):
        raise ConfigError("rupture: nothing moves at the places and in the time of the source")
    return found


def _source(
    where: str, given: xr.DataArray, model: Explicit, space: ForcingSpace
) -> Float[np.ndarray, " intervals *sites"]:
    """Values of the source at its sites, from those of all cells or of the sites."""
    of = model.parameter(SOURCE)
    everywhere = replace(space, sites=Sites(space.grid, ("cells",)))
    if set(given.dims) != set(everywhere.dims):
        return space.fill(given, where, of)
    whole = everywhere.fill(given, where, of)
    if space.sites.everywhere:
        return whole
    return whole.reshape(space.count, math.prod(space.grid.shape))[:, space.sites.indices]
