"""Table [sensors] of run files of placement: candidates, their errors and costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field, SkipValidation

from ..core.checks import finite_array, positive
from ..core.errors import DataError, shown
from ..core.grid import Grid
from ..core.quantities import converter, points, stated
from .files import field, open_dataset
from .tables import Count, Number, OrTable, Table, Text, expected

Position = Annotated[list[Number], Field(min_length=2, max_length=2), expected("2 numbers [y, x]")]
Positions = Annotated[list[Position], Field(min_length=1), expected("a list of positions [y, x]")]
Each = SkipValidation[float | list[float] | str]


class LatticeTable(Table):
    """Positions at equal steps."""

    low: Position
    """The first position, [y, x]."""
    high: Position
    """The last position, [y, x]."""
    shape: Annotated[list[Count], Field(min_length=2, max_length=2), expected("2 whole numbers")]
    """Number of positions along y and x."""


class SensorsTable(Table):
    """Candidates: where sensors may stand, and how well they measure there."""

    candidates: OrTable[
        Annotated[Positions | Text, expected("a list of positions [y, x], or a file")], LatticeTable
    ]
    """Candidates' positions: a lattice {low, high, shape}, a list of [y, x], or a NetCDF file with
    the variables y and x."""
    sigma: Each
    """Standard deviation of the errors of what sensors measure: one for all, a list of one for each
    candidate, or "file.nc:variable"."""
    existing: SkipValidation[list[int]] = Field([])
    """Candidates where there is a sensor already, by number from 0."""
    forbidden: SkipValidation[list[int]] = Field([])
    """Candidates where no sensor may stand, by number from 0."""
    costs: Each | None = None
    """Cost of a sensor: one for all, a list of one for each candidate, or "file.nc:variable"."""

    def positions(self, grid: Grid, base: Path) -> Float[np.ndarray, "candidates 2"]:
        """The candidates' positions (y, x), all of them inside the grid."""
        where, given = "sensors.candidates", self.candidates
        if isinstance(given, LatticeTable):
            ends = zip(given.low, given.high, given.shape, strict=True)
            axes = np.meshgrid(*(np.linspace(*e) for e in ends), indexing="ij")
            found = np.stack(axes, axis=-1).reshape(-1, len(axes))
        else:
            file = isinstance(given, str)
            values = open_dataset(base / given, where) if file else given
            found = points(where, values, dict.fromkeys(grid.dims, grid.units))
        grid.check_inside(found, f"{where}: number")
        return found

    def each(self, key: str, n: int, units: str, base: Path) -> Float[np.ndarray, " candidates"]:
        """The positive numbers of a key, one for each of `n` candidates, in `units`."""
        where = f"sensors.{key}"
        value = field(getattr(self, key), base, where)
        if isinstance(value, int | float):
            return np.full(n, positive(where, value))
        values = converter(where, stated(value), units)(finite_array(where, value))
        if values.shape != (n,):
            raise DataError(
                f"{where}: found {shown(value)}, expected {n} numbers, one a candidate, of shape"
                f" ({n},)"
            )
        if not np.all(values > 0):
            raise DataError(f"{where}: found {np.min(values):g}, expected finite values > 0")
        return values
