"""Common steps of tempered samplers: the next temperature, the evidence, resampling.

A density prior * L^gamma is followed from gamma = 0 to 1. Particles x_i of equal weight at one
gamma have weights L(x_i)^dgamma at the next, and

    ESS / N = exp(2 lse(dgamma l) - lse(2 dgamma l)) / N,    ln Z += lse(dgamma l) - ln N,

with l_i = ln L(x_i) and lse(a) = ln sum exp(a). (Del Moral, Doucet and Jasra 2006, J. R. Stat. Soc.
B 68, 411; Chopin and Papaspiliopoulos 2020, An Introduction to Sequential Monte Carlo, ch. 17.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from ..core.precision import compiled, double
from ..statistics.resampling import systematic

Scalar = Float[Array, ""] | float

HALVINGS = 60
"""Bisections of the interval that contains dgamma: enough for the last bit."""


def increment(
    log_likelihood: Float[Array, " particles"], gamma: Scalar, ess: Scalar
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """dgamma in (0, 1 - gamma] at which ESS / N is `ess`, or 1 - gamma where ESS / N stays above;
    and ln of the mean weight. `log_likelihood` is -inf where the likelihood is zero."""
    count = log_likelihood.shape[0]
    # Finite, so that 0 times it is a number.
    logs = jnp.maximum(log_likelihood, -jnp.finfo(log_likelihood.dtype).max / 4.0)
    logs = logs - jnp.max(logs)

    def enough(step: jax.Array | float) -> jax.Array:
        return 2.0 * logsumexp(step * logs) - logsumexp(2.0 * step * logs) >= jnp.log(ess * count)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        good = enough(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    left = 1.0 - gamma
    low, high = lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(left), left))
    # Where hardly any particle has weight, `low` stays zero, but the step must not.
    step = jnp.where(enough(left), left, jnp.where(low > 0.0, low, high))
    return step, logsumexp(step * logs) - jnp.log(count) + step * jnp.max(log_likelihood)


class Stage(NamedTuple):
    """A stage of particles on the host: the exponent at its end, its increment of ln Z, the
    particles' weights before resampling, and the indices resampled."""

    gamma: float
    gain: float
    weights: Float[np.ndarray, " particles"]
    which: Int[np.ndarray, " particles"]

    @property
    def ess(self) -> float:
        """Effective sample size over N."""
        return 1.0 / np.sum(self.weights**2) / len(self.weights)


@double
def stage(
    log_likelihood: Float[np.ndarray, " particles"],
    gamma: float,
    ess: float,
    generator: np.random.Generator,
) -> Stage:
    """The next stage of particles of equal weight."""
    seed = int(generator.integers(2**31))
    logs = jnp.asarray(log_likelihood, "float64")
    step, gain, weights, which = map(np.asarray, _stage(logs, gamma, ess, seed))
    end = 1.0 if step >= 1.0 - gamma else gamma + float(step)
    return Stage(end, float(gain), weights, which)


@compiled
def _stage(
    logs: Float[Array, " particles"], gamma: Scalar, ess: Scalar, seed: int
) -> tuple[Array, Array, Array, Array]:
    step, gain = increment(logs, gamma, ess)
    weights = jax.nn.softmax(step * logs)
    return step, gain, weights, systematic(jax.random.key(seed), jnp.log(weights))
