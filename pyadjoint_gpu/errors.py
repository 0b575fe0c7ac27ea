"""Errors and warnings: a small hierarchy over the builtins."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class ConfigError(ValueError):
    """A setting is missing, misspelt or has a wrong value."""


class DataError(ValueError):
    """Data (an array, a Dataset, a file) cannot be used as it is."""


class EngineError(RuntimeError):
    """An engine is not available, or failed; ``trace`` is what it printed, where it did."""

    trace: str | None = None


class ConvergenceError(RuntimeError):
    """A solve or an inversion stopped short; what it reached is in ``result``."""

    def __init__(self, message: str, result: Any = None):
        super().__init__(message)
        self.result = result


class ConvergenceWarning(RuntimeWarning):
    """Round-off stopped a solve above the tolerance, or one solver had to give way to another."""


class JournalWarning(UserWarning):
    """A journal is damaged in part, or cannot tell whether something changed between runs."""


def shown(value: Any) -> str:
    """What was found, on one line."""
    kind = type(value).__name__
    if getattr(value, "shape", ()):
        return f"{kind} of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else kind


def check_choice(what: str, found: Any, allowed: tuple[str, ...]) -> None:
    """A `ConfigError` unless `found` is one of those allowed."""
    if found not in allowed:
        raise ConfigError(f"{what}: found {found!r}, expected one of {', '.join(allowed)}")


def check_kind(what: str, found: Any, kind: type, also: str = "") -> None:
    """A `ConfigError` unless `found` is of that class; `also` is what else it may be."""
    if isinstance(found, kind):
        return
    expected = f"expected a {kind.__name__}{also}"
    if isinstance(found, type):
        make = f"; make one: {found.__name__}(...)" if issubclass(found, kind) else ""
        raise ConfigError(f"{what}: found the class {found.__name__}, {expected}{make}")
    raise ConfigError(f"{what}: found {type(found).__name__}, {expected}")


def check_mapping(what: str, found: Any, of: str) -> None:
    """A `ConfigError` unless `found` has values by name."""
    if not isinstance(found, Mapping):
        raise ConfigError(f"{what}: found {shown(found)}, expected a mapping of {of}")


def nearest(found: str, allowed: Iterable[str]) -> str:
    """What to add to an error about an unknown name."""
    names = list(allowed)
    close = difflib.get_close_matches(found, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(names)}"


def check_keys(table: Any, allowed: Iterable[str], where: str) -> dict[str, Any]:
    """`table`, or a `ConfigError` that names the first key it should not have."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: found {table!r}, expected a table")
    allowed = list(allowed)
    for key in table:
        if key not in allowed:
            full = f"{where}.{key}" if where else str(key)
            raise ConfigError(f"{full}: unknown key{nearest(str(key), allowed)}")
    return dict(table)


def check_table(table: Any, where: str) -> dict[str, Any]:
    """`table` as a dict, or a `ConfigError`."""
    return check_keys(table, table if isinstance(table, Mapping) else (), where)
