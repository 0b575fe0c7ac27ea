"""Errors and warnings: a small hierarchy over the builtins."""

from __future__ import annotations

import difflib
import inspect
import re
import warnings
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any


class ConfigError(ValueError):
    """A setting is missing, misspelt or has a wrong value."""


class DataError(ValueError):
    """Data (an array, a Dataset, a file) cannot be used as it is."""


class EngineError(RuntimeError):
    """An engine is not available, or failed; ``trace`` is what it printed, where it did."""

    trace: str | None = None


class ConvergenceError(RuntimeError):
    """A solve or an inversion stopped before convergence; what it reached is in ``result``."""

    def __init__(self, message: str, result: Any = None):
        super().__init__(message)
        self.result = result


class ConvergenceWarning(RuntimeWarning):
    """Round-off stopped a solve above the tolerance, or one solver had to give way to another."""


class JournalWarning(UserWarning):
    """A journal is damaged in part, or cannot tell whether something changed between runs."""


def warn(text: str, category: type[Warning]) -> None:
    """Warn of the line that called this package, also where others called it back."""
    own = __name__.partition(".")[0]
    frame, level, outer = inspect.currentframe(), 1, 1
    while frame:
        level += 1
        if frame.f_globals.get("__name__", "").partition(".")[0] == own:
            outer = level
        frame = frame.f_back
    warnings.warn(text, category, stacklevel=outer)


def shown(value: Any) -> str:
    """`value` on one line, for messages: its repr, or its type and shape."""
    kind = type(value).__name__
    if getattr(value, "shape", ()):
        return f"{kind} of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else kind


def nearest(found: str, allowed: Iterable[str]) -> str:
    """The end of a message about the unknown name `found`: the nearest allowed one, or all."""
    names = list(allowed)
    close = difflib.get_close_matches(found, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(names)}"


@contextmanager
def keyed(keys: Mapping[str, str]) -> Generator[None]:
    """Raise errors that begin with the name of an argument anew, with the key of the run file that
    gave it in place of the name."""
    try:
        yield
    except (ConfigError, DataError) as error:
        said = re.sub(r"\A\w*", lambda name: keys.get(name[0], name[0]), str(error))
        raise type(error)(said) from None
