"""Adaptive tolerances: solves only as accurate as a step of the optimiser needs.

The errors that loose solves leave in J and its gradient are estimated. One multigrid cycle on the
residual R(u), and one on the residual of the adjoint equation, remove most of the errors of u and
of lambda. The remaining error of J is the dual-weighted residual

    J(u) - J(u*)  ~  lambda . R(u)

(Becker and Rannacher 2001, Acta Numerica 10, 1), which is subtracted too. The differences between J
and the gradient before and after these corrections are the estimates of their errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.precision import compiled, double
from ..engines.embedded import gauge, gradient_of, prepared
from ..models.base import Fields, Model
from ..problem import objective
from ..problem.evaluation import Evaluation
from ..problem.problem import Problem
from ..solvers import Operator, multigrid
from ..solvers.base import dot

FIRST = 1e-3
"""Tolerance of the first solves."""
LOOSEST = 1e-1
"""Largest tolerance."""
OBJECTIVE = 0.3
"""Largest estimated error of J, relative to its last decrease. Several times less is left when the
estimate is subtracted; likewise for the gradient."""
UNITS = 8.0
"""Smallest error of J that can be asked for, in units of its round-off."""
GRADIENT = 0.3
"""Largest estimated error of the gradient, relative to its norm."""


@dataclass(frozen=True)
class Estimate:
    """Estimated errors of an evaluation, and corrected fields.

    Attributes
    ----------
    objective : float
        Error of J: its value less that of exact solves.
    gradient : array
        Error of the gradient, likewise.
    state, multiplier : dict
        u and lambda after a correction by a multigrid cycle each.
    """

    objective: float
    gradient: Float[np.ndarray, " n"]
    state: Fields
    multiplier: Fields


@double
def estimate(problem: Problem, theta: Float[np.ndarray, " n"], evaluation: Evaluation) -> Estimate:
    """Estimate the errors that the tolerance of the solves leaves in an evaluation at theta."""
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


def _improved(
    operator: Operator,
    hierarchies: dict[str, multigrid.Hierarchy],
    u: Fields,
    args: tuple[Any, ...],
) -> Fields:
    """u after one multigrid cycle on its residual."""
    model = operator.model
    r, _ = multigrid.residual_of(operator, u, args)
    change = multigrid.correction(model.grid.spacing, hierarchies, r)
    return gauge(model, jax.tree.map(jnp.add, u, change))


@compiled
def _weighted_residual(model: Model, c: Any, u: Fields, multiplier: Fields) -> Float[Array, ""]:
    return dot(multiplier, model.equations(u, c))


def evaluate(
    problem: Problem,
    theta: Float[np.ndarray, " n"],
    *,
    initial: Evaluation | None,
    decrease: float | None,
    norm: Callable[[Float[np.ndarray, " n"]], float],
) -> Evaluation:
    """J and its gradient, as accurately as an optimiser needs them, with estimated errors removed.

    The tolerance of the solves is reduced until the estimated errors are small enough against the
    decrease of J by the last step (J itself, if that is None) and the norm of the gradient in the
    optimiser's variables. The solves and the tolerance start from those of `initial`, if given.
    """
    tolerance = initial.tolerance if initial else FIRST
    spent = np.zeros((2, 3))  # work, iterations and seconds, of u and of lambda
    cycles = multigrid.work_of_iteration(problem.model, "exact")
    while True:
        found = problem.evaluate(theta, initial=initial, tolerance=tolerance)
        assert found.adjoint is not None
        errors = estimate(problem, theta, found)
        each = (found.solution.convergence, found.adjoint.convergence)
        # An estimate costs a cycle and a residual for either solve.
        spent += [(c.work + cycles + 1.0, c.iterations, c.wall_time) for c in each]
        forward, backward = (
            replace(c, work=work, iterations=int(iterations), wall_time=seconds)
            for c, (work, iterations, seconds) in zip(each, spent.tolist(), strict=True)
        )
        gradient = found.gradient - errors.gradient
        allowed = OBJECTIVE * (abs(found.objective) if decrease is None else abs(decrease))
        # A decrease of zero asks for no more than round-off allows.
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
            solution=replace(found.solution, fields=errors.state, convergence=forward),
            adjoint=replace(found.adjoint, multiplier=errors.multiplier, convergence=backward),
            # Where the errors are far below the limits, the next evaluation tries a looser one.
            tolerance=min(LOOSEST, 10.0 * tolerance) if ratio < 0.05 else tolerance,
        )
        if ratio <= 1.0 or tolerance <= problem.tolerance:
            return initial
        tolerance = max(problem.tolerance, tolerance * min(0.3, 0.5 / ratio))
