"""Inexact Newton-Krylov iterations for nonlinear residuals.

    ||R(u) + (dR/du) du|| <= eta ||R(u)||,    u <- u + s du,

with steps du from multigrid-preconditioned Krylov iterations on exact products with dR/du, eta from
Eisenstat and Walker's second choice (1996, SIAM J. Sci. Comput. 17, 16), and s from backtracking
until ||R||_2 decreases enough.
"""

from __future__ import annotations

import math
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.precision import compiled
from ..models.base import Fields
from . import multigrid
from .base import (
    ERROR,
    TINY,
    Convergence,
    Operator,
    dot,
    largest,
    round_off,
    summary,
    unit_round_off,
)
from .krylov import Goal

STEPS = 100
"""Largest number of steps."""
LOOSEST = 0.1
"""Largest eta, and the first."""
DECREASE = 1e-4
SHORTEST = 1e-4
"""Step length at which a line search is stopped."""
WORN = 5
"""Krylov iterations of a step above which the preconditioner is rebuilt."""


def solve(
    operator: Operator,
    args: tuple,
    initial: Fields,
    *,
    tolerance: float,
    max_iterations: int,
    preconditioner: multigrid.Preconditioner | None = None,
) -> tuple[Fields, Convergence, multigrid.Preconditioner | None]:
    """Drive a nonlinear residual to zero: see `Solver`.

    `iterations` counts those of the Krylov method over all steps.

    Parameters
    ----------
    preconditioner : Preconditioner, optional
        That of an earlier solve, at another u.

    Returns
    -------
    u, convergence, preconditioner
        The last is that of some earlier step if its kind, "general", allows its use at other u;
        else None.
    """
    start = time.perf_counter()
    model, c = operator.model, args[0]
    u, iterations, work, eta, status = initial, 0, 3.0, LOOSEST, ""
    found = preconditioner
    r, norms = _start(operator, u, args)
    residual, square, floor, scale = np.asarray(norms).tolist()
    # If u = 0 is another solution, R(u=0) = 0: use the largest term in R.
    eps = unit_round_off(u)
    scale = max(scale or floor / eps, TINY)
    history = [(0, residual / scale)]
    tangent, error = Operator(model, "tangent"), 0.0 if residual == 0.0 else math.inf
    for _ in range(STEPS):
        if not math.isfinite(residual):
            status = "diverged"
        elif residual <= tolerance * scale and error <= ERROR * tolerance:
            status = "converged"
        elif iterations >= max_iterations:
            status = "max_iterations"
        if status:
            break
        if found is None:
            found = multigrid.prepare(model, c, u)
            work += 2.0
        least = 0.5 * tolerance * scale / residual
        goal = Goal(
            max(eta, min(least, LOOSEST)) * residual, math.inf, 0.0, max_iterations - iterations
        )
        zero = jax.tree.map(jnp.zeros_like, u)
        du, progress, _ = found.iterate(tangent, zero, r, (c, u, r), goal)
        count = int(progress.iterations)
        iterations += count
        work += count * multigrid.work_of_iteration(model, found.kind)
        if found.kind != "general" or count > WORN:
            found = None
        step, moved, numbers = 1.0, (u, r), [math.nan] * 5
        while step >= SHORTEST:
            *moved, norms = _trial(operator, u, du, step, args)
            numbers = np.asarray(norms).tolist()
            work += 1.0
            slope = -2.0 * (1.0 - eta) * square
            after = numbers[1]
            if after <= square + DECREASE * step * slope:
                break
            bend = after - square - slope * step
            best = -0.5 * slope * step**2 / bend if math.isfinite(bend) and bend > 0 else 0.0
            step *= min(max(best / step, 0.1), 0.5)
        else:
            status = "stagnated"
            if residual <= 100.0 * max(floor, eps * scale):
                status = "converged" if residual <= tolerance * scale else "round-off"
            break
        before = residual
        u, r = moved
        residual, square, floor, change, size = numbers
        ratio = residual / before
        error = change * ratio / max(size, TINY)
        history.append((iterations, residual / scale))
        last, eta = eta, 0.9 * ratio**2
        if 0.9 * last**2 > 0.1:
            eta = max(eta, 0.9 * last**2)
        eta = min(max(eta, 1e-6), LOOSEST)
    if history[-1][0] < iterations:  # the last step was rejected
        history.append((iterations, residual / scale))
    status = status or "stagnated"
    convergence = summary(
        "newton", status, history, u, args, tolerance=tolerance, start=start, work=work
    )
    return u, convergence, found


def _norms(operator: Operator, u: Fields, r: Fields, args: tuple) -> tuple[Float[Array, ""], ...]:
    """||R||_max, ||R||_2^2, and the round-off of R."""
    return largest(r), dot(r, r), round_off(partial(operator.product, u, args), u)


@compiled
def _start(operator: Operator, u: Fields, args: tuple) -> tuple[Fields, Float[Array, " norms"]]:
    """R, its `_norms`, and ||R(u=0)||_max."""
    r = operator(u, args)
    scale = largest(operator(jax.tree.map(jnp.zeros_like, u), args))
    return r, jnp.stack([*_norms(operator, u, r, args), scale])


@compiled
def _trial(
    operator: Operator, u: Fields, du: Fields, step: float, args: tuple
) -> tuple[Fields, Fields, Float[Array, " norms"]]:
    """u + step du, R there, and its `_norms`, ||du||_max and ||u||_max."""
    u = jax.tree.map(lambda u, d: u + jnp.asarray(step, u.dtype) * d, u, du)
    r = operator(u, args)
    return u, r, jnp.stack([*_norms(operator, u, r, args), largest(du), largest(u)])
