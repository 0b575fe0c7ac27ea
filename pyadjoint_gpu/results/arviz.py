"""Conversion of samples to ArviZ."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.errors import EngineError
from ..statistics.resampling import systematic
from .samples import ABOUT, DIMS, samples_of, weights_of

NOTE = (
    "particles of sequential Monte Carlo, not a Markov chain: chains are independent runs, draws"
    " their particles. r_hat compares runs; ESS and MCSE from autocorrelation mean nothing"
)


def to_datatree(result: xr.Dataset) -> xr.DataTree:
    """Samples in ArviZ's groups, which ArviZ 1 takes as they are.

    Of sequential Monte Carlo, runs are chains, particles draws: r_hat says whether runs agree, but
    ArviZ's statistics of autocorrelation (ESS, MCSE) are meaningless, since particles have no
    order. ArviZ has no weights: those of chains, in ``sample_stats``, do not count in its moments.

    Parameters
    ----------
    result : Dataset
        A sampler's result. Of several draws of slip for each theta the first is taken, so that both
        are of the joint posterior. Samples with a ``weight`` each are resampled, chain by chain.

    Returns
    -------
    xr.DataTree
        ``posterior``: all unknowns (dimensions ``chain``, ``draw`` and their own).
        ``sample_stats``: the sampler's statistics, by chain. Attributes include ln Z and its error.

    Raises
    ------
    DataError
        If there are no samples.
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
    if "weight" in result and "draw" in result["weight"].dims:
        samples = _resampled(samples, weights_of(result))
    numbered = {d: range(samples.sizes[d]) for d in DIMS if d not in samples.coords}
    samples = _labelled(samples.assign_coords(numbered))
    about = [n for n in samples.data_vars if n in ABOUT]
    by_chain = [
        n for n in result.data_vars if "chain" in result[n].dims and "draw" not in result[n].dims
    ]
    stats = samples[about].merge(result[by_chain])
    attributes = {
        **result.attrs,
        "inference_library": "pyadjoint_gpu",
        "inference_library_version": result.attrs.get("pyadjoint_gpu_version", ""),
    }
    if result.attrs.get("method") == "smc":
        attributes["comment"] = NOTE
    groups = {"posterior": samples.drop_vars(about), "sample_stats": stats}
    return {k: v.assign_attrs(attributes) for k, v in groups.items() if v.data_vars}, attributes


def _resampled(samples: xr.Dataset, weights: Float[np.ndarray, "chains draws"]) -> xr.Dataset:
    """Samples of equal weight, each chain drawn again from its own by their weights."""
    keys = jax.random.split(jax.random.key(0), len(weights))
    order = np.asarray(jax.vmap(systematic)(keys, jnp.log(weights)))

    def drawn(a: xr.DataArray) -> xr.DataArray:
        return a.copy(data=np.stack([v[w] for v, w in zip(a.values, order, strict=True)]))

    return samples.drop_vars("weight", errors="ignore").map(drawn, keep_attrs=True)


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
