"""Real-time Bayesian inversion of linear time-invariant systems, most of it computed offline."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ..core.checks import count
from ..core.errors import ConfigError, DataError
from ..core.files import path_of, sealed
from ..results.dataset import provenance
from ..statistics.densities import BoundPrior
from ..statistics.noise import Noise
from ..statistics.priors import Prior
from ..statistics.stored import arrays, restored
from .files import read_netcdf
from .offline import Offline, variance
from .online import Online, gaps_filled
from .priors import fitting
from .stream import Stream
from .toeplitz import ToeplitzMap

FORMAT = "pyadjoint_gpu linear inversion 2"


class LinearInversion:
    """Gaussian posterior of m from d = F m + e, e ~ N(0, Gamma_n), m ~ N(mu, Gamma):

        mean        mu + Gamma F^T K^-1 (d - F mu),    K = Gamma_n + F Gamma F^T,
        covariance  Gamma - Gamma F^T K^-1 F Gamma,

    and of quantities of interest q = F_q m. All that does not depend on data is computed at
    construction; data then take two triangular solves and products with F and F_q.

    Parameters
    ----------
    of : ToeplitzMap
        F, of C sensors and T times.
    prior : Prior or BoundPrior
        N(mu, Gamma) of m, `SpaceTime`, or a prior in space, of which times are then independent. On
        the space of the forcing, where the map was made by `block_column`; otherwise a prior that
        needs one (`Matern`) is bound to it first: ``prior.on(model.space("source"))``.
    noise : float, array or Noise
        Standard deviation, one or one a sensor (C,); covariances a sensor (C, T, T); or one of all
        sensors (C, T, C, T). The data of a `Noise` are those of ``data.ravel()``, the times of
        each sensor those of one place.
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
        prior: Prior | BoundPrior,
        noise: ArrayLike | Noise,
        forecast: ToeplitzMap | None = None,
        *,
        offline: Offline | None = None,
    ):
        self.map, self.prior, self.forecast = of, fitting(of, prior), forecast
        if forecast is not None:
            fitting(forecast, self.prior, "forecast")
        self.noise = of.noise(noise)
        self.offline = offline or Offline.of(of, self.prior, self.noise, forecast)
        self._online = Online(of, self.prior, forecast, self.offline)

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
        misfit = data - self._online.expected
        return self._online.posterior(self._online.whiten(misfit[None])[:, 0], observed)

    def stream(self) -> Stream:
        """An inversion of data as they arrive."""
        return Stream(self._online)

    def draws(
        self, data: ArrayLike | xr.DataArray, size: int, *, seed: int = 0, until: int | None = None
    ) -> Float[np.ndarray, "size times ..."]:
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
        z = rng.standard_normal((count("size", size), *self.prior.shape))
        before = np.asarray(self.prior.of_normal(z))
        misfit = data - self.map.matvec(before) - self.noise.draw(rng, size)
        white, _ = self._online.without_gaps(self._online.whiten(misfit), observed)
        return before + self._online.change(white)

    def forecast_covariance(
        self, until: int | None = None
    ) -> Float[np.ndarray, "times points times points"]:
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
    def variance(self) -> Float[np.ndarray, "times ..."]:
        """Posterior variance of m given all data, of shape (T, *sites). Computed on first use, by
        as many solves with L as m has values."""
        found = variance(self.offline.factor, self.map, self.prior)
        return found.reshape(self.prior.shape)

    def save(self, path: str | Path) -> None:
        """Write the inversion to an HDF5 file (NetCDF-4), whole or not at all."""
        groups = {
            "": xr.Dataset(attrs=provenance("linear inversion", title=None, format=FORMAT)),
            "map": self.map.column.to_dataset(name="response"),
            "prior": _plain(arrays(self.prior)),
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
        groups = read_netcdf(path, _groups)
        if groups["/"].attrs.get("format") != FORMAT:
            raise DataError(f"{path}: not a linear inversion of this version")
        of = ToeplitzMap.of(groups["/map"])
        prior = restored({str(k): v.values for k, v in groups["/prior"].items()})
        forecast = ToeplitzMap.of(groups["/forecast"]) if "/forecast" in groups else None
        offline = {str(k): v.values for k, v in groups["/offline"].items()}
        found = offline.pop("variance")
        noise = groups["/noise"]["noise"].values
        out = cls(of, prior, noise, forecast, offline=Offline(**offline))
        out.__dict__["variance"] = found
        return out

    def _known(self, until: int | None) -> int:
        steps = self.map.steps
        if until is None:
            return steps
        if count("until", until) > steps:
            raise ConfigError(f"until: found {until}, expected 1 to {steps}")
        return until

    def _checked(
        self, data: ArrayLike | xr.DataArray, until: int | None
    ) -> tuple[Float[np.ndarray, "times sensors"], Bool[np.ndarray, "known sensors"]]:
        """Data, zero where unknown, and the mask of those observed at the known times."""
        known = self._known(until)
        shape = (self.map.steps, self.map.sensors)
        array = self._online.rows(data)
        if array.shape != shape:
            raise DataError(f"data: found shape {array.shape}, expected {shape}")
        array[known:] = 0.0
        array, observed = gaps_filled(array)
        if not np.any(observed[:known]):
            raise DataError(f"data: none of {observed[:known].size} values is observed")
        return array, observed[:known]


def _groups(path: Path) -> dict[str, xr.Dataset]:
    found = xr.open_groups(path, engine="h5netcdf", phony_dims="access")
    return {name: group.load() for name, group in found.items()}


def _plain(given: dict[str, np.ndarray]) -> xr.Dataset:
    """Arrays as they are, each with dimensions of its own."""
    return xr.Dataset(
        {
            name: ([f"{name}_{k}" for k in range(np.ndim(array))], array)
            for name, array in given.items()
        }
    )
