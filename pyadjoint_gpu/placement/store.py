"""Prior covariances of candidates' data on disk, larger than memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import DataError
from ..files import fingerprint
from ..progress import progress_bar
from ..rows import FORMAT, Rows
from .covariance import Factors, slab
from .prior import SpaceTimePrior
from .toeplitz import ToeplitzMap


class CovarianceFile:
    """X = F Gamma F^T of C candidates and T times: an HDF5 dataset ``rows`` of shape (C, T, C, T)
    in double precision, in chunks of T x T, one a pair of candidates.

    Chunks are read once each: they go through no cache, and without a lock, which file systems of
    clusters often do not have.

    Parameters
    ----------
    path : path
        Of a file that `make` wrote.

    Raises
    ------
    DataError
        If the file is missing, truncated, another, or not finished.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            self._file: Any = self._opened()
        except OSError as error:
            raise DataError(f"{path}: not a covariance, or truncated ({error})") from None
        found = self._file["rows"] if self._file.attrs.get("format") == FORMAT else None
        if found is None or found.ndim != 4 or found.shape[:2] != found.shape[2:]:
            raise DataError(f"{path}: not a covariance of candidates")
        self.candidates, self.steps = found.shape[:2]
        missing = np.count_nonzero(self._file["done"][()] == 0)
        if missing:
            raise DataError(f"{path}: {missing} of {self.candidates} candidates are missing")

    @classmethod
    def make(
        cls,
        path: str | Path,
        of: ToeplitzMap,
        prior: SpaceTimePrior,
        *,
        progress: bool | None = None,
    ) -> CovarianceFile:
        """Write the file, candidate by candidate. What is there stays: killed at any instant, it
        goes on where it was when called again.

        Parameters
        ----------
        path : path
        of : ToeplitzMap
            F.
        prior : SpaceTimePrior
            Gamma.
        progress : bool, optional
            Show a bar; if someone looks unless given.

        Raises
        ------
        DataError
            If the file is truncated, in use, another, or of another map or prior.
        """
        factors = Factors(of, prior)
        made_with = fingerprint("covariance", factors.left, factors.right)
        shape, chunks = (of.sensors, of.steps) * 2, (1, of.steps) * 2
        with Rows(path, shape, made_with, chunks) as rows:
            missing = np.flatnonzero(~rows.done)
            for k in progress_bar(missing, shown=progress, unit="sensor", desc="covariance"):
                rows[k] = slab(factors.left[k : k + 1], factors.right)[0]
        return cls(path)

    def diagonal(self, which: slice) -> np.ndarray:
        """The blocks X[j, :, j, :] of some candidates, of shape (n, T, T)."""
        each = range(*which.indices(self.candidates))
        return np.stack([self._file["rows"][j, :, j] for j in each])

    def row(self, p: int, which: slice) -> np.ndarray:
        """The blocks X[p, :, which, :], of shape (T, n, T)."""
        return self._file["rows"][p, :, which]

    def _opened(self) -> Any:
        return h5py.File(self.path, "r", locking=False, rdcc_nbytes=0)
