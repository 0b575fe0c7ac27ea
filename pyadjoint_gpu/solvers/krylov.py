"""Krylov methods, compiled as a whole: conjugate gradients and BiCGStab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..models.base import Fields
from .base import dot, largest

LIMIT = 2000
"""Largest number of iterations."""
PRECISION = 1e4
"""Reduction of a residual, in units of round-off, below which the updated residual is no longer
that of u."""
PATIENCE = 300
"""Iterations within which the residual must halve."""

Map = Callable[[Fields], Fields]
Number = Float[Array, ""]
Count = Int[Array, ""] | int


class Goal(NamedTuple):
    """Stopping criteria of an iteration: where ||r||_max and the estimated relative error of u are
    both at most `residual` and `error`; where ||r||_max is at most `least`, below which the
    residual has to be computed anew; and after so many `iterations`."""

    residual: Number | float
    error: Number | float
    least: Number | float
    iterations: Count


class Progress(NamedTuple):
    """Progress of an iteration: ||r||_max and the estimated relative error of u after so many
    iterations."""

    iterations: Count
    residual: Number
    error: Number
    best: Number
    """The residual the last time that it had halved."""
    since: Count
    """Number of iterations since then."""
    history: Float[Array, " kept"]
    """||r||_max after each iteration, then NaN."""

    def unfinished(self, goal: Goal) -> Bool[Array, ""]:
        """Whether to go on: neither the goal is reached nor the iteration stuck."""
        reached = (self.residual <= goal.residual) & (self.error <= goal.error)
        reached |= self.residual <= goal.least
        sound = jnp.isfinite(self.residual) & (self.since < PATIENCE)
        return ~reached & sound & (self.iterations < jnp.minimum(goal.iterations, LIMIT))

    def after(self, residual: Number, error: Number) -> Progress:
        """The progress one iteration later."""
        better = residual <= 0.5 * self.best
        return Progress(
            self.iterations + 1,
            residual,
            error,
            jnp.where(better, residual, self.best),
            jnp.where(better, 0, self.since + 1),
            self.history.at[self.iterations].set(residual),
        )


def _iterated(
    step: Callable[[Any], Any], u: Fields, r: Fields, ratios: int, goal: Goal, kept: int
) -> tuple[Fields, Progress]:
    """u and the progress after steps from a state (u, r, p, q, *ratios, progress) with p = q = 0
    and ratios of one."""
    residual = largest(r)
    # A zero residual has no error; otherwise the error is not known yet.
    error = jnp.where(residual > 0, jnp.inf, 0).astype(residual.dtype)
    history = jnp.full(kept, jnp.nan, residual.dtype)
    progress = Progress(0, residual, error, residual, 0, history)
    zero = jax.tree.map(jnp.zeros_like, u)
    state = (u, r, zero, zero, *ratios * (jnp.ones_like(residual),), progress)
    state = lax.while_loop(lambda s: s[-1].unfinished(goal), step, state)
    return state[0], state[-1]


Conjugate = tuple[Fields, Fields, Fields, Fields, Number, Progress]
"""State of conjugate gradients: u, r, p, A p, alpha / z.r, and the progress."""


def conjugate_gradients(
    product: Map,
    precondition: Map,
    u: Fields,
    r: Fields,
    goal: Goal,
    size: Callable[[Fields], Number],
    kept: int = LIMIT,
) -> tuple[Fields, Progress]:
    """Solve A u = b from u, with r = b - A u there; A and M symmetric, A positive (semi)definite.

    The update is the flexible one (Polak and Ribiere), as M is in single precision. z = M^-1 r is
    about A^-1 r, so that ||z||_max estimates the error before an iteration, and times the reduction
    of the residual the error after it.

    Parameters
    ----------
    product, precondition : callable
        A p and M^-1 r.
    size : callable
        The scale of u that its error is relative to.
    kept : int
        Length of the history, 1 or more.
    """

    def step(state: Conjugate) -> Conjugate:
        u, r, p, q, ratio, progress = state
        z = precondition(r)
        zr = dot(z, r)
        # z.(r - r_before) / (z.r)_before, and r - r_before = -alpha q
        beta = -ratio * dot(z, q)
        p = jax.tree.map(lambda z, p: z + beta * p, z, p)
        q = product(p)
        alpha = zr / dot(p, q)
        u = jax.tree.map(lambda u, p: u + alpha * p, u, p)
        r = jax.tree.map(lambda r, q: r - alpha * q, r, q)
        residual = largest(r)
        error = largest(z) * (residual / progress.residual) / size(u)
        return u, r, p, q, alpha / zr, progress.after(residual, error)

    return _iterated(step, u, r, 1, goal, kept)


Pair = tuple[Fields, Fields]
Biconjugate = tuple[Fields, Fields, Fields, Fields, Number, Number, Progress]
"""State of BiCGStab: u, r, p, A M^-1 p, alpha / omega, shadow.r, and the progress."""


def bicgstab(
    product: Map,
    precondition: Map,
    u: Fields,
    r: Fields,
    goal: Goal,
    size: Callable[[Fields], Number],
    kept: int = LIMIT,
) -> tuple[Fields, Progress]:
    """Solve A u = b for any A, preconditioned from the right (van der Vorst 1992, SIAM J. Sci.
    Stat. Comput. 13, 631). Arguments as in `conjugate_gradients`. An iteration has two products and
    two preconditionings."""
    shadow, zero = r, jax.tree.map(jnp.zeros_like, u)

    def step(state: Biconjugate) -> Biconjugate:
        u, r, p, v, ratio, rho, progress = state
        last, rho = rho, dot(shadow, r)
        beta = rho * ratio / last
        p = jax.tree.map(lambda r, p: r + beta * p, r, p)

        # A loop over both halves, so that their code is compiled once.
        def half(
            second: Int[Array, ""], state: tuple[Fields, Pair, Pair, Number]
        ) -> tuple[Fields, Pair, Pair, Number]:
            w, last, _, alpha = state
            y = precondition(w)
            v = product(y)
            alpha = jnp.where(second, alpha, rho / dot(shadow, v))
            return jax.tree.map(lambda r, v: r - alpha * v, r, v), (y, v), last, alpha

        _, (z, t), (y, v), alpha = lax.fori_loop(
            0, 2, half, (p, (zero, zero), (zero, zero), jnp.zeros_like(rho))
        )
        s = jax.tree.map(lambda r, v: r - alpha * v, r, v)
        tiny = jnp.finfo(progress.residual.dtype).tiny
        omega = dot(t, s) / (dot(t, t) + tiny)
        u = jax.tree.map(lambda u, y, z: u + alpha * y + omega * z, u, y, z)
        r = jax.tree.map(lambda s, t: s - omega * t, s, t)
        residual = largest(r)
        error = largest(z) * (residual / (largest(s) + tiny)) / size(u)
        p = jax.tree.map(lambda p, v: p - omega * v, p, v)
        return u, r, p, v, alpha / omega, rho, progress.after(residual, error)

    return _iterated(step, u, r, 2, goal, kept)
