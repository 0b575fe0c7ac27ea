"""Libraries that come with the extra ``ode``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..core.errors import EngineError


def extra(name: str) -> Any:
    """The library of that name, or an `EngineError` that says how to install it."""
    try:
        return import_module(name)
    except ImportError:
        raise EngineError(f"{name} is missing: pip install 'pyadjoint_gpu[ode]'") from None
