"""Packages of the extra ``sampling``, imported on use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..core.errors import EngineError


def needed(name: str, extra: str) -> Any:
    """The module `name`; an `EngineError` that says what to install if it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        raise EngineError(
            f"{package} is missing: pip install 'pyadjoint_gpu[{extra}]' ({error})"
        ) from None
