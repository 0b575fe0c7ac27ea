"""Resampling of weighted particles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def systematic(
    key: Key[Array, ""], log_weights: Float[Array, " particles"]
) -> Int[Array, " particles"]:
    """Systematic resampling: indices of N particles drawn by weight.

    The cumulative weights are inverted at the points (u + k) / N, k = 0, ..., N - 1, with one
    random u (Kitagawa 1996, J. Comput. Graph. Stat. 5, 1).
    """
    count = log_weights.shape[0]
    weights = jax.nn.softmax(log_weights)
    points = (jnp.arange(count) + jax.random.uniform(key, dtype=weights.dtype)) / count
    # The sum of the weights may fall short of one by round-off.
    return jnp.minimum(jnp.searchsorted(jnp.cumsum(weights), points, side="right"), count - 1)
