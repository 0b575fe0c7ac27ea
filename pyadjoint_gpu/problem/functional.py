"""`solve_fields`: a forward solve as a JAX function, to be differentiated, compiled and mapped."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..core.checks import check_kind, check_mapping
from ..core.errors import ConfigError, DataError
from ..core.precision import traced
from ..engines.base import Engine
from ..engines.choose import get_engine, running
from ..engines.launches import current
from ..engines.solutions import Solution
from ..models.base import Fields, Model
from ..models.explicit import Explicit
from ..models.transient import Transient
from ..solvers import Convergence
from ..solvers.base import Limits, require
from .forward import limits


def solve_fields(
    model: Model,
    m: Mapping[str, Any],
    *,
    engine: str | Engine = "auto",
    solver: str = "auto",
    tolerance: float = 1e-8,
    max_iterations: int | None = None,
) -> Fields:
    """u(m) with R(u, m) = 0, for JAX to compose with other functions.

    Derivatives are those of the discrete equations,

        (dR/du) du = -(dR/dm) dm,    m_bar = -(dR/dm)^T lambda,  (dR/du)^T lambda = u_bar,

    by solves of the engine, never through its iterations. With the embedded engine they work in
    forward mode (`jax.jvp`), in reverse mode (`jax.grad`) and in compositions of both
    (`jax.hessian`), under `jax.jit` and under `jax.vmap`, whose members are solved one by one; time
    steps are differentiated one after another, with all states in memory. Other engines solve
    outside of JAX: `jax.grad` and `jax.vjp` work, `jax.jvp`, `jax.jit` and `jax.vmap` do not.

    Parameters
    ----------
    model : Model
    m : mapping
        Parameter fields by name: JAX arrays of their shapes or scalars, or anything that `solve`
        takes.
    engine, solver, tolerance, max_iterations
        As for `solve`. All solves go to the same tolerance, in the precision of the engine.

    Returns
    -------
    dict
        JAX arrays: the unknowns and outputs, named as in the Dataset of `solve`. They are in JAX's
        default precision, and so are the time steps of waves: enable ``jax_enable_x64`` for
        double.

    Raises
    ------
    ConfigError, DataError
        If a parameter or option cannot be used. Traced values are checked when they are solved
        for: under `jax.jit` the errors are JAX's own, with the same message, and a wave whose time
        step is too long is NaN.
    ConvergenceError
        If a solve does not converge.
    """
    check_kind("model", model, Model)
    chosen = get_engine(engine, model, solver=solver)
    steps = running(chosen, model)
    chosen = current(chosen)
    options = limits(model, tolerance, max_iterations)
    fields = _given(model, m)
    if not chosen.traceable:
        u = _by_adjoints(model, steps, options, fields)
    elif isinstance(model, Explicit):
        u = _stepped(model, fields)
    elif isinstance(model, Transient):
        u = _marched(model, chosen, options, fields)
    else:
        u = _steady(model, chosen, options, fields)
    return u | model.outputs(u, fields)


def _given(model: Model, m: Mapping[str, Any]) -> Fields:
    """All parameters as arrays, checked; of traced ones only the shape is."""
    check_mapping("m", m, "parameter fields by name")
    followed = {k: v for k, v in m.items() if traced(v)}
    # Ones in place of values that are not known yet.
    known = {**m, **dict.fromkeys(followed, 1.0)}
    found = Model.fields(model, known) if followed else model.fields(m)
    out: Fields = {k: jnp.asarray(v, float) for k, v in found.items()}
    for name, value in followed.items():
        shape = model.space(name).shape
        if value.ndim and value.shape != shape:
            raise DataError(f"{name}: found shape {value.shape}, expected {shape}")
        out[name] = jnp.broadcast_to(jnp.asarray(value, float), shape)
    return out


# Within JAX


def _steady(model: Model, engine: Engine, options: Limits, m: Fields) -> Fields:
    """The state of a steady model: solves on the host, derivatives by custom rules."""
    kinds = _kinds(model, m)

    def residual(u: Fields, m: Fields) -> Fields:
        return model.equations(u, model.prepare(m))

    def solve(m: Fields) -> Fields:
        _check(model, m)
        found = engine.solve(model, m, **options)
        require(found.convergence, "the forward solve", found)
        return _like(kinds, found.fields)

    def tangent(m: Fields, u: Fields, source: Fields) -> Fields:
        found, convergence = engine.linearised(model, m, _solution(u, options), source, **options)
        require(convergence, "the tangent solve")
        return _like(kinds, found)

    def adjoint(m: Fields, u: Fields, source: Fields) -> Fields:
        found = engine.adjoint(model, m, _solution(u, options), source, **options)
        require(found.convergence, "the adjoint solve", found)
        return _like(kinds, found.multiplier)

    @jax.custom_jvp
    def state(m: Fields) -> Fields:
        return _on_host(solve, kinds, m)

    def rule(primals: tuple[Fields], tangents: tuple[Fields]) -> tuple[Fields, Fields]:
        (m,), (dm,) = primals, tangents
        u = state(m)

        def jacobian(v: Fields) -> Fields:
            return jax.jvp(partial(residual, m=m), (u,), (v,))[1]

        def solution(_: object, source: Fields) -> Fields:
            return _on_host(tangent, kinds, m, u, source)

        def transposed(_: object, source: Fields) -> Fields:
            return _on_host(adjoint, kinds, m, u, source)

        change = jax.jvp(partial(residual, u), (m,), (dm,))[1]
        source = jax.tree.map(jnp.negative, change)
        return u, lax.custom_linear_solve(jacobian, source, solution, transposed)

    state.defjvp(rule)
    return state(m)


def _marched(model: Transient, engine: Engine, options: Limits, m: Fields) -> Fields:
    """The states of a transient model: an implicit step after another, each as `_steady`."""
    own, start = model.split(m)

    def step(u: Fields, _: Any) -> tuple[Fields, None]:
        before = {f"previous_{k}": a for k, a in u.items()}
        return _steady(model.one_step, engine, options, own | before), None

    def interval(u: Fields, _: Any) -> tuple[Fields, Fields]:
        u, _ = lax.scan(step, u, length=model.every)
        return u, u

    _, later = lax.scan(interval, start, length=model.steps // model.every)
    return jax.tree.map(_with_first, start, later)


def _stepped(model: Explicit, m: Fields) -> Fields:
    """The states of an explicit model; reverse mode runs the steps of an interval once more."""
    c, x = model.coefficients(m), model.start(m)

    def interval(x: Fields, values: Fields) -> tuple[Fields, Fields]:
        one = {k: a[None] for k, a in values.items()}
        x, u = model.march(x, c, one, 1, model.every)
        return x, {k: a[0] for k, a in u.items()}

    def again(x: Fields, values: Fields) -> tuple[Fields, Fields]:
        return jax.checkpoint(interval)(x, values)

    _, later = lax.scan(again, x, model.forcing(m), length=model.intervals)
    stable = model.dt <= lax.stop_gradient(model.largest_step(m)) * (1.0 + 1e-6)

    def joined(first: Array, later: Array) -> Array:
        return jnp.where(stable, _with_first(first, later), jnp.nan)

    return jax.tree.map(joined, model.observe(x), later)


def _with_first(
    first: Float[Array, "*shape"], later: Float[Array, " intervals *shape"]
) -> Float[Array, " times *shape"]:
    return jnp.concatenate([first[None], later])


def _on_host(function: Callable[..., Fields], kinds: Fields, *args: Fields) -> Fields:
    """Call a function of NumPy arrays, from within JAX's transformations too."""
    if not traced(args):
        return jax.tree.map(jnp.asarray, function(*args))
    return jax.pure_callback(function, kinds, *args, vmap_method="sequential")


def _kinds(model: Model, m: Fields) -> Fields:
    """Shape and precision of each unknown."""
    guess = model.guess({k: np.ones(a.shape) for k, a in m.items()}) or {}
    shapes = {
        v.name: np.shape(guess[v.name]) if guess else model.grid.shape for v in model.unknowns
    }
    return {k: jax.ShapeDtypeStruct(shape, jnp.result_type(float)) for k, shape in shapes.items()}


def _like(kinds: Fields, fields: Fields) -> Fields:
    return {k: np.asarray(fields[k], a.dtype) for k, a in kinds.items()}


def _solution(u: Fields, options: Limits) -> Solution:
    """A state as if an earlier solve had returned it."""
    return Solution(
        jax.tree.map(np.asarray, u),
        Convergence("converged", 0, 0.0, options["tolerance"], 0.0, None, 0.0, np.zeros((1, 2))),
    )


def _check(model: Model, m: Fields) -> None:
    for name, value in m.items():
        field = np.asarray(value)
        bad = np.count_nonzero(~np.isfinite(field))
        if bad:
            raise DataError(f"{name}: found {bad} NaN or infinite values, expected finite numbers")
        model.check(name, field)


# Outside of JAX


def _by_adjoints(model: Model, engine: Engine, options: Limits, m: Fields) -> Fields:
    """The state by solves and adjoints of an engine, called with values: reverse mode only."""

    @jax.custom_vjp
    def state(m: Fields) -> Fields:
        return forward(m)[0]

    def forward(m: Fields) -> tuple[Fields, tuple[Fields, Fields]]:
        if traced(m):
            raise ConfigError(
                f"engine: found {engine.name!r}, which solves outside of JAX and so not under"
                " jax.jit or jax.vmap; use engine='embedded'"
            )
        _check(model, m)
        found = engine.solve(model, jax.tree.map(np.asarray, m), **options)
        require(found.convergence, "the forward solve", found)
        u = {k: jnp.asarray(a, float) for k, a in found.fields.items()}
        return u, (m, u)

    def backward(kept: tuple[Fields, Fields], u_bar: Fields) -> tuple[Fields]:
        m, u = kept
        found = engine.adjoint(
            model,
            jax.tree.map(np.asarray, m),
            _solution(u, options),
            jax.tree.map(np.asarray, u_bar),
            **options,
        )
        require(found.convergence, "the adjoint solve", found)
        return ({k: jnp.asarray(found.gradient[k], a.dtype) for k, a in m.items()},)

    state.defvjp(forward, backward)
    return state(m)
