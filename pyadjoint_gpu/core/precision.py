"""Double precision and bitwise repeatable results, whatever the user's JAX settings."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .compilation import keep_compiled

AnyArray = jax.Array | np.ndarray
"""An array of JAX, or of NumPy on the host."""

P = ParamSpec("P")
T = TypeVar("T")

# On CPUs the loops of XLA's newer code generator test at run time whether arrays overlap in memory
# and round differently if they may: results would differ in their last bits from run to run. The
# older generator decides when it compiles.
_REPEATABLE = {"xla_cpu_use_fusion_emitters": False}
# The newer generator is up to 2.5 times faster.
_FAST = {"xla_cpu_use_fusion_emitters": True}


def double(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` with 64-bit JAX types enabled, for this call and thread only."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        keep_compiled()
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapper


@cache
def _options() -> tuple[dict[str, Any], dict[str, Any]]:
    """Compiler options for repeatable bits and for speed, as far as this JAX knows them."""
    keep_compiled()
    try:
        jax.jit(abs, compiler_options=_REPEATABLE)(1)
    except Exception:  # an XLA without the option
        return {}, {}
    return _REPEATABLE, _FAST


def compiled(function: Callable[P, T], *, quickly: bool = False, **options: Any) -> Callable[P, T]:
    """`jax.jit(function, **options)` with bitwise repeatable results.

    JAX is not initialised before the first call. `quickly` saves a quarter of the compilation
    time.
    """

    @cache
    def build() -> Callable[P, T]:
        effort = {"xla_backend_optimization_level": 1} if quickly else {}
        return jax.jit(function, compiler_options=_options()[0] | effort, **options)

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return build()(*args, **kwargs)

    return wrapper


def traced(value: object) -> bool:
    """Whether JAX traces any number of `value`, which then cannot be looked at."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def fused(function: Callable[P, T], **options: Any) -> Callable[P, T]:
    """`double` and `compiled`, as one program instead of one for each of its operations; within
    code that JAX traces, where it refuses the options of a compiler, a part of that."""
    program = compiled(function, **options)

    @double
    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        inside = traced((args, kwargs)) or traced(jnp.zeros(()))
        return (function if inside else program)(*args, **kwargs)

    return wrapper


def compiled_loop(
    function: Callable[P, T], *, static_argnums: tuple[int, ...] = ()
) -> Callable[P, T]:
    """`compiled` for a function that spends its time in loops, by the faster code generator.

    The loops work on copies of arguments and results, made by multiplication with a one that is
    unknown at compilation. XLA plans one block of memory for all temporary arrays of a function,
    so that the copies always lie at the same distances: tests for overlap give the same in every
    run.
    """

    call: Callable[..., T] = function

    def isolated(*args: Any) -> T:
        *given, one = args

        def copy(x: Any) -> Any:
            x = jnp.asarray(x)
            return x * one.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.number) else x

        copies = (a if k in static_argnums else jax.tree.map(copy, a) for k, a in enumerate(given))
        return jax.tree.map(copy, call(*copies))

    @cache
    def build() -> Callable[..., T]:
        return jax.jit(isolated, static_argnums=static_argnums, compiler_options=_options()[1])

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        return build()(*args, 1.0)

    return wrapper
