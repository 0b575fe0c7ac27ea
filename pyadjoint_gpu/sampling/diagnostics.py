"""Convergence of Markov chains: rank-normalised split R-hat, bulk and tail effective sample size.

(Vehtari, Gelman, Simpson, Carpenter and Buerkner 2021, Bayesian Anal. 16, 667.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..core.extras import needed

MOST = 256
"""Components whose diagnostics are computed: of more, as many, evenly spaced."""
TAIL = (0.05, 0.95)


class Diagnostics(NamedTuple):
    """The worst of all components: the largest R-hat, the smallest ESS; NaN where there are too few
    draws."""

    r_hat: float
    ess_bulk: float
    ess_tail: float


def diagnostics(x: Float[np.ndarray, "chains draws n"]) -> Diagnostics:
    """Diagnostics of chains together; R-hat of one chain compares its halves."""
    if x.shape[1] < 4:
        return Diagnostics(np.nan, np.nan, np.nan)
    stats = needed("arviz_stats.base", "sampling").array_stats
    x = x[..., chosen(x.shape[-1])]
    axes = {"chain_axis": 0, "draw_axis": 1}
    # Chains that have not moved have no variance.
    with np.errstate(divide="ignore", invalid="ignore"):
        return Diagnostics(
            float(np.max(stats.rhat(x, **axes))),
            float(np.min(stats.ess(x, method="bulk", **axes))),
            float(np.min(stats.ess(x, method="tail", prob=TAIL, **axes))),
        )


def chosen(size: int) -> np.ndarray:
    """Indices of the components that are looked at."""
    return np.unique(np.linspace(0, size - 1, min(size, MOST)).round().astype(int))
