"""Run files of sensor placement: TOML tables that make the same as the Python API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import xarray as xr
from pydantic import Discriminator, Field, SkipValidation, Tag, model_validator

from ..core.checks import finite_array, positive
from ..core.errors import ConfigError, DataError, shown
from ..core.grid import Grid
from ..core.quantities import converter
from ..core.quantities import numbers as given_numbers
from ..engines.base import Engine
from ..engines.choose import ENGINES, get_engine
from ..geophysics.bathymetry import continental_margin
from ..geophysics.rupture import Rupture
from ..models import Explicit, build
from ..models.forcing import ForcingSpace
from ..models.sites import Sites
from ..placement.network import Network, indices
from ..problem.specification import build_grid
from ..statistics.space_time import SpaceTimePrior
from .files import field, load_model, open_dataset, under
from .tables import (
    Case,
    Count,
    GridTable,
    Kind,
    ModelTable,
    Number,
    OrTable,
    Output,
    Positive,
    Stored,
    Table,
    Text,
    Whole,
    expected,
    table_of,
)

SOURCE = "source"
"""The forcing that sensors are to tell of."""
PARAMETER, FORECAST = "parameter", "forecast"


@dataclass(frozen=True)
class PlacementCase(Case):
    """A placement of sensors.

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


# Tables


Position = Annotated[list[Number], Field(min_length=2, max_length=2), expected("2 numbers [y, x]")]
Positions = Annotated[list[Position], Field(min_length=1), expected("a list of positions [y, x]")]
Each = SkipValidation[float | list[float] | str]
"""One for all, or for each; "file.nc:variable"."""


class ContinentalMarginTable(table_of(continental_margin)):
    """Depth of water off a coast."""

    profile: Literal["continental-margin"]


ParameterField = Annotated[
    Annotated[SkipValidation[float | list[Any] | str | dict[str, Any]], Tag("value")]
    | Annotated[ContinentalMarginTable, Tag("table")],
    Discriminator(lambda v: "table" if isinstance(v, Mapping) and "profile" in v else "value"),
]


class LatticeTable(Table):
    """Positions at equal steps."""

    low: Position
    """The first, [y, x]."""
    high: Position
    """The last, [y, x]."""
    shape: Annotated[list[Count], Field(min_length=2, max_length=2), expected("2 whole numbers")]
    """How many along y and x."""


class SensorsTable(Table):
    """Where sensors may stand, and how well they measure."""

    candidates: OrTable[
        Annotated[Positions | Text, expected("a list of positions [y, x], or a file")], LatticeTable
    ]
    """A lattice {low, high, shape}, a list of positions [y, x], or a file with y and x."""
    sigma: Each
    """Standard deviation of the errors, for all or each; "file.nc:variable"."""
    existing: SkipValidation[list[int]] = Field([])
    """Candidates, by number from 0, where sensors are."""
    forbidden: SkipValidation[list[int]] = Field([])
    """Candidates where none may be."""
    costs: Each | None = None
    """Of each; the budget is then what they may cost together."""


class PriorTable(table_of(SpaceTimePrior.matern, "sd", "length", "duration")):
    """Of the source."""

    sd: Positive
    """Standard deviation of every value."""


class PlacementTable(Table):
    """What is asked for."""

    budget: SkipValidation[float]
    """How many sensors; where they have costs, what they may cost together."""
    random: Whole = 100
    """Random networks to compare with."""
    seed: Whole = 0
    """Of the random networks, and of errors in synthetic data."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of what is kept of covariances."""
    goal: Literal["parameter", "forecast"] = "parameter"
    """What sensors are to tell of: the source, or the forecast."""


class ForecastTable(Table):
    """What is to be known ahead."""

    points: Positions
    """Where, [y, x]."""
    names: list[Text] | None = None
    """Of the points; A, B, ... unless given."""
    until: Positive | None = None
    """From data up to this time; from all unless given."""


class RuptureTable(table_of(Rupture, optional=True)):
    """A source to try the sensors on."""

    file: Stored | None = None
    """In place of all others: "file.nc:variable", the source at its places and times."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = [f.name for f in fields(Rupture) if f.default is MISSING]
        return self.check_whole("file", "rupture.file", needed)


class PlacementOutput(Output):
    """Where results go; paths are relative to the run file."""

    covariance: Text | None = None
    """Covariances on disk (HDF5), for more candidates than memory holds."""


class Placement(Kind):
    """Run file of sensor placement: `pyadjoint-gpu place`."""

    subject: ClassVar[str] = "sensor placement"
    command: ClassVar[str] = "place"
    example: ClassVar[str] = "tsunami"

    kind: Literal["placement"] = "placement"
    """What the file is of."""
    engine: SkipValidation[str] = Field(default="auto", json_schema_extra={"enum": [*ENGINES]})
    """What solves run on."""
    grid: GridTable
    """Cells of a box, along y and x."""
    model: ModelTable
    """The physics, of explicit steps."""
    parameters: dict[str, ParameterField] = Field({})
    """What is known of the model: a number, "file.nc:variable" or a profile, by name."""
    sensors: SensorsTable
    """Where sensors may stand, and how well they measure."""
    prior: PriorTable
    """Of the source."""
    placement: PlacementTable
    """What is asked for."""
    forecast: ForecastTable | None = None
    """What is to be known ahead."""
    rupture: RuptureTable | None = None
    """A source to try the sensors on."""
    output: PlacementOutput = PlacementOutput()  # type: ignore  # tables are frozen
    """Where results go."""

    @model_validator(mode="after")
    def _goal(self) -> Self:
        if self.placement.goal == FORECAST and self.forecast is None:
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
        parameters = _parameters(model, tables["parameters"])
        sensors = _sensors(grid, self.sensors, model.unknowns[0].units, self.base)
        placement = self.placement
        with under("placement"):
            within = (sensors[k] for k in ("costs", "existing", "forbidden"))
            Network.of(len(sensors["candidates"]), placement.budget, *within)
        points, names, known = _forecast(grid, space, self.forecast)
        truth = None if self.rupture is None else _truth(model, space, self.rupture, self.base)
        box = {k: getattr(grid, k) for k in ("shape", "extent", "origin", "units")}
        arrays = {"grid": box, "parameters": parameters, "sensors": sensors, "rupture": truth}
        return PlacementCase(
            file=self,
            arrays=arrays,
            model=model,
            parameters=parameters,
            engine=get_engine(self.engine, model),
            prior=SpaceTimePrior.matern(space, **self.prior.given()),
            placement={k: getattr(placement, k) for k in ("budget", "random", "seed", "dtype")},
            goal=placement.goal,
            points=points,
            names=names,
            known=known,
            truth=truth,
            **sensors,
        )


# The model


def _model(grid: Grid, table: Mapping[str, Any]) -> Explicit:
    model = build(grid, table)
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
    del table["profile"]
    with under(where):
        return continental_margin(grid, **table)


# The sensors


def _sensors(grid: Grid, table: SensorsTable, units: str, base: Path) -> dict[str, Any]:
    where = _candidates(grid, table.candidates, base)
    n = len(where)
    found: dict[str, Any] = {
        "candidates": where,
        "sigma": _each("sensors.sigma", table.sigma, n, units, base),
        "costs": None,
        **{
            k: list(indices(getattr(table, k), n, f"sensors.{k}"))
            for k in ("existing", "forbidden")
        },
    }
    if table.costs is not None:
        found["costs"] = _each("sensors.costs", table.costs, n, "1", base)
    both = sorted(set(found["existing"]) & set(found["forbidden"]))
    if both:
        raise ConfigError(f"sensors.forbidden: found {both[0]}, which is also in sensors.existing")
    return found


def _candidates(grid: Grid, given: LatticeTable | list[Any] | str, base: Path) -> np.ndarray:
    where = "sensors.candidates"
    if isinstance(given, LatticeTable):
        ends = zip(given.low, given.high, given.shape, strict=True)
        axes = np.meshgrid(*(np.linspace(*e) for e in ends), indexing="ij")
        points = np.stack(axes, axis=-1).reshape(-1, len(axes))
    elif isinstance(given, str):
        points = _positions(where, open_dataset(base / given, where), grid)
    else:
        points = np.array(given)
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


def _each(where: str, value: Any, n: int, units: str, base: Path) -> np.ndarray:
    """A positive number for each candidate."""
    if isinstance(value, str):
        found = field(value, base, where)
        value = _finite(where, found, units)
    elif isinstance(value, list):
        if len(value) != n:
            raise ConfigError(f"{where}: found {shown(value)}, expected {n} numbers")
        value = finite_array(where, value)
    else:
        value = np.full(n, positive(where, value))
    if value.shape != (n,):
        raise DataError(f"{where}: found shape {value.shape}, expected ({n},), one a candidate")
    if not np.all(np.isfinite(value) & (value > 0)):
        raise DataError(f"{where}: found {np.min(value):g}, expected finite values > 0")
    return value


def _forecast(
    grid: Grid, space: ForcingSpace, table: ForecastTable | None
) -> tuple[np.ndarray, tuple[str, ...], int]:
    """Where, with which names, and from how many intervals' data."""
    if table is None:
        return np.empty((0, 2)), (), space.count
    points = np.array(table.points)
    grid.check_inside(points, "forecast.points: number")
    names = [chr(ord("A") + k % 26) for k in range(len(points))]
    names = names if table.names is None else table.names
    if len(names) != len(points):
        raise ConfigError(f"forecast.names: found {names!r}, expected {len(points)} texts")
    last = space.count * space.interval
    until = last if table.until is None else table.until
    known = int(until / space.interval * (1.0 + 1e-9))
    if not 1 <= known <= space.count:
        raise ConfigError(
            f"forecast.until: found {until:g}, expected {space.interval:g} to {last:g}"
            f" {space.time_units}"
        )
    return points, tuple(names), known


# The source


def _truth(model: Explicit, space: ForcingSpace, table: RuptureTable, base: Path) -> np.ndarray:
    if table.file is not None:
        return _source("rupture.file", field(table.file, base, "rupture.file"), model)
    with under("rupture"):
        found = space.fill(Rupture(**table.given()), SOURCE)
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
