"""Krylov iterations preconditioned by a multigrid cycle on declared face coefficients.

Black box multigrid (Alcouffe, Brandt, Dendy and Painter 1981, SIAM J. Sci. Stat. Comput. 2, 430;
Dendy 1982, J. Comput. Phys. 48, 366), axis by axis: every other cell along an axis is kept, those
between are interpolated with weights from the operator itself, and the coarse operator is the
Galerkin product P^T A P, so that strong contrasts of the coefficients are represented on coarse
grids. Axes along which cells are much longer are coarsened later (semicoarsening). The smoothers
are the optimised fourth-kind Chebyshev polynomials of Lottes (2023, Numer. Linear Algebra Appl. 30,
e2518), which need only an upper bound of the spectrum. The coarsest level is solved by its inverse.

All levels are in single precision: a preconditioner need not be exact, and half the bytes take half
the time. The model's own equation is solved to the tolerance, with residuals in the precision of
the unknowns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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
)
from .krylov import LIMIT, PRECISION, Goal, Progress, bicgstab, conjugate_gradients
from .stencil import Stencil, coarsen, from_faces, interpolation, prolong, restrict

DEGREES = (2, 3)
"""Degrees of the smoother on the finest level, and on all others, which are cheap and rougher."""
TWICE = (1, 2)
"""Levels with two visits to the next coarser one in a cycle (W), so that iterations do not grow
with the number of levels. The others have one (V): on small levels time does not scale with
cells."""
COARSEST = 150
"""Most cells of a level that is solved directly."""
STRONG = 0.25
"""Axes with couplings weaker than this times the strongest are not coarsened yet."""
MARGIN = 0.9
"""Factor of the tolerance that the updated residual has to meet, so that the true one meets it."""
EXACT = 100.0
"""Largest difference, in units of round-off, between the declared coefficients and dR/du for them
to replace it."""

_BETA = {
    2: (1.02387287570313, 1.26408905371085),
    3: (1.00842544782028, 1.08867839208730, 1.33753125909618),
}


T = TypeVar("T")

Axes = tuple[tuple[int, ...], ...]
"""The axes that are coarsened at each level."""


class Level(NamedTuple):
    """One level: its operator A, the inverse of the smoother's diagonal scaling, and the
    interpolation weights of each axis."""

    stencil: Stencil
    inverse: jax.Array
    weights: tuple[jax.Array, ...]


class Hierarchy(NamedTuple):
    """Levels of A / scale from fine to coarse, the inverse of the coarsest, and the scale."""

    levels: tuple[Level, ...]
    coarsest: jax.Array
    scale: jax.Array


@partial(jax.tree_util.register_dataclass, data_fields=["operator"], meta_fields=["kind", "kept"])
@dataclass(frozen=True)
class Iteration:
    """Static options of `iterate`: the operator, the `Preconditioner`'s kind, and the length of the
    history."""

    operator: Operator
    kind: str
    kept: int = LIMIT


@dataclass(frozen=True)
class Preconditioner:
    """Multigrid hierarchies of -dR/du, one for each unknown.

    Attributes
    ----------
    kind : str
        "exact" if the declared coefficients are all of dR/du; "symmetric" or "general", as dR/du
        is, if it has other parts.
    """

    hierarchies: dict[str, Hierarchy]
    kind: str

    def iterate(
        self, operator: Operator, u: Fields, r: Fields, args: tuple, goal: Goal
    ) -> tuple[Fields, Progress, jax.Array]:
        """Krylov iterations from u, with residual r, until the goal is met or they stagnate;
        returns u, the progress and the round-off of its residual."""
        if self.kind == "exact":
            # dR/du is symmetric: forward, adjoint and tangent problems share compiled code.
            operator, args = Operator(operator.model), (args[0], args[1] if len(args) > 1 else u)
        return iterate(Iteration(operator, self.kind), self.hierarchies, u, r, args, goal)


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
    """Drive an affine operator's residual to zero, starting from `initial`.

    By conjugate gradients if dR/du is symmetric, else by BiCGStab. It stops as pseudo-transient
    iterations do: on ||R||_max / ||R(u=0)||_max, and on the estimated error of u.

    Parameters
    ----------
    operator, args
        The residual ``operator(u, args)``.
    preconditioner : Preconditioner, optional
        That of an earlier solve with the same dR/du.

    Returns
    -------
    u, convergence, preconditioner
        Failure is a value: see `Convergence.status`.
    """
    start = time.perf_counter()
    work = 0.0
    if preconditioner is None:
        preconditioner = prepare(operator.model, args[0], args[1] if len(args) > 1 else initial)
        work += 2.0
    u, iterations, status = initial, 0, ""
    r, size = residual_of(operator, u, args)
    residual, eps = float(size), float(jnp.finfo(size.dtype).eps)
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


def prepare(model: Model, c: Any, u: Fields) -> Preconditioner:
    """Hierarchies of -dR/du at u."""
    hierarchies = hierarchies_of(model, c, u)
    bound = EXACT * float(jnp.finfo(jax.tree.leaves(u)[0].dtype).eps)
    declared, symmetric = np.asarray(_kind(model, c, u, _pseudo_random(u))).tolist()
    kind = "exact" if declared <= bound else "symmetric" if symmetric <= bound else "general"
    return Preconditioner(hierarchies, kind)


# Compiled quickly: most of the code is for small levels.
@partial(compiled, quickly=True)
def hierarchies_of(model: Model, c: Any, u: Fields) -> dict[str, Hierarchy]:
    spacing = model.grid.spacing
    return {
        name: hierarchy(elliptic, spacing, null_space=model.null_space)
        for name, elliptic in _declared(model, c, u).items()
    }


def _declared(model: Model, c: Any, u: Fields) -> dict[str, Elliptic]:
    found = model.elliptic(u, c) or {}
    if set(found) != set(u):
        raise ConfigError(
            f"elliptic: model {model.name!r} declares {', '.join(found) or 'nothing'},"
            f" expected coefficients of {', '.join(u)}"
        )
    active = model.active_set(u, c) if model.lower else {}
    return found | {k: with_active_set(found[k], active[k], b.rate) for k, b in model.lower.items()}


def stencils_of(model: Model, c: Any, u: Fields) -> dict[str, Stencil]:
    return {k: from_faces(e.faces, e.sink) for k, e in _declared(model, c, u).items()}


_pseudo_random = compiled(pseudo_random)


@compiled
def _kind(model: Model, c: Any, u: Fields, v: Fields) -> jax.Array:
    """The differences of -dR/du from the declared operator, and from its transpose, in a product
    with v, relative to the diagonal."""
    stencils = stencils_of(model, c, u)
    tangent = jax.jvp(lambda u: model.equations(u, c), (u,), (v,))[1]
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
def residual_of(operator: Operator, u: Fields, args: tuple) -> tuple[Fields, jax.Array]:
    """r and ||r||_max. If the model has a null space, without the mean of r, which is round-off
    that no u removes."""
    r = gauged(operator.model, operator(u, args))
    return r, largest(r)


@compiled_loop
def iterate(
    how: Iteration,
    hierarchies: dict[str, Hierarchy],
    u: Fields,
    r: Fields,
    args: tuple[Any, ...],
    goal: Goal,
) -> tuple[Fields, Progress, jax.Array]:
    """`Preconditioner.iterate`, compiled; for the kind "exact" `args` are c and the state."""
    operator, kind, kept = how.operator, how.kind, how.kept
    model = operator.model
    stencils = stencils_of(model, *args[:2]) if kind == "exact" else {}

    def product(p: Fields) -> Fields:
        if kind == "exact":
            return {k: stencils[k].apply(a) for k, a in p.items()}
        tangent = jax.jvp(lambda u: operator(u, args), (u,), (p,))[1]
        return jax.tree.map(jnp.negative, tangent)

    def size(u: Fields) -> Any:
        """||u||_max; with a null space half the range of values, which bounds it for any
        constant."""
        leaves = jax.tree.leaves(u)
        tiny = jnp.finfo(leaves[0].dtype).tiny
        if not model.null_space:
            return largest(u) + tiny
        return sum(0.5 * (fold(jnp.max, a) - fold(jnp.min, a)) for a in leaves) + tiny

    method = bicgstab if kind == "general" else conjugate_gradients
    precondition = partial(_correction, model.grid.spacing, hierarchies)
    u, progress = method(product, precondition, u, r, goal, size, kept)
    return u, progress, round_off(product, u)


def work_of_iteration(model: Model, kind: str) -> float:
    """Work of one Krylov iteration, in applications of the operator."""
    n, total, visits = list(model.grid.shape), 0.0, 1
    levels = plan(model.grid.shape, model.grid.spacing)
    for k, axes in enumerate(levels):
        total += visits * 2 * DEGREES[min(k, len(DEGREES) - 1)] * math.prod(n) / model.grid.size
        for a in axes:
            n[a] = (n[a] + 1) // 2
        if _twice(k, levels):
            visits *= 2
            total += visits * math.prod(n) / model.grid.size
    return (2.0 if kind == "general" else 1.0) * (1.0 + total)


# The preconditioner


def _correction(spacing: tuple[float, ...], hierarchies: dict[str, Hierarchy], r: Fields) -> Fields:
    """An approximation to (-dR/du)^-1 r, by one cycle."""
    return {k: cycle(hierarchies[k], spacing, a) for k, a in r.items()}


correction = compiled_loop(_correction, static_argnums=(0,))


def plan(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Axes:
    """The axes that are coarsened at each level."""
    out = []
    n, h = list(shape), list(spacing)
    while math.prod(n) > COARSEST:
        strength = {a: h[a] ** -2 for a in range(len(n)) if n[a] > 1}
        most = max(strength.values())
        # The last axis, which is contiguous in memory, first.
        axes = tuple(a for a in reversed(range(len(n))) if strength.get(a, 0.0) >= STRONG * most)
        for a in axes:
            n[a], h[a] = (n[a] + 1) // 2, 2.0 * h[a]
        out.append(axes)
    return tuple(out)


def hierarchy(elliptic: Elliptic, spacing: tuple[float, ...], *, null_space: bool) -> Hierarchy:
    """All levels of one unknown."""
    fine = from_faces(elliptic.faces, elliptic.sink)
    scale = jnp.max(fine.diagonal())
    stencil = fine.map(lambda k: (k / scale).astype(jnp.float32))
    once = (scale > 0).astype(jnp.int32)
    levels = []
    for axes in plan(fine.shape, spacing):
        inverse = _stored(once, _smoother, stencil)
        finer, weights = stencil, []
        for axis in axes:
            weight = _stored(once, partial(interpolation, axis=axis), stencil)
            stencil = _stored(once, partial(coarsen, axis=axis), stencil, weight)
            weights.append(weight)
        levels.append(Level(finer, inverse, tuple(weights)))
    return Hierarchy(tuple(levels), _inverse(stencil, null_space), scale)


def _stored(once: jax.Array, function: Callable[..., T], *args: Any) -> T:
    """function(*args), in a loop of one iteration whose number the compiler does not know.
    Otherwise XLA would fuse it into each of its uses and recompute it there, through many
    levels."""
    kinds = jax.eval_shape(function, *args)
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), kinds)
    return lax.fori_loop(0, once, lambda *_: function(*args), zero)


def _smoother(stencil: Stencil) -> jax.Array:
    """1 / sum_j |A_ij|, which scales A to eigenvalues of at most one (Gershgorin). The l1 norm of
    each row (Baker et al. 2011, SIAM J. Sci. Comput. 33, 2864) is used since coarse operators have
    some rows beside barriers that are far from diagonally dominant."""
    return 1.0 / (stencil.diagonal() + stencil.diagonal(jnp.abs))


def _inverse(stencil: Stencil, null_space: bool) -> jax.Array:
    shape, size = stencil.shape, math.prod(stencil.shape)
    wide = jnp.result_type(float)
    one = jnp.eye(size, dtype=wide).reshape(size, *shape)
    dense = jax.vmap(stencil.map(lambda k: k.astype(wide)).apply)(one).reshape(size, size)
    if null_space:
        # Give the null space the eigenvalue of a typical cell.
        dense = dense + jnp.trace(dense) / size**2
    return jnp.linalg.inv(dense).astype(jnp.float32)


def cycle(h: Hierarchy, spacing: tuple[float, ...], b: jax.Array) -> jax.Array:
    """One multigrid cycle for A x = b from zero; a symmetric operator on b."""
    axes = plan(b.shape, spacing)
    size = jnp.max(jnp.abs(b))
    size = jnp.where(size > 0, size, 1)
    x = _cycle(h, axes, (b / size).astype(jnp.float32), 0)
    return x.astype(b.dtype) * (size / h.scale)


def _cycle(h: Hierarchy, axes: Axes, b: jax.Array, k: int) -> jax.Array:
    if k == len(axes):
        return (h.coarsest @ b.ravel()).reshape(b.shape)
    level, degree = h.levels[k], DEGREES[min(k, len(DEGREES) - 1)]
    a, c, beta = (jnp.asarray(v, b.dtype) for v in _coefficients(degree))

    def before(i: Any, state: Any) -> Any:
        x, step, r = state
        step = a[i] * step + c[i] * level.inverse * r
        x = x + beta[i] * step
        return x, step, b - level.stencil.apply(x)

    def after(i: Any, state: Any) -> Any:
        x, step = state
        step = a[i] * step + c[i] * level.inverse * (b - level.stencil.apply(x))
        return x + beta[i] * step, step

    zero = jnp.zeros_like(b)
    x, _, r = lax.fori_loop(0, degree, before, (zero, zero, b))
    shapes = []
    for axis, weight in zip(axes[k], level.weights, strict=True):
        shapes.append(r.shape[axis])
        r = restrict(r, weight, axis)
    if _twice(k, axes):
        coarse = h.levels[k + 1].stencil

        def again(_: Any, e: jax.Array) -> jax.Array:
            return e + _cycle(h, axes, r - coarse.apply(e), k + 1)

        e = lax.fori_loop(0, 2, again, jnp.zeros_like(r))
    else:
        e = _cycle(h, axes, r, k + 1)
    for axis, weight, n in reversed(list(zip(axes[k], level.weights, shapes, strict=True))):
        e = prolong(e, weight, axis, n)
    return lax.fori_loop(0, degree, after, (x + e, zero))[0]


def _twice(k: int, levels: Axes) -> bool:
    """Whether level k visits the next one twice, which must not be the coarsest."""
    return k in TWICE and k + 1 < len(levels)


def _coefficients(degree: int) -> tuple[list[float], list[float], tuple[float, ...]]:
    """Coefficients of the Chebyshev steps d <- a d + c D^-1 r / rho, x <- x + beta d."""
    i = range(1, degree + 1)
    return (
        [(2 * j - 3) / (2 * j + 1) for j in i],
        [(8 * j - 4) / (2 * j + 1) for j in i],
        _BETA[degree],
    )
