"""Packages that come with extras, imported on use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import EngineError


def needed(name: str, extra: str) -> Any:
    """The module `name`; an `EngineError` that says what to install if it is missing."""
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0].replace("_", "-")
        raise EngineError(f"{package} is missing: pip install 'pyadjoint_gpu[{extra}]'") from None
