"""Conversion of samples to ArviZ."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Int

from ..core.errors import DataError, EngineError
from ..statistics.resampling import systematic
from .samples import ABOUT, samples_of, weights_of

NOTE = (
    "particles of sequential Monte Carlo, not a Markov chain: chains are independent runs, draws"
    " their particles. r_hat compares runs; ESS and MCSE from autocorrelation mean nothing"
)


def to_datatree(result: xr.Dataset) -> xr.DataTree:
    """Samples in ArviZ's groups, which ArviZ 1 takes as they are.

    Runs are chains, particles draws: r_hat says whether runs agree, but ArviZ's statistics of
    autocorrelation (ESS, MCSE) are meaningless, since particles have no order.

    Parameters
    ----------
    result : Dataset
        A sampler's result. Of several draws of slip for each theta the first is taken, so that both
        are of the joint posterior. Weighted samples (``weight``) are resampled, run by run.

    Returns
    -------
    xr.DataTree
        ``posterior``: all unknowns (dimensions ``chain``, ``draw`` and their own).
        ``sample_stats``: the sampler's statistics, by chain. Attributes include ln Z and its error.

    Raises
    ------
    DataError
        If there are no samples, or runs have different sizes.
    """
    groups, attributes = _groups(result)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = attributes
    return tree


def to_arviz(result: xr.Dataset) -> Any:
    """Samples in the type of the installed ArviZ: an ``InferenceData`` before version 1, else the
    DataTree of `to_datatree`.

    Raises
    ------
    DataError
        As for `to_datatree`.
    EngineError
        If ArviZ is missing.
    """
    try:
        import arviz  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise EngineError("ArviZ is missing: pip install 'pyadjoint_gpu[arviz]'") from None
    if int(arviz.__version__.split(".")[0]) >= 1:
        return to_datatree(result)
    groups, attributes = _groups(result)
    made: Any = arviz.InferenceData  # whose annotations take the groups for other options
    return made(attrs=attributes, **groups)


def _groups(result: xr.Dataset) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    samples = samples_of(result)
    indices, runs = _by_run(samples)
    chosen = xr.DataArray(
        indices, dims=("chain", "draw"), coords={"chain": runs, "draw": range(indices.shape[1])}
    )
    samples = samples.drop_vars("run", errors="ignore").isel(sample=chosen)
    samples = _labelled(samples.transpose("chain", "draw", ...))
    stats = samples[[n for n in samples.data_vars if n in ABOUT and n != "weight"]]
    by_run = result[[n for n in result.data_vars if "repeat" in result[n].dims]]
    if by_run.sizes.get("repeat") == len(runs):
        stats = stats.merge(by_run.rename(repeat="chain").assign_coords(chain=runs))
    attributes = {
        **result.attrs,
        "inference_library": "pyadjoint_gpu",
        "inference_library_version": result.attrs.get("pyadjoint_gpu_version", ""),
        "comment": NOTE,
    }
    posterior = samples.drop_vars([n for n in ABOUT if n in samples])
    groups = {"posterior": posterior, "sample_stats": stats}
    return {k: v.assign_attrs(attributes) for k, v in groups.items() if v.data_vars}, attributes


def _labelled(samples: xr.Dataset) -> xr.Dataset:
    """Samples with one coordinate a dimension, labels joined: ArviZ's tables can show no others."""
    labels: dict[str, list[np.ndarray]] = {}
    for name in [str(n) for n in samples.coords if n not in samples.dims]:
        at = samples[name]
        if at.ndim == 1 and at.dims[0] not in samples.coords:
            labels.setdefault(str(at.dims[0]), []).append(at.values)
        samples = samples.drop_vars(name)
    for d, columns in labels.items():
        words = [" ".join(map(_word, row)) for row in zip(*columns, strict=True)]
        samples = samples.assign_coords({d: (d, words)})
    return samples


def _word(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _by_run(
    samples: xr.Dataset,
) -> tuple[Int[np.ndarray, "runs draws"], Int[np.ndarray, " runs"]]:
    """Indices of the samples of each run, one run a row, and the runs."""
    size = samples.sizes["sample"]
    run = samples["run"].values if "run" in samples.coords else np.zeros(size, int)
    runs, counts = np.unique(run, return_counts=True)
    if np.ptp(counts):
        raise DataError(f"run: found {counts.tolist()} samples a run, ArviZ takes equal numbers")
    indices = np.argsort(run, kind="stable").reshape(len(runs), -1)
    if "weight" in samples:
        keys = jax.random.split(jax.random.key(0), len(runs))
        logs = jnp.log(weights_of(samples)[indices])
        order = jax.vmap(systematic)(keys, logs)
        indices = np.take_along_axis(indices, np.asarray(order), axis=1)
    return indices, runs
