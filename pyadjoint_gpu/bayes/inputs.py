"""What a linear problem d = G s + e is given, checked and in the form that samplers use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from ..arrays import factor, finite
from ..errors import ConfigError, DataError
from .hmc import Box, Quadratic

STIFFEST = 1e12
"""Largest over smallest eigenvalue of a precision that is taken for proper."""


@dataclass(frozen=True)
class GaussianPrior:
    """N(mean, precision^-1) of n components.

    Attributes
    ----------
    precision : array, shape (n, n)
        Lambda, positive definite: that of pure Laplacian smoothing is not, that of
        `Fault.smooth_prior` is.
    mean : array, shape (n,), or float
    """

    precision: np.ndarray
    mean: np.ndarray | float = 0.0


class Fixed(NamedTuple):
    """What all inner samplers share.

    Attributes
    ----------
    data : array, shape (m,)
        L^-1 d, with Sigma = L L^T.
    noise : array, shape (m,) or (m, m)
        L, or its diagonal.
    constant : float
        -ln det(2 pi Sigma) / 2.
    prior : Quadratic
    box : Box or None
    """

    data: np.ndarray
    noise: np.ndarray
    constant: float
    prior: Quadratic
    box: Box | None

    def whiten(self, green: Any) -> np.ndarray:
        """L^-1 G of one G or a batch, (..., m, n)."""
        green = np.asarray(green, dtype=float)
        wanted = (len(self.data), len(self.prior.vector))
        if green.shape[-2:] != wanted:
            raise DataError(
                f"forward: found a matrix of shape {green.shape[-2:]}, expected {wanted},"
                " data by components of s"
            )
        if not np.all(np.isfinite(green)):
            raise DataError("forward: found values that are not finite")
        if self.noise.ndim == 1:
            return green / self.noise[:, None]
        return np.linalg.solve(self.noise, green)


def fixed(data: Any, noise: Any, prior: Any, bounds: Any) -> Fixed:
    """Of a problem's arrays.

    Raises
    ------
    ConfigError, DataError
        If one of them has a wrong shape or value, or the prior is improper.
    """
    d = finite("data", data)
    if d.ndim != 1 or d.size == 0:
        raise DataError(f"data: found an array of shape {d.shape}, expected one axis")
    gaussian = normal(prior)
    n = len(gaussian.vector)
    root = factor("noise", finite("noise", noise), len(d))
    diagonal = root if root.ndim == 1 else np.diag(root)
    white = d / root if root.ndim == 1 else scipy.linalg.solve_triangular(root, d, lower=True)
    constant = -float(np.sum(np.log(diagonal))) - 0.5 * len(d) * np.log(2 * np.pi)
    return Fixed(white, root, constant, gaussian, None if bounds is None else box(bounds, n))


def normal(prior: Any) -> Quadratic:
    """Of a `GaussianPrior`, or of standard deviations or a covariance around zero."""
    if isinstance(prior, GaussianPrior):
        precision = finite("slip_prior.precision", prior.precision)
        if precision.ndim != 2 or precision.shape[0] != precision.shape[1]:
            raise DataError(
                f"slip_prior.precision: found an array of shape {precision.shape},"
                " expected a square matrix"
            )
        if not np.allclose(precision, precision.T, rtol=1e-8, atol=1e-12 * np.abs(precision).max()):
            raise DataError("slip_prior.precision: found a matrix that is not symmetric")
        mean = np.broadcast_to(finite("slip_prior.mean", prior.mean), len(precision))
    else:
        given = finite("slip_prior", prior)
        if given.ndim == 0:
            raise ConfigError(
                "slip_prior: found one number, expected a standard deviation for each component"
            )
        root = factor("slip_prior", given, len(given))
        inverse = np.diag(1.0 / root) if root.ndim == 1 else np.linalg.inv(root)
        precision, mean = inverse.T @ inverse, np.zeros(len(given))
    lowest, highest = np.linalg.eigvalsh(precision)[[0, -1]]
    if not lowest * STIFFEST > highest:
        raise DataError(
            "slip_prior: it is improper: its precision has the eigenvalues"
            f" {lowest:.3g} to {highest:.3g}, expected all above zero; for Laplacian smoothing take"
            " Fault.smooth_prior, with a finite length"
        )
    return Quadratic(precision, precision @ mean)


def box(bounds: Any, n: int) -> Box:
    """Of a pair of numbers or arrays."""
    try:
        lower, upper = (np.broadcast_to(np.asarray(b, dtype=float), n).copy() for b in bounds)
    except (TypeError, ValueError):
        raise ConfigError(
            f"bounds: found {bounds!r}, expected two numbers, or two arrays of {n}"
        ) from None
    if not np.all(lower < upper):
        raise ConfigError("bounds: found a lower bound that is not below the upper one")
    return Box(lower, upper)
