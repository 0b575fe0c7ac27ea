"""The protocol of engines: everything that a problem asks of the code that solves its equations.

An engine solves the discrete equations R(u, m) = 0 of a `Model` for its unknowns u, given its
parameter fields m, and the linear systems that belong to them:

    ============ ==================================== =========================
    method       solves                               returns
    ============ ==================================== =========================
    `solve`      R(u, m) = 0                          u
    `adjoint`    (dR/du)^T lambda = dJ/du             lambda, -(dR/dm)^T lambda
    `linearised` (dR/du) du = source                  du
    `tangent`    (dR/du) du = -(dR/dm) dm             du = (du/dm) dm
    ============ ==================================== =========================

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
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, NamedTuple, ParamSpec, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ..core.errors import EngineError
from ..core.progress import first_use
from ..core.texts import sizes
from ..models.base import Fields, Model
from ..solvers.base import Convergence

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Solution:
    """A state u with R(u, m) = 0.

    Attributes
    ----------
    fields : dict
        u, an array of shape `Model.shape` for each unknown.
    convergence : Convergence
    cache : object
        A preconditioner or factorisation, say, that an adjoint solve at this state can use again,
        or a solve of the same dR/du (for a nonlinear model, one near by) that starts here. None,
        or the engine's own: nobody else looks into it.
    """

    fields: Fields
    convergence: Convergence
    cache: Any = None


@dataclass(frozen=True)
class Adjoint:
    """The solution of (dR/du)^T lambda = dJ/du, and the gradient that follows from it.

    Attributes
    ----------
    gradient : dict
        -(dR/dm)^T lambda, an array of the parameter's shape for each parameter.
    multiplier : dict
        lambda, an array of shape `Model.shape` for each unknown.
    convergence : Convergence
    """

    gradient: Fields
    multiplier: Fields
    convergence: Convergence


class Many(NamedTuple):
    """The results of N solves.

    Attributes
    ----------
    fields : dict
        Arrays with a first axis of N: states of `Engine.solve_many`, gradients -(dR/dm)^T lambda of
        `Engine.adjoint_many`.
    usable : array of bool, shape (N,)
        True where the solve met its tolerance.
    cache : object
        For the adjoints of these states; the engine's own.
    """

    fields: Fields
    usable: Bool[Array | np.ndarray, " members"]
    cache: Any = None


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
    ) -> tuple[Fields, Convergence]:
        """(du/dm) direction, from (dR/du) du = -(dR/dm) direction.

        The adjoint's counterpart, for tests and linearised forecasts. `direction` has an array for
        each parameter.
        """
        raise EngineError(f"engine {self.name!r} has no tangent solves; use engine='embedded'")

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
        usable = np.array([a.convergence.usable for a in found])
        return Many(_stacked([a.gradient for a in found]), usable)

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


class TimeStepper(Engine):
    """An engine for models with time steps, in the name of another engine."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.name, self.solver = engine.name, engine.solver

    def info(self) -> dict[str, Any]:
        return self.engine.info()

    def settings(self) -> dict[str, Any] | None:
        return self.engine.settings()

    def close(self) -> None:
        self.engine.close()


def _members(fields: Fields) -> list[Fields]:
    count = len(next(iter(fields.values())))
    return [{name: a[k] for name, a in fields.items()} for k in range(count)]


def _stacked(members: list[Fields]) -> Fields:
    return {name: jnp.stack([m[name] for m in members]) for name in members[0]}


def compiling(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator of the methods of JAX's engines that take a model: the first call is a phase of
    progress, since it waits for the compiler. `what` names the computation."""

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        @wraps(method)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            engine, model = args[:2]
            assert isinstance(engine, Engine) and isinstance(model, Model)
            key = (what, model.structure, str(engine.settings()))
            with first_use(key, f"compiling {what} for {sizes(model.grid.shape)}"):
                return method(*args, **kwargs)

        return wrapper

    return decorate
