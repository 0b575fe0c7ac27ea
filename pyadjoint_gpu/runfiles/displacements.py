"""Table [data] of run files of slip: what was measured, or a linear problem made elsewhere."""

from __future__ import annotations

from functools import reduce
from operator import add
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import xarray as xr
from jaxtyping import Float
from pydantic import Field, model_validator

from ..core.errors import ConfigError, keyed
from ..core.quantities import converter, numbers
from ..geophysics.slip_data import DISPLACEMENT, SlipData, covariance, slip_data
from .files import field, open_dataset
from .tables import Finite, Stored, Table, expected

Files = Annotated[
    str | Annotated[list[str], Field(min_length=1)], expected("a file or a list of files")
]
Sigma = Annotated[
    Annotated[Finite, Field(gt=0)] | str, expected("a positive number or 'file.nc:variable'")
]


class DataTable(Table):
    """Displacements measured by GNSS and InSAR; or, in their place, the design matrix and the data
    of a problem that was made elsewhere."""

    gnss: Files | None = None
    """NetCDF files of stations, one or a list: x, y, displacement_east, _north, _up and their
    standard deviations, displacement_east_sigma and so on."""
    insar: Files | None = None
    """NetCDF files of pixels, one or a list: x, y, look_east, _north, _up, displacement_los, and
    displacement_los_sigma or displacement_los_covariance."""
    green: Stored | None = None
    """Design matrix, "file.nc:variable" of shape (data, components of slip), in place of gnss and
    insar."""
    displacement: Stored | None = None
    """Data that belong to green, "file.nc:variable"."""
    sigma: Sigma | None = None
    """Standard deviation of the errors of displacement: a number, or "file.nc:variable"."""
    covariance: Stored | None = None
    """Covariance of the errors of displacement, "file.nc:variable", in place of sigma."""

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

    def measured(self, units: str, base: Path) -> SlipData:
        """Data of all files, GNSS before InSAR, with coordinates in `units`."""
        parts = []
        for kind in ("gnss", "insar"):
            value = getattr(self, kind) or []
            for k, file in enumerate([value] if isinstance(value, str) else value):
                where = f"data.{kind}" if isinstance(value, str) else f"data.{kind}[{k}]"
                found = open_dataset(base / file, where)
                with keyed({kind: f"{where}: {file}"}):
                    parts.append(slip_data(**{kind: found}, units=units))
        return reduce(add, parts)

    def stored(
        self, base: Path
    ) -> tuple[Float[np.ndarray, "data components"], Float[np.ndarray, " data"], np.ndarray]:
        """G, d and the noise of a problem that was made elsewhere, in metres."""

        def read(key: str) -> tuple[xr.DataArray, np.ndarray]:
            found = field(getattr(self, key), base, f"data.{key}")
            return found, numbers(f"data.{key}", found)

        d, values = read("displacement")
        own = d.attrs.get("units")
        metres = converter("data.displacement", own, DISPLACEMENT)
        if self.covariance is not None:
            noise = covariance(read("covariance")[0], d, "data.covariance")
        elif isinstance(self.sigma, str):
            sigma, noise = read("sigma")
            noise = converter("data.sigma", sigma.attrs.get("units", own), DISPLACEMENT)(noise)
        else:
            noise = np.asarray(metres(self.sigma))
        return read("green")[1], metres(values), noise
