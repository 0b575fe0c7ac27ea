"""The one base through which frozen dataclasses take what they have converted."""

from __future__ import annotations

from typing import Any


class Frozen:
    """A frozen dataclass that converts what it is given, in its `__init__` or `__post_init__`."""

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
