"""Users' functions, misfits and penalties: checked, and called under JAX."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.errors import ConfigError, nearest, shown
from ..models.base import Fields

_UNTRACEABLE = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)
_NUMERIC: tuple[type, ...] = (jax.Array, np.ndarray, np.number, int, float)


def _named(what: str, function: object) -> str:
    return f"{what} {getattr(function, '__name__', type(function).__name__)!r}"


def check_signature(what: str, function: Callable[..., Any]) -> None:
    """Raise a `ConfigError` unless the function takes one argument."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # not every callable has one, builtins for instance
        return
    try:
        signature.bind(None)
    except TypeError:
        raise ConfigError(
            f"{_named(what, function)}: takes {signature}, expected one argument, a dict of arrays"
        ) from None


def scalar(
    what: str, function: Callable[[Fields], Any], fields: Fields
) -> Float[Array | np.ndarray, ""] | float:
    """The value of a user's function of fields.

    Raises
    ------
    ConfigError
        If the function converts traced arrays to NumPy or Python numbers, asks for a field that
        does not exist, or returns something else than a number.
    """
    try:
        value = function(fields)
    except _UNTRACEABLE as error:
        raise ConfigError(
            f"{_named(what, function)}: needs values of the fields while it is differentiated (by"
            " NumPy, float() or an `if`, say); use jax.numpy throughout"
        ) from error
    except KeyError as error:
        key = error.args[0] if error.args else None
        if not isinstance(key, str) or key in fields:
            raise
        raise ConfigError(
            f"{_named(what, function)}: there is no field {key!r}{nearest(key, fields)}"
        ) from error
    if not isinstance(value, _NUMERIC):
        raise ConfigError(
            f"{what}: {_named('', function).strip()} returned {shown(value)}, expected a number"
        )
    if jnp.shape(value) != ():
        raise ConfigError(f"{what}: returned shape {jnp.shape(value)}, expected a number")
    return value
