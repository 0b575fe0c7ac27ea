"""Unknowns of samples as a vector on the whole line, with the density of that vector."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.errors import DataError
from ..results.samples import samples_of

UNKNOWNS = "unknowns"
"""Attribute of samples: the names of the variables that hold theta, as JSON."""
TRANSFORM = "transform"
"""Attribute of a variable that holds a physical field: the transform of which theta is the
value."""


def on_line(
    result: xr.Dataset,
) -> tuple[Float[np.ndarray, "chains draws n"], Float[np.ndarray, "chains draws"]]:
    """All unknowns as a vector y in R^n, and ln of its density with all constants.

    theta, of which a result has the density, is the transformed control; numbers within bounds are
    mapped to the line, y = ln(theta - a), ln(b - theta) or ln((theta - a) / (b - theta)), and
    ln |dtheta/dy| is added.
    """
    samples = samples_of(result)
    if UNKNOWNS not in result.attrs or "log_density" not in samples:
        raise DataError("samples: they do not say what their density is: sample again")
    log = np.array(samples["log_density"], float)
    columns = []
    for name in json.loads(result.attrs[UNKNOWNS]):
        if name not in samples:
            raise DataError(f"samples.{name} is missing, one of their unknowns")
        values = np.asarray(samples[name], float)
        values = values.reshape(*log.shape, -1)
        about = samples[name].attrs
        low, high = about.get("valid_min", -np.inf), about.get("valid_max", np.inf)
        transform = about.get(TRANSFORM)
        if transform == "log":
            y = np.log(values)
        elif transform == "logistic":
            y = np.log((values - low) / (high - values))
        elif np.isfinite(low) and np.isfinite(high):
            y = np.log((values - low) / (high - values))
            log += np.sum(np.log((values - low) * (high - values) / (high - low)), axis=-1)
        elif np.isfinite(low) or np.isfinite(high):
            y = np.log(values - low if np.isfinite(low) else high - values)
            log += np.sum(y, axis=-1)
        else:
            y = values
        columns.append(y)
    return np.concatenate(columns, axis=-1), log
