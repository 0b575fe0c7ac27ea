"""Many solves side by side: the embedded engine's multigrid under `jax.vmap`.

Members that have converged wait for the others; the result of a member does not depend on them.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..core.precision import compiled_loop
from ..models.base import Fields, Model
from ..solvers import Operator, multigrid
from ..solvers.base import ERROR, TINY, gauged, largest, parameter_gradient
from ..solvers.krylov import PRECISION, Goal
from .base import Many

ROUNDS = 3
"""Number of rounds of iterations, each from the true residual of the one before."""

State = tuple[Fields, Fields, Float[Array, ""], Bool[Array, ""]]
"""u, R(u), its max norm, and True where converged."""

# Uncompiled, as parts of one compiled program.
_hierarchies = inspect.unwrap(multigrid.hierarchies_of)
_iterate = inspect.unwrap(multigrid.iterate)


class How(NamedTuple):
    """Options of the solves, the same for all members: static arguments of compiled code.

    Attributes
    ----------
    kind : str
        The kind of dR/du, as for `multigrid.Preconditioner`.
    dtype : str
        Precision of the solves.
    """

    kind: str
    dtype: str


def suits(model: Model) -> bool:
    """True for steady linear models without bounds that declare elliptic coefficients."""
    steady = model.times is None and not model.lower
    return steady and model.linear and model.elliptic_declared


@partial(compiled_loop, static_argnums=(0,))
def solve(
    how: How, model: Model, parameters: Fields, tolerance: float, max_iterations: int
) -> Many:
    """States u with R(u, m) = 0, and their hierarchies for the adjoint solves."""

    def one(m: Fields) -> Many:
        c = model.prepare(m)
        zero = {v.name: jnp.zeros(model.grid.shape, how.dtype) for v in model.unknowns}
        hierarchies = _hierarchies(model, c, zero)
        u, good = _solved(how, Operator(model), hierarchies, (c,), tolerance, max_iterations)
        return Many(u, good, hierarchies)

    return jax.vmap(one)(parameters)


@partial(compiled_loop, static_argnums=(0,))
def adjoint(
    how: How,
    model: Model,
    parameters: Fields,
    states: Many,
    sources: Fields,
    tolerance: float,
    max_iterations: int,
) -> Many:
    """Gradients -(dR/dm)^T lambda with (dR/du)^T lambda = source."""

    def one(m: Fields, state: Many, source: Fields) -> Many:
        args = model.prepare(m), state.fields, gauged(model, source)
        operator = Operator(model, "adjoint")
        multiplier, good = _solved(how, operator, state.cache, args, tolerance, max_iterations)
        multiplier = gauged(model, multiplier)
        return Many(parameter_gradient(model, m, state.fields, multiplier), good)

    return jax.vmap(one)(parameters, states, sources)


def _solved(
    how: How,
    operator: Operator,
    hierarchies: dict[str, multigrid.Hierarchy],
    args: tuple[Any, ...],
    tolerance: float,
    max_iterations: int,
) -> tuple[Fields, Bool[Array, ""]]:
    """One solve by `multigrid.iterate`, from zero; u, and True if it converged."""
    model = operator.model
    zero = {v.name: jnp.zeros(model.grid.shape, how.dtype) for v in model.unknowns}
    eps = jnp.finfo(how.dtype).eps

    def residual(u: Fields) -> tuple[Fields, Float[Array, ""]]:
        r = gauged(model, operator(u, args))
        return r, largest(r)

    # A longer history would be most of the memory traffic.
    exact = how.kind == "exact"
    way = multigrid.Iteration(Operator(model) if exact else operator, how.kind, kept=1)
    given = (args[0], args[1] if len(args) > 1 else zero) if exact else args
    r, size = residual(zero)
    scale = jnp.maximum(size, TINY)

    def again(_: int, state: State) -> State:
        u, r, size, good = state
        # A member that has converged meets any goal.
        goal = Goal(
            jnp.where(good, jnp.inf, multigrid.MARGIN * tolerance * scale),
            jnp.where(good, jnp.inf, ERROR * tolerance),
            PRECISION * eps * size,
            max_iterations,
        )
        found, progress, floor = _iterate(way, hierarchies, u, r, given, goal)
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
