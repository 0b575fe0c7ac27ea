"""The embedded engine: JAX, on the CPU or GPU that JAX finds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from ..core.checks import check_choice
from ..core.errors import ConfigError, ConvergenceWarning, warn
from ..core.precision import compiled, double
from ..models.base import Fields, Model
from ..solvers import Operator, continuation, multigrid, newton, pseudo_transient
from ..solvers.base import (
    Convergence,
    Limits,
    Spectrum,
    gauged,
    parameter_gradient,
    response,
)
from . import batched
from .base import Engine
from .compiling import compiling
from .explicit_time import ExplicitTimeStepper
from .solutions import Adjoint, Many, Solution, Tangent

SOLVERS = ("auto", "multigrid", "pseudo-transient")

LARGEST = 2**15
"""Number of cells up to which solves side by side are faster than one by one on a CPU: on one core
10 times for 16 directions on 16 x 32 cells, 2 times on 64 x 128, half as fast on 256 x 512, whose
arrays together leave the cache."""


class EmbeddedEngine(Engine):
    """Solves in JAX, on its default device.

    Parameters
    ----------
    dtype : {"float64", "float32"}
        Precision of the solves.
    solver : {"auto", "multigrid", "pseudo-transient"}
        "auto" takes multigrid for models that declare elliptic coefficients. If that stagnates,
        pseudo-transient iterations continue from its last iterate, with a warning.

    Raises
    ------
    ConfigError
        If an option has no such value.
    """

    name = "embedded"
    traceable = True
    has_tangents = True

    def __init__(self, *, dtype: str = "float64", solver: str = "auto"):
        check_choice("dtype", dtype, ("float64", "float32"))
        check_choice("solver", solver, SOLVERS)
        self.dtype = dtype
        self.solver = solver

    def info(self) -> dict[str, Any]:
        device = jax.devices()[0]
        return {
            "engine": self.name,
            "engine_version": f"jax {jax.__version__}",
            "device": f"{device.platform}: {device.device_kind}",
            "dtype": self.dtype,
            "ranks": 1,
        }

    def settings(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "solver": {"dtype": self.dtype, "method": self.solver},
        }

    @double
    @compiling("the forward solve")
    def solve(
        self,
        model: Model,
        parameters: Fields,
        *,
        initial: Solution | None = None,
        **limits: Unpack[Limits],
    ) -> Solution:
        start = initial.fields if initial else model.guess(parameters)
        args = (prepared(model, self._cast(parameters)),)
        u, convergence, cache = self._solve(
            Operator(model),
            args,
            self._cast(start) if start else self._zero(model),
            spectrum=initial.convergence.spectrum if initial else None,
            cache=initial.cache if initial else None,
            **limits,
        )
        return Solution(_settled(model, u, args[0]), convergence, cache)

    @double
    @compiling("the adjoint solve")
    def adjoint(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        source: Fields,
        *,
        initial: Adjoint | None = None,
        wanted: Collection[str] | None = None,
        **limits: Unpack[Limits],
    ) -> Adjoint:
        m, state = self._cast(parameters), self._cast(solution.fields)
        # The gauge is a part of u(m), so its transpose acts on the source.
        source = gauge(model, self._cast(source))
        args = (prepared(model, m), state, source)
        start = initial.convergence if initial else solution.convergence
        multiplier, convergence, _ = self._solve(
            Operator(model, "adjoint"),
            args,
            _scaled(model, self._cast(initial.multiplier), args) if initial else _nothing(state),
            spectrum=start.spectrum or solution.convergence.spectrum,
            cache=solution.cache,
            **limits,
        )
        multiplier = gauge(model, multiplier)
        return Adjoint(gradient_of(model, m, state, multiplier), multiplier, convergence)

    @double
    def tangent(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        direction: Fields,
        **limits: Unpack[Limits],
    ) -> Tangent:
        m, state = self._cast(parameters), self._cast(solution.fields)
        source = response_to(model, m, state, self._cast(direction))
        return Tangent(*self.linearised(model, parameters, solution, source, **limits))

    @double
    @compiling("the tangent solve")
    def linearised(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        source: Fields,
        **limits: Unpack[Limits],
    ) -> tuple[Fields, Convergence]:
        m, state = self._cast(parameters), self._cast(solution.fields)
        right = jax.tree.map(jnp.negative, gauge(model, self._cast(source)))
        du, convergence, _ = self._solve(
            Operator(model, "tangent"),
            (prepared(model, m), state, right),
            _nothing(state),
            spectrum=solution.convergence.spectrum,
            cache=solution.cache,
            **limits,
        )
        return gauge(model, du), convergence

    def _solve(
        self,
        operator: Operator,
        args: tuple[Any, ...],
        initial: Fields,
        *,
        spectrum: Spectrum | None,
        cache: Any,
        **limits: Unpack[Limits],
    ) -> tuple[Fields, Convergence, Any]:
        """Drive the operator to zero by the solver that suits the model."""
        bounded = bool(operator.model.lower) and operator.kind == "forward"
        earlier = None
        if self._multigrid(operator.model):
            if bounded:
                u, convergence = continuation.solve(operator, args, initial, **limits)
                cache = None
            else:
                method = multigrid if operator.affine else newton
                u, convergence, cache = method.solve(
                    operator, args, initial, preconditioner=cache, **limits
                )
            if convergence.status not in ("stagnated", "diverged"):
                return u, convergence, cache
            warn(
                f"{convergence.method}: the {operator.kind} solve {convergence.message}; it goes"
                " on by pseudo-transient iterations",
                ConvergenceWarning,
            )
            earlier = convergence
            if convergence.status == "stagnated":
                initial = u
        if bounded:
            u, convergence = continuation.solve(
                operator, args, initial, linear="pseudo-transient", **limits
            )
        else:
            u, convergence = pseudo_transient.solve(
                operator, args, initial, spectrum=spectrum, **limits
            )
        return u, convergence.following(earlier) if earlier else convergence, None

    def explicit(self) -> Engine:
        return ExplicitTimeStepper(self, self.dtype)

    # Many directions at one state: Krylov iterations side by side, with one preconditioner

    @double
    def linearise(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        adjoint: Adjoint | None,
        source: Fields,
        **limits: Unpack[Limits],
    ) -> tuple[Solution, Adjoint | None]:
        """With the preconditioner of this state, where the solve left none or one of a state near
        by."""
        if not self._multigrid(model) or (model.linear and solution.cache is not None):
            return solution, adjoint
        c, state = prepared(model, self._cast(parameters)), self._cast(solution.fields)
        return replace(solution, cache=multigrid.prepare(model, c, state)), adjoint

    @double
    def tangents(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        directions: Fields,
        **limits: Unpack[Limits],
    ) -> Many:
        if not _together(model, solution):
            return super().tangents(model, parameters, solution, directions, **limits)
        m, state, dm = map(self._cast, (parameters, solution.fields, directions))
        return batched.tangents(model, solution.cache, m, state, dm, limits)

    @double
    def adjoints(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        sources: Fields,
        *,
        wanted: Collection[str] | None = None,
        **limits: Unpack[Limits],
    ) -> Many:
        if not _together(model, solution):
            return super().adjoints(model, parameters, solution, sources, wanted=wanted, **limits)
        m, state, u_bar = map(self._cast, (parameters, solution.fields, sources))
        return batched.adjoints(model, solution.cache, m, state, u_bar, limits)

    @double
    def second_orders(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        adjoint: Adjoint,
        directions: Fields,
        tangents: Many,
        sources: Fields,
        *,
        wanted: Collection[str] | None = None,
        **limits: Unpack[Limits],
    ) -> Many:
        if not _together(model, solution):
            return super().second_orders(
                model,
                parameters,
                solution,
                adjoint,
                directions,
                tangents,
                sources,
                wanted=wanted,
                **limits,
            )
        m, state, multiplier = map(self._cast, (parameters, solution.fields, adjoint.multiplier))
        along = tuple(map(self._cast, (directions, tangents.fields)))
        by_u, by_m = batched.curvatures(model, m, state, multiplier, *along)
        u_bar = jax.tree.map(jnp.subtract, self._cast(sources), by_u)
        found = self.adjoints(model, parameters, solution, u_bar, wanted=wanted, **limits)
        gradient = {k: a - by_m[k] for k, a in found.fields.items()}
        return found._replace(fields=gradient)

    # Many parameter sets: conjugate gradients side by side

    def side_by_side(self, model: Model) -> bool:
        return batched.suits(model) and self._multigrid(model)

    @double
    def solve_many(self, model: Model, parameters: Fields, **limits: Unpack[Limits]) -> Many:
        if not self.side_by_side(model):
            return super().solve_many(model, parameters, **limits)
        # The kind of all members' operators, by that of the first.
        first = self._cast({k: v[0] for k, v in parameters.items()})
        kind = multigrid.kind_of(model, prepared(model, first), self._zero(model))
        return batched.solve(kind, model, self._cast(parameters), limits)

    @double
    def adjoint_many(
        self,
        model: Model,
        parameters: Fields,
        states: Many,
        sources: Fields,
        **limits: Unpack[Limits],
    ) -> Many:
        if not self.side_by_side(model):
            return super().adjoint_many(model, parameters, states, sources, **limits)
        m, u_bar = self._cast(parameters), self._cast(sources)
        return batched.adjoint(model, m, states, u_bar, limits)

    def _multigrid(self, model: Model) -> bool:
        if self.solver == "multigrid" and not model.elliptic_declared:
            raise ConfigError(
                f"solver: model {model.name!r} declares no elliptic coefficients, which"
                " 'multigrid' needs; use 'auto' or 'pseudo-transient'"
            )
        return self.solver != "pseudo-transient" and model.elliptic_declared

    def _cast(self, fields: Fields) -> Fields:
        return {k: jnp.asarray(v, self.dtype) for k, v in fields.items()}

    def _zero(self, model: Model) -> Fields:
        return {v.name: jnp.zeros(model.grid.shape, self.dtype) for v in model.unknowns}


def _together(model: Model, solution: Solution) -> bool:
    """Whether solves at a state go side by side."""
    fits = jax.default_backend() != "cpu" or model.grid.size <= LARGEST
    return solution.cache is not None and fits


@compiled
def prepared(model: Model, m: Fields) -> Any:
    """`Model.prepare`, compiled."""
    return model.prepare(m)


gauge = compiled(gauged)
gradient_of = compiled(parameter_gradient)
response_to = compiled(response)


def _nothing(state: Fields) -> Fields:
    return jax.tree.map(jnp.zeros_like, state)


@compiled
def _settled(model: Model, u: Fields, c: Any) -> Fields:
    """u with its gauge, and exactly at its bound in the active set."""
    u, bounds = gauged(model, u), model.lower
    active = model.active_set(u, c) if bounds else {}
    return u | {k: jnp.where(active[k], b.value, u[k]) for k, b in bounds.items()}


@compiled
def _scaled(model: Model, multiplier: Fields, args: tuple[Any, ...]) -> Fields:
    """The multiple of an earlier multiplier with the least-squares residual for the new source: in
    an inversion the source shrinks with the misfit."""
    c, state, source = args
    product = Operator(model, "adjoint")(
        multiplier, (c, state, jax.tree.map(jnp.zeros_like, source))
    )
    dot = jax.tree.map(lambda a, b: jnp.sum(a * b), product, source)
    square = jax.tree.map(lambda a: jnp.sum(a * a), product)
    tiny = jnp.finfo(jax.tree.leaves(multiplier)[0].dtype).tiny
    factor = sum(jax.tree.leaves(dot)) / jnp.maximum(sum(jax.tree.leaves(square)), tiny)
    return jax.tree.map(lambda a: factor * a, multiplier)
