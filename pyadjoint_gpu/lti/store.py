"""Prior covariances of candidates' data on disk, larger than memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.errors import DataError
from ..core.journal import Journal, Rows
from ..core.outputs import check_outputs
from ..core.progress import progress_bar
from ..statistics.densities import BoundPrior
from ..statistics.priors import Prior
from .covariance import Factors, RowCovariance, slab
from .priors import fitting
from .toeplitz import ToeplitzMap


class Store(Journal):
    """Journal of the rows of a covariance."""

    kind = "a covariance of candidates"
    goes_on = "the same call (`pyadjoint-gpu place`)"


class CovarianceFile(RowCovariance):
    """X = F Gamma F^T of C candidates and T times: an HDF5 dataset ``rows`` of shape (C, T, C, T)
    in double precision, in chunks of T x T, one a pair of candidates.

    Chunks are read once each: they go through no cache, and without a lock, which file systems of
    clusters often do not have. Each has a checksum, and is refused where it was damaged.

    Parameters
    ----------
    path : path
        A file that `make` wrote.

    Raises
    ------
    DataError
        If the file is missing, truncated, another, or not finished; on reading, if it is damaged.
    """

    def __init__(self, path: str | Path):
        self._book = Store.open(path, "r", locking=False, rdcc_nbytes=0)
        self.made_with = self._book.made_with
        shape, done = self._book.shape, self._book.done()
        if len(shape) != 4 or shape[:2] != shape[2:] or len(done) != shape[0]:
            raise DataError(f"{path}: damaged, not a covariance of candidates")
        self.candidates, self.steps = shape[:2]
        missing = np.count_nonzero(~done)
        if missing:
            raise DataError(f"{path}: {missing} of {self.candidates} candidates are missing")

    @classmethod
    def make(
        cls,
        path: str | Path,
        of: ToeplitzMap,
        prior: Prior | BoundPrior,
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
        prior : Prior or BoundPrior
            Of covariance Gamma, as for `LinearInversion`.
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
        before = fitting(of, prior)
        factors = Factors(of, before)
        rows = Rows((of.sensors, of.steps) * 2, (1, of.steps) * 2, of.sensors)

        def made_with() -> dict[str, Any]:
            return {"map": of.blocks, "prior": before}

        with Store.start(path, made_with, rows=rows, overwrite=overwrite) as book:
            missing = np.flatnonzero(~book.done())
            for k in progress_bar(missing, shown=progress, unit="sensors", desc="covariance"):
                book.put(rows=(k, slab(factors.left[k : k + 1], factors.right)[0]))
        return cls(path)

    def row(self, p: int, which: slice) -> Float[np.ndarray, "times some times"]:
        return self._book.row(
            "rows",
            p,
            "damaged, the covariance of candidates {k} and {j} is not the one that was written;"
            " take the file from a backup, or make it anew (overwrite=True, --overwrite)",
            which,
        )
