"""Evaluations of an objective: at one theta, and at many side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..core.progress import first_use
from ..core.texts import sizes
from ..engines.base import Adjoint, Engine, Solution
from . import objective as compiled
from .objective import Objective

Member = tuple[float, float, float, Float[np.ndarray, " n"]]
"""J, misfit, penalty and gradient at one theta."""


@dataclass(frozen=True)
class Evaluation:
    """J and its gradient at one theta, with the solves behind them, from which others can start.

    Attributes
    ----------
    objective, misfit, penalty : float
        J and its parts.
    gradient : array
        dJ/dtheta; empty if it was not asked for.
    solution : Solution
    adjoint : Adjoint or None
        None if no gradient was asked for.
    tolerance : float
        With adaptive tolerances, the first one that the next evaluation tries.
    """

    objective: float
    misfit: float
    penalty: float
    gradient: Float[np.ndarray, " n"]
    solution: Solution
    adjoint: Adjoint | None
    tolerance: float = 0.0


class Evaluations(NamedTuple):
    """J, its parts and its gradients at many theta; J is infinite and the gradient zero where a
    solve failed."""

    objective: Float[np.ndarray, " members"]
    misfit: Float[np.ndarray, " members"]
    penalty: Float[np.ndarray, " members"]
    gradient: Float[np.ndarray, "members n"]

    @classmethod
    def of(cls, members: Sequence[Member]) -> Evaluations:
        return cls(*(np.array(column) for column in zip(*members, strict=True)))


def side_by_side(
    objective: Objective,
    engine: Engine,
    x: Float[Array, "members n"],
    *,
    tolerance: float,
    adjoint_tolerance: float,
    max_iterations: int,
) -> tuple[Evaluations, Bool[np.ndarray, " members"]]:
    """J and its gradients at each row of x, and a mask of those whose solves converged to a finite
    J."""
    model = objective.model
    key = (model.structure, objective.shapes, str(engine.settings()), len(x))
    what = f"compiling {len(x)} solves side by side for {sizes(model.grid.shape)}"
    with first_use(key, what):
        m = compiled.parameters_many(objective, x)
        states = engine.solve_many(model, m, tolerance=tolerance, max_iterations=max_iterations)
        u = {k: jnp.asarray(v, x.dtype) for k, v in states.fields.items()}
        (value, (misfit, penalty)), (u_bar, direct) = compiled.slopes_many(objective, u, x)
        adjoints = engine.adjoint_many(
            model, m, states, u_bar, tolerance=adjoint_tolerance, max_iterations=max_iterations
        )
        gradient = compiled.vjp_many(objective, x, adjoints.fields) + direct
    found = Evaluations(*map(np.asarray, (value, misfit, penalty, gradient)))
    return found, np.asarray(states.usable & adjoints.usable) & np.isfinite(found.objective)
