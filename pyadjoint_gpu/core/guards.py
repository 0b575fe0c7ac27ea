"""Type guards for containers of anything, which `isinstance` leaves of unknown types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    import numpy as np


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether `value` is a mapping."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether `value` is a list or a tuple."""
    return isinstance(value, list | tuple)


def is_set(value: object) -> TypeGuard[set[Any] | frozenset[Any]]:
    """Whether `value` is a set."""
    return isinstance(value, set | frozenset)


def is_array(value: object) -> TypeGuard[np.ndarray]:
    """Whether `value` is an array of NumPy."""
    import numpy as np

    return isinstance(value, np.ndarray)


def is_scalar(value: object) -> TypeGuard[np.generic[Any]]:
    """Whether `value` is a scalar of NumPy."""
    import numpy as np

    return isinstance(value, np.generic)
