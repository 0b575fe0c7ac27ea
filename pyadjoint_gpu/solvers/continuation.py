"""Pseudo-transient continuation for nonlinear residuals with bounds on the unknowns.

    (sigma - dR/du) du = R(u)  in the cells with u > bound or R > 0,    u <- max(u + du, bound):

implicit Euler steps of du/dtau = R, one Newton iteration each, of length 1/sigma; their linear
systems are solved by Krylov iterations with multigrid or by pseudo-transient iterations. Steps grow
as the residual falls (switched evolution relaxation), until they are Newton's; if it rises too much
in a step, shorter ones are tried. (Kelley, Liao, Qi, Chu, Reese and Winton 2008, SIAM J. Numer.
Anal. 46, 3071.) Progress is measured by the mean of |`Model.equations`|: that of a conservation law
with few sinks hardly rises on the way to a steady state, while its maximum jumps as margins move
from cell to cell.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.precision import compiled
from ..models.base import Fields, Model
from ..models.declarations import Elliptic
from ..models.finite_volume import with_active_set
from ..models.wrapper import Wrapper
from . import multigrid, pseudo_transient
from .base import (
    ERROR,
    TINY,
    Convergence,
    Operator,
    Spectrum,
    fold,
    largest,
    round_off,
    summary,
    unit_round_off,
)
from .krylov import Goal

STEPS = 1000
"""Largest number of steps."""
ETA = 0.03
"""Tolerance of a step's linear system: ||R + (dR/du - sigma) du|| / ||R||."""
LONGEST = 50
"""Largest number of pseudo-transient iterations of a step, per cell along the longest axis."""
FAR = 1e4
"""Growth of the residual at which these are stopped: sigma is too small."""
RISE = 2.0
"""Largest growth of the mean residual in a step; if it is more, a shorter step is tried."""
NEAR = 1e-5
"""Mean residual, over its scale, that is accepted whatever the growth: near a solution, cells with
little flow may still change much."""
SHORTER = 0.25
"""Factor of the length of a step that is tried again."""
TURN = 1.05
"""Growth of the mean residual, after a fall, that shortens the next step as much: Newton steps may
alternate between the two sides of a kink."""
GROWTH = 1.5
"""Growth of the steps, relative to the fall of the residual."""
MOST = 100.0
"""Largest growth from one step to the next."""
SMALLEST, LARGEST = 1e-15, 1e9
"""Least sigma, relative to the bounds' rates, and the sigma at which a solve is stopped."""


@dataclass(frozen=True)
class Implicit(Wrapper):
    """The model of a step's linear system: R(u) - sigma u in inactive cells, -u in active ones."""

    model: Model

    def residual(self, u: Fields, c: Any) -> Fields:
        r = self.model.residual(u, c["model"])
        return {k: jnp.where(c["free"][k], r[k] - c["sigma"][k] * u[k], -u[k]) for k in u}

    def elliptic(self, u: Fields, c: Any) -> dict[str, Elliptic] | None:
        found = self.model.elliptic(u, c["model"]) or {}
        return {
            k: with_active_set(replace(e, sink=e.sink + c["sigma"][k]), ~c["free"][k], 1.0)
            for k, e in found.items()
        }


def solve(
    operator: Operator,
    args: tuple,
    initial: Fields,
    *,
    tolerance: float,
    max_iterations: int,
    linear: Literal["multigrid", "pseudo-transient"] = "multigrid",
) -> tuple[Fields, Convergence]:
    """Solve a nonlinear problem R = 0 with lower bounds (a complementarity problem): see `Solver`.

    `iterations` counts those of the `linear` solver over all steps.

    Parameters
    ----------
    linear : {"multigrid", "pseudo-transient"}
        The solver of the linear systems of the steps.
    """
    solve_step = _by_multigrid if linear == "multigrid" else _by_pseudo_transient
    spectrum = None
    start = time.perf_counter()
    model, c = operator.model, args[0]
    implicit = Operator(Implicit(model), "tangent")
    u = initial | {k: jnp.maximum(initial[k], b.value) for k, b in model.lower.items()}
    iterations, work, status = 0, 3.0, ""
    mean, residual, floor, *_ = np.asarray(_norms(operator, u, u, args)).tolist()
    scale = float(multigrid.residual_of(operator, _zero(u), args)[1])
    eps = unit_round_off(u)
    scale = max(scale or floor / eps, TINY)
    history = [(0, residual / scale)]
    error, ratio, gained = 0.0 if residual == 0.0 else math.inf, 1.0, True
    # The first step is about the time in which R changes; longer ones follow near a solution.
    sigma = min(max(mean / scale, SMALLEST), 1.0)
    for _ in range(STEPS):
        if not math.isfinite(mean):
            status = "diverged"
        elif residual <= tolerance * scale and error <= ERROR * tolerance:
            status = "converged"
        elif iterations >= max_iterations:
            status = "max_iterations"
        elif residual <= 100.0 * max(floor, eps * scale) and not gained:
            status = "converged" if residual <= tolerance * scale else "round-off"
        elif sigma > LARGEST:
            status = "stagnated"
        if status:
            break
        step, r = _step(model, u, c, sigma)
        du, count, products, spectrum = solve_step(
            implicit, (step, u, r), residual, max_iterations - iterations, spectrum
        )
        iterations += count
        work += 3.0 + products
        moved = _moved(model, u, du, step["free"])
        numbers = np.asarray(_norms(operator, moved, u, args)).tolist()
        if not numbers[0] <= RISE * max(mean, NEAR * scale):
            sigma /= SHORTER
            gained, spectrum = False, None
            continue
        last, ratio = ratio, numbers[0] / mean
        turned = last < 1.0 and ratio > TURN
        sigma *= 1.0 / SHORTER if turned else max(ratio / GROWTH, 1.0 / MOST)
        sigma = max(sigma, SMALLEST)
        u, before = moved, residual
        mean, residual, floor, change, size = numbers
        error = change * residual / max(before, TINY) / max(size, TINY)
        gained = residual <= 0.5 * before
        history.append((iterations, residual / scale))
    if history[-1][0] < iterations:  # the last step was rejected
        history.append((iterations, residual / scale))
    convergence = summary(
        "continuation",
        status or "stagnated",
        history,
        u,
        args,
        tolerance=tolerance,
        start=start,
        work=work,
        spectrum=spectrum,
    )
    return u, convergence


def _by_multigrid(
    implicit: Operator, args: tuple, residual: float, limit: int, _: Spectrum | None
) -> tuple[Fields, int, float, None]:
    """A step du, its iterations, their work in applications of the operator, and no spectrum."""
    step, u, r = args
    found = multigrid.Preconditioner(multigrid.hierarchies_of(implicit.model, step, u), "general")
    goal = Goal(ETA * residual, math.inf, 0.0, limit)
    du, progress = found.iterate(implicit, _zero(u), r, args, goal)[:2]
    count = int(progress.iterations)
    return du, count, count * multigrid.work_of_iteration(implicit.model, found.kind), None


def _by_pseudo_transient(
    implicit: Operator, args: tuple, _: float, limit: int, spectrum: Spectrum | None
) -> tuple[Fields, int, float, Spectrum | None]:
    """A step du, its iterations, their work, and the spectrum, for the next step."""
    u = args[1]
    du, found = pseudo_transient.solve(
        implicit,
        args,
        _zero(u),
        tolerance=ETA,
        max_iterations=min(limit, LONGEST * max(implicit.model.grid.shape)),
        spectrum=spectrum,
        most=FAR,
    )
    return du, found.iterations, found.work, found.spectrum


_zero = compiled(lambda u: jax.tree.map(jnp.zeros_like, u))


@compiled
def _step(model: Model, u: Fields, c: Any, sigma: float) -> tuple[dict[str, Any], Fields]:
    """The coefficients of `Implicit`, and R in inactive cells."""
    r = model.residual(u, c)
    free = {k: jnp.ones(a.shape, bool) for k, a in u.items()}
    rates = dict.fromkeys(u, 1.0)
    for k, b in model.lower.items():
        free[k], rates[k] = (u[k] > b.value) | (r[k] > 0.0), b.rate
    weights = {k: jnp.asarray(sigma * rate, u[k].dtype) for k, rate in rates.items()}
    step = {"model": c, "free": free, "sigma": weights}
    return step, {k: jnp.where(free[k], r[k], 0.0) for k in r}


@compiled
def _moved(model: Model, u: Fields, du: Fields, free: Fields) -> Fields:
    """max(u + du, bound), with du in the inactive cells only."""
    u = {k: jnp.where(free[k], a + du[k], a) for k, a in u.items()}
    return u | {k: jnp.maximum(u[k], b.value) for k, b in model.lower.items()}


@compiled
def _norms(operator: Operator, u: Fields, before: Fields, args: tuple) -> Float[Array, " norms"]:
    """The mean and the maximum of |`Model.equations`|, their round-off, and the max norms of the
    change of u and of u."""

    r = operator(u, args)
    mean = sum(fold(jnp.mean, jnp.abs(a)) for a in r.values())
    floor = round_off(partial(operator.product, u, args), u)
    change = largest(jax.tree.map(jnp.subtract, u, before))
    return jnp.stack([mean, largest(r), floor, change, largest(u)])
