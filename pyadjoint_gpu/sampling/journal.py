"""Journal of samplers' states, from which their runs resume."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_type_hints

from ..core.journal import Journal, MadeWith
from ..core.progress import phase, progress_bar


class TemperedState(Protocol):
    """The attributes of a tempered sampler's state that say how far its run is."""

    @property
    def gamma(self) -> float: ...

    @property
    def move(self) -> int: ...

    @property
    def log_evidence(self) -> float: ...


S = TypeVar("S", bound=TemperedState)


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
        return [_state(values, kind) for values in found]

    def save(self, run: int, state: Any, ended: bool) -> None:
        """Record the state of a run; `load` comes first."""
        values = {f.name: getattr(state, f.name) for f in fields(state)}
        if ended:
            self.put(runs=(run, values))
        else:
            self.put(now=(self._next, {"run": run, "state": values}))
            self._next += 1


def followed(
    kind: type[S],
    journal: str | Path | None,
    made_with: MadeWith,
    first: Callable[[int], S],
    moved: Callable[[S, int], S],
    *,
    moves: int,
    repeats: int,
    overwrite: bool,
    progress: bool | None,
) -> list[S]:
    """The last states of `repeats` runs of a tempered sampler; runs that the journal has resume.

    Parameters
    ----------
    kind : type
        Dataclass of the states.
    journal : path, optional
    made_with : callable
        The inputs that determine the states, by name; called where there is a journal.
    first, moved : callable
        The first state of run number k, and the state after another move.
    moves : int
        Moves a stage.
    overwrite : bool
        Start the journal anew.
    """
    with (
        (
            nullcontext()
            if journal is None
            else States.start(journal, made_with, overwrite=overwrite)
        ) as book,
        progress_bar(shown=progress, unit="moves", desc="SMC") as bar,
    ):
        states = [] if book is None else book.load(kind)

        def ended(now: S) -> bool:
            return now.gamma >= 1.0 and now.move >= moves

        def keep(now: S, k: int) -> None:
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


def _state(found: dict[str, Any], kind: type[S]) -> S:
    values = {}
    for name, hint in get_type_hints(kind).items():
        value = found[name]
        if hint in (int, float):
            value = hint(value)
        elif issubclass(hint, tuple):
            value = hint(**value)
        values[name] = value
    return kind(**values)
