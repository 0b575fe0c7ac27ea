"""Prior covariances of candidates' data on disk, larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..bayes.journal import fingerprint
from ..errors import DataError
from ..files import whole
from ..progress import progress_bar
from .covariance import Factors, slab
from .prior import SpaceTimePrior
from .toeplitz import ToeplitzMap

FORMAT = "pyadjoint_gpu covariance 1"


class CovarianceFile:
    """X = F Gamma F^T of C candidates and T times, an HDF5 dataset ``covariance`` of shape (C T,
    C T) in double precision, candidates before times, in chunks of T x T: one a pair of candidates.

    Parameters
    ----------
    path : path
        Of a file that `make` wrote.

    Raises
    ------
    DataError
        If the file is missing, truncated, another, or not finished.

    Notes
    -----
    Chunks are read once each, into no cache, and without a lock, as file systems of clusters often
    have none.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with _opened(self.path, "r") as file:
            done = file["done"][()]
            if not done.all():
                raise DataError(
                    f"{self.path}: {np.count_nonzero(done)} of {len(done)} rows are there; make it"
                    " again with the same map and prior, and it goes on"
                )
            self.candidates, self.steps = len(done), file["covariance"].chunks[0]
        self._file: Any = None

    @classmethod
    def make(
        cls,
        path: str | Path,
        of: ToeplitzMap,
        prior: SpaceTimePrior,
        *,
        progress: bool | None = None,
    ) -> CovarianceFile:
        """Write the file, row of blocks by row; what is there already stays. Killed at any instant,
        it goes on where it was when called again.

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
            If there is another file, or one of another map or prior.
        """
        path = Path(path)
        factors = Factors(of, prior)
        made_with = fingerprint(factors.left, factors.right)
        if not path.exists():
            with whole(path) as beside, h5py.File(beside, "w") as file:
                _layout(file, of.sensors, of.steps, made_with)
        with _opened(path, "r+") as file:
            if file.attrs["made_with"] != made_with:
                raise DataError(f"{path}: of another map or prior; give another path, or remove it")
            left = np.flatnonzero(~file["done"][()].astype(bool))
            for p in progress_bar(left, shown=progress, unit="sensor", desc="covariance"):
                row = slab(factors.left[p : p + 1], factors.right).reshape(of.steps, -1)
                file["covariance"][p * of.steps : (p + 1) * of.steps] = row
                file.flush()
                file["done"][p] = 1  # last: what is not there yet does not count
                file.flush()
        return cls(path)

    def diagonal(self, which: slice) -> np.ndarray:
        """The blocks X[j, :, j, :] of some candidates, of shape (n, T, T)."""
        each = range(*which.indices(self.candidates))
        return np.stack([self.row(j, slice(j, j + 1))[:, 0] for j in each])

    def row(self, p: int, which: slice) -> np.ndarray:
        """The blocks X[p, :, which, :], of shape (T, n, T)."""
        steps = self.steps
        columns = slice(which.start * steps, which.stop * steps)
        if self._file is None:
            self._file = h5py.File(self.path, "r", locking=False, rdcc_nbytes=0)["covariance"]
        block = self._file[p * steps : (p + 1) * steps, columns]
        return block.reshape(steps, -1, steps)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


def _layout(file: Any, candidates: int, steps: int, made_with: str) -> None:
    """Everything has its place from the start: later writes change raw data alone."""
    file.attrs["format"], file.attrs["made_with"] = FORMAT, made_with
    file["done"] = np.zeros(candidates, np.uint8)
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_chunk((steps, steps))
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    size = candidates * steps
    space = h5py.h5s.create_simple((size, size))
    h5py.h5d.create(file.id, b"covariance", h5py.h5t.IEEE_F64LE, space, create)


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        file: Any = h5py.File(path, mode, locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise DataError(f"{path}: not a covariance's file, or truncated ({error})") from None
    with file:
        if file.attrs.get("format") != FORMAT or "covariance" not in file:
            raise DataError(f"{path}: not a covariance's file of this version")
        yield file
