"""Unknowns of samples as a vector on the whole line, with the density of that vector.

theta, of which a result has the density, is the transformed control; numbers within bounds are
mapped to the line,

    y = ln(theta - a),    ln(b - theta)    or    ln((theta - a) / (b - theta)).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from scipy.special import expit

from ..core.errors import DataError
from ..results.samples import TRANSFORM, UNKNOWNS, samples_of


def on_line(
    result: xr.Dataset,
) -> tuple[Float[np.ndarray, "chains draws n"], Float[np.ndarray, "chains draws"]]:
    """All unknowns as a vector y in R^n, and ln of its density with all constants, ln |dtheta/dy|
    included."""
    samples = samples_of(result)
    if UNKNOWNS not in result.attrs or "log_density" not in samples:
        raise DataError("samples: they do not say what their density is: sample again")
    log = np.array(samples["log_density"], float)
    columns = []
    for name in json.loads(result.attrs[UNKNOWNS]):
        if name not in samples:
            raise DataError(f"samples.{name} is missing, one of their unknowns")
        values = np.asarray(samples[name], float)
        y, gain = onto_line(values.reshape(*log.shape, -1), samples[name].attrs)
        log += np.sum(gain, axis=-1)
        columns.append(y)
    return np.concatenate(columns, axis=-1), log


def onto_line(
    values: Float[np.ndarray, "*shape"], about: Mapping[str, Any]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """y of the values of a variable with these attributes, and ln |dtheta/dy|."""
    low, high, transform = _kind(about)
    if transform == "log":
        return np.log(values), np.zeros_like(values)
    if np.isfinite(low) and np.isfinite(high):
        y = np.log((values - low) / (high - values))
        gain = np.log((values - low) * (high - values) / (high - low))
        return y, np.zeros_like(values) if transform == "logistic" else gain
    if np.isfinite(low) or np.isfinite(high):
        y = np.log(values - low if np.isfinite(low) else high - values)
        return y, y
    return values, np.zeros_like(values)


def off_line(
    y: Float[np.ndarray, "*shape"], about: Mapping[str, Any]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """The inverse of `onto_line`: values, inside of their bounds also after rounding, and
    ln |dtheta/dy|."""
    low, high, transform = _kind(about)
    if transform == "log":
        return np.exp(y), np.zeros_like(y)
    below, above = np.isfinite(low), np.isfinite(high)
    if not below and not above:
        return y, np.zeros_like(y)
    if below and above:
        values = low + (high - low) * expit(y)
        gain = np.log(high - low) - np.logaddexp(0.0, y) - np.logaddexp(0.0, -y)
        gain = np.zeros_like(y) if transform == "logistic" else gain
    else:
        values, gain = low + np.exp(y) if below else high - np.exp(y), y
    return np.clip(values, np.nextafter(low, np.inf), np.nextafter(high, -np.inf)), gain


def inside(
    values: Float[np.ndarray, "*shape"], about: Mapping[str, Any]
) -> Bool[np.ndarray, "*shape"]:
    """Whether values are where a variable with these attributes has a density."""
    low, high, transform = _kind(about)
    return values > 0.0 if transform == "log" else (values > low) & (values < high)


def _kind(about: Mapping[str, Any]) -> tuple[float, float, str | None]:
    """Bounds and the transform."""
    low, high = about.get("valid_min", -np.inf), about.get("valid_max", np.inf)
    return float(low), float(high), about.get(TRANSFORM)
