"""The Gaussian of least Fisher divergence from a density, by points and its gradients there."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

SMALL = 1e-9
"""What is added to eigenvalues, relative to the mean one."""


def fisher_covariance(
    x: Float[np.ndarray, "rows n"],
    slopes: Float[np.ndarray, "rows n"],
    weights: Float[np.ndarray, " rows"] | None = None,
) -> Float[np.ndarray, "n n"]:
    """C of the Gaussian N(m, C) of least mean |grad ln p + C^-1 (x - m)|_C^2 at rows x, where ln p
    has the gradients `slopes`: the geometric mean of cov(x) and cov(slopes)^-1. Its mean m is
    mean(x) + C mean(slopes).

    It is exact for a Gaussian p, of whatever density the rows are samples (Seyboldt, Carlson and
    Carpenter 2026, arXiv 2603.18845).
    """
    squares, vectors = _eigen(x, weights)
    root = (vectors * np.sqrt(squares)) @ vectors.T
    inverse = (vectors / np.sqrt(squares)) @ vectors.T
    steep, along = _eigen(slopes, weights)
    middle = inverse @ ((along / steep) @ along.T) @ inverse
    squares, vectors = np.linalg.eigh(0.5 * (middle + middle.T))
    # Where rows span fewer dimensions rounding may leave negative ones.
    squares = np.maximum(squares, np.finfo(float).eps * squares[-1])
    covariance = root @ ((vectors * np.sqrt(squares)) @ vectors.T) @ root
    return 0.5 * (covariance + covariance.T)


def _eigen(
    rows: Float[np.ndarray, "rows n"], weights: Float[np.ndarray, " rows"] | None
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """Eigenvalues and eigenvectors of the covariance of rows."""
    n = rows.shape[1]
    covariance = np.cov(rows, rowvar=False, aweights=weights).reshape(n, n)
    squares, vectors = np.linalg.eigh(covariance)
    least = SMALL * np.mean(squares) + np.finfo(float).tiny
    return np.maximum(squares, 0.0) + least, vectors
