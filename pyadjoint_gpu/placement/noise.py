"""Errors of sensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import factor, finite
from ..errors import DataError


@dataclass(frozen=True, eq=False)
class Noise:
    """Gamma_n of sensors over all times.

    Attributes
    ----------
    sensors, steps : int
    sd : array, shape (sensors,), or None
        Standard deviations, where times are independent.
    blocks : array, shape (sensors, steps, steps), or None
        Covariances of each sensor's times, where these are not.
    full : array, shape (sensors, steps, sensors, steps), or None
        The covariance of all, where sensors are correlated.
    """

    sensors: int
    steps: int
    sd: np.ndarray | None = None
    blocks: np.ndarray | None = None
    full: np.ndarray | None = None

    @classmethod
    def of(cls, given: Any, sensors: int, steps: int) -> Noise:
        """From what users give.

        Parameters
        ----------
        given : float, or array of shape (sensors,), (sensors, T, T) or (sensors, T, sensors, T)
            One standard deviation, one a sensor, a covariance a sensor, or the covariance of all.

        Raises
        ------
        DataError
            If it has another shape or is not positive definite.
        """
        array = finite("noise", given)
        size = (sensors, steps)
        if array.ndim < 2:
            return cls(*size, sd=factor("noise", array, sensors))
        if array.shape == (sensors, steps, steps):
            for k, block in enumerate(array):
                factor(f"noise of sensor {k}", block, steps)
            return cls(*size, blocks=array)
        if array.shape == (*size, *size):
            factor("noise", array.reshape(sensors * steps, -1), sensors * steps)
            return cls(*size, full=array)
        raise DataError(
            f"noise: found shape {array.shape}, expected a number, ({sensors},),"
            f" {(sensors, steps, steps)} or {(*size, *size)}"
        )

    @property
    def correlated(self) -> bool:
        """Whether sensors are, with each other."""
        return self.full is not None

    def matrix(self) -> np.ndarray:
        """The covariance of all, of shape (sensors, steps, sensors, steps)."""
        if self.full is not None:
            return self.full
        out = np.zeros((self.sensors, self.steps, self.sensors, self.steps))
        for k in range(self.sensors):
            out[k, :, k] = self._block(k)
        return out

    def _block(self, k: int) -> np.ndarray:
        if self.sd is not None:
            return self.sd[k] ** 2 * np.eye(self.steps)
        assert self.blocks is not None
        return self.blocks[k]

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Samples, of shape (count, steps, sensors)."""
        z = rng.standard_normal((count, self.steps, self.sensors))
        if self.sd is not None:
            return z * self.sd
        if self.blocks is not None:
            return np.einsum("cij,bjc->bic", self._root, z)
        flat = np.swapaxes(z, 1, 2).reshape(count, -1) @ self._root.T
        return np.swapaxes(flat.reshape(count, self.sensors, self.steps), 1, 2)

    @cached_property
    def _root(self) -> np.ndarray:
        if self.blocks is not None:
            return np.linalg.cholesky(self.blocks)
        return np.linalg.cholesky(self.matrix().reshape(self.sensors * self.steps, -1))

    def select(self, sensors: np.ndarray) -> Noise:
        """That of some of them."""
        size = (len(sensors), self.steps)
        if self.full is not None:
            return Noise(*size, full=self.full[sensors][:, :, sensors])
        if self.blocks is not None:
            return Noise(*size, blocks=self.blocks[sensors])
        assert self.sd is not None
        return Noise(*size, sd=self.sd[sensors])

    @property
    def given(self) -> np.ndarray:
        """What `of` makes it of again."""
        found = [a for a in (self.sd, self.blocks, self.full) if a is not None]
        return found[0]
