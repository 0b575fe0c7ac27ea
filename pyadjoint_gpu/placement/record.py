"""Journal of the sensors chosen so far, from which a selection resumes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..core.errors import DataError, JournalWarning
from ..core.fingerprint import fingerprint
from ..core.journal import Journal
from ..statistics.covariance import Covariance
from .communicator import Communicator, safely
from .network import Network
from .objective import Whitened

Steps = dict[str, list[tuple[int, float]]]
"""Sensors chosen and their gains, by the rule that chose them."""


@runtime_checkable
class Recorded(Covariance, Protocol):
    """A covariance with the inputs that determine it, for a journal's fingerprint."""

    @property
    def made_with(self) -> Any: ...


class Choices(Journal):
    """Journal of sensors as they are chosen: the rule, the sensor and its gain."""

    kind = "a journal of a selection"
    goes_on = "the same call (`pyadjoint-gpu place`)"
    records = ("choices",)

    def steps(self) -> Steps:
        found: Steps = {}
        for k in range(self.count_of("choices")):
            rule, p, gain = self.row("choices", k)
            found.setdefault(rule, []).append((p, gain))
        return found


class Record:
    """Record of a selection by all ranks, the first of which has the journal; in memory alone where
    there is no path. A context manager.

    Attributes
    ----------
    steps : dict
        Sensors chosen before, the same on all ranks.

    Raises
    ------
    DataError
        If the file is no such journal, or of other data or settings.
    """

    def __init__(
        self,
        path: Path | None,
        matrices: Sequence[Whitened],
        network: Network,
        comm: Communicator,
        overwrite: bool = False,
    ):
        self.path = path
        self.steps: Steps = {}
        self._book: Choices | None = None

        def begin() -> Steps:
            if path is None or comm.Get_rank() != 0:
                return {}
            book = Choices.start(path, lambda: _parts(matrices, network), overwrite=overwrite)
            self._book = book
            try:
                return book.steps()
            except DataError:
                book.close()
                raise

        if path is not None:
            self.steps = comm.bcast(safely(comm, begin))

    def __enter__(self) -> Record:
        if self._book is not None:
            self._book.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._book is not None:
            self._book.__exit__(*error)

    def add(self, rule: str, p: int, gain: float) -> None:
        """Another sensor, on disk before this returns."""
        if self._book is not None:
            self._book.put(choices=(self._book.count_of("choices"), (rule, p, gain)))


def _parts(matrices: Sequence[Whitened], network: Network) -> dict[str, Any]:
    """The inputs that determine a selection, by name."""
    noise = matrices[0].noise
    found = {
        "noise": noise.given,
        "budget": network.budget,
        "costs": network.costs,
        "existing": network.existing,
        "forbidden": network.forbidden,
    }
    for name, matrix in zip(("covariance", "conditional"), matrices, strict=False):
        if matrix.covariance is not None:
            found[name] = _covariance_part(matrix.covariance, name)
    return found


def _covariance_part(covariance: Covariance, name: str) -> Any:
    """The inputs of a covariance where it has them, else a digest of its diagonal blocks."""
    if isinstance(covariance, Recorded):
        return covariance.made_with
    warnings.warn(
        f"the journal recognises the {name} by its diagonal blocks alone:"
        f" {type(covariance).__name__} has no attribute 'made_with', of arrays or texts",
        JournalWarning,
        stacklevel=2,
    )
    # One by one: they may be on disk.
    each = range(covariance.candidates)
    return [fingerprint(block=covariance.diagonal(slice(j, j + 1))) for j in each]
