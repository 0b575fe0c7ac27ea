"""Words for what objects say of themselves: one line, never an array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def sizes(shape: Iterable[Any]) -> str:
    """``8 x 12``."""
    return " x ".join(map(str, shape)) or "1"


def span(values: Any) -> str:
    """The least and the largest of numbers, or the one that they all are."""
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def counted(number: int, noun: str) -> str:
    """``1 well``, ``2 wells``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
