"""Pickling of dataclasses without their cached properties."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any, ClassVar


class AsGiven:
    """A dataclass that pickles its fields only. Cached properties are left out: compiled functions
    cannot be pickled, and JAX arrays would come back in JAX's default precision."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}
