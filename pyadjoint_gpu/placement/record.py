"""Journal of the sensors chosen so far, from which a selection resumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..core.errors import JournalWarning, warn
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


@dataclass(frozen=True)
class Record:
    """Record of a selection by all ranks, the first of which has the journal; in memory alone where
    there is no path. `steps` are the sensors chosen before, the same on all ranks."""

    path: str | Path | None
    steps: Steps
    book: Choices | None

    def add(self, rule: str, p: int, gain: float) -> None:
        """Another sensor, on disk before this returns."""
        if self.book is not None:
            self.book.put(choices=(self.book.count_of("choices"), (rule, p, gain)))


@contextmanager
def recorded(
    path: str | Path | None,
    matrices: Sequence[Whitened],
    network: Network,
    comm: Communicator,
    overwrite: bool,
) -> Iterator[Record]:
    """The record of a selection; a `DataError` if the file is no such journal, or of other data or
    settings."""
    if path is None:
        yield Record(None, {}, None)
        return
    book: Choices | None = None
    with ExitStack() as stack:

        def begin() -> Steps:
            nonlocal book
            if comm.Get_rank() != 0:
                return {}
            started = Choices.start(path, lambda: _parts(matrices, network), overwrite=overwrite)
            book = stack.enter_context(started)
            return book.steps()

        steps = comm.bcast(safely(comm, begin))
        yield Record(path, steps, book)


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
    warn(
        f"the journal recognises the {name} by its diagonal blocks alone:"
        f" {type(covariance).__name__} has no attribute 'made_with', of arrays or texts",
        JournalWarning,
    )
    # One by one: they may be on disk.
    each = range(covariance.candidates)
    return [fingerprint(block=covariance.diagonal(slice(j, j + 1))) for j in each]
