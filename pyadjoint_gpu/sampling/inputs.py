"""Checked inputs of a linear problem d = G s + e, in the form that samplers use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ..core.checks import finite_array, real_array
from ..core.errors import ConfigError, DataError, shown
from ..core.precision import double
from ..core.quantities import spelling, stated
from ..core.spaces import Space
from ..results.dataset import used_and_missing
from ..statistics.bound_noise import BoundNoise, bound, observed
from ..statistics.densities import LN_2PI, BoundPrior
from ..statistics.noise import Layout, Noise
from ..statistics.observed import check_units
from ..statistics.priors import Dense, Independent, Prior
from .hmc import Box, Quadratic

STIFFEST = 1e12
"""Largest over smallest eigenvalue of a precision that is taken for proper."""
FARTHEST = 6.0
"""Largest distance of bounds from the prior's mean, in standard deviations: beyond it the normal
distribution function has lost most of its digits."""


class Fixed(NamedTuple):
    """Inputs that all inner samplers share, with Sigma = L L^T the covariance of the noise."""

    data: Float[np.ndarray, " data"]
    """L^-1 d of the observed data."""
    noise: BoundNoise
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

    @double
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
        rows = np.moveaxis(design_matrix[..., self.used, :], -2, 0)
        return np.moveaxis(np.asarray(self.noise.whiten(rows)), 0, -2)

    def log_density(
        self,
        white: Float[np.ndarray, "data components"],
        s: Float[np.ndarray, "*batch components"],
    ) -> Float[np.ndarray, "*batch"]:
        """ln N(d; G s, Sigma) + ln p(s) without bounds, for the whitened G."""
        root = np.linalg.cholesky(self.prior.matrix)
        mean = np.linalg.solve(self.prior.matrix, self.prior.vector)
        off = np.sum((self.data - s @ white.T) ** 2, axis=-1)
        off = off + np.sum(((s - mean) @ root) ** 2, axis=-1)
        normaliser = np.sum(np.log(np.diag(root))) - 0.5 * len(mean) * LN_2PI
        return self.constant + normaliser - 0.5 * off


@double
def fixed(
    data: ArrayLike,
    noise: ArrayLike | Noise,
    prior: BoundPrior,
    bounds: tuple[ArrayLike, ArrayLike] | None,
) -> Fixed:
    """`Fixed` from the arrays of a problem, checked."""
    d = real_array("data", data)
    if d.ndim != 1 or d.size == 0:
        raise DataError(f"data: found an array of shape {d.shape}, expected one axis of data")
    gaussian = normal(prior)
    n = len(gaussian.vector)
    errors = Noise.of(noise).errors(Layout(len(d), spelling(stated(data))))
    used, d, errors = observed("data", d, "noise", errors)
    e = bound(errors)
    sides = None if bounds is None else box(bounds, n)
    if sides is not None:
        _check_within(gaussian, sides)
    return Fixed(np.asarray(e.whiten(d)), e, float(e.constant), gaussian, sides, used)


def on_components(
    prior: ArrayLike | Prior | BoundPrior, place: Callable[[], Space | int]
) -> BoundPrior:
    """The prior of s on its `place`, a space or the number of components; an array is short for the
    standard deviations of `Independent`, or the covariance of `Dense`.

    Raises
    ------
    ConfigError, DataError
        If it is none, or is not Gaussian.
    """
    if not isinstance(prior, Prior | BoundPrior):
        check_units("prior", prior)
        given = finite_array("prior", prior)
        if given.ndim == 0:
            raise ConfigError(
                "prior: found one number, expected a standard deviation for each component, or a"
                " prior such as Independent(sd=1.0)"
            )
        if not given.size:
            raise DataError("prior: it is empty, expected one or more components of s")
        spec = Independent(given) if given.ndim == 1 else Dense(given)
        return spec.on(len(given))
    bound = prior if isinstance(prior, BoundPrior) else prior.on(place())
    if not bound.gaussian:
        raise ConfigError(f"prior: found {shown(prior)}, expected a Gaussian prior")
    return bound


@double
def normal(prior: BoundPrior) -> Quadratic:
    """The density of a prior of s.

    Raises
    ------
    DataError
        If it is so near to an improper one that no sample could be told from another.
    """
    n = math.prod(prior.shape)
    unit = np.eye(n).reshape(n, *prior.shape)
    precision = np.asarray(prior.precision(unit)).reshape(n, n)
    precision = 0.5 * (precision + precision.T)
    lowest, highest = np.linalg.eigvalsh(precision)[[0, -1]]
    if not lowest * STIFFEST > highest:
        raise DataError(
            "prior: it is improper: its precision has the eigenvalues"
            f" {lowest:.3g} to {highest:.3g}, expected all above zero; of a Matern prior, take a"
            " shorter length"
        )
    return Quadratic(precision, precision @ np.ravel(prior.mean))


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
