"""Solves only as accurate as a step of the optimiser needs, with estimates of what that costs.

A multigrid cycle on what R(u) = 0 leaves over, and one on what the adjoint equation leaves over,
take most of the errors out of u and of lambda. J is then off by the dual-weighted residual

    J(u) - J(u*)  ~  lambda . R(u)

(Becker and Rannacher 2001, Acta Numerica 10, 1), which is taken out too. What J and the gradient
change by in all this is the error that they had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.precision import compiled, double
from ..engines.embedded import gauge, gradient_of, prepared
from ..models.base import Fields, Model
from ..problem import objective
from ..problem.evaluation import Evaluation
from ..problem.problem import Problem
from ..solvers import Operator, multigrid
from ..solvers.base import Convergence, dot

FIRST = 1e-3
"""Tolerance of the first solves."""
LOOSEST = 1e-1
OBJECTIVE = 0.3
"""Estimated error of J that is allowed, over its last decrease. Several times less is left when it
is taken out; so too of the gradient."""
UNITS = 8.0
"""Of round-off in J, below which no error of it can be asked for."""
GRADIENT = 0.3
"""Estimated error of the gradient that is allowed, over its norm."""


@dataclass(frozen=True)
class Estimate:
    """Errors of an evaluation.

    Attributes
    ----------
    objective : float
        J less the J of exact solves.
    gradient : array
        The gradient less that of exact solves.
    state, multiplier : dict
        u and lambda with their errors taken out.
    """

    objective: float
    gradient: np.ndarray
    state: Fields
    multiplier: Fields


@double
def estimate(problem: Problem, theta: np.ndarray, evaluation: Evaluation) -> Estimate:
    """The errors that the tolerance of its solves leaves in an evaluation."""
    assert evaluation.adjoint is not None
    model, x = problem.model, jnp.asarray(theta)
    m = problem.parameters(theta)
    c = prepared(model, m)
    u, multiplier = (
        {k: jnp.asarray(v, x.dtype) for k, v in fields.items()}
        for fields in (evaluation.solution.fields, evaluation.adjoint.multiplier)
    )
    found = evaluation.solution.cache or multigrid.prepare(model, c, u)
    better = _improved(Operator(model), found.hierarchies, u, (c,))
    (value, _), (u_bar, direct) = objective.slopes(problem.objective, better, x)
    args = (c, better, gauge(model, u_bar))
    exact = _improved(Operator(model, "adjoint"), found.hierarchies, multiplier, args)
    m_bar = gradient_of(model, m, better, exact)
    gradient = objective.vjp(problem.objective, x, m_bar) + direct
    corrected = float(value - _weighted_residual(model, c, better, exact))
    return Estimate(
        evaluation.objective - corrected, evaluation.gradient - np.asarray(gradient), better, exact
    )


def _improved(operator: Operator, hierarchies: Any, u: Fields, args: tuple) -> Fields:
    """After one cycle."""
    model = operator.model
    r, _ = multigrid.residual_of(operator, u, args)
    change = multigrid.correction(model.grid.spacing, hierarchies, r)
    return gauge(model, jax.tree.map(jnp.add, u, change))


@compiled
def _weighted_residual(model: Model, c: Any, u: Fields, multiplier: Fields) -> Any:
    return dot(multiplier, model.equations(u, c))


def evaluate(
    problem: Problem,
    theta: np.ndarray,
    *,
    initial: Evaluation | None,
    decrease: float | None,
    norm: Callable[[np.ndarray], float],
) -> Evaluation:
    """J and its gradient, as accurately as an optimiser needs them.

    Parameters
    ----------
    initial : Evaluation, optional
        An earlier one, from whose solves and tolerance this one starts.
    decrease : float, optional
        Of J, by the last step.
    norm : callable
        Of a gradient, as the optimiser sees it.
    """
    tolerance = initial.tolerance if initial else FIRST
    work, iterations, seconds = np.zeros(2), np.zeros(2, int), np.zeros(2)
    cycles = multigrid.work_of_iteration(problem.model, "exact")
    while True:
        found = problem.evaluate(theta, initial=initial, tolerance=tolerance)
        assert found.adjoint is not None
        errors = estimate(problem, theta, found)
        each = (found.solution.convergence, found.adjoint.convergence)
        # An estimate has a cycle and two products for either solve.
        work += [c.work + cycles + 1.0 for c in each]
        iterations += [c.iterations for c in each]
        seconds += [c.wall_time for c in each]
        gradient = found.gradient - errors.gradient
        allowed = OBJECTIVE * (abs(found.objective) if decrease is None else abs(decrease))
        # A decrease of nothing asks for no more than arithmetic can do.
        allowed = max(allowed, UNITS * float(np.finfo(float).eps) * abs(found.objective))
        ratio = max(
            abs(errors.objective) / (allowed or np.inf),
            norm(errors.gradient) / (GRADIENT * norm(gradient) or np.inf),
        )
        initial = replace(
            found,
            objective=found.objective - errors.objective,
            misfit=found.misfit - errors.objective,
            gradient=gradient,
            solution=replace(
                found.solution,
                fields=errors.state,
                convergence=_summed(each[0], work[0], iterations[0], seconds[0]),
            ),
            adjoint=replace(
                found.adjoint,
                multiplier=errors.multiplier,
                convergence=_summed(each[1], work[1], iterations[1], seconds[1]),
            ),
            # The next one may try a looser one, where there is room.
            tolerance=min(LOOSEST, 10.0 * tolerance) if ratio < 0.05 else tolerance,
        )
        if ratio <= 1.0 or tolerance <= problem.tolerance:
            return initial
        tolerance = max(problem.tolerance, tolerance * min(0.3, 0.5 / ratio))


def _summed(convergence: Convergence, work: float, iterations: int, seconds: float) -> Convergence:
    return replace(
        convergence, work=float(work), iterations=int(iterations), wall_time=float(seconds)
    )
