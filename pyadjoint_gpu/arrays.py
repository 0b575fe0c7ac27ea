"""Arrays that users give, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from .core.quantities import numbers
from .core.quantities import shown as shown
from .errors import DataError


def real(name: str, value: Any) -> np.ndarray:
    """An array of real numbers, NaN where one is missing, or a `DataError`."""
    return numbers(name, value, expected="real numbers")


def finite(name: str, value: Any) -> np.ndarray:
    """An array of numbers, or a `DataError`."""
    array = real(name, value)
    if not np.all(np.isfinite(array)):
        raise DataError(f"{name}: {np.count_nonzero(~np.isfinite(array))} values are not finite")
    return array


def check_errors(name: str, given: np.ndarray, n: int) -> None:
    """A `DataError` unless these may be the errors of n values: one standard deviation, n of them,
    or a covariance."""
    if given.ndim == 1 and len(given) != n:
        raise DataError(f"{name}: found {len(given)} values, expected {n}")
    if given.ndim > 1 and given.shape != (n, n):
        raise DataError(f"{name}: found an array of shape {given.shape}, expected {(n, n)}")


def factor(name: str, given: np.ndarray, n: int) -> np.ndarray:
    """Of a covariance its lower Cholesky factor; of standard deviations themselves."""
    check_errors(name, given, n)
    if given.ndim < 2:
        if not np.all(given > 0):
            raise DataError(f"{name}: found {np.min(given):g}, expected values > 0")
        return np.broadcast_to(given, n).copy()
    if not np.allclose(given, given.T, rtol=1e-8, atol=1e-12 * np.max(np.abs(given))):
        raise DataError(f"{name}: the covariance is not symmetric")
    try:
        return np.linalg.cholesky(given)
    except np.linalg.LinAlgError:
        raise DataError(f"{name}: the covariance is not positive definite") from None
