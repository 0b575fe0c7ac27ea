"""Hamiltonian Monte Carlo relative to a Gaussian, whose motion is integrated exactly.

A density exp(-U), U = Psi(x) + gamma Phi(x), where exp(-Psi) has the covariance I (Psi = |x|^2/2 of
a Gaussian prior), is approximated by N(mean, C), whose motion is a rotation of
z = C^(-1/2) (x - mean) and its momentum p. Steps of an angle are

    p <- p - angle/2 grad W(z),    (z, p) turned by the angle,    p <- p - angle/2 grad W(z)

with W = U - |z|^2/2 the remainder. Where the approximation is good, acceptance is high however fine
the grid of x, and a quarter of a turn gives independent samples. One step a trajectory is the
Langevin algorithm (MALA) of the same kind. (Beskos, Pinski, Sanz-Serna and Stuart 2011, Stoch.
Proc. Appl. 121, 2201; Shahbaba, Lan, Johnson and Neal 2014, Stat. Comput. 24, 339.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ..core.precision import AnyArray
from .runs import accepted
from .target import Particles, Points

INFORMED = 0.1
"""Variance of gamma grad Phi along a direction in which data count."""


class Reference(NamedTuple):
    """N(mean, C); C is the identity but along orthonormal directions, the columns of `vectors`,
    where it has the standard deviations `scale`."""

    mean: Float[AnyArray, " unknowns"]
    vectors: Float[AnyArray, "unknowns directions"]
    scale: Float[AnyArray, " directions"]

    def root(self, z: Any) -> Any:
        """C^(1/2) of each row."""
        return z + ((z @ self.vectors) * (self.scale - 1.0)) @ self.vectors.T

    def whiten(self, x: Any) -> Any:
        """C^(-1/2) (x - mean) of each row."""
        return self.inverse_root(x - self.mean)

    def inverse_root(self, z: Any) -> Any:
        """C^(-1/2) of each row."""
        return z + ((z @ self.vectors) * (1.0 / self.scale - 1.0)) @ self.vectors.T


def reference(points: Points, weights: Float[np.ndarray, " particles"], gamma: float) -> Reference:
    """Gaussian approximation from weighted particles.

    Where U is quadratic with precision P = I + gamma H, the covariance of gamma grad Phi is
    (P - I) P^-1 (P - I), which vanishes along directions not informed by data: few particles
    determine the others (as in Zahm, Cui, Law, Spantini and Marzouk 2022, Math. Comput. 91, 1789).
    An eigenvalue e of it gives p + 1/p = e + 2.
    """
    slope = gamma * points.slope
    rows = np.sqrt(weights)[:, None] * (slope - weights @ slope)
    _, singular, vectors = np.linalg.svd(rows, full_matrices=False)
    e = singular**2
    informed = e > INFORMED
    e, v = e[informed], vectors[informed].T
    precision = 1.0 + 0.5 * e + np.sqrt(e + 0.25 * e**2)
    return Reference(v @ (v.T @ (weights @ points.x)), v, precision**-0.5)


def trajectory(
    generator: np.random.Generator,
    points: Points,
    gamma: float,
    about: Reference,
    angle: float,
    leapfrogs: int,
    evaluate: Callable[[Particles], Points],
) -> tuple[Points, Float[np.ndarray, " particles"], int]:
    """One trajectory of every particle, accepted or refused, the acceptance probabilities, and the
    number of those that ended where there is no density."""

    def kick(at: Points, z: np.ndarray) -> np.ndarray:
        return about.root(at.prior_slope + gamma * at.slope) - z

    def energy(at: Points, p: np.ndarray) -> np.ndarray:
        return at.prior + gamma * at.value + 0.5 * np.sum(p**2, axis=1)

    cos, sin = np.cos(angle), np.sin(angle)
    p = generator.standard_normal(points.x.shape)
    chance = generator.random(len(p))
    now, z = points, about.whiten(points.x)
    before = energy(now, p)
    p = p - 0.5 * angle * kick(now, z)
    for k in range(leapfrogs):
        z, p = cos * z + sin * p, cos * p - sin * z
        now = evaluate(about.mean + about.root(z))
        p = p - (1.0 if k + 1 < leapfrogs else 0.5) * angle * kick(now, z)
    probability = np.exp(np.minimum(before - energy(now, p), 0.0))
    failed = int(np.sum(~np.isfinite(now.value)))
    return accepted(chance < probability, now, points), probability, failed
