"""Progress of long runs: a bar on a terminal, lines elsewhere, records for programs.

A task (`progress_bar`) also reports phases in which its count does not move, such as compilation.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import (
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

LOOKED_AT = 1.0
"""Seconds after which a phase is reported beside a bar."""
UNSEEN = 5.0
"""Seconds after which a phase is reported where there is no bar; short ones leave no line."""
EVERY = 60.0
"""Seconds between the lines that report a task's state where there is no bar."""
_TICK = 0.25

Listener = Callable[[dict[str, Any]], None]
"""Receives records that JSON can hold."""

_open: list[Task] = []
"""Visible tasks under way, the innermost last."""
_listeners: list[Listener] = []
_used: set[int] = set()


@dataclass
class _Phase:
    text: str
    begun: float
    told: bool = False


class Task:
    """A long computation whose progress is shown; made by `progress_bar`.

    Close it after use, use it as a context manager, or iterate over it.

    Attributes
    ----------
    done : int
        Steps so far.
    note : str
        The state of the phase under way, which lines show in its place.
    """

    def __init__(
        self,
        items: Iterable[Any] | None,
        shown: bool | None,
        name: str,
        unit: str,
        total: int | None,
    ) -> None:
        self.name, self.unit, self.items = name, unit, items
        self.total = len(items) if total is None and isinstance(items, Sized) else total
        self.done, self.note = 0, ""
        self._values: Mapping[str, float] = {}
        self._phases: list[_Phase] = []
        self._begun = time.monotonic()
        self._over = threading.Event()
        self._bar: tqdm[Any] | None = None
        self._listener: Listener | None = None
        if shown is False:
            return
        if _listeners:
            self._listener, self._patience = _listeners[-1], 0.0
        else:
            self._bar = _drawn(shown, total=self.total, desc=name, unit=unit)
            self._patience = UNSEEN if self._bar is None else LOOKED_AT
        _open.append(self)
        threading.Thread(target=self._watch, name="pyadjoint_gpu progress", daemon=True).start()

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        with self:
            for item in () if self.items is None else self.items:
                yield item
                self.update()

    def update(self, steps: int = 1, **values: float) -> None:
        """Add steps, with numbers to show beside the count."""
        self.done += steps
        self.note = ""
        self._values = values or self._values
        if self._bar is not None:
            self._bar.set_postfix_str(_listed(self._values), refresh=False)
            self._bar.update(steps)
        elif self._listener is not None:
            self._listener(self._record())

    def close(self) -> None:
        """End the display."""
        self._over.set()
        if self in _open:
            _open.remove(self)
        if self._bar is not None:
            self._bar.close()

    # Phases

    @contextmanager
    def phase(self, text: str, at_once: bool) -> Generator[None]:
        """A phase of this task: see `phase`."""
        begun = _Phase(text, time.monotonic())
        self.note = ""
        self._phases.append(begun)
        if at_once or self._patience == 0.0:
            self._tell(begun)
        try:
            yield
        finally:
            self._phases.remove(begun)
            self.note = ""

    def _tell(self, phase: _Phase) -> None:
        phase.told = True
        if self._listener is not None:
            self._listener({"event": "phase", "task": self.name, "phase": phase.text})
        elif self._bar is not None:
            self._bar.write(f"{phase.text} ...", file=sys.stderr)
        else:
            _line(f"{self.name}: {phase.text} ...")

    def _watch(self) -> None:
        """Report phases and states; run by a thread of its own."""
        due = EVERY
        while not self._over.wait(_TICK):
            now = time.monotonic()
            phase = self._phases[-1] if self._phases else None
            # A phase that reports a note is known to move.
            if phase and not (phase.told or self.note) and now - phase.begun >= self._patience:
                self._tell(phase)
            if now - self._begun >= due:
                due += EVERY
                if self._bar is None and _open and _open[-1] is self:
                    self._tell_state(now - self._begun)

    def _tell_state(self, seconds: float) -> None:
        doing = self.note or (self._phases[-1].text if self._phases else "")
        if self._listener is not None:
            self._listener(self._record() | ({"doing": doing} if doing else {}))
            return
        done = f"{self.done}" if self.total is None else f"{self.done} of {self.total}"
        parts = (f"{done} {self.unit}", _listed(self._values), doing, f"{seconds / 60.0:.0f} min")
        _line(f"{self.name}: {', '.join(p for p in parts if p)}")

    def _record(self) -> dict[str, Any]:
        return {
            "event": "progress",
            "task": self.name,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            **self._values,
        }


def progress_bar(
    items: Iterable[Any] | None = None,
    *,
    shown: bool | None,
    desc: str,
    unit: str = "it",
    total: int | None = None,
) -> Task:
    """A `Task`, which iterates over `items` where these are given.

    Parameters
    ----------
    shown : bool or None
        None for a bar on a terminal or in a notebook, elsewhere a line a minute on standard error;
        True for a bar everywhere, False for nothing.
    """
    return Task(items, shown, desc, unit, total)


def phase(text: str, *, at_once: bool = False) -> AbstractContextManager[None]:
    """A context that is a phase of the innermost visible task, reported once it lasts, or
    `at_once`, for code that keeps the reporting thread from running."""
    return _open[-1].phase(text, at_once) if _open else nullcontext()


def first_use(key: Hashable, text: str, *, at_once: bool = False) -> AbstractContextManager[None]:
    """A `phase` the first time that this process meets `key`, when code has to be compiled, else a
    context that does nothing."""
    mark = hash(key)
    if mark in _used:
        return nullcontext()
    _used.add(mark)
    return phase(text, at_once=at_once)


def note(text: str) -> None:
    """Set the state of the phase under way, which lines then show in its place."""
    if _open:
        _open[-1].note = text


@contextmanager
def heard_by(listener: Listener) -> Generator[None]:
    """Send progress to `listener` as records, in place of bars and lines."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _drawn(shown: bool | None, **options: Any) -> tqdm[Any] | None:
    """A tqdm bar, for notebooks where there is one; None where it would not be seen."""
    from tqdm.auto import tqdm

    bar = tqdm(disable=None if shown is None else False, delay=LOOKED_AT, **options)
    return None if bar.disable else bar


def _listed(values: Mapping[str, float]) -> str:
    return " ".join(f"{k}={v:.4g}" for k, v in values.items())


def _line(text: str) -> None:
    """Write a line to standard error."""
    with suppress(OSError, ValueError):  # nowhere to say it
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
