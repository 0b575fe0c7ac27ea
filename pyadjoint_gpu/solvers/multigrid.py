"""Krylov iterations preconditioned by a multigrid cycle on declared face coefficients.

dR/du itself is applied exactly, in the precision of the unknowns: the hierarchies, in single
precision, only precondition.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.errors import ConfigError
from ..core.precision import compiled, compiled_loop
from ..models.base import Fields, Model
from ..models.declarations import Elliptic
from ..models.finite_volume import with_active_set
from .base import (
    ERROR,
    TINY,
    Convergence,
    Operator,
    fold,
    gauged,
    largest,
    pseudo_random,
    round_off,
    summary,
    unit_round_off,
)
from .hierarchy import Hierarchy, cycle, work_of_cycle
from .krylov import LIMIT, PRECISION, Goal, Progress, bicgstab, conjugate_gradients
from .stencil import Stencil, from_faces

MARGIN = 0.9
"""Factor of the tolerance that the updated residual has to meet, so that the true one meets it."""
EXACT = 100.0
"""Largest difference, in units of round-off, between the declared coefficients and dR/du for them
to replace it."""


@partial(
    jax.tree_util.register_dataclass, data_fields=["hierarchies"], meta_fields=["kind", "kept"]
)
@dataclass(frozen=True)
class Preconditioner:
    """Multigrid hierarchies of -dR/du, one for each unknown.

    Attributes
    ----------
    kind : str
        "exact" if the declared coefficients are all of dR/du; "symmetric" or "general", as dR/du
        is, if it has other parts.
    kept : int
        Length of the history of iterations.
    """

    hierarchies: dict[str, Hierarchy]
    kind: str
    kept: int = LIMIT

    def iterate(
        self, operator: Operator, u: Fields, r: Fields, args: tuple, goal: Goal
    ) -> tuple[Fields, Progress, Float[Array, ""]]:
        """Iterate by a Krylov method from u, with residual r, until the goal is met or the residual
        stagnates. Returns u, the progress and the round-off of the residual."""
        if self.kind == "exact":
            # dR/du is symmetric: forward, adjoint and tangent problems share compiled code.
            operator, args = Operator(operator.model), (args[0], _state(args, u))
        return iterate(self, operator, u, r, args, goal)


# The solver


def solve(
    operator: Operator,
    args: tuple,
    initial: Fields,
    *,
    tolerance: float,
    max_iterations: int,
    preconditioner: Preconditioner | None = None,
) -> tuple[Fields, Convergence, Preconditioner]:
    """Drive the residual of an affine operator to zero: see `Solver`.

    Conjugate gradients if dR/du is symmetric, else BiCGStab.

    Parameters
    ----------
    preconditioner : Preconditioner, optional
        That of an earlier solve with the same dR/du.

    Returns
    -------
    u, convergence, preconditioner
    """
    start = time.perf_counter()
    work = 0.0
    if preconditioner is None:
        preconditioner = prepare(operator.model, args[0], _state(args, initial))
        work += 2.0
    u, iterations, status = initial, 0, ""
    r, size = residual_of(operator, u, args)
    residual, eps = float(size), unit_round_off(u)
    scale = max(float(residual_of(operator, jax.tree.map(jnp.zeros_like, u), args)[1]), TINY)
    history = [(0, residual / scale)]
    while not status:
        goal = Goal(
            MARGIN * tolerance * scale,
            ERROR * tolerance,
            PRECISION * eps * residual,
            max_iterations - iterations,
        )
        found, progress, floor = preconditioner.iterate(operator, u, r, args, goal)
        count = int(progress.iterations)
        steps = np.asarray(progress.history)[:count].tolist()
        history += [(iterations + i, r / scale) for i, r in enumerate(steps, 1)]
        iterations += count
        left, size = residual_of(operator, found, args)
        before, after = residual, float(size)
        if after <= before:
            u, r, residual = found, left, after
        history[-1] = (iterations, residual / scale)
        met = residual <= tolerance * scale
        gained = residual <= 0.5 * before or residual == 0.0
        if not math.isfinite(after):
            status = "diverged"
        elif met and float(progress.error) <= ERROR * tolerance:
            status = "converged"
        elif iterations >= max_iterations:
            status = "max_iterations"
        elif not gained and residual <= 100.0 * max(float(floor), eps * scale):
            status = "converged" if met else "round-off"
        elif not gained:
            status = "stagnated"
    work += iterations * work_of_iteration(operator.model, preconditioner.kind) + 2.0
    convergence = summary(
        "multigrid", status, history, u, args, tolerance=tolerance, start=start, work=work
    )
    return u, convergence, preconditioner


def _state(args: tuple, u: Fields) -> Fields:
    """The state at which an `Operator` with these arguments is linearised, by default u."""
    return args[1] if len(args) > 1 else u


def prepare(model: Model, c: Any, u: Fields) -> Preconditioner:
    """Hierarchies of -dR/du at u."""
    return Preconditioner(hierarchies_of(model, c, u), kind_of(model, c, u))


def kind_of(model: Model, c: Any, u: Fields) -> str:
    """`Preconditioner.kind` of dR/du at u."""
    bound = EXACT * unit_round_off(u)
    declared, symmetric = np.asarray(_differences(model, c, u, _pseudo_random(u))).tolist()
    return "exact" if declared <= bound else "symmetric" if symmetric <= bound else "general"


# Compiled quickly: most of the code is for small levels.
@partial(compiled, quickly=True)
def hierarchies_of(model: Model, c: Any, u: Fields) -> dict[str, Hierarchy]:
    """Hierarchies of -dR/du at u, by unknown."""
    spacing = model.grid.spacing
    return {
        name: Hierarchy.of(elliptic, spacing, null_space=model.null_space)
        for name, elliptic in _declared(model, c, u).items()
    }


def _declared(model: Model, c: Any, u: Fields) -> dict[str, Elliptic]:
    """The coefficients that the model declares, with its active set."""
    found = model.elliptic(u, c) or {}
    if set(found) != set(u):
        raise ConfigError(
            f"elliptic: model {model.name!r} declares {', '.join(found) or 'nothing'},"
            f" expected coefficients of {', '.join(u)}"
        )
    active = model.active_set(u, c) if model.lower else {}
    return found | {k: with_active_set(found[k], active[k], b.rate) for k, b in model.lower.items()}


def stencils_of(model: Model, c: Any, u: Fields) -> dict[str, Stencil]:
    """Stencils of the declared -dR/du at u, by unknown."""
    return {k: from_faces(e.faces, e.sink) for k, e in _declared(model, c, u).items()}


_pseudo_random = compiled(pseudo_random)


@compiled
def _differences(model: Model, c: Any, u: Fields, v: Fields) -> Float[Array, " two"]:
    """The largest differences of -dR/du from the declared operator, and from its own transpose, in
    products with v, relative to the declared diagonal."""
    stencils = stencils_of(model, c, u)
    tangent = Operator(model).product(u, (c,), v)
    adjoint = jax.vjp(lambda u: model.equations(u, c), u)[1](v)[0]

    declared = {k: tangent[k] + s.apply(v[k]) for k, s in stencils.items()}
    symmetric = jax.tree.map(jnp.subtract, tangent, adjoint)
    return jnp.stack(
        [
            largest({k: off[k] / s.diagonal() for k, s in stencils.items()})
            for off in (declared, symmetric)
        ]
    )


@compiled
def residual_of(operator: Operator, u: Fields, args: tuple) -> tuple[Fields, Float[Array, ""]]:
    """r and ||r||_max. With a null space r is without its mean, which is round-off that no u
    removes."""
    r = gauged(operator.model, operator(u, args))
    return r, largest(r)


@compiled_loop
def iterate(
    preconditioner: Preconditioner,
    operator: Operator,
    u: Fields,
    r: Fields,
    args: tuple[Any, ...],
    goal: Goal,
) -> tuple[Fields, Progress, Float[Array, ""]]:
    """`Preconditioner.iterate`, compiled."""
    model, kind = operator.model, preconditioner.kind
    stencils = stencils_of(model, args[0], _state(args, u)) if kind == "exact" else {}

    def product(p: Fields) -> Fields:
        if stencils:
            return {k: stencils[k].apply(a) for k, a in p.items()}
        return jax.tree.map(jnp.negative, operator.product(u, args, p))

    def size(u: Fields) -> Any:
        """||u||_max; with a null space half the range of values, which bounds it for any
        constant."""
        leaves = jax.tree.leaves(u)
        tiny = jnp.finfo(leaves[0].dtype).tiny
        if not model.null_space:
            return largest(u) + tiny
        return sum(0.5 * (fold(jnp.max, a) - fold(jnp.min, a)) for a in leaves) + tiny

    method = bicgstab if kind == "general" else conjugate_gradients
    precondition = partial(_correction, model.grid.spacing, preconditioner.hierarchies)
    u, progress = method(product, precondition, u, r, goal, size, preconditioner.kept)
    return u, progress, round_off(product, u)


def work_of_iteration(model: Model, kind: str) -> float:
    """Work of one Krylov iteration, in applications of the operator."""
    work = 1.0 + work_of_cycle(model.grid.shape, model.grid.spacing)
    return (2.0 if kind == "general" else 1.0) * work


def _correction(spacing: tuple[float, ...], hierarchies: dict[str, Hierarchy], r: Fields) -> Fields:
    """An approximation to (-dR/du)^-1 r, by one cycle."""
    return {k: cycle(hierarchies[k], spacing, a) for k, a in r.items()}


correction = compiled_loop(_correction, static_argnums=(0,))
