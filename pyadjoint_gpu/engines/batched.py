"""Many solves at once: the embedded engine's multigrid in traceable form, for `jax.vmap`.

Members that have converged wait for the others; what a member gets does not depend on them.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..core.precision import compiled_loop
from ..models.base import Fields, Model
from ..solvers import Operator, multigrid
from ..solvers.base import ERROR, TINY, gauged, largest, parameter_gradient
from ..solvers.krylov import PRECISION, Goal
from .base import Many

ROUNDS = 3
"""Of iterations, each from the true residual of the one before."""

# Within one compiled program, not as programs of their own.
_hierarchies = inspect.unwrap(multigrid.hierarchies_of)
_iterate = inspect.unwrap(multigrid.iterate)


class How(NamedTuple):
    """What is the same for all members, known before anything is traced.

    Attributes
    ----------
    kind : str
        Of dR/du, as for `multigrid.Preconditioner`.
    dtype : str
        Of the solves.
    """

    kind: str
    dtype: str


def suits(model: Model) -> bool:
    """Whether a model's solves can go side by side."""
    steady = model.times is None and not model.lower
    return steady and model.linear and model.elliptic_declared


@partial(compiled_loop, static_argnums=(0,))
def solve(how: How, model: Model, parameters: Fields, tolerance: Any, max_iterations: Any) -> Many:
    """States u with R(u, m) = 0, and the hierarchies for their adjoints."""

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
    tolerance: Any,
    max_iterations: Any,
) -> Many:
    """-(dR/dm)^T lambda with (dR/du)^T lambda = source."""

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
    args: tuple,
    tolerance: Any,
    max_iterations: Any,
) -> tuple[Fields, Any]:
    """As `multigrid.solve`, from zero."""
    model = operator.model
    zero = {v.name: jnp.zeros(model.grid.shape, how.dtype) for v in model.unknowns}
    eps = jnp.finfo(how.dtype).eps

    def residual(u: Fields) -> tuple[Fields, Any]:
        r = gauged(model, operator(u, args))
        return r, largest(r)

    # A history would be most of what moves through memory.
    exact = how.kind == "exact"
    way = multigrid.Iteration(Operator(model) if exact else operator, how.kind, kept=1)
    given = (args[0], args[1] if len(args) > 1 else zero) if exact else args
    r, size = residual(zero)
    scale = jnp.maximum(size, TINY)

    def again(_: Any, state: Any) -> Any:
        u, r, size, good = state
        # Nothing is left to do where it is good.
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
        # At the limit of the arithmetic it is as good as it gets.
        met = (after <= tolerance * scale) & (progress.error <= ERROR * tolerance)
        good = good | met | (after <= 100.0 * jnp.maximum(floor, eps * scale))
        return u, r, jnp.minimum(size, after), good

    u, _, _, good = lax.fori_loop(0, ROUNDS, again, (zero, r, size, size == 0.0))
    return gauged(model, u), good
