"""Data of a fit: what is present, in units of its errors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from ..core.checks import finite_array, real_array
from ..core.errors import ConfigError, DataError
from ..core.guards import is_mapping
from ..core.quantities import coordinates
from ..results.dataset import named
from .intervals import Intervals

_ALONE = "data"
"""The name of data that are given as one array."""


class Observed:
    """Data that are present, in one row, and their standard deviations.

    Raises
    ------
    ConfigError, DataError
        If they cannot be used.
    """

    def __init__(self, data: Any, error: Any):
        self.alone = not (is_mapping(data) or isinstance(data, xr.Dataset))
        given: Mapping[Hashable, Any] = {_ALONE: data} if self.alone else data
        self.given = {str(name): given[name] for name in given}
        self.coordinates = {
            name: values
            for given in self.given.values()
            if isinstance(given, xr.DataArray)
            for name, values in coordinates(given).items()
        }
        self.values = {name: real_array(name, v) for name, v in self.given.items()}
        if is_mapping(error) and set(error) != set(self.values):
            found, expected = (", ".join(map(str, names)) for names in (error, self.values))
            raise ConfigError(f"error: found {found}, expected {expected}")
        row, deviation = [], []
        for name, values in self.values.items():
            own, where = (error[name], f"error.{name}") if is_mapping(error) else (error, "error")
            relative = finite_array(where, own)
            if np.any(relative <= 0):
                raise DataError(f"{where}: found {relative.min():g}, expected positive numbers")
            try:
                relative = np.broadcast_to(relative, values.shape)
            except ValueError:
                raise DataError(
                    f"{where}: found shape {relative.shape}, expected one number or the shape"
                    f" {values.shape} of {name}"
                ) from None
            if np.any(np.isinf(values)):
                raise DataError(
                    f"{name}: found an infinite value, expected NaN where one is missing"
                )
            if np.any(values == 0.0):
                raise DataError(
                    f"{name}: found 0, which has no relative error; leave it out as NaN"
                )
            row.append(values.ravel())
            deviation.append((relative * np.abs(values)).ravel())
        all_values = np.concatenate(row) if row else np.zeros(0)
        self._present = np.flatnonzero(np.isfinite(all_values))
        self.size, self.missing = len(self._present), len(all_values) - len(self._present)
        if not self.size:
            raise DataError("data: found none, expected at least one number that is not NaN")
        self._row = all_values[self._present]
        self._deviation = np.concatenate(deviation)[self._present]

    def check(self, function: Callable[..., Any], intervals: Intervals) -> None:
        """Raise a `DataError` unless the function's result has the form of the data."""
        z = jnp.full(intervals.size, 0.5)
        made = jax.eval_shape(lambda z: function(intervals.values(z)), z)
        if self.alone == is_mapping(made):
            expected = "an array" if self.alone else f"a mapping of {', '.join(self.values)}"
            raise DataError(f"function: returned {type(made).__name__}, expected {expected}")
        for name, values in self.values.items():
            if not self.alone and name not in made:
                raise DataError(f"function: returned {', '.join(made)}, expected {name} too")
            shape = np.shape(made if self.alone else made[name])
            if shape != values.shape:
                what = "" if self.alone else f"{name} of "
                raise DataError(f"function: returned {what}shape {shape}, data have {values.shape}")

    def residual(self, result: Any) -> Float[Array, " data"]:
        """Residuals in units of errors."""
        parts = [result if self.alone else result[name] for name in self.values]
        row = jnp.concatenate([jnp.ravel(part) for part in parts])
        return (row[self._present] - self._row) / self._deviation

    def fitted(self, residual: Float[np.ndarray, "solutions data"]) -> dict[str, Any]:
        """What fits the data at each solution, as variables; NaN where data are missing."""
        sizes = [v.size for v in self.values.values()]
        rows = np.full((len(residual), sum(sizes)), np.nan)
        rows[:, self._present] = self._row + residual * self._deviation
        out: dict[str, Any] = {}
        parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
        for (name, values), part in zip(self.values.items(), parts, strict=True):
            given = self.given[name]
            dims = getattr(given, "dims", tuple(f"{name}_{k}" for k in range(values.ndim)))
            units = getattr(given, "attrs", {}).get("units", "1")
            out[name] = dims, values, named(name, units)
            fitted = part.reshape(-1, *values.shape)
            out[f"{name}_fitted"] = ("solution", *dims), fitted, named(f"{name} as fitted", units)
        return out
