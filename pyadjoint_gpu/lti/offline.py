"""The part of a linear inversion that is computed before data arrive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ..statistics.roundoff import factorised
from ..statistics.sensor_noise import SensorNoise
from ..statistics.separable import Separable
from .covariance import covariance, in_space
from .toeplitz import ToeplitzMap


@dataclass(frozen=True, eq=False)
class Offline:
    """Factors for C sensors, T times, n sites and Q quantities of interest. Times come before
    sensors in every matrix: its leading part belongs to the data of the first times, and the
    Cholesky factor of the whole contains those of all leading parts."""

    factor: Float[np.ndarray, "data data"]
    """L of K = Gamma_n + F Gamma F^T = L L^T."""
    integral_prior: Float[np.ndarray, " sites"]
    """Prior variance of the integral of m over all times."""
    integral_reduction: Float[np.ndarray, "times sites"]
    """Reduction of that variance by the data until the end of each interval."""
    forecast: Float[np.ndarray, "data forecasts"]
    """L^-1 F Gamma F_q^T."""
    forecast_prior: Float[np.ndarray, "forecasts forecasts"]
    """F_q Gamma F_q^T."""

    @classmethod
    def of(
        cls,
        of: ToeplitzMap,
        prior: Separable,
        noise: SensorNoise,
        forecast: ToeplitzMap | None,
    ) -> Offline:
        factor = factorised(covariance(of, prior), noise, times_first=True)
        factor = np.ascontiguousarray(factor)  # as it is read again: products round alike
        total, integral_prior = time_integral(of, prior)
        white = solve_lower(factor, cross_covariance(of, prior, total))
        reduction = np.sum(np.square(white).reshape(of.steps, of.sensors, -1), axis=1)
        if forecast is None:
            cross, own = np.zeros((len(factor), 0)), np.zeros((0, 0))
        else:
            cross = times_first(covariance(of, prior, forecast))
            cross = np.ascontiguousarray(solve_lower(factor, cross))
            own = times_first(covariance(forecast, prior))
        return cls(factor, integral_prior, np.cumsum(reduction, axis=0), cross, own)


def time_integral(
    of: ToeplitzMap, prior: Separable
) -> tuple[Float[np.ndarray, " times"], Float[np.ndarray, " sites"]]:
    """The integral of m over all times: its correlations with m in time, as for
    `cross_covariance`, and its prior variance."""
    total = np.asarray(prior.times).sum(axis=1) * of.interval
    return total, site_variance(prior) * (total.sum() * of.interval)


def variance(
    factor: Float[np.ndarray, "data data"], of: ToeplitzMap, prior: Separable
) -> Float[np.ndarray, "times sites"]:
    """Variance of m given all data, diag(Gamma) - column sums of |L^-1 F Gamma|^2."""
    before = site_variance(prior)
    out = np.empty((of.steps, len(before)))
    for j, column in enumerate(np.asarray(prior.times)):
        # A value that is independent of all earlier ones affects no earlier data.
        first = j * of.sensors if prior.independent else 0
        white = solve_lower(factor[first:, first:], cross_covariance(of, prior, column)[first:])
        out[j] = before - np.sum(np.square(white), axis=0)
    return out


def site_variance(prior: Separable) -> Float[np.ndarray, " sites"]:
    """Prior variance of m at any one time, with all sites along one axis."""
    return np.ravel(prior.spatial.variance)


def cross_covariance(
    of: ToeplitzMap, prior: Separable, times: Float[np.ndarray, " times"]
) -> Float[np.ndarray, "data sites"]:
    """F (times (x) Gamma_s): the covariance of data with a sum of m over times, `times` its
    correlations with m."""
    blocks = of.blocks
    shifts = scipy.linalg.toeplitz(times, np.zeros(of.steps))
    shifted = (shifts @ blocks.reshape(of.steps, -1)).reshape(-1, blocks.shape[2])
    return in_space(prior, shifted)


def solve_lower(
    factor: Float[np.ndarray, "data data"],
    right: Float[np.ndarray, " data *columns"],
    transposed: bool = False,
) -> Float[np.ndarray, " data *columns"]:
    """L^-1 times a matrix, or L^-T times it."""
    return scipy.linalg.solve_triangular(
        factor, right, lower=True, trans=1 if transposed else 0, check_finite=False
    )


def times_first(
    blocks: Float[np.ndarray, "sensors times others times"],
) -> Float[np.ndarray, "times_sensors times_others"]:
    """A covariance as a matrix, times before sensors."""
    a, steps, b, _ = blocks.shape
    return np.ascontiguousarray(blocks.transpose(1, 0, 3, 2)).reshape(steps * a, steps * b)
