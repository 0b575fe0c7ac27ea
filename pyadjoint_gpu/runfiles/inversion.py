"""Run files of inversions: TOML tables that build the same `Problem` as the Python API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, SkipValidation, Strict, field_validator, model_validator

from ..core.errors import ConfigError, shown
from ..core.quantities import numbers
from ..engines.embedded import SOLVERS
from ..inversion.invert import invert
from ..inversion.journal import inputs
from ..inversion.optimisers import options
from ..problem.control import Control
from ..problem.likelihood import LeastSquares
from ..problem.penalty import Smoothness
from ..problem.problem import Problem
from ..problem.specification import build_problem
from ..statistics.noise import Noise
from .files import fields, load_model, open_dataset, reference
from .kind import Case, EngineName, Kind
from .prior import PriorTable, ScaleTable, of_known_kind
from .tables import GridTable, ModelTable, Text, expected, table_of

_CONTROL = {
    "initial": 'Where the optimiser starts, in physical units: a number, "file.nc:variable" or a'
    " plane {value, gradient}; the model's default where it has one.",
    "transform": '"identity", "log" (for what is positive) or "logistic" (for what has bounds):'
    " how the optimiser sees the parameter.",
    "basis": '"field", one value a cell; "constant", one value for all; or "plane", a value in the'
    " middle of the grid and a slope along each axis.",
}
_NOISE = {
    "duration": "Correlation time, in the model's unit of time; independent errors unless given.",
}
_SOLVER = {
    "tolerance": "Norm of the residual, relative to the first, at which a solve stops;"
    ' "adaptive" solves only as accurately as each step of the optimiser needs.',
    "adjoint_tolerance": "Tolerance of the adjoint equation; that of the model unless given.",
    "max_iterations": "The most iterations of one solve.",
}
_INVERSION = {
    "max_iterations": "The most iterations of the optimiser.",
}


class ControlTable(
    table_of(Control, "initial", "bounds", "transform", "basis", "truth", told=_CONTROL)
):
    """Parameter to be recovered."""

    prior: PriorTable | None = None
    """What is known of it before the data: a density of the transformed control."""

    @field_validator("prior", mode="before")
    @classmethod
    def _known(cls, prior: Any) -> Any:
        return of_known_kind(prior)


class PenaltyTable(table_of(Smoothness, "weight", "length")):
    """Penalty on a control."""

    kind: Literal["smoothness"] = "smoothness"
    """Smoothness: a penalty on the size and the gradient of the control's change from its start."""


def _positive(sigma: Any) -> Any:
    """Standard deviations, checked."""
    wanted = "a number > 0, or a list of them"
    if sigma is not None and not np.all(numbers("", sigma, expected=wanted) > 0):
        raise ConfigError(f": found {shown(sigma)}, expected {wanted}")
    return sigma


Sigma = Annotated[SkipValidation[float | list[float]], AfterValidator(_positive)]


class NoiseTable(table_of(Noise, "duration", told=_NOISE)):
    """Noise of the data that is correlated in time, sd^2 exp(-|t - t'| / duration) between data at
    the same point, or of unknown size."""

    sd: Sigma
    """Standard deviation: a number, or a list of one for each datum, in the units of the
    variable."""
    scale: ScaleTable | None = None
    """Prior of ln s, where the standard deviation is s sd with an unknown s, which is estimated
    with the controls."""

    @field_validator("scale", mode="before")
    @classmethod
    def _known(cls, scale: Any) -> Any:
        return of_known_kind(scale, ("independent",))


class MisfitTable(table_of(LeastSquares, "observes")):
    """Data, and how well the model is to fit them: weighted least squares."""

    observations: Text
    """NetCDF file, or "file.nc:variable" where it has several: a map, or values along one dimension
    with the coordinates x, y (z, time)."""
    sigma: Sigma | None = None
    """Standard deviation of the errors: a number, or a list of one for each datum, in the units of
    the variable; without it, the variable <variable>_sigma."""
    noise: NoiseTable | None = None
    """In place of sigma, noise that is correlated in time, or of unknown size."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.sigma is not None and self.noise is not None:
            raise ConfigError("noise: found beside sigma, expected one of them")
        return self


class SolverTable(table_of(Problem, *_SOLVER, told=_SOLVER)):
    """How the model's equations are solved."""

    method: SkipValidation[str] = Field(default="auto", json_schema_extra={"enum": [*SOLVERS]})
    """"multigrid" or "pseudo-transient"; "auto" takes multigrid wherever a model has it."""
    dtype: SkipValidation[Literal["float64", "float32"]] = "float64"
    """Precision of the solves."""
    backend: SkipValidation[Literal["threads", "cuda", "amdgpu"] | None] = None
    """Hardware that the Julia engine runs on: "threads", "cuda" or "amdgpu"."""


class InversionTable(table_of(invert, "method", "max_iterations", "tolerance", told=_INVERSION)):
    """Options of the optimiser."""

    discrepancy: Annotated[bool, Strict(), expected("true or false")] = False
    """Stop as soon as chi2 = 2 misfit / n, with n data, is no more than 1: the data are fitted to
    their errors (Morozov's discrepancy principle)."""

    @model_validator(mode="after")
    def _options(self) -> Self:
        options(**self.given())
        return self


@dataclass(frozen=True, kw_only=True)
class InversionCase(Case):
    """An inversion: a problem, and the options of `invert`."""

    problem: Problem
    settings: dict[str, Any]


class Inversion(Kind):
    """Run file of an inversion: recover parameters of a model from data. For `pyadjoint-gpu run`,
    and for `pyadjoint-gpu check`, which tests its gradient."""

    subject: ClassVar[str] = "an inversion"
    commands: ClassVar[tuple[str, ...]] = ("run", "check")
    example: ClassVar[str] = "geothermal"

    kind: Literal["inversion"] = "inversion"
    """Kind of run file."""
    engine: EngineName = "auto"
    launcher: SkipValidation[list[str] | None] = None
    """Command that starts many ranks of the Julia engine, word by word, such as ["mpiexec", "-n",
    "4"]."""
    topology: SkipValidation[list[int] | None] = None
    """Number of ranks along each axis; found from the launcher's number of ranks unless given."""
    grid: GridTable
    model: ModelTable
    """Physics of the model."""
    parameters: dict[str, Any] = Field({})
    """Known parameters of the model, by name: numbers, planes {value, gradient} or
    "file.nc:variable"."""
    controls: dict[str, ControlTable]
    """Parameters to be recovered, by name."""
    misfit: MisfitTable
    penalty: dict[str, PenaltyTable] = Field({})
    """Penalties, by the name of the control."""
    solver: SolverTable = SolverTable()
    inversion: InversionTable = InversionTable()

    def tables(self) -> dict[str, Any]:
        """The specification that `build_problem` takes, with the contents of files in place of
        their names."""
        without = ("kind", "title", "output", "inversion")
        tables = {k: v for k, v in self._tables.items() if k not in without}
        tables = load_model(tables, self.base)
        tables["parameters"] = fields(self.parameters, self.base, "parameters")
        tables["controls"] = {
            name: self._loaded(table, f"controls.{name}")
            for name, table in tables["controls"].items()
        }
        file, variable = reference(self.misfit.observations)
        data = open_dataset(self.base / file, "misfit.observations")
        tables["misfit"] = tables["misfit"] | {"observations": data}
        if variable:
            tables["misfit"]["variable"] = variable
        return tables

    def _loaded(self, table: dict[str, Any], where: str) -> dict[str, Any]:
        """The table of a control, or of its prior, with the contents of files."""
        known = {k: v for k, v in table.items() if k in ("initial", "truth", "mean")}
        out = table | fields(known, self.base, where)
        return out | (
            {"prior": self._loaded(out["prior"], f"{where}.prior")} if "prior" in out else {}
        )

    def build(self) -> Problem:
        return build_problem(self.tables())

    @property
    def settings(self) -> dict[str, Any]:
        """Options of `invert`, checked."""
        return options(**self.inversion.given(), title=self.title)

    def case(self) -> InversionCase:
        problem, settings = self.build(), self.settings
        return InversionCase(
            file=self,
            config_json=inputs(problem, settings),
            iterations=settings["max_iterations"],
            problem=problem,
            settings=settings,
        )
