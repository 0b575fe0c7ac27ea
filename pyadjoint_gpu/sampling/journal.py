"""Where samplers stand, in a journal from which they go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np

from ..core.journal import Journal, MadeWith
from ..core.progress import phase, progress_bar

T = TypeVar("T")


class States(Journal):
    """The states in which runs ended, and that of the run under way: dataclasses of numbers,
    arrays, NamedTuples of arrays."""

    kind = "a sampler's journal"
    goes_on = "the same call, or `pyadjoint-gpu run` with its run file"
    records = ("runs",)
    slots = ("now",)

    def load(self, kind: type[T]) -> list[T]:
        """Of all runs so far."""
        found = [self.row("runs", k) for k in range(self.count_of("runs"))]
        now = self.last("now")
        self._next = 0 if now is None else now[0] + 1
        if now is not None and now[1]["run"] == len(found):
            found.append(now[1]["state"])
        return [_state(values, kind) for values in found]

    def save(self, run: int, state: Any, ended: bool) -> None:
        """Where a run stands, after `load`."""
        values = {f.name: getattr(state, f.name) for f in fields(state)}
        if ended:
            self.put(runs=(run, values))
        else:
            self.put(now=(self._next, {"run": run, "state": values}))
            self._next += 1


def followed(
    kind: type[T],
    journal: str | Path | None,
    made_with: MadeWith,
    first: Callable[[int], T],
    moved: Callable[[T, int], T],
    *,
    moves: int,
    repeats: int,
    overwrite: bool,
    progress: bool | None,
) -> list[T]:
    """Where each of `repeats` runs of a tempered sampler ends, from what the journal has of them.

    Parameters
    ----------
    kind : type
        Of states, with ``gamma``, ``move`` (of `moves` a stage) and ``log_evidence``.
    made_with : callable
        What decides the states, by name, asked for where there is a journal.
    first, moved : callable
        The state that run number k starts from, and that after another move.
    overwrite : bool
        Start anew.
    """
    with (
        (
            nullcontext()
            if journal is None
            else States.start(journal, made_with, overwrite=overwrite)
        ) as book,
        progress_bar(shown=progress, unit="moves", desc="SMC") as bar,
    ):
        states: list[Any] = [] if book is None else book.load(kind)

        def ended(now: Any) -> bool:
            return now.gamma >= 1.0 and now.move >= moves

        def keep(now: Any, k: int) -> None:
            states[k:] = [now]
            if book is not None:
                book.save(k, now, ended(now))
            bar.update(gamma=now.gamma, ln_Z=now.log_evidence)

        for k in range(repeats):
            if k == len(states):
                with phase("compiling, and drawing from the prior"):
                    keep(first(k), k)
            while not ended(states[k]):
                keep(moved(states[k], k), k)
    return states


def _state(found: dict[str, Any], kind: type[T]) -> T:
    values = {}
    for name, hint in get_type_hints(kind).items():
        value = found[name]
        if issubclass(hint, tuple):
            values[name] = hint(**value)
        else:
            values[name] = value if hint is np.ndarray else hint(value)
    return kind(**values)
