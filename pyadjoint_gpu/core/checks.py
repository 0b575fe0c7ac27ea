"""Checks of arguments: each returns the value in its final form, or raises an error that says
where, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ConfigError, DataError, nearest, shown
from .guards import is_mapping
from .quantities import numbers, stated

if TYPE_CHECKING:
    from jaxtyping import Float


def finite(name: str, value: object, kind: str = "a number") -> float:
    """`value` as a float, or a `ConfigError`."""
    try:
        found = number(value)
    except (TypeError, ValueError):
        found = np.nan
    if not np.isfinite(found):
        raise ConfigError(f"{name}: found {value!r}, expected {kind}")
    return found


def positive(name: str, value: object, kind: str = "a positive number") -> float:
    """`value` as a float > 0, or a `ConfigError`."""
    found = finite(name, value, kind)
    if found <= 0:
        raise ConfigError(f"{name}: found {value!r}, expected {kind}")
    return found


def count(name: str, value: object, least: int = 1, kind: str = "") -> int:
    """`value` as an int >= `least`, or a `ConfigError`; `kind` is what it says was expected."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        kind = kind or ("a positive whole number" if least == 1 else f"a whole number >= {least}")
        raise ConfigError(f"{name}: found {value!r}, expected {kind}")
    return int(value)


def real_array(name: str, value: object) -> Float[np.ndarray, " ..."]:
    """`value` as an array of real numbers, NaN where one is missing, or a `DataError`."""
    return numbers(name, value, expected="real numbers")


def finite_array(name: str, value: object) -> Float[np.ndarray, " ..."]:
    """`value` as an array of finite numbers, or a `DataError`."""
    array = real_array(name, value)
    if not np.all(np.isfinite(array)):
        raise DataError(f"{name}: {np.count_nonzero(~np.isfinite(array))} values are not finite")
    return array


def check_choice(what: str, found: object, allowed: tuple[str, ...]) -> None:
    """Raise a `ConfigError` unless `found` is one of `allowed`."""
    if found not in allowed:
        raise ConfigError(f"{what}: found {found!r}, expected one of {', '.join(allowed)}")


def check_kind(what: str, found: object, kind: type, also: str = "") -> None:
    """Raise a `ConfigError` unless `found` is an instance of `kind`; `also` names alternatives."""
    if isinstance(found, kind):
        return
    expected = f"expected a {kind.__name__}{also}"
    if isinstance(found, type):
        make = f"; make one: {found.__name__}(...)" if issubclass(found, kind) else ""
        raise ConfigError(f"{what}: found the class {found.__name__}, {expected}{make}")
    text = f" {found!r}" if isinstance(found, str) else ""
    raise ConfigError(f"{what}: found {type(found).__name__}{text}, {expected}")


def check_mapping(what: str, found: object, of: str) -> None:
    """Raise a `ConfigError` unless `found` is a mapping, of what `of` says."""
    if not is_mapping(found):
        raise ConfigError(f"{what}: found {shown(found)}, expected a mapping of {of}")


def check_keys(table: object, allowed: Iterable[str], where: str) -> dict[str, Any]:
    """`table` as a dict, or a `ConfigError` that names its first unknown key."""
    if not is_mapping(table):
        raise ConfigError(f"{where}: found {table!r}, expected a table")
    allowed = list(allowed)
    for key in table:
        if key not in allowed:
            full = f"{where}.{key}" if where else str(key)
            raise ConfigError(f"{full}: unknown key{nearest(str(key), allowed)}")
    return dict(table)


def check_tolerance(name: str, value: object) -> float:
    """`value` as a float in (0, 1), or a `ConfigError` that names it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{name}: found {value!r}, expected a number in (0, 1)")
    found = float(value)
    if not 0.0 < found < 1.0:
        raise ConfigError(f"{name}: found {found:g}, expected a number in (0, 1)")
    return found


def check_iterations(name: str, value: object, default: int) -> int:
    """`value` as a positive int (`default` for None), or a `ConfigError` that names it."""
    return default if value is None else count(name, value, kind="a whole number >= 1")


def as_text(value: object, where: str) -> str:
    """`value` as a text that is not empty, or a `ConfigError`."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: found {value!r}, expected a text")
    return value


def number(value: Any) -> float:
    """`value` as a float, or a TypeError for texts, truth values and values that state units."""
    if isinstance(value, bool | np.bool_ | str) or stated(value) is not None:
        raise TypeError
    return float(value)


def fraction(name: str, value: object, *, zero: bool = False) -> None:
    """Raise a `ConfigError` unless 0 < `value` < 1, or with `zero` 0 <= `value` < 1."""
    expected = f"a number between 0{' (allowed)' if zero else ''} and 1"
    found = finite(name, value, expected)
    if not (0.0 <= found < 1.0 if zero else 0.0 < found < 1.0):
        raise ConfigError(f"{name}: found {value}, expected {expected}")
