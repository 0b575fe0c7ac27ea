"""Prior covariances of candidates' data on disk, larger than memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.fingerprint import fingerprint
from ..core.hdf5 import checksum, description, legible, opened
from ..core.outputs import check_outputs
from ..core.progress import progress_bar
from ..statistics.space_time import SpaceTimePrior
from .covariance import Factors, slab
from .rows import FORMAT, Rows
from .toeplitz import ToeplitzMap


class CovarianceFile:
    """X = F Gamma F^T of C candidates and T times: an HDF5 dataset ``rows`` of shape (C, T, C, T)
    in double precision, in chunks of T x T, one a pair of candidates.

    Chunks are read once each: they go through no cache, and without a lock, which file systems of
    clusters often do not have. Each has a checksum, and is refused where it was damaged.

    Parameters
    ----------
    path : path
        Of a file that `make` wrote.

    Raises
    ------
    DataError
        If the file is missing, truncated, another, or not finished; on reading, if it is damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{path}: no such file")
        self._file: Any = opened(self.path, "a covariance", locking=False, rdcc_nbytes=0)
        with legible(self.path, self._file):
            found = self._file["rows"] if self._file.attrs.get("format") == FORMAT else None
            if found is None or found.ndim != 4 or found.shape[:2] != found.shape[2:]:
                raise DataError(f"{path}: not a covariance of candidates, of this version")
            self.candidates, self.steps = found.shape[:2]
            self._sums = self._file["sums"][()]
            self.made_with = description(self.path, self._file, "format", "made_with")["made_with"]
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
        overwrite: bool = False,
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
        overwrite : bool
            Start anew.
        progress : bool, optional
            A bar where someone looks, else a line a minute; False for nothing.

        Raises
        ------
        DataError
            If the file is truncated, in use, another, or of another map or prior.
        """
        check_outputs({"store": path})
        factors = Factors(of, prior)
        made_with = fingerprint(map=of.blocks, prior=prior)
        shape, chunks = (of.sensors, of.steps) * 2, (1, of.steps) * 2
        with Rows(path, shape, made_with, chunks, of.sensors, overwrite) as rows:
            missing = np.flatnonzero(~rows.done)
            for k in progress_bar(missing, shown=progress, unit="sensors", desc="covariance"):
                rows[k] = slab(factors.left[k : k + 1], factors.right)[0]
        return cls(path)

    def diagonal(self, which: slice) -> np.ndarray:
        """The blocks X[j, :, j, :] of some candidates, of shape (n, T, T)."""
        each = range(*which.indices(self.candidates))
        return np.stack([self.row(j, slice(j, j + 1))[:, 0] for j in each])

    def row(self, p: int, which: slice) -> np.ndarray:
        """The blocks X[p, :, which, :], of shape (T, n, T)."""
        with legible(self.path):
            found = self._file["rows"][p, :, which]
        for k, j in enumerate(range(*which.indices(self.candidates))):
            if checksum((p, j), found[:, k]) != self._sums[p, j]:
                raise DataError(
                    f"{self.path}: damaged, the covariance of candidates {p} and {j} is not the one"
                    " that was written; take the file from a backup, or make it anew"
                    " (overwrite=True, --overwrite)"
                )
        return found
