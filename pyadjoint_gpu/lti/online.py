"""The part of a linear inversion that is computed when data arrive."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float
from numpy.typing import ArrayLike

from ..core.checks import finite_array, real_array
from ..core.precision import compiled, double
from ..core.quantities import converter, spelling, stated
from ..results.dataset import Variables, named, used_and_missing
from ..statistics.separable import Separable
from .offline import Offline, solve_lower
from .toeplitz import ToeplitzMap

KIND = "linear-inversion"


@dataclass(frozen=True, eq=False)
class Online:
    """Posterior given data, by triangular solves with the factors of `Offline` and products with
    the maps."""

    map: ToeplitzMap
    prior: Separable
    forecast: ToeplitzMap | None
    offline: Offline

    def rows(self, data: ArrayLike | xr.DataArray) -> Float[np.ndarray, "*shape"]:
        """Data by time and sensor, in the units of the map's data."""
        if isinstance(data, xr.DataArray) and set(data.dims) == {"time", "sensor"}:
            data = data.transpose("time", "sensor")
        array, units = real_array("data", data), self.map.units[0]
        own = stated(data) if spelling(units) != "1" else None
        return np.array(converter("data", own, units)(array))

    @cached_property
    def expected(self) -> Float[np.ndarray, "times sensors"]:
        """F mu: data that the prior mean gives."""
        return self._of_mean(self.map)

    def _of_mean(self, of: ToeplitzMap) -> Float[np.ndarray, "times sensors"]:
        mean = self._working.mean
        return of.matvec(mean) if np.any(mean) else np.zeros((of.steps, of.sensors), mean.dtype)

    @cached_property
    def _working(self) -> Separable:
        """The prior in the map's precision."""
        return jax.tree.map(self._cast, self.prior)

    def _cast(self, array: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        real = np.issubdtype(array.dtype, np.floating)
        return np.asarray(array, self.map.dtype if real else None)

    def whiten(
        self, data: Float[np.ndarray, "batch times sensors"]
    ) -> Float[np.ndarray, "data batch"]:
        """L^-1 d of a batch of data."""
        return solve_lower(self.offline.factor, data.reshape(len(data), -1).T)

    def without_gaps(
        self, white: Float[np.ndarray, " data *batch"], observed: Bool[np.ndarray, "known sensors"]
    ) -> tuple[Float[np.ndarray, " data *batch"], Float[np.ndarray, "data gaps"]]:
        """P L^-1 d from L^-1 d with any number in gaps, and an orthonormal basis of what P removes:
        L^-1 E, E the unit vectors of missing values at the known times. w = L^-T P L^-1 d is the
        solution for the observed data: zero at gaps, with K w = d elsewhere.
        """
        gaps = np.flatnonzero(~observed)
        unit = np.zeros((len(self.offline.factor), len(gaps)))
        unit[gaps, np.arange(len(gaps))] = 1.0
        removed = solve_lower(self.offline.factor, unit)
        removed[observed.size :] = 0.0
        basis = np.linalg.qr(removed)[0]
        white = np.array(white)
        white[observed.size :] = 0.0
        white -= basis @ (basis.T @ white)
        return white, basis

    @double
    def change(
        self, white: Float[np.ndarray, "data batch"]
    ) -> Float[np.ndarray, "batch times ..."]:
        """Gamma F^T L^-T times whitened data. Rows of zeros at the end stay zero, which makes it a
        solve with the leading part of L."""
        weights = solve_lower(self.offline.factor, white, transposed=True).T
        back = self.map.rmatvec(weights.reshape(-1, self.map.steps, self.map.sensors))
        return np.asarray(_covariance(self._working, jnp.asarray(back)))

    def posterior(
        self, white: Float[np.ndarray, " data"], observed: Bool[np.ndarray, "known sensors"]
    ) -> xr.Dataset:
        """The posterior given the observed data, from L^-1 (d - F mu) with any number in gaps."""
        offline, steps, interval = self.offline, self.map.steps, self.map.interval
        rows, known = observed.size, len(observed)
        white, basis = self.without_gaps(white, observed)
        mean = self._working.mean + self.change(white[:, None])[0]
        sites = self.map.column.dims[2:]
        left = offline.integral_prior - offline.integral_reduction[known - 1]
        # Missing data do not reduce the variance.
        if basis.size:
            whole = interval * self.change(basis).sum(axis=1)
            left = left + np.sum(np.square(whole.reshape(len(whole), -1)), axis=0)
        _, forcing, summed = self.map.units
        variables: Variables = {
            "mean": (("interval", *sites), mean, named("posterior mean", forcing)),
            "integral": (
                sites,
                interval * mean.sum(axis=0),
                named("posterior mean of the time integral", summed),
            ),
            "integral_sd": (
                sites,
                _root(left).reshape(self.prior.sites),
                named("posterior standard deviation of the time integral", summed),
            ),
        }
        if self.forecast is not None:
            seen = offline.forecast[:rows]
            shape, dims = (steps, self.forecast.sensors), ("time", "point")
            variance = np.diag(offline.forecast_prior) - np.sum(np.square(seen), axis=0)
            variance = variance + np.sum(np.square(basis[:rows].T @ seen), axis=0)
            ahead = self._of_mean(self.forecast).ravel() + seen.T @ white[:rows]
            spread = _root(variance)
            units = self.forecast.units[0]
            variables["forecast"] = dims, ahead.reshape(shape), named("forecast", units)
            about = named("posterior standard deviation of the forecast", units)
            variables["forecast_sd"] = dims, spread.reshape(shape), about
        used = int(np.count_nonzero(observed))
        attributes = {"kind": KIND, "known": known, **used_and_missing(used, rows - used)}
        return xr.Dataset(variables, self._coordinates, attributes)

    @cached_property
    def _coordinates(self) -> dict[Hashable, Any]:
        column, ends = self.map.column, self.map.interval * (1.0 + np.arange(self.map.steps))
        units = self.map.time_units
        out: dict[Hashable, Any] = {
            "interval": ("interval", ends - 0.5 * self.map.interval, named("its middle", units)),
            "time": ("time", ends, named("time", units)),
        }
        own = set(column.dims[2:])
        out |= {k: v.variable for k, v in column.coords.items() if set(v.dims) <= own}
        if self.forecast is not None:
            out |= {
                str(k).replace("sensor", "point"): ("point", v.values, v.attrs)
                for k, v in self.forecast.column.coords.items()
                if v.dims == ("sensor",)
            }
        return out


@compiled
def _covariance(
    prior: Separable, m: Float[Array, "batch times *sites"]
) -> Float[Array, "batch times *sites"]:
    return prior.covariance(m)


def gaps_filled(
    data: Float[np.ndarray, "*shape"],
) -> tuple[Float[np.ndarray, "*shape"], Bool[np.ndarray, "*shape"]]:
    """Data with zero where they are missing, and the mask of those observed."""
    observed = ~np.isnan(data)
    return finite_array("data", np.where(observed, data, 0.0)), observed


def _root(variance: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Standard deviations from variances that round-off may have made negative."""
    return np.sqrt(np.maximum(variance, 0.0))
