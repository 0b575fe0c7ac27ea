"""Rows of a map in a journal, each as it is computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ..core.errors import DataError, JournalWarning
from ..core.journal import Journal, MadeWith, Rows


class BlockRows(Journal):
    """Rows of equal shape from which a computation of them goes on."""

    kind = "a journal of rows"
    goes_on = "the same call (`pyadjoint-gpu place`)"

    @property
    def told(self) -> str:
        return "a journal"


def followed(
    journal: str | Path | None,
    shape: tuple[int, ...],
    made_with: MadeWith,
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
    with BlockRows.start(journal, made_with, rows=Rows(shape), overwrite=overwrite) as kept:
        missing = ~kept.done()
        for k in np.flatnonzero(~missing).tolist():
            try:
                row = kept.row("rows", k)
            except DataError as error:
                warnings.warn(f"{error}; it is computed again", JournalWarning, stacklevel=2)
                missing[k] = True
            else:
                yield k, row
        others = np.flatnonzero(missing)
        for k, row in zip(others.tolist(), compute(others), strict=True):
            kept.put(rows=(k, row))
            yield k, row


def count(journal: str | Path, made_with: MadeWith) -> int:
    """How many rows `followed` would find in a journal.

    Raises
    ------
    DataError
        If it is of other rows, or none.
    """
    kept = BlockRows.found(journal, made_with)
    if kept is None:
        return 0
    with kept:
        return int(np.count_nonzero(kept.done()))
