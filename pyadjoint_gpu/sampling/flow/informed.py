"""Flows of many unknowns: of those directions that the data inform.

Of x with the prior N(0, I), the data inform few directions, the columns of V. There x is as a
mixture of flows has it; in all others as in the prior:

    q(x) = q_V(V^T x) N(x - V V^T x; 0, I),

so that proposals are as good however fine a grid is. V has the leading eigenvectors of
H = mean g g^T, g the gradients of ln L at samples of the posterior; by the logarithmic Sobolev
inequality half the sum of the eigenvalues left out bounds the Kullback-Leibler divergence that
leaving them out costs. (Zahm, Cui, Law, Spantini and Marzouk 2022, Math. Comput. 91, 1789.)
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from ...core.precision import double
from .architecture import MOST
from .mixture import Mixture, Rows, fit_mixture

FEW = 16
"""Unknowns up to which a flow has all directions: of so few it is trained quickly."""
LEFT = 0.1
"""Divergence that directions left out may cost."""

Directions = Float[np.ndarray, "n directions"]


def informed_directions(slopes: Float[np.ndarray, "samples n"]) -> Directions:
    """V, by the gradients of ln L at samples; of at most `MOST` directions, and all of `FEW`
    unknowns."""
    n = slopes.shape[1]
    if n <= FEW:
        return np.eye(n)
    _, singular, vectors = np.linalg.svd(slopes / np.sqrt(len(slopes)), full_matrices=False)
    # What is left out after each direction.
    costs = 0.5 * (np.sum(singular**2) - np.cumsum(singular**2))
    count = int(np.argmax(costs <= LEFT)) + 1
    return np.eye(n) if count == n <= MOST else vectors[: min(count, MOST)].T


@dataclass(frozen=True, eq=False)
class Informed:
    """q of a mixture of flows of V^T x."""

    mixture: Mixture
    directions: Directions

    def log_density(self, x: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
        """ln q of rows."""
        y = x @ self.directions
        n, own = self.directions.shape
        rest = np.sum(x**2, axis=1) - np.sum(y**2, axis=1) + (n - own) * np.log(2.0 * np.pi)
        return self.mixture.log_density(y) - 0.5 * rest

    @double
    def draw(
        self, key: Key[Array, ""], count: int
    ) -> tuple[Float[np.ndarray, "count n"], Float[np.ndarray, " count"]]:
        """Independent samples of q as rows, and ln q of each."""
        own, rest = jax.random.split(key)
        v = self.directions
        y, log_q = self.mixture.draw(own, count)
        z = np.asarray(jax.random.normal(rest, (count, len(v))))
        z = z - (z @ v) @ v.T
        more = np.sum(z**2, axis=1) + (v.shape[0] - v.shape[1]) * np.log(2.0 * np.pi)
        return y @ v.T + z, log_q - 0.5 * more

    def trained(self, rows: Rows, seed: int) -> Informed:
        """The same flows, trained further."""
        of = _along(rows, self.directions)
        return Informed(fit_mixture(of, seed=seed, start=self.mixture), self.directions)


def fit_informed(rows: Rows, directions: Directions, *, seed: int = 0) -> Informed:
    """The flows of rows of x along the directions."""
    return Informed(fit_mixture(_along(rows, directions), seed=seed), directions)


def _along(rows: Rows, directions: Directions) -> Rows:
    return Rows(rows.x @ directions, rows.slopes @ directions, rows.weights)
