"""Rows of a map, kept in a journal as they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ..core.errors import DataError, JournalWarning, warn
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
    compute: Callable[[Int[np.ndarray, " some"]], Iterable[Float[np.ndarray, "*row"]]],
    overwrite: bool = False,
    kind: type[BlockRows] = BlockRows,
) -> Iterator[tuple[int, Float[np.ndarray, "*row"]]]:
    """All rows with their numbers: those that the journal has, then the others, which `compute`
    gives one by one and the journal, one of this `kind`, keeps. `shape` is that of all rows
    together.

    Warns
    -----
    JournalWarning
        Where rows were damaged on disk: they are computed again.
    """
    if journal is None:
        yield from enumerate(compute(np.arange(shape[0])))
        return
    with kind.start(journal, made_with, rows=Rows(shape), overwrite=overwrite) as kept:
        missing = ~kept.done()
        for k in np.flatnonzero(~missing).tolist():
            try:
                row = kept.row("rows", k)
            except DataError as error:
                warn(f"{error}; it is computed again", JournalWarning)
                missing[k] = True
            else:
                yield k, row
        others = np.flatnonzero(missing)
        for k, row in zip(others.tolist(), compute(others), strict=True):
            kept.put(rows=(k, row))
            yield k, row
