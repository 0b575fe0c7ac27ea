"""The objective of a choice of sensors: covariances in units of the noise, and their round-off."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np
import scipy.linalg
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..core.errors import ConfigError, DataError, shown
from ..statistics.covariance import Covariance, diagonal_blocks
from ..statistics.noise import Noise
from ..statistics.roundoff import PROBES, error, judge, refusal, signs
from ..statistics.sensor_noise import SensorNoise
from .panel import Blocks, Coefficients, Row


class Whitened:
    """A whitened covariance, L_p^-1 (X + Gamma)_pj L_j^-T, with L_j L_j^T the noise of sensor j.

    Without correlations between sensors it is the identity plus a positive semi-definite matrix,
    and log-determinants are those of X + Gamma less those of Gamma. X is zero if None. `read` are
    its blocks, T x T, read so far, `largest` the largest of the variances seen by `diagonal`.
    """

    def __init__(self, covariance: Covariance | None, noise: SensorNoise, name: str):
        self.covariance, self.noise, self.name, self.read = covariance, noise, name, 0
        self.largest = 0.0
        self._counting = Lock()

    def diagonal(self, which: slice) -> Blocks:
        """Whitened blocks (j, j)."""
        noise, blocks = self.noise.correlated, np.zeros(())
        if self.covariance is not None:
            blocks = self._checked(self.covariance.diagonal(which))
        if noise is not None:
            blocks = blocks + diagonal_blocks(noise, which)
        white = self.noise.whiten_diagonal(blocks, which)
        if noise is None:
            white = white + np.eye(white.shape[1])
        with self._counting:
            self.largest = max(self.largest, np.diagonal(white, axis1=1, axis2=2).max(initial=0.0))
        return white

    def row(self, p: int, which: slice) -> Row:
        """Whitened blocks (p, j)."""
        noise, blocks = self.noise.correlated, np.zeros(())
        if self.covariance is not None:
            blocks = self._checked(self.covariance.row(p, which))
        if noise is not None:
            blocks = blocks + noise[p, :, which]
        white = self.noise.whiten(blocks, p, which)
        if noise is None and which.start <= p < which.stop:
            white[:, p - which.start] += np.eye(len(white))
        return white

    def refusal(self, size: int) -> DataError:
        """The error that says why `size` rows of it cannot be factorised."""
        return refusal(self.name, self.noise, self.largest, size)

    def _checked(self, blocks: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        if not np.isfinite(blocks).all():
            raise DataError(f"{self.name}: values are not finite")
        with self._counting:
            self.read += blocks.size // blocks.shape[-1] ** 2
        return blocks


def objective(
    covariance: Covariance,
    noise: ArrayLike | Noise | SensorNoise,
    conditional: Covariance | None = None,
) -> tuple[Whitened, ...]:
    """K = X + Gamma, and where noise is correlated or X' is given the B of
    [logdet K_S - logdet B_S] / 2."""
    for name, one in (("covariance", covariance), ("conditional", conditional)):
        if one is not None and not isinstance(one, Covariance):
            raise ConfigError(
                f"{name}: found {shown(one)}, expected a Covariance; DenseCovariance makes one of"
                " an array (C, T, C, T)"
            )
    shape = covariance.candidates, covariance.steps
    found = SensorNoise.of(noise, *shape)
    matrices = [Whitened(covariance, found, "covariance with noise")]
    if conditional is not None:
        if (conditional.candidates, conditional.steps) != shape:
            raise DataError(
                f"conditional: found {conditional.candidates} candidates and {conditional.steps}"
                f" steps, expected {shape[0]} and {shape[1]}"
            )
        matrices.append(Whitened(conditional, found, "conditional with noise"))
    elif found.correlated is not None:
        matrices.append(Whitened(None, found, "noise"))
    return tuple(matrices)


class Roundoff:
    """Round-off in the information of the sensors chosen so far, from the results of `Panel.pivot`;
    its `probes` are L_S^-1 D times random vectors, for each matrix."""

    def __init__(self, matrices: Sequence[Whitened], capacity: int):
        self.matrices, self.capacity = matrices, capacity
        self.probes = [np.empty((0, PROBES)) for _ in matrices]

    def check(self, coefficients: Sequence[Coefficients]) -> None:
        """Raise a `DataError` if round-off is too large with another sensor."""
        noise, steps = self.matrices[0].noise, len(coefficients[0])
        found = sum(map(error, self._with(coefficients)))
        largest = max(float(_variances(a).max()) for a in coefficients)
        largest = max(largest, *(matrix.largest for matrix in self.matrices))
        judge(found, self.matrices[0].name, noise, largest, self.capacity * steps)

    def append(self, coefficients: Sequence[Coefficients]) -> None:
        self.probes = self._with(coefficients)

    def _with(self, coefficients: Sequence[Coefficients]) -> list[Float[np.ndarray, "rows probes"]]:
        """The probes with another sensor p: below the others,
        L_p^-1 (D_p z_p - V_p^T times those)."""
        out = []
        for matrix, a, old in zip(self.matrices, coefficients, self.probes, strict=True):
            # A conditional covariance is a difference from X, and inherits its errors.
            own = a if matrix.covariance is None else coefficients[0]
            z = np.sqrt(_variances(own))[:, None] * signs(len(old), len(a))
            out.append(np.vstack([old, a @ np.vstack([old, z])]))
        return out


def _variances(coefficients: Coefficients) -> Float[np.ndarray, " times"]:
    """The diagonal of K_pp = L_p L_p^T + V_p^T V_p, from L_p^-1 [-V_p^T, I]."""
    steps = len(coefficients)
    factor = scipy.linalg.solve_triangular(coefficients[:, -steps:], np.eye(steps), lower=True)
    rows = factor @ coefficients[:, :-steps]
    return np.square(factor).sum(1) + np.square(rows).sum(1)
