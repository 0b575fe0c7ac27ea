"""Results of samplers, as Datasets."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.errors import DataError
from .dataset import provenance

ABOUT = ("log_likelihood", "misfit", "weight")
"""Variables of a sample other than the unknowns."""

KIND, TITLE = "sampling", "pyadjoint_gpu samples"


def evidence(log_evidence: Float[np.ndarray, " runs"]) -> dict[str, float | None]:
    """Combined ln Z of independent runs, and its error.

    ln of the mean of the estimates of Z, which are unbiased, and the standard deviation of ln Z
    over the square root of the number of runs; one run gives no error.
    """
    count = len(log_evidence)
    top = np.max(log_evidence)
    together = float(top + np.log(np.mean(np.exp(log_evidence - top))))
    error = float(np.std(log_evidence, ddof=1) / np.sqrt(count)) if count > 1 else None
    return {"log_evidence": together, "log_evidence_error": error}


def attributes(event: str, **more: Any) -> dict[str, Any]:
    """Global attributes of a sampler's Dataset."""
    device = jax.devices()[0]
    where = f"{device.platform}: {device.device_kind}"
    return provenance(event, kind=KIND, title=TITLE, device=where, **more)


def samples_of(result: xr.Dataset) -> xr.Dataset:
    """The variables with a value for each sample, one draw of each."""
    if "sample" not in result.dims or result.sizes["sample"] == 0:
        raise DataError("not a sampler's result: it has no samples (dimension 'sample')")
    if "draw" in result.dims:
        result = result.isel(draw=0, drop=True)
    return result[[n for n in result.data_vars if "sample" in result[n].dims]]


def scalars(samples: xr.Dataset) -> list[str]:
    """Names of the scalar unknowns."""
    return [str(n) for n in samples.data_vars if samples[n].ndim == 1 and n not in ABOUT]


def weights_of(samples: xr.Dataset) -> Float[np.ndarray, " samples"]:
    """Normalised weights of the samples: equal, unless there is a variable ``weight``."""
    size = samples.sizes["sample"]
    if "weight" not in samples:
        return np.full(size, 1.0 / size)
    weights = np.asarray(samples["weight"], float)
    total = float(np.sum(weights))
    if not (np.all(weights >= 0) and 0 < total < np.inf):
        raise DataError("weight: expected numbers that are not negative, nor all zero")
    return weights / total
