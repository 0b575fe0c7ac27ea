"""Expected information gain of given networks of sensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..core.errors import ConfigError, shown
from ..statistics.covariance import Covariance
from ..statistics.noise import Noise
from ..statistics.roundoff import check, cholesky
from ..statistics.sensor_noise import SensorNoise
from .candidates import combined
from .network import indices, integers
from .objective import Whitened, objective
from .threads import workers


def information(
    covariance: Covariance,
    noise: ArrayLike | Noise | SensorNoise,
    designs: ArrayLike,
    *,
    conditional: Covariance | None = None,
) -> Float[np.ndarray, "designs sensors"]:
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
    array
        EIG in nats, of each design and number of sensors.

    Raises
    ------
    ConfigError, DataError
        If an index is out of range or named twice, or the arguments do not fit together, are not
        finite or not positive definite, or the noise is too small, as for `select`.
    """
    matrices = objective(covariance, noise, conditional)
    given = integers(designs)
    if given is None:
        raise ConfigError(f"designs: found {shown(designs)}, expected indices of shape (R, k)")
    if given.ndim != 2 or not given.size:
        raise ConfigError(f"designs: found shape {given.shape}, expected (R, k)")
    checked = [indices(design, covariance.candidates, "designs") for design in given]
    with workers() as threads:
        return np.array(list(threads.map(partial(_prefixes, matrices), checked)))


def _prefixes(
    matrices: Sequence[Whitened], design: tuple[int, ...]
) -> Float[np.ndarray, " sensors"]:
    """EIG of the first 1, 2, ... sensors of a design."""
    noise, logdets, spread = matrices[0].noise, [], np.ones(())
    for k, matrix in enumerate(matrices):
        whole = dense(matrix, design)
        variances = whole.diagonal().copy()
        if k == 0 or matrix.covariance is None:
            # A conditional covariance is a difference from X, and inherits its errors.
            spread = np.sqrt(variances)
        largest = float(variances.max())
        factor = cholesky(whole, matrix.name, noise, largest)
        check(factor, spread, matrix.name, noise, largest)
        each = 2.0 * np.log(factor.diagonal()).reshape(-1, noise.steps).sum(1)
        logdets.append(np.cumsum(each))
    return combined(logdets)


def dense(matrix: Whitened, design: tuple[int, ...]) -> Float[np.ndarray, "rows rows"]:
    """K_S, its lower triangle only."""
    steps, count = matrix.noise.steps, len(design)
    out = np.zeros((count, steps, count, steps))
    for a, p in enumerate(design):
        for b, q in enumerate(design[: a + 1]):
            out[a, :, b] = matrix.row(p, slice(q, q + 1))[:, 0]
    return out.reshape(count * steps, -1)
