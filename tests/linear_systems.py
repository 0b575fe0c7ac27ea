"""Small linear systems that do not change with time, and all about them by dense matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from pyadjoint_gpu import statistics
from pyadjoint_gpu.lti import ToeplitzMap
from pyadjoint_gpu.statistics.separable import Separable

STEPS, SENSORS, PLACES, POINTS = 6, 4, 7, 2


def decaying(sensors: int, seed: int) -> ToeplitzMap:
    rng = np.random.default_rng(seed)
    blocks = rng.normal(size=(STEPS, sensors, PLACES))
    return ToeplitzMap.of(blocks * np.exp(-0.3 * np.arange(STEPS))[:, None, None])


def spd(n: int, seed: int) -> np.ndarray:
    """Symmetric, positive definite, well conditioned."""
    root = np.random.default_rng(seed).normal(size=(n, n))
    return root @ root.T / n + 0.3 * np.eye(n)


CORRELATIONS = {
    "independent": None,
    "exponential": 0.7 ** np.arange(STEPS),
    "smooth": (1.0 + np.arange(STEPS)) * np.exp(-1.0 * np.arange(STEPS)),
}
NOISES = {
    "isotropic": 0.3,
    "per sensor": np.array([0.2, 0.5, 0.3, 1.0]),
    "blocks": np.array([0.1 * spd(STEPS, k) for k in range(SENSORS)]),
    "full": 0.1 * spd(SENSORS * STEPS, 9).reshape(SENSORS, STEPS, SENSORS, STEPS),
}


def prior(correlation: str = "independent") -> Separable:
    before = statistics.Dense(spd(PLACES, 5))
    return statistics.SpaceTime(before, correlation=CORRELATIONS[correlation]).on((STEPS, PLACES))


def noise_matrix(noise: str) -> np.ndarray:
    """Times before sensors."""
    given = np.asarray(NOISES[noise])
    if given.ndim == 4:
        return given.transpose(1, 0, 3, 2).reshape(STEPS * SENSORS, -1)
    if given.ndim == 3:
        out = np.zeros((STEPS, SENSORS, STEPS, SENSORS))
        for k, block in enumerate(given):
            out[:, k, :, k] = block
        return out.reshape(STEPS * SENSORS, -1)
    return np.diag(np.tile(np.broadcast_to(given, SENSORS) ** 2, STEPS))


@dataclass(frozen=True)
class Dense:
    """The posterior by the normal equations, which share nothing with the data-space formulas."""

    correlation: str
    noise: str
    until: int = STEPS
    missing: tuple[int, ...] = ()

    @cached_property
    def rows(self) -> np.ndarray:
        return np.setdiff1d(np.arange(self.until * SENSORS), self.missing)

    @cached_property
    def forward(self) -> np.ndarray:
        return decaying(SENSORS, 1).dense()[self.rows]

    @cached_property
    def points(self) -> np.ndarray:
        return decaying(POINTS, 2).dense()

    @cached_property
    def covariance(self) -> np.ndarray:
        column = CORRELATIONS[self.correlation]
        times = np.eye(STEPS) if column is None else scipy.linalg.toeplitz(column)
        before = np.kron(times, spd(PLACES, 5))
        return np.linalg.inv(np.linalg.inv(before) + self.forward.T @ self.weighed(self.forward))

    def mean(self, d: np.ndarray) -> np.ndarray:
        flat = d.ravel()[self.rows]
        return self.covariance @ self.forward.T @ self.weighed(flat)

    def weighed(self, x: np.ndarray) -> np.ndarray:
        return np.linalg.solve(noise_matrix(self.noise)[np.ix_(self.rows, self.rows)], x)
