"""Rows of a map on disk, each as it is computed: crash-safe, for exact resume."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, JournalWarning
from ..core.fingerprint import check_made_with, fingerprint
from ..core.hdf5 import (
    allocate,
    checksum,
    describe,
    description,
    legible,
    make,
    opened,
    replaceable,
    sync,
)
from ..core.outputs import check_outputs

FORMAT = "pyadjoint_gpu rows 2"


def followed(
    journal: str | Path | None,
    shape: tuple[int, ...],
    made_with: Callable[[], Mapping[str, Any]],
    compute: Callable[[np.ndarray], Iterable[np.ndarray]],
    overwrite: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """All rows with their numbers: those that the journal has, then the others, which it keeps.

    Parameters
    ----------
    journal : path or None
    shape : tuple of int
        Of all rows.
    made_with : callable
        What decides the rows, by name, asked for where there is a journal.
    compute : callable
        The rows of given numbers, one by one.
    overwrite : bool
        Start anew.

    Warns
    -----
    JournalWarning
        Where rows were damaged on disk: they are computed again.
    """
    if journal is None:
        yield from enumerate(compute(np.arange(shape[0])))
        return
    check_outputs({"journal": journal})
    with Rows(journal, shape, fingerprint(**made_with()), overwrite=overwrite) as kept:
        missing = ~kept.done
        for k in np.flatnonzero(~missing).tolist():
            try:
                row = kept[k]
            except DataError as error:
                warnings.warn(f"{error}; it is computed again", JournalWarning, stacklevel=2)
                missing[k] = True
            else:
                yield k, row
        others = np.flatnonzero(missing)
        for k, row in zip(others.tolist(), compute(others), strict=True):
            kept[k] = row
            yield k, row


def count(
    journal: str | Path, shape: tuple[int, ...], made_with: Callable[[], Mapping[str, Any]]
) -> int:
    """How many rows `followed` would find in a journal.

    Raises
    ------
    DataError
        If it is of other rows, or none.
    """
    if not Path(journal).exists():
        return 0
    with Rows(journal, shape, fingerprint(**made_with())) as kept:
        return int(np.count_nonzero(kept.done))


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
    made_with : mapping
        `fingerprint` of what decides the rows.
    chunks : tuple of int, optional
        In which they are stored; all in one unless given.
    parts : int
        Of a row, with a checksum each: all of it, or the entries along its second axis.
    overwrite : bool
        Start anew.

    Raises
    ------
    DataError
        If the file is truncated, in use, not of this kind, or of other rows.
    """

    def __init__(
        self,
        path: str | Path,
        shape: tuple[int, ...],
        made_with: Mapping[str, str],
        chunks: tuple[int, ...] | None = None,
        parts: int = 1,
        overwrite: bool = False,
    ):
        self.path, self.parts = Path(path), parts
        if not self.path.exists() or (overwrite and replaceable(self.path)):
            make(self.path, lambda new: _layout(new, shape, dict(made_with), chunks, parts))
        self._file = opened(self.path, "a journal of rows", "r+")
        with legible(self.path, self._file):
            found = self._file.attrs
            if found.get("format") != FORMAT:
                raise DataError(
                    f"{path}: a journal not of rows; give another path, or remove it"
                    f" (format {found.get('format')!r}, expected {FORMAT!r})"
                )
            texts = description(self.path, self._file, "format", "made_with")
            check_made_with(self.path, "a journal", texts["made_with"], made_with)
            self._sums = self._file["sums"][...]
            self._rows, self._done = self._file["rows"], self._file["done"]

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def done(self) -> np.ndarray:
        """Which rows there are."""
        with legible(self.path):
            return self._done[...].astype(bool)

    def __getitem__(self, k: int) -> np.ndarray:
        with legible(self.path):
            row = self._rows[k]
        bad = np.flatnonzero(checksums(k, row, self.parts) != self._sums[k])
        if bad.size:
            raise DataError(f"{self.path}: row {k} of {len(self._sums)} is damaged")
        return row

    def __setitem__(self, k: int, row: np.ndarray) -> None:
        with legible(self.path):
            self._rows[k] = row
            self._sums[k] = self._file["sums"][k] = checksums(k, np.asarray(row, "f8"), self.parts)
            sync(self._file)
            self._done[k] = 1
            sync(self._file)


def checksums(k: int, row: np.ndarray, parts: int) -> np.ndarray:
    """Of the parts of row number k."""
    if parts == 1:
        return np.array([checksum((k, 0), row)])
    return np.array([checksum((k, j), row[:, j]) for j in range(parts)])


def _layout(
    file: Any,
    shape: tuple[int, ...],
    made_with: dict[str, str],
    chunks: tuple[int, ...] | None,
    parts: int,
) -> None:
    describe(file, format=FORMAT, made_with=json.dumps(made_with))
    allocate(file, "rows", shape, "f8", chunks)
    allocate(file, "sums", (shape[0], parts), "u8")
    allocate(file, "done", shape[:1], "u1")
    file["done"][...] = 0
