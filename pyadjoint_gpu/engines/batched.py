"""Many solves side by side: the embedded engine's multigrid under `jax.vmap`.

Members that have converged wait for the others; the result of a member does not depend on them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..core.precision import compiled, compiled_loop
from ..models.base import Fields, Model
from ..solvers import Operator, multigrid
from ..solvers.base import (
    ERROR,
    TINY,
    Limits,
    curvature,
    gauged,
    largest,
    parameter_gradient,
    response,
    unit_round_off,
)
from ..solvers.krylov import PRECISION, Goal
from .solutions import Many

ROUNDS = 3
"""Number of rounds of iterations, each from the true residual of the one before."""

State = tuple[Fields, Fields, Float[Array, ""], Bool[Array, ""]]
"""u, R(u), its max norm, and True where converged."""

# Uncompiled, as parts of one compiled program.
_hierarchies = inspect.unwrap(multigrid.hierarchies_of)
_iterate = inspect.unwrap(multigrid.iterate)


def suits(model: Model) -> bool:
    """True for steady linear models without bounds that declare elliptic coefficients."""
    steady = model.times is None and not model.lower
    return steady and model.linear and model.elliptic_declared


@partial(compiled_loop, static_argnums=(0,))
def solve(kind: str, model: Model, parameters: Fields, limits: Limits) -> Many:
    """States u with R(u, m) = 0, and preconditioners for the adjoint solves; `kind` is that of
    dR/du for all members."""

    def one(m: Fields) -> Many:
        args = (model.prepare(m),)
        dtype = jnp.result_type(*m.values())
        zero = {v.name: jnp.zeros(model.grid.shape, dtype) for v in model.unknowns}
        # A longer history would be most of the memory traffic.
        preconditioner = multigrid.Preconditioner(_hierarchies(model, *args, zero), kind, kept=1)
        u, good = _solved(Operator(model), preconditioner, zero, args, limits)
        return Many(u, good, preconditioner)

    return jax.vmap(one)(parameters)


@compiled_loop
def adjoint(
    model: Model, parameters: Fields, states: Many, sources: Fields, limits: Limits
) -> Many:
    """Gradients -(dR/dm)^T lambda with (dR/du)^T lambda = source."""

    def one(m: Fields, state: Many, source: Fields) -> Many:
        args = model.prepare(m), state.fields, gauged(model, source)
        operator, zero = Operator(model, "adjoint"), jax.tree.map(jnp.zeros_like, source)
        multiplier, good = _solved(operator, state.cache, zero, args, limits)
        multiplier = gauged(model, multiplier)
        return Many(parameter_gradient(model, m, state.fields, multiplier), good)

    return jax.vmap(one)(parameters, states, sources)


@compiled_loop
def tangents(
    model: Model,
    preconditioner: multigrid.Preconditioner,
    m: Fields,
    state: Fields,
    directions: Fields,
    limits: Limits,
) -> Many:
    """du with (dR/du) du = -(dR/dm) dm for each direction dm, at one state."""
    solved = _linear("tangent", model, preconditioner, m, state, limits)

    def one(dm: Fields) -> Many:
        du, good = solved(jax.tree.map(jnp.negative, response(model, m, state, dm)))
        return Many(du, good)

    return jax.vmap(one)(directions)


@compiled_loop
def adjoints(
    model: Model,
    preconditioner: multigrid.Preconditioner,
    m: Fields,
    state: Fields,
    sources: Fields,
    limits: Limits,
) -> Many:
    """Gradients -(dR/dm)^T lambda with (dR/du)^T lambda = source for each source, at one state."""
    solved = _linear("adjoint", model, preconditioner, m, state, limits)

    def one(source: Fields) -> Many:
        multiplier, good = solved(source)
        return Many(parameter_gradient(model, m, state, multiplier), good)

    return jax.vmap(one)(sources)


curvatures = compiled(jax.vmap(curvature, in_axes=(None, None, None, None, 0, 0)))
"""`curvature` along many directions."""


def _linear(
    kind: Literal["adjoint", "tangent"],
    model: Model,
    preconditioner: multigrid.Preconditioner,
    m: Fields,
    state: Fields,
    limits: Limits,
) -> Callable[[Fields], tuple[Fields, Bool[Array, ""]]]:
    """The function that drives `Operator` of a kind to zero, by its source."""
    c, operator = model.prepare(m), Operator(model, kind)
    # A longer history would be most of the memory traffic.
    shared, zero = replace(preconditioner, kept=1), jax.tree.map(jnp.zeros_like, state)

    def solved(source: Fields) -> tuple[Fields, Bool[Array, ""]]:
        return _solved(operator, shared, zero, (c, state, gauged(model, source)), limits)

    return solved


def _solved(
    operator: Operator,
    preconditioner: multigrid.Preconditioner,
    zero: Fields,
    args: tuple[Any, ...],
    limits: Limits,
) -> tuple[Fields, Bool[Array, ""]]:
    """One solve by `multigrid.iterate`, from zero; u, and True if it converged."""
    model, tolerance = operator.model, limits["tolerance"]
    eps = unit_round_off(zero)

    def residual(u: Fields) -> tuple[Fields, Float[Array, ""]]:
        r = gauged(model, operator(u, args))
        return r, largest(r)

    r, size = residual(zero)
    scale = jnp.maximum(size, TINY)

    def again(_: int, state: State) -> State:
        u, r, size, good = state
        # A member that has converged meets any goal.
        goal = Goal(
            jnp.where(good, jnp.inf, multigrid.MARGIN * tolerance * scale),
            jnp.where(good, jnp.inf, ERROR * tolerance),
            PRECISION * eps * size,
            limits["max_iterations"],
        )
        found, progress, floor = _iterate(preconditioner, operator, u, r, args, goal)
        left, after = residual(found)
        better = after <= size
        u, r = (
            jax.tree.map(lambda a, b: jnp.where(better, a, b), *pair)
            for pair in ((found, u), (left, r))
        )
        # Residuals at the level of round-off cannot fall further.
        met = (after <= tolerance * scale) & (progress.error <= ERROR * tolerance)
        good = good | met | (after <= 100.0 * jnp.maximum(floor, eps * scale))
        return u, r, jnp.minimum(size, after), good

    u, _, _, good = lax.fori_loop(0, ROUNDS, again, (zero, r, size, size == 0.0))
    return gauged(model, u), good
