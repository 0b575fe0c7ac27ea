"""Launches of ranks that are under way."""

from __future__ import annotations

from .base import Engine

launches: list[Engine] = []
"""Launches whose ``with`` block is being executed, the innermost last."""


def current(engine: Engine) -> Engine:
    """The engine that solves now: the innermost launch under way, or `engine`."""
    return launches[-1] if launches else engine
