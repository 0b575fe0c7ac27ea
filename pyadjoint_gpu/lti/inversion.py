"""Real-time Bayesian inversion of linear time-invariant systems, most of it computed offline."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..core.checks import count, finite_array, real_array
from ..core.errors import ConfigError, DataError
from ..core.files import intact, path_of, sealed
from ..core.quantities import converter, spelling, stated
from ..results.dataset import named, provenance, used_and_missing
from ..statistics.noise import Noise, in_units
from ..statistics.space_time import SpaceTimePrior, restored
from .covariance import check_fit
from .offline import Offline, solved, variance
from .toeplitz import ToeplitzMap

FORMAT = "pyadjoint_gpu linear inversion 1"
KIND = "linear-inversion"


class LinearInversion:
    """Gaussian posterior of m from d = F m + e, e ~ N(0, Gamma_n), m ~ N(0, Gamma):

        mean        Gamma F^T K^-1 d,    K = Gamma_n + F Gamma F^T,
        covariance  Gamma - Gamma F^T K^-1 F Gamma,

    and of quantities of interest q = F_q m. All that does not depend on data is computed at
    construction; data then take two triangular solves and products with F and F_q.

    Parameters
    ----------
    of : ToeplitzMap
        F, of C sensors and T times.
    prior : SpaceTimePrior
    noise : float or array
        Standard deviation, one or one a sensor (C,); covariances a sensor (C, T, T); or one of all
        sensors (C, T, C, T).
    forecast : ToeplitzMap, optional
        F_q, of the same forcing.

    Raises
    ------
    DataError
        If shapes differ, or the noise is not positive definite, or so small that round-off would
        affect results (by more than 1e-4 of them; the message says which is large enough).
    """

    def __init__(
        self,
        of: ToeplitzMap,
        prior: SpaceTimePrior,
        noise: Any,
        forecast: ToeplitzMap | None = None,
        *,
        offline: Offline | None = None,
    ):
        check_fit(of, prior)
        if forecast is not None:
            check_fit(forecast, prior, "forecast")
        self.map, self.prior, self.forecast = of, prior, forecast
        self.noise = Noise(in_units(noise, of.units[0]), of.sensors, of.steps)
        self.offline = offline or Offline.of(of, prior, self.noise, forecast)

    def infer(self, data: ArrayLike | xr.DataArray, until: int | None = None) -> xr.Dataset:
        """The posterior given data.

        Parameters
        ----------
        data : array, shape (T, C)
            Row k at the end of interval k; missing values (NaN, or masked) are not observed.
        until : int, optional
            Number of rows to use, from the first. All unless given.

        Returns
        -------
        Dataset
            ``mean`` of m, ``integral`` of m over all times with ``integral_sd``; with quantities of
            interest ``forecast`` and ``forecast_sd``, of all times. The attributes
            ``observed_used`` and ``observed_missing`` count the data.

        Raises
        ------
        DataError
            If the data have another shape, none is observed, or one is infinite.
        """
        data, observed = self._checked(data, until)
        return self._answer(self._whitened(data[None])[:, 0], observed)

    def stream(self) -> Stream:
        """An inversion of data as they arrive."""
        return Stream(self)

    def draws(
        self, data: ArrayLike | xr.DataArray, size: int, *, seed: int = 0, until: int | None = None
    ) -> np.ndarray:
        """Samples of m given the data, m' + Gamma F^T K^-1 (d - F m' - e'), m' and e' samples of
        the prior and of the noise (Matheron's rule).

        Parameters
        ----------
        data, until
            As for `infer`.
        size, seed : int

        Returns
        -------
        array, shape (size, T, *sites)
        """
        data, observed = self._checked(data, until)
        rng = np.random.default_rng(count("seed", seed, 0))
        inner = (self.prior.steps, *self.prior.sites)
        before = self.prior.root(rng.standard_normal((count("size", size), *inner)))
        misfit = data - self.map.matvec(before) - self.noise.draw(rng, size)
        white = self._whitened(misfit)
        white[observed.size :] = 0.0
        told = self._told(observed)
        white -= told @ (told.T @ white)
        return before + self._mean(white)

    def forecast_covariance(self, until: int | None = None) -> np.ndarray:
        """Covariance of q given data until `until`, F_q Gamma F_q^T - Q F Gamma F_q^T, Q = F_q
        Gamma F^T K^-1.

        Returns
        -------
        array, shape (T, Q, T, Q)
        """
        if self.forecast is None:
            raise ConfigError(
                "forecast: there is none; LinearInversion(..., forecast=F_q) takes one"
            )
        known = self._known(until)
        seen = self.offline.forecast[: known * self.map.sensors]
        steps = self.map.steps
        shape = (steps, seen.shape[1] // steps) * 2
        return (self.offline.forecast_prior - seen.T @ seen).reshape(shape)

    @cached_property
    def variance(self) -> np.ndarray:
        """Posterior variance of m given all data, of shape (T, *sites). Computed on first use, by
        as many solves with L as m has values."""
        found = variance(self.offline.factor, self.map, self.prior)
        return found.reshape(self.map.steps, *self.prior.sites)

    def save(self, path: str | Path) -> None:
        """Write the inversion to an HDF5 file (NetCDF-4), whole or not at all."""
        groups = {
            "": xr.Dataset(attrs=provenance("linear inversion", title=None, format=FORMAT)),
            "map": self.map.column.to_dataset(name="response"),
            "prior": _plain(self.prior.spatial.arrays() | {"correlation": self.prior.correlation}),
            "noise": _plain({"noise": self.noise.given}),
            "offline": _plain(vars(self.offline) | {"variance": self.variance}),
        }
        if self.forecast is not None:
            groups["forecast"] = self.forecast.column.to_dataset(name="response")
        with sealed(path_of("path", path)) as beside:
            for name, group in groups.items():
                group.to_netcdf(beside, "a" if name else "w", group=name, engine="h5netcdf")

    @classmethod
    def load(cls, path: str | Path) -> LinearInversion:
        """Read an inversion that `save` wrote; nothing is computed again.

        Raises
        ------
        DataError
            If the file is missing, truncated or another.
        """
        path = path_of("path", path)
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        intact(path)
        try:
            found = xr.open_groups(path, engine="h5netcdf", phony_dims="access")
            groups = {k: v.load() for k, v in found.items()}
        except Exception as error:  # h5netcdf raises all kinds
            reason = str(error).splitlines()[0][:120]
            raise DataError(f"{path}: not an HDF5 file, or truncated ({reason})") from None
        if groups["/"].attrs.get("format") != FORMAT:
            raise DataError(f"{path}: not a linear inversion of this version")
        of = ToeplitzMap.of(groups["/map"])
        arrays = {str(k): v.values for k, v in groups["/prior"].items()}
        prior = SpaceTimePrior(restored(arrays), of.sites, arrays["correlation"])
        forecast = ToeplitzMap.of(groups["/forecast"]) if "/forecast" in groups else None
        offline = {str(k): v.values for k, v in groups["/offline"].items()}
        found = offline.pop("variance")
        noise = groups["/noise"]["noise"].values
        out = cls(of, prior, noise, forecast, offline=Offline(**offline))
        out.__dict__["variance"] = found
        return out

    # Online

    def _whitened(self, data: np.ndarray) -> np.ndarray:
        """L^-1 d of data (batch, T, C), of shape (T C, batch)."""
        return solved(self.offline.factor, data.reshape(len(data), -1).T)

    def _told(self, observed: np.ndarray) -> np.ndarray:
        """An orthonormal basis (T C, gaps) of L^-1 E, E the unit vectors of missing values at the
        known times (k, C). With P the projection that removes it, w = L^-T P L^-1 d is the solution
        for the observed data: zero at gaps, with K w = d elsewhere.
        """
        gaps = np.flatnonzero(~observed)
        unit = np.zeros((len(self.offline.factor), len(gaps)))
        unit[gaps, np.arange(len(gaps))] = 1.0
        white = solved(self.offline.factor, unit)
        white[observed.size :] = 0.0
        return np.linalg.qr(white)[0]

    def _mean(self, white: np.ndarray) -> np.ndarray:
        """Gamma F^T L^-T times (T C, batch), of shape (batch, T, *sites). Rows of zeros at the end
        stay zero, which makes it a solve with the leading part of L."""
        weights = solved(self.offline.factor, white, transposed=True).T
        back = self.map.rmatvec(weights.reshape(-1, self.map.steps, self.map.sensors))
        return self.prior.covariance(back)

    def _known(self, until: int | None) -> int:
        steps = self.map.steps
        if until is None:
            return steps
        if count("until", until) > steps:
            raise ConfigError(f"until: found {until}, expected 1 to {steps}")
        return until

    def _rows(self, data: Any) -> np.ndarray:
        """Data by time and sensor, in the units of the map's data."""
        if set(getattr(data, "dims", ())) == {"time", "sensor"}:
            data = data.transpose("time", "sensor")
        array, units = real_array("data", data), self.map.units[0]
        own = stated(data) if spelling(units) != "1" else None
        return np.array(converter("data", own, units)(array))

    def _checked(
        self, data: ArrayLike | xr.DataArray, until: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Data, zero where unknown, and the mask of those observed at the known times (k, C)."""
        known = self._known(until)
        shape = (self.map.steps, self.map.sensors)
        array = self._rows(data)
        if array.shape != shape:
            raise DataError(f"data: found shape {array.shape}, expected {shape}")
        array[known:] = 0.0
        array, observed = _gaps_filled(array)
        if not np.any(observed[:known]):
            raise DataError(f"data: none of {observed[:known].size} values is observed")
        return array, observed[:known]

    def _answer(self, white: np.ndarray, observed: np.ndarray) -> xr.Dataset:
        """The posterior given the observed data, from L^-1 d with any number in gaps."""
        offline, steps, interval = self.offline, self.map.steps, self.map.interval
        rows, known = observed.size, len(observed)
        white = np.where(np.arange(len(white)) < rows, white, 0.0)
        told = self._told(observed)
        white -= told @ (told.T @ white)
        mean = self._mean(white[:, None])[0]
        sites = self.map.column.dims[2:]
        left = offline.integral_prior - offline.integral_reduction[known - 1]
        # Missing data do not reduce the variance.
        if told.size:
            whole = interval * self._mean(told).sum(axis=1)
            left = left + np.sum(np.square(whole.reshape(len(whole), -1)), axis=0)
        _, forcing, summed = self.map.units
        variables: dict[str, Any] = {
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
            variance = variance + np.sum(np.square(told[:rows].T @ seen), axis=0)
            ahead, spread = seen.T @ white[:rows], _root(variance)
            units = self.forecast.units[0]
            about = named("forecast", units)
            variables["forecast"] = (dims, ahead.reshape(shape), about)
            about = named("posterior standard deviation of the forecast", units)
            variables["forecast_sd"] = (dims, spread.reshape(shape), about)
        used = int(np.count_nonzero(observed))
        attributes = {"kind": KIND, "known": known, **used_and_missing(used, rows - used)}
        return xr.Dataset(variables, self._coordinates, attributes)

    @cached_property
    def _coordinates(self) -> dict[Hashable, Any]:
        column, ends = self.map.column, self.map.interval * (1.0 + np.arange(self.map.steps))
        units = column["lag"].attrs.get("units", "1") if "lag" in column.coords else "1"
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


class Stream:
    """Inversion of data as they arrive: each update solves with the new rows of L only.

    Attributes
    ----------
    known : int
        Number of times so far.
    """

    def __init__(self, inversion: LinearInversion):
        self._inversion = inversion
        self._white = np.zeros(len(inversion.offline.factor))
        self._observed = np.zeros((0, inversion.map.sensors), dtype=bool)

    @property
    def known(self) -> int:
        return len(self._observed)

    def update(self, rows: ArrayLike | xr.DataArray) -> xr.Dataset:
        """The posterior given these rows and all before.

        Parameters
        ----------
        rows : array, shape (k, C) or (C,)
            Data of the next k times; missing values (NaN, or masked) are not observed.

        Returns
        -------
        Dataset
            As `LinearInversion.infer`.

        Raises
        ------
        DataError
            If there are more rows than times left, or a value is infinite.
        """
        of = self._inversion.map
        array, observed = _gaps_filled(np.atleast_2d(self._inversion._rows(rows)))
        left = of.steps - self.known
        if array.ndim != 2 or array.shape[1] != of.sensors or not 0 < len(array) <= left:
            raise DataError(
                f"data: found shape {array.shape}, expected (k, {of.sensors}), k from 1 to {left}"
            )
        first, factor = self.known * of.sensors, self._inversion.offline.factor
        new = slice(first, first + array.size)
        misfit = array.ravel() - factor[new, :first] @ self._white[:first]
        self._white[new] = solved(factor[new, new], misfit)
        self._observed = np.concatenate([self._observed, observed])
        return self._inversion._answer(self._white, self._observed)


def _gaps_filled(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Data with zero where they are missing, and the mask of those observed."""
    observed = ~np.isnan(data)
    return finite_array("data", np.where(observed, data, 0.0)), observed


def _root(variance: np.ndarray) -> np.ndarray:
    """Standard deviations from variances that round-off may have made negative."""
    return np.sqrt(np.maximum(variance, 0.0))


def _plain(arrays: dict[str, np.ndarray]) -> xr.Dataset:
    """Arrays as they are, each with dimensions of its own."""
    return xr.Dataset(
        {
            name: ([f"{name}_{k}" for k in range(np.ndim(array))], array)
            for name, array in arrays.items()
        }
    )
