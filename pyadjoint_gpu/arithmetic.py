"""Double precision and repeatable bits for our own computations, whatever the user's settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")

# On CPUs XLA's newer code generator lets a loop test, as it runs, whether its arrays overlap, and
# round differently according to where memory happened to be: bits would change between runs of
# the same program. The older one knows the answer beforehand.
_REPEATABLE = {"xla_cpu_use_fusion_emitters": False}


def double(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` with 64-bit JAX types enabled, for this call and thread only."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapper


@cache
def _options() -> dict[str, Any]:
    """Compiler options for repeatable bits, as far as this JAX knows them."""
    try:
        jax.jit(lambda x: x + 1, compiler_options=_REPEATABLE)(1)
    except Exception:  # an XLA without the option
        return {}
    return _REPEATABLE


def compiled(function: Callable[P, T], **options: Any) -> Callable[P, T]:
    """`jax.jit(function, **options)` with repeatable bits. Nothing is started before a call."""

    @cache
    def build() -> Callable[P, T]:
        return jax.jit(function, compiler_options=_options(), **options)

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return build()(*args, **kwargs)

    return wrapper
