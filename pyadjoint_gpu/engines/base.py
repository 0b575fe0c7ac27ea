"""The protocol between problems and engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol, TypeVar

from ..core.progress import first_use, times
from ..models.base import Fields, Model
from ..solvers.base import Convergence

M = TypeVar("M", bound=Callable[..., Any])


@dataclass(frozen=True)
class Solution:
    """A state u with R(u, m) = 0.

    Attributes
    ----------
    reusable : object
        What an adjoint solve at this state may use again, or a solve of the same dR/du (for a
        nonlinear model one near by) that starts here; None, or the engine's own.
    """

    fields: Fields
    convergence: Convergence
    reusable: Any = None


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


class Engine(Protocol):
    """Solves a model's equations and their adjoint. It knows no physics."""

    name: str

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
        ...

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
    ) -> Adjoint:
        """The adjoint for ``source = dJ/du`` at `solution`."""
        ...

    def info(self) -> dict[str, Any]:
        """``engine``, ``engine_version``, ``device``, ``dtype`` and ``ranks``, for records."""
        ...


def compiling(what: str) -> Callable[[M], M]:
    """For methods of JAX's engines that take a model: the first call is a phase of its own, since
    it waits for the compiler. `what` they compile says it."""

    def decorate(method: M) -> M:
        @wraps(method)
        def wrapper(self: Any, model: Model, *args: Any, **kwargs: Any) -> Any:
            key = (what, model, str(self.settings()))
            with first_use(key, f"compiling {what} for {times(model.grid.shape)}"):
                return method(self, model, *args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate
