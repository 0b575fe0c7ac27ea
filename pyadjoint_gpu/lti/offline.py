"""The part of a linear inversion that is computed before data arrive."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ..core.precision import double
from ..statistics.noise import Noise
from ..statistics.roundoff import factorised
from ..statistics.space_time import SpaceTimePrior
from .covariance import covariance
from .toeplitz import ToeplitzMap


@dataclass(frozen=True, eq=False)
class Offline:
    """Factors for C sensors, T times, n sites and Q quantities of interest. Times come before
    sensors in every matrix: its leading part belongs to the data of the first times, and the
    Cholesky factor of the whole contains those of all leading parts.

    Attributes
    ----------
    factor : array, shape (T C, T C)
        L of K = Gamma_n + F Gamma F^T = L L^T.
    integral_prior : array, shape (n,)
        Prior variance of the integral of m over all times.
    integral_reduction : array, shape (T, n)
        Reduction of that variance by the data until the end of each interval.
    forecast : array, shape (T C, T Q)
        L^-1 F Gamma F_q^T.
    forecast_prior : array, shape (T Q, T Q)
        F_q Gamma F_q^T.
    """

    factor: np.ndarray
    integral_prior: np.ndarray
    integral_reduction: np.ndarray
    forecast: np.ndarray
    forecast_prior: np.ndarray

    @classmethod
    def of(
        cls, of: ToeplitzMap, prior: SpaceTimePrior, noise: Noise, forecast: ToeplitzMap | None
    ) -> Offline:
        factor = factorised(covariance(of, prior), noise, times_first=True)
        factor = np.ascontiguousarray(factor)  # as it is read again: products round alike
        total = prior.times.sum(axis=1) * of.interval
        told = solved(factor, seen(of, prior, total))
        reduction = np.sum(np.square(told).reshape(of.steps, of.sensors, -1), axis=1)
        if forecast is None:
            cross, own = np.zeros((len(factor), 0)), np.zeros((0, 0))
        else:
            cross = times_first(covariance(of, prior, forecast))
            cross = np.ascontiguousarray(solved(factor, cross))
            own = times_first(covariance(forecast, prior))
        return cls(
            factor,
            prior.spatial.variance * (total.sum() * of.interval),
            np.cumsum(reduction, axis=0),
            cross,
            own,
        )


def variance(factor: np.ndarray, of: ToeplitzMap, prior: SpaceTimePrior) -> np.ndarray:
    """Variance of m given all data, diag(Gamma) - column sums of |L^-1 F Gamma|^2, shape (T, n)."""
    out = np.empty((of.steps, len(prior.spatial.variance)))
    for j, column in enumerate(prior.times):
        # A value that is independent of all earlier ones affects no earlier data.
        first = j * of.sensors if prior.independent else 0
        told = solved(factor[first:, first:], seen(of, prior, column)[first:])
        out[j] = prior.spatial.variance - np.sum(np.square(told), axis=0)
    return out


@double
def seen(of: ToeplitzMap, prior: SpaceTimePrior, times: np.ndarray) -> np.ndarray:
    """F (times (x) Gamma_s), of shape (T C, n): the covariance of data with a sum of m over times,
    `times` its correlations with m."""
    blocks = of.blocks
    shifts = scipy.linalg.toeplitz(times, np.zeros(of.steps))
    shifted = (shifts @ blocks.reshape(of.steps, -1)).reshape(-1, blocks.shape[2])
    return np.asarray(prior.spatial.covariance(jnp.asarray(shifted)))


def solved(factor: np.ndarray, right: np.ndarray, transposed: bool = False) -> np.ndarray:
    """L^-1 times a matrix, or L^-T times it."""
    return scipy.linalg.solve_triangular(
        factor, right, lower=True, trans=int(transposed), check_finite=False
    )


def times_first(blocks: np.ndarray) -> np.ndarray:
    """The matrix (T a, T b) of a covariance of shape (a, T, b, T)."""
    a, steps, b, _ = blocks.shape
    return np.ascontiguousarray(blocks.transpose(1, 0, 3, 2)).reshape(steps * a, steps * b)
