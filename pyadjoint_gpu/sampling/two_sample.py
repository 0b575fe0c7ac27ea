"""A two-sample test by a classifier.

A network is trained to tell the rows of two sets apart, on one half of each, and its accuracy is
taken on the other halves: 1/2 where they have one distribution, with the standard error

    sqrt(1 / n_x + 1 / n_y) / 4

of n_x and n_y independent rows, and up to 1. (Lopez-Paz and Oquab 2017, ICLR, arXiv:1610.06545.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..core.extras import needed
from ..core.precision import compiled, double

WIDTH = 32
"""Units of the hidden layer."""
STEPS = 1500
BATCH = 256
RATE = 3e-3
DECAY = 1e-2
"""Of the weights, so that few rows are not learned by heart."""
FAR = 10.0
"""Rows are clipped here."""


class TwoSample(NamedTuple):
    """Accuracy on rows held out, and its standard error where the distributions are one."""

    accuracy: float
    error: float


@double
def two_sample(
    x: tuple[Float[np.ndarray, "used n"], Float[np.ndarray, "held n"]],
    y: tuple[Float[np.ndarray, "used n"], Float[np.ndarray, "held n"]],
    *,
    effective: float | None = None,
    seed: int = 0,
) -> TwoSample:
    """How well rows of x can be told from rows of y, both in units in which one of them is about
    standard normal; of each the rows to train with, and those held out.

    Parameters
    ----------
    effective
        Independent rows that those of x held out count for, by default all.
    """
    key = jax.random.key(seed)
    used = _Rows(jnp.asarray(x[0]), jnp.asarray(y[0]))
    right = [np.asarray(r) for r in _classified(key, used, _Rows(x[1], y[1]))]
    accuracy = 0.5 * float(np.mean(right[0]) + np.mean(right[1]))
    n = len(x[1]) if effective is None else min(effective, len(x[1]))
    return TwoSample(accuracy, 0.25 * float(np.sqrt(1.0 / n + 1.0 / len(y[1]))))


class _Rows(NamedTuple):
    x: Any
    y: Any


def _logit(parameters: Any, rows: Float[Array, "rows n"]) -> Float[Array, " rows"]:
    near = jnp.clip(rows, -FAR, FAR)
    features = jnp.concatenate([near, near**2 - 1.0], axis=1)
    first, shift, last, constant = parameters
    return jnp.tanh(features @ first + shift) @ last + constant


def _initial(key: Array, n: int) -> Any:
    first = jax.random.normal(key, (2 * n, WIDTH)) / jnp.sqrt(2.0 * n)
    return first, jnp.zeros(WIDTH), jnp.zeros(WIDTH), jnp.zeros(())


def _training(key: Array, used: _Rows, held: _Rows) -> tuple[Array, Array]:
    """Whether rows held out, of x and of y, are classified rightly."""
    first, order = jax.random.split(key)
    parameters = _initial(first, used.x.shape[1])
    optax = needed("optax", "sampling")
    adam = optax.adamw(optax.cosine_decay_schedule(RATE, STEPS), weight_decay=DECAY)

    def loss(parameters: Any, x: Array, y: Array) -> Array:
        of_x, of_y = _logit(parameters, x), _logit(parameters, y)
        return jnp.mean(jax.nn.softplus(-of_x)) + jnp.mean(jax.nn.softplus(of_y))

    def step(state: Any, k: Array) -> tuple[Any, None]:
        parameters, moments = state
        keys = jax.random.split(jax.random.fold_in(order, k))
        batches = (
            rows[jax.random.randint(key, (BATCH,), 0, len(rows))]
            for key, rows in zip(keys, used, strict=True)
        )
        gradient = jax.grad(loss)(parameters, *batches)
        change, moments = adam.update(gradient, moments, parameters)
        return (optax.apply_updates(parameters, change), moments), None

    state = parameters, adam.init(parameters)
    parameters = lax.scan(step, state, jnp.arange(STEPS))[0][0]
    return _logit(parameters, held.x) > 0.0, _logit(parameters, held.y) <= 0.0


_classified = compiled(_training)
