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
from .sensor_noise import SensorNoise

LIMIT = 1e-4
"""Largest error allowed: of information in nats, and of inferred values relative to their size."""

PROBES = 8
"""Random vectors, enough to estimate a trace within about a third."""

EPS = float(np.finfo(float).eps)


def refusal(
    name: str,
    noise: SensorNoise,
    largest: float,
    size: int,
    otherwise: str = "it is not positive definite",
) -> DataError:
    """The error for a covariance of `size` rows, with noise, that cannot be factorised accurately.

    `largest` is the largest variance, in units of the noise, `otherwise` the reason to state if the
    noise is large enough.
    """
    factor = float(np.sqrt(EPS * max(largest, 0.0) * np.sqrt(size) / LIMIT))
    if not factor > 1.0:
        return DataError(f"{name}: {otherwise}")
    factor *= 1.05  # rounding to two digits must not make it smaller
    found, least = "", f"standard deviations {factor:.2g} times as large"
    if not noise.given.ndim:
        found, least = f"found {noise.given:g}, ", f"{factor * noise.given:.2g}"
    return DataError(
        f"noise: {found}too small beside what sensors see for double precision, expected"
        f" {least} or more"
    )


def cholesky(
    matrix: Float[np.ndarray, "n n"], name: str, noise: SensorNoise, largest: float
) -> Float[np.ndarray, "n n"]:
    """The Cholesky factor L of K = L L^T, which overwrites K, from its lower triangle; or the
    `refusal` of a K that is not positive definite."""
    try:
        return scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise refusal(name, noise, largest, len(matrix)) from None


def check(
    factor: Float[np.ndarray, "n n"],
    spread: Float[np.ndarray, " n"],
    name: str,
    noise: SensorNoise,
    largest: float,
) -> None:
    """Raise a `refusal` unless the factor L of K = L L^T is accurate enough.

    `spread` are the square roots of K_ii, or of the diagonal of the matrix that K was computed
    from.
    """
    probes = scipy.linalg.solve_triangular(
        factor, spread[:, None] * signs(0, len(factor)), lower=True, check_finite=False
    )
    judge(error(probes), name, noise, largest, len(factor))


def factorised(
    blocks: Float[np.ndarray, "candidates times candidates times"],
    noise: SensorNoise,
    *,
    times_first: bool,
) -> Float[np.ndarray, "n n"]:
    """The Cholesky factor L of Gamma + X, with X in `blocks` and Gamma the covariance of the noise,
    or a `refusal` if it is not positive definite, or L not accurate.

    The rows of L run over times first, then sensors, or the other way round.
    """
    white = noise.whiten_diagonal(diagonal_blocks(blocks), slice(None))
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


def judge(error: float, name: str, noise: SensorNoise, largest: float, size: int) -> None:
    """Raise a `DataError` if the error of a factor is above `LIMIT`; arguments as for `refusal`."""
    if not error <= LIMIT:
        close = "it is too close to a singular one for double precision"
        raise refusal(name, noise, largest, size, close)
