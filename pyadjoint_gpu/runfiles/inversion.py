"""Run files of inversions: TOML tables that build the same `Problem` as the Python API."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Predicate
from pydantic import Field, SkipValidation

from ..core.errors import keyed
from ..engines.choose import ENGINES
from ..engines.embedded import SOLVERS
from ..inversion.invert import invert
from ..inversion.optimisers import options
from ..problem.control import Control, Smoothness
from ..problem.problem import Problem
from ..problem.specification import build_problem
from .files import fields, load_model, open_dataset, reference
from .tables import Flag, GridTable, Kind, ModelTable, Real, Table, Text, expected, table_of


def _positive(sigma: Any) -> bool:
    values = np.asarray(sigma)
    return values.dtype.kind in "if" and bool(np.all(values > 0))


class ControlTable(table_of(Control, "initial", "bounds", "transform", "basis", "truth")):
    """A parameter to be recovered. A field is a number, a plane or "file.nc:variable"."""


class PenaltyTable(table_of(Smoothness, "weight", "length")):
    """A penalty on a control."""

    kind: Literal["smoothness"] = "smoothness"
    """On the size and the gradient of the control's change."""


class MisfitTable(Table):
    """Least squares of the differences from the data."""

    observations: Text
    """A NetCDF file, or "file.nc:variable": one dimension, with coordinates x, y (z, time), or a
    map."""
    observes: Text | None = None
    """What of the model's state it is, where it is not named like that."""
    sigma: (
        Annotated[
            Real | list[Any], Predicate(_positive), expected("a number > 0, or a list of them")
        ]
        | None
    ) = None
    """Standard deviation of the errors, in the data's units; without it, the file's variable
    <variable>_sigma."""


class SolverTable(Table):
    """Solves of the model's equations."""

    method: SkipValidation[str] = Field(default="auto", json_schema_extra={"enum": [*SOLVERS]})
    """The solver."""
    tolerance: SkipValidation[float | Literal["adaptive"]] = 1e-8
    """Residuals, relative to the first; "adaptive" solves as accurately as each step needs."""
    adjoint_tolerance: SkipValidation[float | None] = None
    """That of the adjoint, where it is another."""
    max_iterations: SkipValidation[int | None] = None
    """Most iterations of one solve."""
    dtype: SkipValidation[Literal["float64", "float32"]] = "float64"
    """Precision of the arithmetic."""
    backend: SkipValidation[Literal["threads", "cuda", "amdgpu"] | None] = None
    """What the Julia engine runs on."""


class InversionTable(table_of(invert, "method", "max_iterations", "tolerance")):
    """Options of the optimiser."""

    discrepancy: Flag = False
    """Stop also when chi2 = 2 misfit / n <= 1 (Morozov's discrepancy principle)."""


class Inversion(Kind):
    """Run file of an inversion: `pyadjoint-gpu run`."""

    subject: ClassVar[str] = "an inversion"
    command: ClassVar[str] = "run"
    example: ClassVar[str] = "geothermal"

    kind: Literal["inversion"] = "inversion"
    """What the file is of."""
    engine: SkipValidation[str] = Field(default="auto", json_schema_extra={"enum": [*ENGINES]})
    """What solves run on."""
    launcher: SkipValidation[list[str] | None] = None
    """What starts ranks of the Julia engine, in words, such as ["mpiexec", "-n", "4"]."""
    topology: SkipValidation[list[int] | None] = None
    """Ranks along each axis."""
    grid: GridTable
    """Cells of a box."""
    model: ModelTable
    """The physics."""
    parameters: dict[str, Any] = Field({})
    """What is known of the model: a number, a plane or "file.nc:variable", by name."""
    controls: dict[str, ControlTable]
    """What is to be recovered, by name."""
    misfit: MisfitTable
    """The data."""
    penalty: dict[str, PenaltyTable] = Field({})
    """Penalties on controls, by name."""
    solver: SolverTable = SolverTable()
    """Solves of the model's equations."""
    inversion: InversionTable = InversionTable()
    """Options of the optimiser."""

    def tables(self) -> dict[str, Any]:
        """For `build_problem`: with every file replaced by what is in it."""
        given = {k: v for k, v in self.specification.items() if k != "inversion"}
        out = load_model(given, self.base)
        out["controls"] = {
            name: table | fields({k: v for k, v in table.items() if k in ("initial", "truth")},
                                 self.base, f"controls.{name}")
            for name, table in out["controls"].items()
        }  # fmt: skip
        file, variable = reference(self.misfit.observations)
        data = open_dataset(self.base / file, "misfit.observations")
        out["misfit"] = out["misfit"] | {"observations": data}
        if variable:
            out["misfit"]["variable"] = variable
        return out

    def build(self) -> Problem:
        return build_problem(self.tables())

    @property
    def settings(self) -> dict[str, Any]:
        """Options of `invert`, checked."""
        given = self.inversion.given()
        with keyed({k: f"inversion.{k}" for k in given}):
            return options(**given, title=self.title)
