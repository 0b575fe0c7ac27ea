"""Descent from many starts at once to minima of |r(z)|^2 in the unit box.

All in x = ln(z / (1 - z)), which has no bounds: first gradient descent (Adam of Kingma and Ba 2015,
by `optax`, with a rate that falls as a cosine), which finds a minimum's surroundings from afar,
then steps of Levenberg and Marquardt, which end in it,

    (J^T J + mu) dx = -J^T r,    J = dr/dx.

Where dr/dz is asked for, it is by reverse mode, which every JAX function has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.extras import needed
from ..core.precision import compiled
from ..core.progress import Task, note

Residual = Callable[[Float[Array, " n"]], Float[Array, " data"]]
"""Residuals in units of the data's errors, as a function of z."""

CONVERGED = 1e-8
"""Decrease of |r|^2 that a step with mu = 1 promises, below which a start has converged: it is
then within 1e-4 errors of its minimum."""
_MOST_REFINED = 40
"""Steps of Levenberg and Marquardt from each start."""
_HARDER, _EASIER = 4.0, 0.2
"""Factors of mu after steps that are refused and taken."""


class Reached(NamedTuple):
    """Where starts ended: arrays of NumPy, or of JAX while they are computed."""

    z: Any
    """Fractions (starts, n)."""
    residual: Any
    """(starts, data)."""
    jacobian: Any
    """dr/dz (starts, data, n)."""
    promised: Any
    """Decrease of |r|^2 that one more step promises (starts)."""

    @property
    def converged(self) -> Any:
        """Which starts have."""
        return self.promised < CONVERGED


def descend(
    residual: Residual, z: Float[np.ndarray, "starts n"], steps: int, rate: float, task: Task
) -> Float[np.ndarray, "starts n"]:
    """The best x that gradient descent meets from each start.

    A gradient that is not finite counts as zero.
    """
    optax = needed("optax", "ode")
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def loss(x: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.mean(residual(jax.nn.sigmoid(x)) ** 2)

    def step(x: Any, state: Any, best: Any, least: Any) -> tuple[Any, ...]:
        value, gradient = jax.vmap(jax.value_and_grad(loss))(x)
        better = value < least
        best, least = jnp.where(better[:, None], x, best), jnp.where(better, value, least)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
        change, state = optimiser.update(gradient, state)
        return x + change, state, best, least

    x = jnp.log(z / (1.0 - z))
    found = x, optimiser.init(x), x, jnp.full(len(z), jnp.inf)
    run = compiled(step)
    for _ in range(steps):
        found = run(*found)
        task.update(loss=float(jnp.min(found[3])))
    return np.asarray(found[2])


def refine(residual: Residual, x: Float[np.ndarray, "starts n"]) -> Reached:
    """Minima near x, by steps that never increase |r|^2."""

    def step(x: Float[Array, " n"], mu: Float[Array, ""]) -> Any:
        z = jax.nn.sigmoid(x)
        r, vjp = jax.vjp(residual, z)
        jacobian = jax.vmap(vjp)(jnp.eye(len(r)))[0]
        J = jacobian * (z * (1.0 - z))
        gradient, curvature, one = J.T @ r, J.T @ J, jnp.eye(len(x))
        tried = x - jnp.linalg.solve(curvature + mu * one, gradient)
        lower = jnp.sum(residual(jax.nn.sigmoid(tried)) ** 2) < jnp.sum(r**2)
        promised = gradient @ jnp.linalg.solve(curvature + one, gradient)
        mu = mu * jnp.where(lower, _EASIER, _HARDER)
        return jnp.where(lower, tried, x), mu, Reached(z, r, jacobian, promised)

    run = compiled(step)

    def end(at: Any) -> Reached:
        at, mu, reached = run(at, jnp.ones(()))
        for _ in range(_MOST_REFINED):
            if not reached.promised >= CONVERGED:  # or NaN
                break
            at, mu, reached = run(at, mu)
        return reached

    ends = []
    for k, at in enumerate(x):
        note(f"start {k} of {len(x)}")
        ends.append(end(at))
    return Reached(*(np.stack(parts) for parts in zip(*ends, strict=True)))
