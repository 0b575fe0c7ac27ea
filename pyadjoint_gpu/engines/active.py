"""Which launches are under way."""

from __future__ import annotations

from .base import Engine

launches: list[Engine] = []
"""Those whose ``with`` is entered, the innermost last."""
