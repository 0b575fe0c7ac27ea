"""Checked inputs of a linear problem d = G s + e, in the form that samplers use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ..core.checks import finite_array, real_array
from ..core.errors import ConfigError, DataError
from ..core.quantities import converter, power, spelling, stated
from ..results.dataset import used_and_missing
from ..statistics.observed import check_units, factor, observed
from .hmc import Box, Quadratic

STIFFEST = 1e12
"""Largest over smallest eigenvalue of a precision that is taken for proper."""
FARTHEST = 6.0
"""Largest distance of bounds from the prior's mean, in standard deviations: beyond it the normal
distribution function has lost most of its digits."""


@dataclass(frozen=True)
class GaussianPrior:
    """N(mean, precision^-1) of n components.

    Attributes
    ----------
    precision : array
        Lambda, positive definite: that of pure Laplacian smoothing is not, that of
        `Fault.smooth_prior` is.
    mean : array or float
    """

    precision: Float[np.ndarray, "components components"]
    mean: Float[np.ndarray, " components"] | float = 0.0


class Fixed(NamedTuple):
    """Inputs that all inner samplers share, with Sigma = L L^T the covariance of e."""

    data: Float[np.ndarray, " data"]
    """L^-1 d of the observed data."""
    noise: Float[np.ndarray, " data"] | Float[np.ndarray, "data data"]
    """L, or its diagonal."""
    constant: float
    """-ln det(2 pi Sigma) / 2."""
    prior: Quadratic
    box: Box | None
    used: Bool[np.ndarray, " all_data"]
    """Mask of the observed ones among all data."""

    @property
    def shared(self) -> tuple[Any, ...]:
        """Arguments of `linear.posterior` after G."""
        return self.data, self.constant, self.prior, self.box

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of data observed and missing, as attributes."""
        return used_and_missing(len(self.data), int(np.count_nonzero(~self.used)))

    def whiten(
        self, design_matrix: ArrayLike, name: str = "forward"
    ) -> Float[np.ndarray, "*batch data components"]:
        """L^-1 G of one G or a batch, with the rows of observed data only."""
        if np.iscomplexobj(design_matrix):
            raise DataError(f"{name}: found complex numbers, expected real ones")
        design_matrix = np.asarray(design_matrix, dtype=float)
        wanted = (len(self.used), len(self.prior.vector))
        if design_matrix.shape[-2:] != wanted:
            raise DataError(
                f"{name}: found a matrix of shape {design_matrix.shape[-2:]}, expected {wanted},"
                " data by components of s"
            )
        design_matrix = design_matrix[..., self.used, :]
        if self.noise.ndim == 1:
            return design_matrix / self.noise[:, None]
        return np.linalg.solve(self.noise, design_matrix)


def fixed(
    data: ArrayLike,
    noise: ArrayLike,
    prior: ArrayLike | GaussianPrior,
    bounds: tuple[ArrayLike, ArrayLike] | None,
) -> Fixed:
    """`Fixed` from the arrays of a problem, checked."""
    d = real_array("data", data)
    if d.ndim != 1 or d.size == 0:
        raise DataError(f"data: found an array of shape {d.shape}, expected one axis of data")
    gaussian = normal(prior)
    n = len(gaussian.vector)
    check_units("noise", noise)
    own, values = spelling(stated(data)), real_array("noise", noise)
    if own != "1":
        wanted = own if values.ndim < 2 else power((own, 2))
        values = converter("noise", stated(noise), wanted).difference(values)
    used, d, values = observed("data", d, "noise", values)
    root = factor("noise", values, len(d))
    diagonal = root if root.ndim == 1 else np.diag(root)
    white = d / root if root.ndim == 1 else scipy.linalg.solve_triangular(root, d, lower=True)
    constant = -float(np.sum(np.log(diagonal))) - 0.5 * len(d) * np.log(2 * np.pi)
    sides = None if bounds is None else box(bounds, n)
    if sides is not None:
        _check_within(gaussian, sides)
    return Fixed(white, root, constant, gaussian, sides, used)


def normal(prior: ArrayLike | GaussianPrior) -> Quadratic:
    """Density of a `GaussianPrior`, or of standard deviations or a covariance around zero."""
    if isinstance(prior, GaussianPrior):
        precision = finite_array("slip_prior.precision", prior.precision)
        if precision.ndim != 2 or precision.shape[0] != precision.shape[1]:
            raise DataError(
                f"slip_prior.precision: found an array of shape {precision.shape},"
                " expected a square matrix"
            )
        largest = np.max(np.abs(precision), initial=0.0)
        if not np.allclose(precision, precision.T, rtol=1e-8, atol=1e-12 * largest):
            raise DataError(
                "slip_prior.precision: it is not symmetric, expected a symmetric matrix"
            )
        mean = finite_array("slip_prior.mean", prior.mean)
        if mean.shape not in ((), precision.shape[:1]):
            raise DataError(
                f"slip_prior.mean: found an array of shape {mean.shape}, expected one number or"
                f" {len(precision)} of them"
            )
        mean = np.broadcast_to(mean, len(precision))
    else:
        check_units("slip_prior", prior)
        given = finite_array("slip_prior", prior)
        if given.ndim == 0:
            raise ConfigError(
                "slip_prior: found one number, expected a standard deviation for each component"
            )
        root = factor("slip_prior", given, len(given))
        inverse = np.diag(1.0 / root) if root.ndim == 1 else np.linalg.inv(root)
        precision, mean = inverse.T @ inverse, np.zeros(len(given))
    if not precision.size:
        raise DataError("slip_prior: it is empty, expected one or more components of s")
    lowest, highest = np.linalg.eigvalsh(precision)[[0, -1]]
    if not lowest * STIFFEST > highest:
        raise DataError(
            "slip_prior: it is improper: its precision has the eigenvalues"
            f" {lowest:.3g} to {highest:.3g}, expected all above zero; for Laplacian smoothing take"
            " Fault.smooth_prior, with a finite length"
        )
    return Quadratic(precision, precision @ mean)


def box(bounds: tuple[ArrayLike, ArrayLike], n: int) -> Box:
    """`Box` from a pair of numbers or arrays."""
    try:
        lower, upper = (np.broadcast_to(np.asarray(b, dtype=float), n).copy() for b in bounds)
    except (TypeError, ValueError):
        raise ConfigError(
            f"bounds: found {bounds!r}, expected two numbers, or two arrays of {n}"
        ) from None
    if not np.all(lower < upper):
        raise ConfigError("bounds: found a lower bound that is not below the upper one")
    return Box(lower, upper)


def _check_within(prior: Quadratic, box: Box) -> None:
    """Raise a `ConfigError` where a bound leaves less of a component's prior than round-off: no
    sample can be drawn there."""
    covariance = np.linalg.inv(prior.matrix)
    mean, sd = covariance @ prior.vector, np.sqrt(np.diag(covariance))
    off = np.maximum(box.lower - mean, mean - box.upper) / sd
    worst = int(np.argmax(off))
    if off[worst] > FARTHEST:
        low, high = (float(side[worst]) for side in box)
        raise ConfigError(
            f"bounds: {low:g} to {high:g} of component {worst} is {off[worst]:.3g} standard"
            f" deviations from its prior's mean, {mean[worst]:.3g}, expected {FARTHEST:g} or less:"
            " move the prior or the bounds"
        )
