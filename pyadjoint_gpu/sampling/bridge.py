"""ln Z by bridge sampling, between a density and a flow that resembles it.

    Z = mean over x ~ q of p / (a p / Z + b q)  /  mean over x ~ p of q / (a p / Z + b q),

where p is not normalised, q is, and a : b are the effective numbers of samples of p and of q,
a + b = 1. Neither mean has weights without bound, as those of importance sampling, p / q, are where
q has lighter tails, and those of the harmonic mean, q / p, where p has. (Meng and Wong 1996, Stat.
Sin. 6, 831; the error: Fruehwirth-Schnatter 2004, Econom. J. 7, 143, section 3.)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logsumexp

from ..core.extras import needed

STEPS = 1000
"""Most steps of the iteration for Z, which contracts."""


def bridge(
    of_samples: Float[np.ndarray, "chains draws"], of_proposals: Float[np.ndarray, "chains draws"]
) -> tuple[float, float]:
    """ln Z and its error, from ln (p / q) at samples of p in chains, and at independent ones of q,
    -inf where p is zero."""
    stats = needed("arviz_stats.base", "sampling").array_stats
    axes = {"chain_axis": 0, "draw_axis": 1}
    many = of_proposals.size
    # Of what is averaged over the chains, whose autocorrelation may differ from that of x.
    effective = min(float(stats.ess(expit(-of_samples), method="mean", **axes)), many)
    odds = np.log(effective / many)
    log_z = float(logsumexp(of_proposals) - np.log(many))
    for _ in range(STEPS):
        above = of_proposals - np.logaddexp(of_proposals - log_z + odds, 0.0)
        below = -np.logaddexp(of_samples - log_z + odds, 0.0)
        new = float(logsumexp(above) - logsumexp(below) + np.log(below.size / many))
        log_z, change = new, abs(new - log_z)
        if change < 1e-10:
            break
    f, g = np.exp(above - np.max(above)), np.exp(below)
    effective = float(stats.ess(g, method="mean", **axes))
    square = np.var(f) / np.mean(f) ** 2 / many + np.var(g) / np.mean(g) ** 2 / effective
    return log_z, float(np.sqrt(square))
