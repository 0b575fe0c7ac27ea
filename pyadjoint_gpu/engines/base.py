"""The protocol between problems and engines, whole: what an engine is asked, it is asked here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np

from ..core.errors import EngineError
from ..core.progress import first_use, times
from ..models.base import Fields, Model
from ..solvers.base import Convergence

M = TypeVar("M", bound=Callable[..., Any])


@dataclass(frozen=True)
class Solution:
    """A state u with R(u, m) = 0.

    Attributes
    ----------
    cache : object
        What an adjoint solve at this state may use again, or a solve of the same dR/du (for a
        nonlinear model one near by) that starts here; None, or the engine's own.
    """

    fields: Fields
    convergence: Convergence
    cache: Any = None


@dataclass(frozen=True)
class Adjoint:
    """The solution of (dR/du)^T lambda = u_bar, and what it gives.

    Attributes
    ----------
    gradient : dict
        -(dR/dm)^T lambda, an array a parameter.
    multiplier : dict
        lambda, an array an unknown.
    """

    gradient: Fields
    multiplier: Fields
    convergence: Convergence


class Many(NamedTuple):
    """What N solves found.

    Attributes
    ----------
    fields : dict
        Arrays with a first axis of N: states of `Engine.solve_many`, gradients -(dR/dm)^T lambda of
        `Engine.adjoint_many`.
    usable : array of bool, shape (N,)
        Which of them met their tolerance.
    cache : object
        For the adjoints of these states; the engine's own.
    """

    fields: Fields
    usable: Any
    cache: Any = None


class Engine(ABC):
    """Solves a model's equations, their adjoint and their linearisation. It knows no physics.

    An engine gives `info`, `solve` and `adjoint`; the rest has a meaning for all.
    """

    name: str = "user"
    solver: str = "pseudo-transient"
    """As the option ``solver`` of a run names it."""
    traceable: ClassVar[bool] = False
    """Whether solves may be called from within JAX's transformations, `linearised` among them."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """``engine``, ``engine_version``, ``device``, ``dtype`` and ``ranks``, for records."""

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
        """The state for `parameters` (as from `Model.fields`), from `initial` where given."""

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
        """The adjoint for ``source = dJ/du`` at `solution`.

        Parameters
        ----------
        wanted : names, optional
            Parameters whose derivatives are asked for: an engine may leave out the others.
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
        """du with (dR/du) du = source at `solution`."""
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
        """(du/dm) direction, from (dR/du) du = -(dR/dm) direction: the adjoint's counterpart,
        for tests and linearised forecasts."""
        raise EngineError(f"engine {self.name!r} has no tangent solves; use engine='embedded'")

    # Many parameter sets

    def side_by_side(self, model: Model) -> bool:
        """Whether `solve_many` and `adjoint_many` solve for all members at once; otherwise they do
        so one after another."""
        return False

    def solve_many(
        self, model: Model, parameters: Fields, *, tolerance: float, max_iterations: int
    ) -> Many:
        """The states for N parameter sets, arrays with a first axis of N."""
        options = {"tolerance": tolerance, "max_iterations": max_iterations}
        found = [self.solve(model, m, **options) for m in _members(parameters)]
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
        """The gradients for N sources at as many states."""
        options = {"tolerance": tolerance, "max_iterations": max_iterations}
        members = zip(_members(parameters), states.cache, _members(sources), strict=True)
        found = [self.adjoint(model, m, state, u_bar, **options) for m, state, u_bar in members]
        usable = np.array([a.convergence.usable for a in found])
        return Many(_stacked([a.gradient for a in found]), usable)

    # Its life

    def settings(self) -> dict[str, Any] | None:
        """What of a run file makes this engine; None where none does."""
        return None

    def explicit(self) -> Engine:
        """What runs models of explicit time steps, if not this engine itself."""
        return self

    def close(self) -> None:  # noqa: B027  # most have nothing to end
        """End what it started (processes, say); it starts again with the next solve."""


def _members(fields: Fields) -> list[Fields]:
    count = len(next(iter(fields.values())))
    return [{name: a[k] for name, a in fields.items()} for k in range(count)]


def _stacked(members: list[Fields]) -> Fields:
    return {name: jnp.stack([m[name] for m in members]) for name in members[0]}


def compiling(what: str) -> Callable[[M], M]:
    """For methods of JAX's engines that take a model: the first call is a phase of its own, since
    it waits for the compiler. `what` they compile says it."""

    def decorate(method: M) -> M:
        @wraps(method)
        def wrapper(self: Any, model: Model, *args: Any, **kwargs: Any) -> Any:
            key = (what, model.structure, str(self.settings()))
            with first_use(key, f"compiling {what} for {times(model.grid.shape)}"):
                return method(self, model, *args, **kwargs)

        return wrapper  # type: ignore[return-value]  # wraps keeps the signature

    return decorate
