"""Pickling of dataclasses that cache what they compute."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class AsGiven:
    """A dataclass that pickles its fields only. Cached properties are left out: compiled functions
    cannot be pickled, and JAX arrays would come back in JAX's default precision."""

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]  # a dataclass
