"""Mixtures of flows, one for each separate mode.

A flow maps a single Gaussian, and has threads of density between modes that it must tear apart; the
more, the more dimensions there are. Where samples fall into clusters that hardly overlap, each has
a flow of its own, whitened by its own covariance,

    q(x) = sum_k w_k q_k(x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key
from scipy.cluster.vq import kmeans2
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from ...core.precision import double
from .model import Flow
from .training import fit

Shares = Float[np.ndarray, "rows clusters"]
"""Probabilities of the clusters, by row."""

LARGEST = 8
"""Most clusters."""
HARD = 0.99
"""Mean probability of the likeliest cluster of a sample above which clusters are apart."""
STEPS = 30
"""Steps of expectation-maximisation."""
TRIES = 3
"""Starts of 2-means for each cluster."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k w_k q_k."""

    flows: tuple[Flow, ...]
    log_weights: Float[np.ndarray, " clusters"]

    def _logs(self, x: Float[np.ndarray, "rows n"]) -> Shares:
        each = [np.asarray(flow.log_density(x)) for flow in self.flows]
        return np.stack(each, axis=1) + self.log_weights

    def log_density(self, x: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
        """ln q of rows."""
        return logsumexp(self._logs(x), axis=1)

    def shares(self, x: Float[np.ndarray, "rows n"]) -> Shares:
        """Probabilities that rows were drawn from each flow."""
        logs = self._logs(x)
        return np.exp(logs - logsumexp(logs, axis=1, keepdims=True))

    @double
    def draw(
        self, key: Key[Array, ""], count: int
    ) -> tuple[Float[np.ndarray, "count n"], Float[np.ndarray, " count"]]:
        """Independent samples of q as rows, and ln q of each."""
        choice, key = jax.random.split(key)
        which = jax.random.categorical(choice, jnp.asarray(self.log_weights), shape=(count,))
        each = [
            np.asarray(flow.draw(jax.random.fold_in(key, k), count)[0])
            for k, flow in enumerate(self.flows)
        ]
        x = np.stack(each)[np.asarray(which), np.arange(count)]
        return x, self.log_density(x)

    def arrays(self) -> dict[str, Any]:
        """The mixture as plain arrays, for files."""
        flows = {str(k): flow.arrays() for k, flow in enumerate(self.flows)}
        return {"flows": flows, "log_weights": self.log_weights}

    @staticmethod
    def of_arrays(arrays: Mapping[str, Any]) -> Mixture:
        """The mixture of which these are the `arrays`, bit for bit."""
        flows = arrays["flows"]
        each = tuple(Flow.of_arrays(flows[str(k)]) for k in range(len(flows)))
        return Mixture(each, np.asarray(arrays["log_weights"], float))


def fit_mixture(
    x: Float[np.ndarray, "rows n"], *, seed: int = 0, start: Mixture | None = None
) -> Mixture:
    """The mixture of samples x: of as many flows as there are `clusters`, or, with a `start`, its
    own, trained further on the samples by their shares in them."""
    shares = clusters(x, seed) if start is None else start.shares(x)
    flows = tuple(
        fit(x, weights=column, seed=seed + k, start=None if start is None else start.flows[k])
        for k, column in enumerate(shares.T)
    )
    return Mixture(flows, np.log(np.mean(shares, axis=0)))


def clusters(x: Float[np.ndarray, "rows n"], seed: int = 0) -> Shares:
    """Shares of samples in clusters that hardly overlap; one cluster where there are no such.

    Beginning with one, a cluster is halved where the mixture of Gaussians that
    expectation-maximisation makes of that is apart, and has a better Akaike information
    criterion.
    """
    rows, n = x.shape
    white = (x - np.mean(x, axis=0)) / np.std(x, axis=0)
    best, least = _gaussians(white, np.ones((rows, 1)))
    improved = True
    while improved and best.shape[1] < LARGEST:
        improved, labels = False, np.argmax(best, axis=1)
        for k in range(best.shape[1]):
            # Copies of a few particles, as after refused moves, are no cluster.
            if _distinct(white, labels == k) <= 4 * n:
                continue
            for attempt in range(TRIES):
                halved = _halved(white, labels, k, seed + attempt)
                if min(_distinct(white, halved == j) for j in range(np.max(halved) + 1)) <= 2 * n:
                    continue
                found, criterion = _gaussians(white, np.eye(np.max(halved) + 1)[halved])
                if np.mean(np.max(found, axis=1)) >= HARD and criterion < least:
                    best, least, improved = found, criterion, True
    return best


def _distinct(x: np.ndarray, which: Bool[np.ndarray, " rows"]) -> int:
    """The number of distinct samples among some."""
    return len(np.unique(x[which], axis=0))


def _halved(x: np.ndarray, labels: np.ndarray, which: int, seed: int) -> np.ndarray:
    """Labels with a part of one cluster, by 2-means, as a new one."""
    own = labels == which
    rows = x[own] / np.std(x[own], axis=0)
    _, halves = kmeans2(rows, 2, minit="++", rng=np.random.default_rng(seed), missing="warn")
    out = labels.copy()
    out[own] = np.where(halves == 1, np.max(labels) + 1, which)
    return out


def _gaussians(x: np.ndarray, shares: Shares) -> tuple[Shares, float]:
    """Shares of samples in Gaussians by expectation-maximisation, and -2 ln L + 2 p of p
    parameters. Covariances of small clusters are drawn to the mean one."""
    rows, n = x.shape
    count = shares.shape[1]
    log = np.zeros((rows, 1))
    for _ in range(STEPS if count > 1 else 1):
        sizes = np.maximum(np.sum(shares, axis=0), 1e-12)
        means = shares.T @ x / sizes[:, None]
        own = np.stack([(shares[:, k, None] * (x - m)).T @ (x - m) for k, m in enumerate(means)])
        common = np.sum(own, axis=0) / rows + 1e-9 * np.eye(n)
        covariances = (own + n * common) / (sizes + n)[:, None, None]
        log = np.stack(
            [_log_normal(x, m, c) for m, c in zip(means, covariances, strict=True)], axis=1
        ) + np.log(sizes / rows)
        shares = np.exp(log - logsumexp(log, axis=1, keepdims=True))
    parameters = count * (1 + n + n * (n + 1) / 2) - 1
    return shares, -2.0 * float(np.sum(logsumexp(log, axis=1))) + 2.0 * parameters


def _log_normal(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    factor = np.linalg.cholesky(covariance)
    white = solve_triangular(factor, (x - mean).T, lower=True)
    log_det = np.sum(np.log(np.diag(factor)))
    return -0.5 * np.sum(white**2, axis=0) - log_det - 0.5 * len(mean) * np.log(2.0 * np.pi)
