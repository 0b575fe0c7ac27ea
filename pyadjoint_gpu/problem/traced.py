"""Functions that users give, called under JAX."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.errors import ConfigError, nearest, shown
from ..models.base import Fields

_UNTRACEABLE = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


def _named(what: str, function: Any) -> str:
    return f"{what} {getattr(function, '__name__', type(function).__name__)!r}"


def check_signature(what: str, function: Callable[..., Any]) -> None:
    """A `ConfigError` unless the function takes one argument."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # not everything tells
        return
    try:
        signature.bind(None)
    except TypeError:
        raise ConfigError(
            f"{_named(what, function)}: takes {signature}, expected one argument, a dict of arrays"
        ) from None


def scalar(what: str, function: Callable[[Fields], Any], fields: Fields) -> Any:
    """The number that a function makes of fields.

    Raises
    ------
    ConfigError
        If it leaves JAX, names a field that there is not, or returns no number.
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
    if not isinstance(value, jax.Array | np.ndarray | np.number | int | float):
        raise ConfigError(
            f"{what}: {_named('', function).strip()} returned {shown(value)}, expected a number"
        )
    if jnp.shape(value) != ():
        raise ConfigError(f"{what}: returned shape {jnp.shape(value)}, expected a number")
    return value
