"""ln Z by bridge sampling, between a density and a flow that resembles it.

    Z = mean over x ~ q of p / (a p / Z + b q)  /  mean over x ~ p of q / (a p / Z + b q),

where p is not normalised, q is, and a : b are the effective numbers of samples of p and of q,
a + b = 1. Neither mean has weights without bound, as those of importance sampling, p / q, are where
q has lighter tails, and those of the harmonic mean, q / p, where p has. (Meng and Wong 1996, Stat.
Sin. 6, 831; the error: Fruehwirth-Schnatter 2004, Econom. J. 7, 143, section 3.)
"""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logsumexp

from ..core.extras import needed

STEPS = 1000
"""Most steps of the iteration for Z, which contracts."""
ENOUGH = 1e-10
"""Change of ln Z in a step at which it ends."""


def bridge(
    of_samples: Float[np.ndarray, "chains draws"], of_proposals: Float[np.ndarray, "chains draws"]
) -> tuple[float, float]:
    """ln Z and its error, from ln (p / q) at samples of p in chains, and at independent ones of q,
    -inf where p is zero."""
    stats = needed("arviz_stats.base", "sampling").array_stats
    many = of_proposals.size
    ess = partial(stats.ess, method="mean", chain_axis=0, draw_axis=1)
    effective = min(float(ess(expit(-of_samples))), many)
    odds = np.log(effective / many)

    def terms(log_z: float) -> tuple[np.ndarray, np.ndarray]:
        """ln of what is averaged over proposals, and over samples."""
        above = of_proposals - np.logaddexp(of_proposals - log_z + odds, 0.0)
        return above, -np.logaddexp(of_samples - log_z + odds, 0.0)

    log_z = float(logsumexp(of_proposals) - np.log(many))
    for _ in range(STEPS):
        above, below = terms(log_z)
        change = logsumexp(above) - logsumexp(below) + np.log(below.size / many) - log_z
        log_z += float(change)
        if abs(change) < ENOUGH:
            break
    f, g = (np.exp(a - np.max(a)) for a in terms(log_z))
    square = np.var(f) / np.mean(f) ** 2 / many + np.var(g) / np.mean(g) ** 2 / float(ess(g))
    return log_z, float(np.sqrt(square))
