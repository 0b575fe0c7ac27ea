"""Prior covariances F Gamma G^T of the outputs of two maps, by one matrix product and sums down its
diagonals.

With F_i the blocks of a map and t the first column of T, the correlation of times, H = F * t the
convolution in time. The shift Z by one step commutes with every map, and T - Z T Z^T has only its
first row and column; the covariance X of d = F m with e = G m, m ~ N(0, T (x) Gamma_s), obeys

    X_ij = X_(i-1)(j-1) + H_i Gamma_s G_j^T + F_i Gamma_s H'_j^T - F_i Gamma_s G_j^T,

H' of G, and X_ij = 0 where i or j is negative. Where times are independent H = F, and the added
term is F_i Gamma_s G_j^T alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.signal
from jaxtyping import Array, Float

from ..core.precision import compiled, double
from ..statistics.densities import BoundPrior
from ..statistics.priors import Prior
from ..statistics.separable import Separable
from .priors import fitting
from .toeplitz import ToeplitzMap


class Factors:
    """Factors of one map for `slab`: rows of the left factor of the product and of the right one.

    With H' = H - F / 2, the added term is H' Gamma_s G^T + F Gamma_s (G's H')^T: one product of
    twice the inner length; of once where times are independent.
    """

    left: Float[np.ndarray, "sensors times inner"]
    right: Float[np.ndarray, "sensors times inner"]

    def __init__(self, of: ToeplitzMap, given: Prior | BoundPrior):
        prior = fitting(of, given)
        blocks = np.ascontiguousarray(np.swapaxes(of.blocks, 0, 1))  # sensor, lag, site
        spread = in_space(prior, blocks)
        if prior.correlation is None:
            self.left, self.right = spread, blocks
            return
        column = np.asarray(prior.correlation)[:, None]
        half = scipy.signal.fftconvolve(blocks, column[None], axes=1)[:, : of.steps] - 0.5 * blocks
        self.left = np.concatenate([in_space(prior, half), spread], axis=2)
        self.right = np.concatenate([blocks, half], axis=2)


def slab(
    left: Float[np.ndarray, "sensors times inner"], right: Float[np.ndarray, "others times inner"]
) -> Float[np.ndarray, "sensors times others times"]:
    """The covariance of some sensors of one map with some of another, from parts of `Factors.left`
    of the one and of `Factors.right` of the other."""
    a, steps, inner = left.shape
    out = (left.reshape(-1, inner) @ right.reshape(-1, inner).T).reshape(a, steps, -1, steps)
    for i in range(1, steps):
        out[:, i, :, 1:] += out[:, i - 1, :, :-1]
    return out


class RowCovariance(ABC):
    """X = F Gamma F^T of candidates, row by row."""

    candidates: int
    steps: int
    made_with: Any
    """Inputs for a journal's fingerprint."""

    def diagonal(self, which: slice) -> Float[np.ndarray, "some times times"]:
        """The blocks X[j, :, j, :] of some candidates."""
        each = range(*which.indices(self.candidates))
        return np.stack([self.row(j, slice(j, j + 1))[:, 0] for j in each])

    @abstractmethod
    def row(self, p: int, which: slice) -> Float[np.ndarray, "times some times"]:
        """The blocks X[p, :, which, :]."""


class FormedCovariance(RowCovariance):
    """Blocks formed on request: F, of C T n numbers, is in memory, not X, of (C T)^2."""

    def __init__(self, of: ToeplitzMap, prior: Prior | BoundPrior):
        self._factors = Factors(of, prior)
        self.candidates, self.steps = of.sensors, of.steps
        self.made_with = of.blocks, prior

    def row(self, p: int, which: slice) -> Float[np.ndarray, "times some times"]:
        return slab(self._factors.left[p : p + 1], self._factors.right[which])[0]


def covariance(
    of: ToeplitzMap, prior: Prior | BoundPrior, other: ToeplitzMap | None = None
) -> Float[np.ndarray, "sensors times others times"]:
    """Prior cross-covariance F Gamma G^T of the outputs of two maps, G = F unless given."""
    first = Factors(of, prior)
    return slab(first.left, (first if other is None else Factors(other, prior)).right)


@double
def in_space(
    prior: Separable, rows: Float[np.ndarray, "*batch sites"]
) -> Float[np.ndarray, "*batch sites"]:
    """Gamma_s times each row, with all sites along one axis."""
    fields = rows.reshape(*rows.shape[:-1], *prior.sites)
    return np.asarray(_covariance(prior.spatial, jnp.asarray(fields))).reshape(rows.shape)


@compiled
def _covariance(
    prior: BoundPrior, fields: Float[Array, "*batch_and_sites"]
) -> Float[Array, "*batch_and_sites"]:
    return prior.covariance(fields)
