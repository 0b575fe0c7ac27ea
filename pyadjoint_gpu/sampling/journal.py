"""Journal of samplers' states, from which their runs resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, get_type_hints

from ..core.journal import Journal, MadeWith
from ..core.progress import Task, phase, progress_bar
from .runs import Tempered

S = TypeVar("S", bound=Tempered)


class States(Journal):
    """The last state of each run that has ended, and the state of the run under way: dataclasses of
    numbers, arrays and NamedTuples of arrays."""

    kind = "a sampler's journal"
    goes_on = "the same call, or `pyadjoint-gpu run` with its run file"
    records = ("runs",)
    slots = ("now",)

    def load(self, kind: type[S]) -> list[S]:
        """The states of all runs so far."""
        found = [self.row("runs", k) for k in range(self.count_of("runs"))]
        now = self.last("now")
        self._next = 0 if now is None else now[0] + 1
        if now is not None and now[1]["run"] == len(found):
            found.append(now[1]["state"])
        hints = get_type_hints(kind)
        # NamedTuples are recorded as dicts.
        return [
            kind(**{k: hints[k](**v) if isinstance(v, dict) else v for k, v in values.items()})
            for values in found
        ]

    def save(self, run: int, state: Tempered, ended: bool) -> None:
        """Record the state of a run; `load` comes first."""
        if ended:
            self.put(runs=(run, vars(state)))
        else:
            self.put(now=(self._next, {"run": run, "state": vars(state)}))
            self._next += 1


def started(
    kind: type[Tempered], journal: str | Path, made_with: MadeWith, *, overwrite: bool
) -> list[float]:
    """Exponents of the likelihood from which `followed` would resume its runs; nothing is
    sampled."""
    found = States.found(journal, made_with, overwrite=overwrite)
    if found is None:
        return []
    with found:
        return [now.gamma for now in found.load(kind)]


def followed(
    kind: type[S],
    journal: str | Path | None,
    made_with: MadeWith,
    first: Callable[[int], S],
    moved: Callable[[S, int], S],
    *,
    repeats: int,
    overwrite: bool,
    progress: bool | None,
) -> list[S]:
    """The last states of `repeats` runs of a tempered sampler; runs that the journal has resume.

    Run number k begins with `first(k)`, and each move is `moved(state, k)`.
    """
    with (
        States.optional(journal, made_with, overwrite=overwrite) as book,
        progress_bar(shown=progress, unit="moves", desc="SMC") as bar,
    ):
        return follow(kind, book, bar, first, moved, repeats)


def follow(
    kind: type[S],
    book: States | None,
    bar: Task,
    first: Callable[[int], S],
    moved: Callable[[S, int], S],
    repeats: int,
) -> list[S]:
    """`followed` with an open journal and a bar."""
    states = [] if book is None else book.load(kind)

    def keep(now: S, k: int) -> None:
        states[k:] = [now]
        if book is not None:
            book.save(k, now, now.ended)
        bar.update(gamma=now.gamma, ln_Z=now.log_evidence)

    for k in range(repeats):
        if k == len(states):
            with phase("compiling, and drawing from the prior"):
                keep(first(k), k)
        while not states[k].ended:
            keep(moved(states[k], k), k)
    return states
