"""How well a flow stands for samples.

With ln p of samples, ln q of a flow, and K folds of the samples, of which q_k is fitted to all but
the k-th,

    KL(p || q) = mean_k mean_(theta in fold k) [ln p(theta) - ln q_k(theta)] - ln Z,

too large rather than too small, as q_k is fitted to fewer samples. The evidence is recomputed by
the harmonic mean of q / p (see `harmonic`), and a classifier (see `two_sample`) looks for any
difference at all between base points of the samples and N(0, I).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.errors import DataError
from ..core.extras import needed
from ..results.dataset import named
from ..results.samples import attributes, weights_of
from .compact import fitted
from .evidence import APART, SAMPLES
from .flow.model import Flow
from .harmonic import harmonic_mean
from .line import on_line
from .two_sample import TwoSample, two_sample

FOLDS = 5
MOST = 20_000
"""Samples that are enough for the classifier and for the folds."""
ACCURACY = 0.55
"""Accuracy of the classifier up to which a compression passes."""
NEAR = 0.1
"""Difference of ln Z that matters little, whatever the errors."""


def report(flow: Flow, samples: xr.Dataset, about: Mapping[str, Any], seed: int) -> xr.Dataset:
    """The report of `CompressedPosterior.report`; `about` has ln Z, where it is known."""
    x, log = _of_equal_weight(samples)
    least = SAMPLES * x.shape[2]
    if log.size < least:
        raise DataError(f"samples: found {log.size}, expected at least {least}")
    told = _told(flow, x, seed)
    found = harmonic_mean(flow, x, log)
    known = float(about.get("log_evidence", np.nan))
    known_error = float(np.nan_to_num(about.get("log_evidence_error", 0.0)))
    z = known if np.isfinite(known) else found.log_evidence
    divergences = _divergences(x, log, seed) - z
    apart = abs(known - found.log_evidence)
    far = apart > max(APART * np.hypot(known_error, found.error), NEAR)
    passed = told.accuracy <= ACCURACY + APART * told.error and not found.reason and not far
    return xr.Dataset(
        {
            "accuracy": ((), told.accuracy, named("accuracy of a classifier, 0.5 for equals")),
            "accuracy_error": ((), told.error, named("its standard error for equals")),
            "kl": ((), np.mean(divergences), named("KL(p || q) by cross-validation")),
            "kl_error": (
                (),
                np.std(divergences, ddof=1) / np.sqrt(FOLDS),
                named("error of the KL divergence, by the scatter of the folds"),
            ),
            "log_evidence": ((), found.log_evidence, named("ln Z recomputed with the flow")),
            "log_evidence_error": ((), found.error, named("error of ln Z")),
        },
        attrs=attributes(
            "report of a compressed posterior",
            seed=seed,
            passed=bool(passed),
            reason=found.reason,
            folds=FOLDS,
            log_evidence_of_samples=known if np.isfinite(known) else None,
            kind="report",
            title="pyadjoint_gpu report of a compressed posterior",
        ),
    )


def _of_equal_weight(
    samples: xr.Dataset,
) -> tuple[Float[np.ndarray, "chains draws n"], Float[np.ndarray, "chains draws"]]:
    """Samples on the line and ln p; of unequal weights as one chain, by systematic resampling in
    their order."""
    x, log = on_line(samples)
    weights = weights_of(samples)
    if np.ptp(weights) <= 1e-9 * np.max(weights):
        return x, log
    places = (np.arange(log.size) + 0.5) / log.size
    which = np.searchsorted(np.cumsum(weights.ravel()), places).clip(max=log.size - 1)
    return x.reshape(log.size, -1)[which][None], log.ravel()[which][None]


def _thinned(values: Float[np.ndarray, "chains draws ..."]) -> Float[np.ndarray, "a b ..."]:
    """As many as are enough, of each chain alike; short chains are one after another."""
    chains, draws = len(values), len(values[0])
    thin = -(-chains * draws // MOST)
    if draws < 4 * FOLDS * thin:
        values = np.concatenate(list(values))[None]
    return values[:, ::thin]


def _told(flow: Flow, x: Float[np.ndarray, "chains draws n"], seed: int) -> TwoSample:
    """Base points of the samples, of which each chain is halved, against the base."""
    n = x.shape[2]
    x = _thinned(x)
    z = np.asarray(flow.base(x.reshape(-1, n))[0]).reshape(x.shape)
    half = len(z[0]) // 2
    used, held = z[:, :half].reshape(-1, n), z[:, half:].reshape(-1, n)
    normal = np.random.default_rng([seed, 3]).standard_normal((len(used) + len(held), n))
    ess = needed("arviz_stats.base", "sampling").array_stats.ess
    each = [float(ess(column, method="mean")) for column in np.moveaxis(z[:, half:], 2, 0)]
    effective = max(float(np.nanmin([*each, len(held)])), 1.0)
    return two_sample(
        (used, held), (normal[: len(used)], normal[len(used) :]), effective=effective, seed=seed
    )


def _divergences(
    x: Float[np.ndarray, "chains draws n"], log: Float[np.ndarray, "chains draws"], seed: int
) -> Float[np.ndarray, " folds"]:
    """The mean of ln p - ln q_k of each fold. Folds are parts of all chains, one after another, of
    the same size, so that training compiles once."""
    n = x.shape[2]
    x, log = _thinned(x), _thinned(log)
    size = x.shape[1] // FOLDS
    out = []
    for k in range(FOLDS):
        fold = np.arange(size * FOLDS) // size == k
        rows, rest = x[:, : len(fold)][:, fold], x[:, : len(fold)][:, ~fold]
        q = fitted(rest.reshape(-1, n), None, seed).log_density(rows.reshape(-1, n))
        out.append(np.mean(log[:, : len(fold)][:, fold]) - np.mean(np.asarray(q)))
    return np.array(out)
