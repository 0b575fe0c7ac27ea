"""Texts for one-line descriptions of objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Real


def sizes(shape: Iterable[object]) -> str:
    """A shape as a text: ``8 x 12``."""
    return " x ".join(map(str, shape)) or "1"


def span(values: Real[np.ndarray, " ..."]) -> str:
    """The range of an array as a text: ``0.1 to 2``, or the one value that all have."""
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def counted(number: int, noun: str) -> str:
    """A count with its noun: ``1 well``, ``2 wells``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
