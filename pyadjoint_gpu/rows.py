"""Rows of a map on disk, each as it is computed: crash-safe, for exact resume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import DataError
from .files import whole
from .hdf5 import allocate, sync

FORMAT = "pyadjoint_gpu rows 1"


def followed(
    journal: str | Path | None,
    shape: tuple[int, ...],
    made_with: Callable[[], str],
    compute: Callable[[np.ndarray], Iterable[np.ndarray]],
) -> Iterator[tuple[int, np.ndarray]]:
    """All rows with their numbers: those that the journal has, then the others, which it keeps.

    Parameters
    ----------
    journal : path or None
    shape : tuple of int
        Of all rows.
    made_with : callable
        A `files.fingerprint` of what decides the rows, asked for where there is a journal.
    compute : callable
        The rows of given numbers, one by one.
    """
    if journal is None:
        yield from enumerate(compute(np.arange(shape[0])))
        return
    with Rows(journal, shape, made_with()) as kept:
        done = kept.done
        for k in np.flatnonzero(done).tolist():
            yield k, kept[k]
        missing = np.flatnonzero(~done)
        for k, row in zip(missing.tolist(), compute(missing), strict=True):
            kept[k] = row
            yield k, row


class Rows:
    """Rows of equal shape in a file from which a computation of them goes on.

    All have their place from the start (see `hdf5`). A row counts once its entry of ``done`` says
    so, which is written last: a process killed at any instant loses at most the row under way.
    Close after use (or use as a context manager).

    Parameters
    ----------
    path : path
        Made if there is no such file.
    shape : tuple of int
        Of all rows.
    made_with : str
        `files.fingerprint` of what decides the rows.
    chunks : tuple of int, optional
        In which they are stored; all in one unless given.

    Raises
    ------
    DataError
        If the file is truncated, in use, not of this kind, or of other rows.
    """

    def __init__(
        self,
        path: str | Path,
        shape: tuple[int, ...],
        made_with: str,
        chunks: tuple[int, ...] | None = None,
    ):
        self.path = Path(path)
        if not self.path.exists():
            with whole(self.path) as beside, h5py.File(beside, "w") as new:
                new.attrs["format"], new.attrs["made_with"] = FORMAT, made_with
                allocate(new, "rows", shape, "f8", chunks)
                new["done"] = np.zeros(shape[0], "u1")
        try:
            # h5py's types do not tell groups from datasets.
            self._file: Any = h5py.File(self.path, "r+")
        except BlockingIOError:
            raise DataError(f"{path}: in use by another process") from None
        except OSError as error:
            raise DataError(f"{path}: not a journal of rows, or truncated ({error})") from None
        found = self._file.attrs
        if found.get("format") != FORMAT or found.get("made_with") != made_with:
            ours = found.get("format") == FORMAT
            self.close()
            what = "made with other inputs than now" if ours else "not of rows"
            raise DataError(f"{path}: a journal {what}; give another path, or remove it")

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def done(self) -> np.ndarray:
        """Which rows there are."""
        return self._file["done"][...].astype(bool)

    def __getitem__(self, k: int) -> np.ndarray:
        return self._file["rows"][k]

    def __setitem__(self, k: int, row: np.ndarray) -> None:
        self._file["rows"][k] = row
        sync(self._file)
        self._file["done"][k] = 1
        sync(self._file)
