"""What a long run is doing: a bar where someone looks, lines elsewhere, records for programs.

A task (`progress_bar`) also tells of the phases within it in which nothing else moves, such as
compilation.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOOKED_AT = 1.0
"""Seconds that a phase lasts before it is told where someone looks."""
UNSEEN = 5.0
"""The same where nobody does: what is over sooner leaves no line in a log."""
EVERY = 60.0
"""Seconds between the lines that tell how far a task is, where there is no bar."""
_TICK = 0.25

Listener = Callable[[dict[str, Any]], None]

_open: list[Task] = []
"""Tasks under way that are shown, the innermost last."""
_listeners: list[Listener] = []
_used: set[int] = set()


@dataclass
class _Phase:
    text: str
    begun: float
    told: bool = False


class Task:
    """Something that takes long, as `progress_bar` shows it. Close after use (or use as a context
    manager, or iterate over it).

    Attributes
    ----------
    done : int
        Steps of it so far.
    """

    def __init__(
        self, items: Any, shown: bool | None, name: str, unit: str, total: int | None
    ) -> None:
        self.name, self.unit, self.items = name, unit, items
        self.total = len(items) if total is None and hasattr(items, "__len__") else total
        self.done = 0
        self._values: Mapping[str, Any] = {}
        self._phases: list[_Phase] = []
        self._note = ""
        self._begun = time.monotonic()
        self._over = threading.Event()
        self._bar: Any = None
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
            for item in self.items:
                yield item
                self.update()

    def update(self, steps: int = 1, **values: float) -> None:
        """So many steps more are done; with numbers that tell how it goes."""
        self.done += steps
        self._note = ""
        self._values = values or self._values
        if self._bar is not None:
            self._bar.set_postfix_str(_listed(self._values), refresh=False)
            self._bar.update(steps)
        elif self._listener is not None:
            self._listener(self._record())

    def close(self) -> None:
        self._over.set()
        if self in _open:
            _open.remove(self)
        if self._bar is not None:
            self._bar.close()

    # Phases

    def _begin(self, text: str, at_once: bool) -> _Phase:
        phase = _Phase(text, time.monotonic())
        self._note = ""
        self._phases.append(phase)
        if at_once or self._patience == 0.0:
            self._tell(phase)
        return phase

    def _end(self, phase: _Phase) -> None:
        self._phases.remove(phase)
        self._note = ""

    def _tell(self, phase: _Phase) -> None:
        phase.told = True
        if self._listener is not None:
            self._listener({"event": "phase", "task": self.name, "phase": phase.text})
        elif self._bar is not None:
            self._bar.write(f"{phase.text} ...", file=sys.stderr)
        else:
            _line(f"{self.name}: {phase.text} ...")

    def _watch(self) -> None:
        """The thread that tells what lasts."""
        due = EVERY
        while not self._over.wait(_TICK):
            now = time.monotonic()
            phase = self._phases[-1] if self._phases else None
            # A phase in which something moves is not waited for any more.
            if phase and not (phase.told or self._note) and now - phase.begun >= self._patience:
                self._tell(phase)
            if now - self._begun >= due:
                due += EVERY
                if self._bar is None and _open and _open[-1] is self:
                    self._tell_state(now - self._begun)

    def _tell_state(self, seconds: float) -> None:
        doing = self._note or (self._phases[-1].text if self._phases else "")
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
    items: Any = None,
    *,
    shown: bool | None,
    desc: str,
    unit: str = "it",
    total: int | None = None,
) -> Task:
    """A task, the iteration over `items` where these are given.

    Parameters
    ----------
    shown : bool or None
        Where None, a bar if someone looks (at a terminal or a notebook), else a line a minute on
        standard error; True for a bar wherever it goes, False for nothing.
    """
    return Task(items, shown, desc, unit, total)


@contextlib.contextmanager
def phase(text: str, *, at_once: bool = False) -> Iterator[None]:
    """A part of the innermost task that is shown, told when it lasts; `at_once` where Python stands
    still while it does."""
    if not _open:
        yield
        return
    task = _open[-1]
    begun = task._begin(text, at_once)
    try:
        yield
    finally:
        task._end(begun)


def first_use(key: Any, text: str, *, at_once: bool = False) -> contextlib.AbstractContextManager:
    """A `phase` the first time that this process does what `key` (which can be hashed) names: then
    it has to be compiled."""
    mark = hash(key)
    if mark in _used:
        return contextlib.nullcontext()
    _used.add(mark)
    return phase(text, at_once=at_once)


def note(text: str) -> None:
    """How far the phase under way is: it is not waited for any more, and the line a minute has
    this."""
    if _open:
        _open[-1]._note = text


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Progress goes to `listener`, as records, in place of bars and lines."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def times(shape: Sequence[int]) -> str:
    """A shape, such as "127 x 255"."""
    return " x ".join(map(str, shape))


def _drawn(shown: bool | None, **options: Any) -> Any:
    """tqdm's bar, of a notebook's kind where there is one; None where nobody looks."""
    from tqdm.auto import tqdm

    bar = tqdm(disable=None if shown is None else False, delay=LOOKED_AT, **options)
    return None if bar.disable else bar


def _listed(values: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:.4g}" for k, v in values.items())


def _line(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nowhere to say it
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
