"""What commands say: text for people, nothing, or JSON lines for programs."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_one_at_a_time = threading.Lock()


class Console:
    """Where a command's words go. Warnings and errors go to standard error, whatever is chosen.

    Parameters
    ----------
    quiet : bool
        Say no more than warnings and errors.
    as_json : bool
        Write one JSON object a line to standard output, told apart by their key ``event``:
        "phase", "progress", "plan", "result", "figure", "warning", "error".
    """

    def __init__(self, quiet: bool, as_json: bool):
        self.as_json = as_json
        self._quiet = quiet
        self.progress = False if quiet else None
        """As the Python functions take it."""

    def watching(self) -> AbstractContextManager:
        """While a command runs: progress goes where its other words go."""
        if not self.as_json:
            return nullcontext()
        from .progress import heard_by

        return heard_by(self._write)

    def tell(self, event: str, *lines: object, **values: Any) -> None:
        """`lines` for people, `values` for programs."""
        if self.as_json:
            self._write({"event": event, **values})
        elif not self._quiet:
            print(*lines, sep="\n", flush=True)

    def warn(self, text: str) -> None:
        self._complain("warning", text)

    def error(self, error: object, code: int) -> int:
        self._complain("error", " ".join(str(error).split()), exit_code=code)
        return code

    def _complain(self, event: str, text: str, **values: Any) -> None:
        if self.as_json:
            self._write({"event": event, "message": text, **values})
        print(f"pyadjoint-gpu: {event}: {text}", file=sys.stderr)

    def _write(self, record: Mapping[str, Any]) -> None:
        # Also from the thread that watches a run.
        with _one_at_a_time:
            print(json.dumps(_plain(record), allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    """As JSON has it, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    if hasattr(value, "tolist"):  # NumPy's and JAX's
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
