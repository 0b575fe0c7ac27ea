"""Checks of errors, and roots of covariances."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.errors import DataError


def check_units(name: str, value: Any) -> None:
    """Raise a `DataError` if standard deviations are in the square of a unit, as variances are, or
    a covariance, an array of two axes, is not."""
    units = str(getattr(value, "attrs", {}).get("units", "")).strip()
    square = np.ndim(value) == 2
    if not square and re.fullmatch(r"[A-Za-z]+(\^|\*\*)?2", units):
        raise DataError(
            f"{name}: found {units!r}, the unit of variances; expected standard deviations: take"
            " their square roots"
        )
    if square and re.fullmatch("[A-Za-z]+", units):
        raise DataError(
            f"{name}: found a covariance in {units!r}, expected the square of a unit, '{units}2'"
        )


def check_errors(name: str, given: Float[np.ndarray, " ..."], n: int) -> None:
    """Raise a `DataError` unless an array has a shape of errors of n values: one standard
    deviation, n of them, or a covariance."""
    if given.ndim == 1 and len(given) != n:
        raise DataError(f"{name}: found {len(given)} values, expected {n}")
    if given.ndim > 1 and given.shape != (n, n):
        raise DataError(f"{name}: found an array of shape {given.shape}, expected {(n, n)}")


def check_symmetric_matrix(name: str, given: Float[np.ndarray, "n n"]) -> None:
    """Raise a `DataError` unless a covariance is symmetric, to round-off, where it is finite."""
    largest = np.max(np.abs(given), where=np.isfinite(given), initial=0.0)
    if not np.allclose(given, given.T, rtol=1e-8, atol=1e-12 * largest, equal_nan=True):
        raise DataError(f"{name}: the covariance is not symmetric")


def factor(name: str, given: Float[np.ndarray, " ..."], n: int) -> Float[np.ndarray, "n ..."]:
    """A root of the covariance of n values: their standard deviations, if one or n of these are
    given, or the lower Cholesky factor of a covariance.

    Raises
    ------
    DataError
        If a standard deviation is not positive, or the covariance is not symmetric and positive
        definite.
    """
    check_errors(name, given, n)
    if given.ndim < 2:
        if not np.all(given > 0):
            raise DataError(f"{name}: found {np.min(given):g}, expected values > 0")
        return np.broadcast_to(given, n).copy()
    check_symmetric_matrix(name, given)
    try:
        return np.linalg.cholesky(given)
    except np.linalg.LinAlgError:
        raise DataError(f"{name}: the covariance is not positive definite") from None
