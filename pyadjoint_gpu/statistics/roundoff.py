"""Effect of round-off on a covariance with small noise, and the noise that is large enough.

A covariance K = Gamma + X, with Gamma that of the noise, is known in double precision to within
eps K_ii in row and column i, because X is computed. To first order logdet K is then off by
tr(K^-1 dK), and K^-1 d by as much relative to its size. If the errors dK have random signs, that is
about

    eps tr(D K^-1 D) / sqrt(N),    D^2 = diag K,

with N the size of K and the trace estimated from products with random vectors. In units of the
noise K >= I, so that this is at most eps sqrt(N) max K_ii, whatever X is, which gives the noise
that is certainly large enough.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ..core.errors import DataError
from .covariance import diagonal_blocks
from .noise import Noise

LIMIT = 1e-4
"""Largest error allowed: of information in nats, and of inferred values relative to their size."""

PROBES = 8
"""Random vectors, enough to estimate a trace within about a third."""

EPS = float(np.finfo(float).eps)


def refusal(
    name: str,
    noise: Noise,
    largest: float,
    size: int,
    otherwise: str = "it is not positive definite",
) -> DataError:
    """The error for a covariance with noise that cannot be factorised accurately.

    Parameters
    ----------
    name : str
        Name of the covariance.
    noise : Noise
    largest : float
        The largest variance, in units of the noise.
    size : int
        Number of rows of the covariance.
    otherwise : str
        The reason to state if the noise is large enough.
    """
    factor = float(np.sqrt(EPS * max(largest, 0.0) * np.sqrt(size) / LIMIT))
    if factor > 1.0:
        return noise.too_small(factor)
    return DataError(f"{name}: {otherwise}")


def cholesky(
    matrix: Float[np.ndarray, "n n"], name: str, noise: Noise, largest: float
) -> Float[np.ndarray, "n n"]:
    """The Cholesky factor L of K = L L^T, which overwrites K.

    Parameters
    ----------
    matrix : array, shape (N, N)
        K, of which the lower triangle is used.
    name, noise, largest
        As for `refusal`.

    Raises
    ------
    DataError
        If K is not positive definite: see `refusal`.
    """
    try:
        return scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise refusal(name, noise, largest, len(matrix)) from None


def check(
    factor: Float[np.ndarray, "n n"],
    spread: Float[np.ndarray, " n"],
    name: str,
    noise: Noise,
    largest: float,
) -> None:
    """Raise a `DataError` unless K = L L^T is accurate enough.

    Parameters
    ----------
    factor : array, shape (N, N)
        L.
    spread : array, shape (N,)
        Square roots of K_ii, or of the diagonal of the matrix that K was computed from.
    name, noise, largest
        As for `refusal`.
    """
    probes = scipy.linalg.solve_triangular(
        factor, spread[:, None] * signs(0, len(factor)), lower=True, check_finite=False
    )
    judge(error(probes), name, noise, largest, len(factor))


def factorised(
    blocks: Float[np.ndarray, "candidates times candidates times"],
    noise: Noise,
    *,
    times_first: bool,
) -> Float[np.ndarray, "n n"]:
    """The Cholesky factor L of Gamma + X, checked for accuracy.

    Parameters
    ----------
    blocks : array, shape (C, T, C, T)
        X.
    noise : Noise
        With covariance Gamma.
    times_first : bool
        Whether the rows of L run over times first, then sensors, or the other way round.

    Raises
    ------
    DataError
        If Gamma + X is not positive definite, or its factor not accurate: see `refusal`.
    """
    every = slice(None)
    white = noise.whiten_diagonal(diagonal_blocks(blocks), every)
    largest = 1.0 + float(np.diagonal(white, axis1=1, axis2=2).max())
    matrix = blocks + noise.matrix()
    if times_first:
        matrix = matrix.transpose(1, 0, 3, 2)
    size = noise.candidates * noise.steps
    matrix = matrix.reshape(size, size)
    spread, name = np.sqrt(matrix.diagonal()), "covariance with noise"
    factor = cholesky(matrix, name, noise, largest)
    check(factor, spread, name, noise, largest)
    return factor


def signs(first: int, count: int) -> Float[np.ndarray, "{count} probes"]:
    """Random signs for `PROBES` vectors of `count` entries from number `first` on, the same on all
    ranks."""
    return np.random.default_rng(first).choice([-1.0, 1.0], (count, PROBES))


def error(probes: Float[np.ndarray, "n probes"]) -> float:
    """Estimated error of logdet K, which is also the relative error of K^-1 d, from the products of
    L^-1 D with vectors of random signs."""
    return EPS * float(np.square(probes).sum()) / PROBES / np.sqrt(len(probes))


def judge(error: float, name: str, noise: Noise, largest: float, size: int) -> None:
    """Raise a `DataError` if the error of a factor is above `LIMIT`; arguments as for `refusal`."""
    if not error <= LIMIT:
        close = "it is too close to a singular one for double precision"
        raise refusal(name, noise, largest, size, close)
