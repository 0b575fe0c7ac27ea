"""How specifications travel between processes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class AsGiven:
    """A dataclass that pickles as it was given. What is computed from it and kept stays behind:
    compiled functions cannot travel, and arrays of JAX would come back in its default precision."""

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
