"""Options of solves, checked, and what came of a solve."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .errors import ConfigError, ConvergenceError, ConvergenceWarning
from .models.base import Model
from .solvers import Convergence


def check_tolerance(name: str, value: Any) -> float:
    """`value` as a float, or a `ConfigError` that names it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ConfigError(f"{name}: found {value!r}, expected a number in (0, 1)")
    if not 0.0 < value < 1.0:
        raise ConfigError(f"{name}: found {value:g}, expected a number in (0, 1)")
    return float(value)


def check_iterations(name: str, value: Any, default: int) -> int:
    """`value` as a positive int (`default` for None), or a `ConfigError` that names it."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name}: found {value!r}, expected a whole number >= 1")
    return int(value)


def default_iterations(model: Model) -> int:
    """A bound that only a solve in trouble reaches: the hard cases take 15 to 45 per cell."""
    return 1000 * max(model.grid.shape)


def require(convergence: Convergence, what: str, result: Any = None) -> None:
    """Raise or warn where a solve did not meet its tolerance."""
    if convergence.status == "round-off":
        warnings.warn(f"{what} {convergence.message}", ConvergenceWarning, stacklevel=3)
    elif not convergence.usable:
        raise ConvergenceError(f"{what} {convergence.message}", result)
