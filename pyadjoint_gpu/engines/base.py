"""The protocol of engines: everything that a problem asks of the code that solves its equations;
what it returns is in `solutions`.

An engine solves the discrete equations R(u, m) = 0 of a `Model` for its unknowns u, given its
parameter fields m, and the linear systems that belong to them:

    ============== ==================================== =========================
    method         solves                               returns
    ============== ==================================== =========================
    `solve`        R(u, m) = 0                          u
    `adjoint`      (dR/du)^T lambda = dJ/du             lambda, -(dR/dm)^T lambda
    `linearised`   (dR/du) du = source                  du
    `tangent`      (dR/du) du = -(dR/dm) dm             du = (du/dm) dm
    `second_order` d[(dR/du)^T lambda] = d[dJ/du]       d lambda, -d[(dR/dm)^T lambda]
    ============== ==================================== =========================

with d[...] the derivative along (du, dm).

To add an engine, subclass `Engine`, implement `info`, `solve` and `adjoint`, which are all that an
inversion needs, and give it a name in `engines.choose` (an instance can be passed as ``engine=``
without one). The other methods have defaults that hold for every engine.

Fields are dicts of arrays by name (`Fields`): unknowns have the shape `Model.shape`, the parameter
``name`` has ``Model.space(name).shape``. An engine takes NumPy and JAX arrays, in any precision,
and returns either. A solve that misses its tolerance is not an exception: its `Convergence` says
so, and the caller decides. An `EngineError` says that the engine cannot run here, or not this
model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import replace
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from ..core.errors import EngineError
from ..core.precision import compiled, double
from ..models.base import Fields, Model
from ..solvers.base import Convergence, Limits, curvature
from .solutions import Adjoint, Many, Solution, Tangent


class Engine(ABC):
    """Solver of a model's equations, their adjoint and their linearisation, without any physics.

    A subclass implements `info`, `solve` and `adjoint`.
    """

    name: str = "user"
    """The engine's name in records and messages."""
    solver: str = "pseudo-transient"
    """The method of its solves, a value of the option ``solver`` of a run."""
    traceable: ClassVar[bool] = False
    """True if solves can be called from within JAX's transformations; `linearised` is then
    implemented."""
    has_tangents: bool = False
    """True if `tangent` is implemented."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """Attributes of results: ``engine``, ``engine_version``, ``device``, ``dtype``, ``ranks``.

        Called when there is something to record; it may start the engine.
        """

    @abstractmethod
    def solve(
        self,
        model: Model,
        parameters: Fields,
        *,
        tolerance: float,
        max_iterations: int,
        initial: Solution | None = None,
    ) -> Solution:
        """Solve R(u, m) = 0.

        Parameters
        ----------
        model : Model
        parameters : dict
            m, as from `Model.fields`: complete, checked, in the model's units.
        tolerance : float
            On ``||R||_max / ||R(u=0)||_max``; the error of u is to be at most 100 times as large.
        max_iterations : int
            A limit on the iterations of this solve.
        initial : Solution, optional
            An earlier solution of this engine and model, at other parameters, to start from;
            otherwise from `Model.guess`. With a `cache`, its preconditioner may be taken over.

        Returns
        -------
        Solution
            Also where the tolerance was not met: see `Convergence.status`.

        Raises
        ------
        EngineError
            If this engine cannot solve the model, or cannot run.
        """

    @abstractmethod
    def adjoint(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        source: Fields,
        *,
        tolerance: float,
        max_iterations: int,
        initial: Adjoint | None = None,
        wanted: Collection[str] | None = None,
    ) -> Adjoint:
        """Solve (dR/du)^T lambda = source at a state, and form the gradient -(dR/dm)^T lambda.

        Parameters
        ----------
        model, parameters, tolerance, max_iterations
            As for `solve`; the tolerance is relative to the largest absolute value of the source.
        solution : Solution
            The state, from `solve` with the same parameters. Its `cache` may be missing.
        source : dict
            dJ/du, an array of shape `Model.shape` for each unknown.
        initial : Adjoint, optional
            An earlier one to start from.
        wanted : names, optional
            Parameters whose derivatives are asked for; the engine may leave out the others.
        """

    def linearised(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        source: Fields,
        *,
        tolerance: float,
        max_iterations: int,
    ) -> tuple[Fields, Convergence]:
        """Solve (dR/du) du = source at a state, with arguments as for `adjoint`; du by unknown."""
        raise EngineError(f"engine {self.name!r} has no tangent solves; use engine='embedded'")

    def tangent(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        direction: Fields,
        *,
        tolerance: float,
        max_iterations: int,
    ) -> Tangent:
        """du = (du/dm) direction, from (dR/du) du = -(dR/dm) direction.

        The adjoint's counterpart, for Hessian products, tests and linearised forecasts.
        `direction` has an array for each parameter.
        """
        raise EngineError(f"engine {self.name!r} has no tangent solves; use engine='embedded'")

    # Second order

    def linearise(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        adjoint: Adjoint | None,
        source: Fields,
        *,
        tolerance: float,
        max_iterations: int,
    ) -> tuple[Solution, Adjoint | None]:
        """A state and its adjoint (or None) with caches from which many solves at this state start:
        tangents, adjoints and those of `second_order`. The caches do not depend on those given.
        `source` is that of the adjoint."""
        return solution, adjoint

    @double
    def second_order(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        adjoint: Adjoint,
        direction: Fields,
        tangent: Tangent,
        source: Fields,
        *,
        tolerance: float,
        max_iterations: int,
        wanted: Collection[str] | None = None,
    ) -> Adjoint:
        """The derivative of an adjoint along (du, dm), by one adjoint solve more:

            (dR/du)^T lambda' = source - d[(dR/du)^T] lambda,
            gradient'         = -(dR/dm)^T lambda' - d[(dR/dm)^T] lambda.

        The active set of bounds does not change.

        Parameters
        ----------
        model, parameters, tolerance, max_iterations, wanted
            As for `adjoint`.
        solution, adjoint : Solution, Adjoint
            The state and the adjoint that is differentiated, from `linearise`.
        direction : dict
            dm, an array for each parameter.
        tangent : Tangent
            du, of this engine or another that solves the same equations.
        source : dict
            The derivative of dJ/du along (du, dm).
        """
        fields = (parameters, solution.fields, adjoint.multiplier, direction, tangent.fields)
        by_u, by_m = _curvature(model, *_alike(solution.fields, *fields))
        found = self.adjoint(
            model,
            parameters,
            solution,
            {k: source[k] - a for k, a in by_u.items()},
            tolerance=tolerance,
            max_iterations=max_iterations,
            wanted=wanted,
        )
        return replace(found, gradient={k: a - by_m[k] for k, a in found.gradient.items()})

    # Many directions at one state, from `linearise`

    def tangents(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        directions: Fields,
        *,
        tolerance: float,
        max_iterations: int,
    ) -> Many:
        """`tangent` for N directions, given as arrays with a first axis of N."""
        limits: Limits = {"tolerance": tolerance, "max_iterations": max_iterations}
        found = [
            self.tangent(model, parameters, solution, dm, **limits) for dm in _members(directions)
        ]
        usable = np.array([t.convergence.usable for t in found])
        return Many(_stacked([t.fields for t in found]), usable, found)

    def adjoints(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        sources: Fields,
        *,
        tolerance: float,
        max_iterations: int,
        wanted: Collection[str] | None = None,
    ) -> Many:
        """The gradients of `adjoint` for N sources."""
        limits: Limits = {"tolerance": tolerance, "max_iterations": max_iterations}
        found = [
            self.adjoint(model, parameters, solution, source, wanted=wanted, **limits)
            for source in _members(sources)
        ]
        return _gradients(found)

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
        tolerance: float,
        max_iterations: int,
        wanted: Collection[str] | None = None,
    ) -> Many:
        """The gradients of `second_order` for N directions and their `tangents`."""
        limits: Limits = {"tolerance": tolerance, "max_iterations": max_iterations}
        at = (model, parameters, solution, adjoint)
        # Those of an engine that solves side by side have no caches of their own.
        changes = tangents.cache or [
            Tangent(du, adjoint.convergence) for du in _members(tangents.fields)
        ]
        members = zip(_members(directions), changes, _members(sources), strict=True)
        found = [self.second_order(*at, *member, wanted=wanted, **limits) for member in members]
        return _gradients(found)

    # Many parameter sets

    def side_by_side(self, model: Model) -> bool:
        """True if `solve_many` and `adjoint_many` solve for all members at once, not one by one."""
        return False

    def solve_many(
        self, model: Model, parameters: Fields, *, tolerance: float, max_iterations: int
    ) -> Many:
        """States for N parameter sets, given as arrays with a first axis of N."""
        found = [
            self.solve(model, m, tolerance=tolerance, max_iterations=max_iterations)
            for m in _members(parameters)
        ]
        usable = np.array([s.convergence.usable for s in found])
        return Many(_stacked([s.fields for s in found]), usable, found)

    def adjoint_many(
        self,
        model: Model,
        parameters: Fields,
        states: Many,
        sources: Fields,
        *,
        tolerance: float,
        max_iterations: int,
    ) -> Many:
        """Gradients for N sources at the states of `solve_many` for the same parameters."""
        members = zip(_members(parameters), states.cache, _members(sources), strict=True)
        found = [
            self.adjoint(model, m, state, u_bar, tolerance=tolerance, max_iterations=max_iterations)
            for m, state, u_bar in members
        ]
        return _gradients(found)

    # Life cycle

    def settings(self) -> dict[str, Any] | None:
        """The top-level keys and ``[solver]`` table of a run file that make this engine.

        None for an engine that no run file can make: its runs are resumed with the problem given
        anew.
        """
        return None

    def explicit(self) -> Engine:
        """The engine that runs models with explicit time steps: this one, unless overridden."""
        return self

    def close(self) -> None:  # noqa: B027  # most have nothing to end
        """End what the engine started, such as processes; the next solve starts it again."""


def _members(fields: Fields) -> list[Fields]:
    count = len(next(iter(fields.values())))
    return [{name: a[k] for name, a in fields.items()} for k in range(count)]


def _stacked(members: list[Fields]) -> Fields:
    return {name: jnp.stack([m[name] for m in members]) for name in members[0]}


def _gradients(found: list[Adjoint]) -> Many:
    usable = np.array([a.convergence.usable for a in found])
    return Many(_stacked([a.gradient for a in found]), usable)


def _alike(like: Fields, *given: Fields) -> tuple[Fields, ...]:
    """Fields in the precision of others."""
    dtype = jnp.result_type(*like.values())
    return tuple({k: jnp.asarray(a, dtype) for k, a in fields.items()} for fields in given)


_curvature = compiled(curvature)
