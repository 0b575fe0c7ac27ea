"""Expected information gain of given networks of sensors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.linalg

from ..errors import ConfigError, DataError
from .blocks import Covariance
from .network import indices
from .noise import Whitened, objective
from .threads import workers


def information(
    covariance: Covariance,
    noise: Any,
    designs: Any,
    *,
    conditional: Covariance | None = None,
) -> np.ndarray:
    """EIG(S) = [logdet K_S - logdet B_S] / 2 of the first 1, 2, ..., k sensors of each design, as
    for `select`. One Cholesky factorisation a design gives all k.

    Parameters
    ----------
    covariance, noise, conditional
        As for `select`.
    designs : array of int, shape (R, k)
        Indices of sensors.

    Returns
    -------
    array, shape (R, k)
        In nats.

    Raises
    ------
    ConfigError, DataError
        If an index is out of range or named twice, or what is given does not fit together, is not
        finite or not positive definite.
    """
    given = np.asarray(designs)
    if given.ndim != 2 or not given.size:
        raise ConfigError(f"designs: found shape {given.shape}, expected (R, k)")
    checked = [indices(design, covariance.candidates, "designs") for design in given]
    matrices = objective(covariance, noise, conditional)
    with workers() as threads:
        total = [list(threads.map(partial(prefixes, matrix), checked)) for matrix in matrices]
    return 0.5 * (np.array(total[0]) - sum(map(np.array, total[1:])))


def prefixes(matrix: Whitened, design: tuple[int, ...]) -> np.ndarray:
    """logdet K_S of the first 1, 2, ... sensors."""
    steps = matrix.noise.steps
    factor = cholesky(dense(matrix, design), matrix.name)
    each = 2.0 * np.log(factor.diagonal()).reshape(-1, steps).sum(1)
    return np.cumsum(each)


def dense(matrix: Whitened, design: tuple[int, ...]) -> np.ndarray:
    """K_S; its lower triangle alone."""
    steps, count = matrix.noise.steps, len(design)
    out = np.zeros((count, steps, count, steps))
    for a, p in enumerate(design):
        for b, q in enumerate(design[: a + 1]):
            out[a, :, b] = matrix.row(p, slice(q, q + 1))[:, 0]
    return out.reshape(count * steps, -1)


def cholesky(matrix: np.ndarray, name: str) -> np.ndarray:
    """The lower factor, in place of the matrix."""
    try:
        return scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise DataError(f"{name}: it is not positive definite") from None
