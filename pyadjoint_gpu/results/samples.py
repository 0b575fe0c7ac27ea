"""Results of samplers, as Datasets: samples along ``chain``, an independent run, and ``draw``."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.errors import DataError
from .dataset import Variables, named, provenance

DIMS = ("chain", "draw")
"""Dimensions of samples, before their own."""
ABOUT = ("acceptance", "log_density", "log_likelihood", "misfit", "weight")
"""Variables of a sample other than the unknowns."""

UNKNOWNS = "unknowns"
"""Attribute of samples: the names of the variables that hold theta, as JSON."""
TRANSFORM = "transform"
"""Attribute of a variable that holds a physical field: the transform of which theta is the
value."""

KIND, TITLE = "sampling", "pyadjoint_gpu samples"


def sample_coordinates(chains: int, draws: int) -> Variables:
    """Numbers of the chains and of the draws."""
    return {
        "chain": ("chain", np.arange(chains), named("independent run")),
        "draw": ("draw", np.arange(draws), named("sample of a run")),
    }


WITHIN = 10
"""Degrees of freedom that the variance within runs counts for."""


def evidence(
    log_evidence: Float[np.ndarray, " runs"], within: Float[np.ndarray, " runs"]
) -> dict[str, float | None]:
    """Combined ln Z of R independent runs, and its error.

    ln of the mean of the estimates of Z, which are unbiased. Each run has a variance of ln Z from
    within, v; the error is that of the mean of R runs with the variance

        (10 v + (R - 1) s^2) / (10 + R - 1),

    s the standard deviation between runs: v, which leaves out how particles are correlated, is
    believed as much as the scatter of eleven runs. Both are given, as errors of the mean, too.
    """
    count = len(log_evidence)
    top = np.max(log_evidence)
    together = float(top + np.log(np.mean(np.exp(log_evidence - top))))
    v = float(np.mean(within))
    square = float(np.var(log_evidence, ddof=1)) if count > 1 else 0.0
    both = (WITHIN * v + (count - 1) * square) / (WITHIN + count - 1)
    return {
        "log_evidence": together,
        "log_evidence_error": (both / count) ** 0.5,
        "log_evidence_error_within": (v / count) ** 0.5,
        "log_evidence_error_between": (square / count) ** 0.5 if count > 1 else None,
    }


def weights_of_runs(log_evidence: Float[np.ndarray, " runs"]) -> Float[np.ndarray, " runs"]:
    """Z of each run over their mean, the weights by which particles of independent runs are pooled
    (Verge, Dubarry, Del Moral and Moulines 2015, Stat. Comput. 25, 243)."""
    logs = np.asarray(log_evidence, float)
    z = np.exp(logs - np.max(logs))
    return z / np.mean(z)


def attributes(event: str, **more: Any) -> dict[str, Any]:
    """Global attributes of a sampler's Dataset."""
    device = jax.devices()[0]
    where = f"{device.platform}: {device.device_kind}"
    return provenance(event, **{"kind": KIND, "title": TITLE, "device": where} | more)


def samples_of(result: xr.Dataset) -> xr.Dataset:
    """The variables with a value for each sample, ``chain`` and ``draw`` first; of several draws of
    slip for each theta the first."""
    if "sample" in result.dims:
        raise DataError(
            "samples: found the dimension 'sample', of an earlier version, expected 'chain' and"
            " 'draw': sample again"
        )
    if not all(result.sizes.get(d) for d in DIMS):
        raise DataError("not a sampler's result: it has no samples (dimensions 'chain', 'draw')")
    result = result.isel(slip_draw=0, drop=True, missing_dims="ignore")
    names = [n for n in result.data_vars if set(DIMS) <= set(result[n].dims)]
    return result[names].transpose(*DIMS, ...)


def scalars(samples: xr.Dataset) -> list[str]:
    """Names of the scalar unknowns."""
    return [str(n) for n in samples.data_vars if samples[n].dims == DIMS and n not in ABOUT]


def weights_of(result: xr.Dataset) -> Float[np.ndarray, "chains draws"]:
    """Normalised weights of the samples: equal, unless there is a variable ``weight``, of chains or
    of single samples."""
    equal = xr.DataArray(np.ones([result.sizes[d] for d in DIMS]), dims=DIMS)
    given = result.get("weight", equal)
    if not set(given.dims) <= set(DIMS):
        raise DataError(f"weight: found the dimensions {given.dims}, expected 'chain' and 'draw'")
    weights = (equal * given).transpose(*DIMS).values
    total = float(np.sum(weights))
    if not (np.all(weights >= 0) and 0 < total < np.inf):
        raise DataError("weight: expected numbers that are not negative, nor all zero")
    return weights / total
