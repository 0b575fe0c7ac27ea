"""Double precision for our own computations, whatever the user's JAX configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")


def double(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` with 64-bit JAX types enabled, for this call and thread only."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapper
