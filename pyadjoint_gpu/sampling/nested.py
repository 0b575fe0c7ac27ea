"""ln Z by nested sampling, with the slice sampler of blackjax.

(Skilling 2006, Bayesian Anal. 1, 833; Yallup, Kroupa and Handley 2026, arXiv:2601.23252.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from ..core.extras import needed
from ..core.precision import compiled, double
from .target import Target, guarded

LIVE = 500
"""Live points."""
TOGETHER = 50
"""Points that are replaced at a time."""
ENOUGH = -5.0
"""ln of the live points' share of Z at which to stop."""
SPREAD = 5.0
"""What ln L may be below the mean about its peak."""
DRAWN = 200
"""Simulated shrinkages, whose scatter is the error."""
MOST = 4000
"""Most steps."""


class Nested(NamedTuple):
    """ln Z and its error."""

    log_evidence: float
    error: float


@double
def nested(target: Target, *, seed: int = 0, live: int = LIVE, peak: float = -np.inf) -> Nested:
    """ln Z of a target whose likelihood is a JAX function.

    It ends when the live points have hardly any share of Z, but not before they are as high as the
    likelihood's `peak`, as far as that is known: past a first-order phase transition it is there
    that Z is (Skilling 2006, sec. 6)."""
    blackjax, utils = needed("blackjax", "sampling"), needed("blackjax.ns.utils", "sampling")
    phi = guarded(target.misfit)
    algorithm = blackjax.nss(
        logprior_fn=lambda x: -guarded(target.potential)(x),
        loglikelihood_fn=lambda x: -phi(target.theta(x)),
        num_delete=TOGETHER,
        num_inner_steps=max(10, 3 * target.size),
    )
    first = target.program("first nested points", lambda: compiled(algorithm.init))
    step = target.program("nested points", lambda: compiled(algorithm.step))
    start, run, end = jax.random.split(jax.random.key(seed), 3)
    drawn = target.drawn(np.random.default_rng([seed, 1]), live)
    state: Any = first(jnp.asarray(drawn), rng_key=start)
    dead: list[Any] = []
    for k in range(MOST):
        left = float(state.integrator.logZ_live - state.integrator.logZ) if k else 0.0
        top = float(jnp.max(state.particles.loglikelihood))
        if left < ENOUGH and top > peak - 0.5 * target.size - SPREAD:
            break
        state, gone = step(jax.random.fold_in(run, k), state)
        dead.append(gone)
    logs = utils.log_weights(end, utils.finalise(state, dead, update_info=False), shape=DRAWN)
    each = special.logsumexp(np.asarray(logs), axis=0) + target.constant
    return Nested(float(np.mean(each)), float(np.std(each)))
