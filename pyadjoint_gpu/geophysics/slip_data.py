"""Surface displacements from GNSS and InSAR: Datasets as arrays of the linear model d = G s + e."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.checks import finite_array
from ..core.errors import DataError, nearest
from ..core.quantities import converter, numbers, power, spelling
from ..statistics.bound_noise import arrays, bound, observed
from ..statistics.noise import Layout, Noise

AXES = ("east", "north", "up")
DISPLACEMENT = "m"
"""Unit of displacements, their errors and slip."""
LENIENT = 0.01
"""Tolerance on the unit length of a look vector: files round to two or three digits."""


@dataclass(frozen=True)
class SlipData:
    """Displacements of the surface; ``a + b`` joins two, with independent errors.

    Attributes
    ----------
    points : array
        East and north of each datum.
    look : array
        Unit vector (east, north, up) of each datum.
    displacement : array
        d, in metres.
    noise : Noise
        That of e, in metres.
    missing : int
        Number of further data that are missing: NaN, masked, or of infinite error.
    """

    points: Float[np.ndarray, "data 2"]
    look: Float[np.ndarray, "data 3"]
    displacement: Float[np.ndarray, " data"]
    noise: Noise
    missing: int = 0

    def __len__(self) -> int:
        return len(self.displacement)

    def __add__(self, other: SlipData) -> SlipData:
        return SlipData(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.look, other.look]),
            np.concatenate([self.displacement, other.displacement]),
            Noise.blocks((self.noise, len(self)), (other.noise, len(other))),
            self.missing + other.missing,
        )

    @classmethod
    def of(
        cls,
        where: str,
        points: Float[np.ndarray, "data 2"],
        look: Float[np.ndarray, "data 3"],
        displacement: Float[np.ndarray, " data"],
        noise: Noise,
    ) -> SlipData:
        """The observed part of these data."""
        names = f"{where}: displacements", f"{where}: errors of displacements"
        errors = noise.errors(Layout(len(displacement), name=names[1]))
        used, d, errors = observed(names[0], displacement, names[1], errors)
        bound(errors, names[1])
        noise = Noise(errors) if errors.ndim == 1 else Noise(covariance=errors)
        return cls(points[used], look[used], d, noise, len(used) - len(d))

    @property
    def errors(self) -> Any:
        """Errors of the data as arrays, see `bound_noise.arrays`."""
        return arrays(self.noise.errors(Layout(len(self))))


Datasets = xr.Dataset | Iterable[xr.Dataset]


def slip_data(gnss: Datasets = (), insar: Datasets = (), *, units: str = "m") -> SlipData:
    """The displacements of one or more Datasets, GNSS before InSAR.

    Parameters
    ----------
    gnss : Dataset or sequence of Dataset
        With one dimension (``station``): coordinates ``x`` and ``y`` (east and north); variables
        ``displacement_east``, ``displacement_north`` and optionally ``displacement_up``, each with
        its standard deviation, ``displacement_east_sigma`` and so on. Data are ordered by station,
        then by component.
    insar : Dataset or sequence of Dataset
        With one dimension (``pixel``): coordinates ``x`` and ``y``; variables
        ``displacement_los`` (positive in the direction of the look vector), ``look_east``,
        ``look_north`` and ``look_up`` (a unit vector), and either ``displacement_los_sigma`` or
        the covariance ``displacement_los_covariance``, of two dimensions.
    units : str
        Unit of the resulting coordinates, that of the fault's geometry. Coordinates and
        displacements in other units of length are converted, by their attribute ``units``.

    Raises
    ------
    DataError
        If a variable is missing, has a wrong dimension or unit, or a value that is not finite; a
        standard deviation is not positive or a covariance not positive definite; or a look vector
        does not have unit length.
    """
    parts = [_gnss(_Columns(d, where, units)) for where, d in _listed("gnss", gnss)]
    parts += [_insar(_Columns(d, where, units)) for where, d in _listed("insar", insar)]
    if not parts:
        raise DataError("no displacements: neither gnss nor insar is given")
    return reduce(add, parts)


def _listed(name: str, given: Datasets) -> list[tuple[str, xr.Dataset]]:
    """Datasets, each with its name in messages."""
    alone = isinstance(given, xr.Dataset)
    found = [given] if alone else list(given)
    out = []
    for k, data in enumerate(found):
        where = name if alone or len(found) == 1 else f"{name}[{k}]"
        if not isinstance(data, xr.Dataset):
            raise DataError(f"{where}: found {type(data).__name__}, expected an xarray.Dataset")
        out.append((where, data))
    return out


class _Columns:
    """Variables of a Dataset along its one dimension, checked and converted to given units."""

    def __init__(self, data: xr.Dataset, where: str, units: str):
        self.data, self.where, self.units = data, where, units
        self.dim = self._found("x").dims[:1]

    def points(self) -> Float[np.ndarray, "rows 2"]:
        return np.column_stack([self.finite(name, self.units) for name in ("x", "y")])

    def finite(self, name: str, units: str) -> Float[np.ndarray, " rows"]:
        """Values of a variable that may not be missing."""
        return finite_array(self._label(name), self.vector(name, units))

    def vector(self, name: str, units: str) -> Float[np.ndarray, " rows"]:
        """Values of a variable, NaN where missing."""
        values = self._plain(name)
        return converter(self._label(name), self._found(name).attrs.get("units"), units)(values)

    def _plain(self, name: str) -> Float[np.ndarray, " rows"]:
        """Values of a variable in its own unit."""
        array = self._found(name)
        if array.dims != self.dim:
            raise DataError(
                f"{self._label(name)} has the dimensions ({_names(array.dims)}),"
                f" expected ({_names(self.dim) or 'one'})"
            )
        if not array.size:
            raise DataError(f"{self._label(name)} is empty, expected at least one value")
        return numbers(self._label(name), array)

    def sigma(self, name: str) -> Float[np.ndarray, " rows"]:
        """Standard deviations of `name`, infinite where missing, by default in its unit."""
        given = f"{name}_sigma"
        label = self._label(given)
        own = self._found(given).attrs.get("units", self._found(name).attrs.get("units"))
        sigma = converter(label, own, DISPLACEMENT)(self._plain(given))
        if np.any(sigma <= 0):
            raise DataError(f"{label}: found {np.nanmin(sigma):g}, expected values > 0")
        return np.where(np.isnan(sigma), np.inf, sigma)

    def noise(self, name: str) -> Noise:
        """The covariance of `name`, or else its standard deviations."""
        label = f"{name}_covariance"
        if label not in self.data:
            if f"{name}_sigma" not in self.data:
                raise DataError(f"{self.where}: found neither '{name}_sigma' nor {label!r}")
            return Noise(self.sigma(name))
        if f"{name}_sigma" in self.data:
            raise DataError(f"{self.where}: found both '{name}_sigma' and {label!r}, expected one")
        found = covariance(self.data[label], self._found(name), self._label(label))
        return Noise(covariance=found)

    def _found(self, name: str) -> xr.DataArray:
        if name not in self.data.variables:
            raise DataError(
                f"{self.where}: no variable {name!r}{nearest(name, map(str, self.data.variables))}"
            )
        return self.data[name]

    def _label(self, name: str) -> str:
        return f"{self.where}: {name!r}"


def covariance(
    array: xr.DataArray, displacement: xr.DataArray, what: str
) -> Float[np.ndarray, "data data"]:
    """Covariance of displacements in square metres, by default in the square of their unit."""
    found = array.attrs.get("units")
    if found is None:
        found = power((spelling(displacement.attrs.get("units")), 2))
    values = converter(what, found, power((DISPLACEMENT, 2)))(numbers(what, array))
    if values.ndim != 2:
        raise DataError(f"{what} has the dimensions ({_names(array.dims)}), expected two")
    if values.shape != (displacement.size,) * 2:
        raise DataError(
            f"{what}: found an array of shape {values.shape}, expected {(displacement.size,) * 2}"
        )
    return values


def _gnss(columns: _Columns) -> SlipData:
    points = columns.points()
    # A misspelt vertical component must not pass for an absent one.
    known = [f"displacement_{axis}{end}" for axis in AXES for end in ("", "_sigma")]
    for name in map(str, columns.data.data_vars):
        if name.startswith("displacement") and name not in known:
            raise DataError(f"{columns.where}: unknown variable {name!r}{nearest(name, known)}")
    axes = [a for a in AXES if a != "up" or f"displacement_{a}" in columns.data]
    names = [f"displacement_{axis}" for axis in axes]
    d = np.column_stack([columns.vector(name, DISPLACEMENT) for name in names])
    sigma = np.column_stack([columns.sigma(name) for name in names])
    return SlipData.of(
        columns.where,
        np.repeat(points, len(axes), axis=0),
        np.tile(np.eye(3)[: len(axes)], (len(points), 1)),
        d.ravel(),
        Noise(sigma.ravel()),
    )


def _insar(columns: _Columns) -> SlipData:
    points = columns.points()
    look = np.column_stack([columns.finite(f"look_{axis}", "1") for axis in AXES])
    size = np.linalg.norm(look, axis=1)
    worst = int(np.argmax(np.abs(size - 1.0)))
    if not abs(size[worst] - 1.0) < LENIENT:
        raise DataError(
            f"{columns.where}: the look vector of pixel {worst} (look_east, look_north, look_up) is"
            f" {size[worst]:.3g} long, expected a unit vector"
        )
    d = columns.vector("displacement_los", DISPLACEMENT)
    noise = columns.noise("displacement_los")
    return SlipData.of(columns.where, points, look / size[:, None], d, noise)


def _names(dims: Iterable[Hashable]) -> str:
    return ", ".join(map(str, dims))
