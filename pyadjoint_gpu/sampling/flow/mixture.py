"""Mixtures of flows, one for each separate mode.

A flow maps a single Gaussian, and has threads of density between modes that it must tear apart; the
more, the more dimensions there are. Where samples fall into clusters that hardly overlap, each has
a flow of its own, whitened by its own covariance,

    q(x) = sum_k w_k q_k(x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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
BATCH = 32
"""Samples of a training step."""
FIRST, FURTHER = (1500, 5e-3), (500, 3e-3)
"""Training steps, about, and their first rate: of a new flow, and of one trained before. Of K
flows, which have simpler densities, each has them by sqrt(K)."""
SHARE = 1e-3
"""Share in a flow of rows that train it."""
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


class Rows(NamedTuple):
    """What trains a mixture: points x, the gradients of ln p there, and the weights with which they
    are samples of p."""

    x: Float[np.ndarray, "rows n"]
    slopes: Float[np.ndarray, "rows n"]
    weights: Float[np.ndarray, " rows"]


def fit_mixture(rows: Rows, *, seed: int = 0, start: Mixture | None = None) -> Mixture:
    """The mixture of as many flows as there are `clusters` of the rows of weight 1; or, with a
    `start`, its own, trained further. Each is trained on the rows with most of a share in it, by
    their shares."""
    if start is None:
        shares = shared(rows.x, rows.x[rows.weights == 1.0], seed)
    else:
        shares = start.shares(rows.x)
    steps, rate = FIRST if start is None else FURTHER
    # As many for each, of few numbers: other shapes of arrays are compiled anew.
    eighths = np.ceil(8.0 * np.max(np.mean(shares > SHARE, axis=0)))
    count = int(np.ceil(eighths / 8.0 * len(rows.x)))
    epochs = int(np.ceil(steps * BATCH / (count * np.sqrt(shares.shape[1]))))

    def one(k: int, share: Float[np.ndarray, " rows"]) -> Flow:
        own = np.argsort(-share, kind="stable")[:count]
        return fit(
            rows.x[own],
            weights=share[own] * rows.weights[own],
            slopes=rows.slopes[own],
            slope_weights=share[own],
            seed=seed + k,
            start=None if start is None else start.flows[k],
            epochs=epochs,
            batch=BATCH,
            rate=rate,
            patience=epochs,
        )

    flows = tuple(one(k, share) for k, share in enumerate(shares.T))
    return Mixture(flows, np.log(rows.weights @ shares / np.sum(rows.weights)))


def shared(
    rows: Float[np.ndarray, "rows n"], x: Float[np.ndarray, "samples n"], seed: int = 0
) -> Shares:
    """Shares of rows in the Gaussians of the `clusters` of samples x."""
    white, whole = ((a - np.mean(x, axis=0)) / np.std(x, axis=0) for a in (x, rows))
    logs = _logs(whole, *_moments(white, clusters(x, seed)))
    return np.exp(logs - logsumexp(logs, axis=1, keepdims=True))


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
                if min(_distinct(white, halved == j) for j in range(np.max(halved) + 1)) <= n:
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
    logs = np.zeros((rows, 1))
    for _ in range(STEPS if count > 1 else 1):
        logs = _logs(x, *_moments(x, shares))
        shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    parameters = count * (1 + n + n * (n + 1) / 2) - 1
    return shares, -2.0 * float(np.sum(logsumexp(logs, axis=1))) + 2.0 * parameters


def _moments(x: np.ndarray, shares: Shares) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parts, means and covariances of clusters."""
    rows, n = x.shape
    sizes = np.maximum(np.sum(shares, axis=0), 1e-12)
    means = shares.T @ x / sizes[:, None]
    own = np.stack([(shares[:, k, None] * (x - m)).T @ (x - m) for k, m in enumerate(means)])
    common = np.sum(own, axis=0) / rows + 1e-9 * np.eye(n)
    return sizes / rows, means, (own + n * common) / (sizes + n)[:, None, None]


def _logs(
    x: np.ndarray, parts: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> np.ndarray:
    """ln of each Gaussian's density times its part, by row."""
    each = [_log_normal(x, m, c) for m, c in zip(means, covariances, strict=True)]
    return np.stack(each, axis=1) + np.log(parts)


def _log_normal(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    factor = np.linalg.cholesky(covariance)
    white = solve_triangular(factor, (x - mean).T, lower=True)
    log_det = np.sum(np.log(np.diag(factor)))
    return -0.5 * np.sum(white**2, axis=0) - log_det - 0.5 * len(mean) * np.log(2.0 * np.pi)
