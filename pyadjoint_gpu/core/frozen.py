"""Base of frozen dataclasses that convert their arguments."""

from __future__ import annotations


class Frozen:
    """A frozen dataclass that converts its arguments, in `__init__` or `__post_init__`."""

    def _set(self, **values: object) -> None:
        """Set attributes, which a frozen dataclass otherwise forbids."""
        for name, value in values.items():
            object.__setattr__(self, name, value)
