"""Prior covariances of the time series that candidate sensors see."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..core.checks import finite_array
from ..core.errors import DataError


@runtime_checkable
class Covariance(Protocol):
    """The prior covariance X of what `candidates` sensors see at `steps` times, in blocks.

    X[a, i, b, j] is the covariance of candidate a at time i with candidate b at time j. X may be on
    disk.
    """

    candidates: int
    steps: int

    def diagonal(self, which: slice) -> Float[np.ndarray, "some times times"]:
        """The blocks X[j, :, j, :] of the candidates `which`."""
        ...

    def row(self, p: int, which: slice) -> Float[np.ndarray, "times some times"]:
        """The blocks X[p, :, which, :]."""
        ...


class DenseCovariance:
    """A covariance in memory.

    Parameters
    ----------
    array : array, shape (C, T, C, T)

    Raises
    ------
    DataError
        If it has another shape, is not finite or not symmetric.
    """

    def __init__(self, array: ArrayLike):
        self.array = finite_array("covariance", array)
        shape = self.array.shape
        if len(shape) != 4 or shape[:2] != shape[2:] or not self.array.size:
            raise DataError(f"covariance: found shape {shape}, expected (C, T, C, T)")
        self.candidates, self.steps = shape[:2]
        check_symmetric(self.array, "covariance")

    @property
    def made_with(self) -> Any:
        """The inputs that determine it, for a journal's fingerprint."""
        return self.array

    def diagonal(self, which: slice) -> Float[np.ndarray, "some times times"]:
        return diagonal_blocks(self.array, which)

    def row(self, p: int, which: slice) -> Float[np.ndarray, "times some times"]:
        return self.array[p, :, which]


def diagonal_blocks(
    array: Float[np.ndarray, "candidates times candidates times"], which: slice = slice(None)
) -> Float[np.ndarray, "some times times"]:
    """The diagonal blocks array[j, :, j, :] of the candidates `which`."""
    return np.moveaxis(np.diagonal(array, axis1=0, axis2=2), -1, 0)[which]


def check_symmetric(
    array: Float[np.ndarray, "candidates times candidates times"], name: str
) -> None:
    """Raise a `DataError` unless array[a, i, b, j] = array[b, j, a, i], to round-off."""
    allowed = 1e-8 * np.abs(diagonal_blocks(array)).max()
    for a, row in enumerate(array):
        # Sensor by sensor, which avoids a second copy of the array.
        if np.abs(row - np.moveaxis(array[:, :, a], -1, 0)).max() > allowed:
            raise DataError(f"{name}: it is not symmetric")
