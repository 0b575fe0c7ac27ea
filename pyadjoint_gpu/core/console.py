"""Output of commands: text for people, JSON lines for programs, or nothing."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .guards import is_list, is_mapping

_one_at_a_time = threading.Lock()


class Console:
    """The output of a command. Warnings and errors always go to standard error.

    Parameters
    ----------
    quiet : bool
        Write warnings and errors only.
    as_json : bool
        Write one JSON object a line to standard output, each with a key ``event``:
        "phase", "progress", "plan", "result", "figure", "warning", "error".
    """

    def __init__(self, quiet: bool, as_json: bool):
        self.as_json = as_json
        self._quiet = quiet
        self.progress = False if quiet else None
        """The argument `progress` for the functions that a command calls."""

    def watching(self) -> AbstractContextManager[None]:
        """A context that sends progress where the command's other output goes."""
        if not self.as_json:
            return nullcontext()
        from .progress import heard_by

        return heard_by(self._write)

    def tell(self, event: str, *lines: object, **values: Any) -> None:
        """Write `lines` for people, or `values` for programs."""
        if self.as_json:
            self._write({"event": event, **values})
        elif not self._quiet:
            print(*lines, sep="\n", flush=True)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self._complain("warning", text)

    def error(self, error: object, code: int) -> int:
        """Write an error on one line, and return its exit code."""
        self._complain("error", " ".join(str(error).split()), exit_code=code)
        return code

    def _complain(self, event: str, text: str, **values: Any) -> None:
        if self.as_json:
            self._write({"event": event, "message": text, **values})
        print(f"pyadjoint-gpu: {event}: {text}", file=sys.stderr)

    def _write(self, record: Mapping[str, Any]) -> None:
        # The thread that reports progress writes too.
        with _one_at_a_time:
            print(json.dumps(_plain(record), allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: lists for arrays, None for numbers that are not finite."""
    if is_mapping(value):
        return {str(k): _plain(v) for k, v in value.items()}
    if is_list(value):
        return [_plain(v) for v in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    if hasattr(value, "tolist"):  # arrays of NumPy and JAX
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
