"""Krylov iterations preconditioned by a multigrid V-cycle on declared face coefficients.

Black box multigrid (Alcouffe, Brandt, Dendy and Painter 1981, SIAM J. Sci. Stat. Comput. 2, 430;
Dendy 1982, J. Comput. Phys. 48, 366), axis by axis: every other cell along an axis stays, those
between are interpolated by weights from the operator itself, and the coarse operator is P^T A P,
so that strong contrasts of the coefficients reach the coarse grids as they are. An axis along
which cells are far longer than along others waits for them (semicoarsening). Smoothing is by the
optimised fourth-kind Chebyshev polynomials of Lottes (2023, Numer. Linear Algebra Appl. 30,
e2518), which need an upper bound of the spectrum only. The coarsest level is solved by its
inverse.

All levels are in single precision: a preconditioner need not be exact, and half the bytes take
half the time. What is solved to the tolerance, with residuals in the precision of the unknowns,
is the model's own equation.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..arithmetic import compiled, compiled_loop
from ..errors import ConfigError
from ..models.base import Elliptic, Fields, Model
from .base import (
    ERROR,
    TINY,
    Convergence,
    Operator,
    disorder,
    fold,
    gauged,
    largest,
    round_off,
    traffic,
)
from .krylov import PRECISION, Goal, Progress, bicgstab, conjugate_gradients
from .stencil import Stencil, coarsen, from_faces, interpolation, prolong, restrict

DEGREES = (2, 4)
"""Of the smoother on the finest level, and on all others: coarse levels are cheap, and rougher."""
COARSEST = 150
"""Most cells of a level that is solved directly."""
STRONG = 0.25
"""Axes whose couplings are weaker than this times the strongest are not halved yet."""
MARGIN = 0.9
"""Below the tolerance, by which the residual that is updated must get, lest the true one miss."""
EXACT = 100.0
"""How well the declared coefficients must give dR/du to stand for it, in units of round-off."""

_BETA = {
    2: (1.02387287570313, 1.26408905371085),
    4: (1.00391310427285, 1.04035811188593, 1.14863498546254, 1.38268869241000),
}


class Level(NamedTuple):
    """One level: its operator A, the inverse of the diagonal by which the smoother scales it, and
    the interpolation weights axis by axis."""

    stencil: Stencil
    inverse: Any
    weights: tuple[Any, ...]


class Hierarchy(NamedTuple):
    """Levels of A / scale from fine to coarse, the inverse of the coarsest, and the scale."""

    levels: tuple[Level, ...]
    coarsest: Any
    scale: Any


@dataclass(frozen=True)
class Preconditioner:
    """The hierarchies of -dR/du, one an unknown.

    Attributes
    ----------
    kind : str
        "exact" where the declared coefficients are dR/du, "symmetric" or "general" where it has
        other parts too.
    """

    hierarchies: dict[str, Hierarchy]
    kind: str


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

    Conjugate gradients where dR/du is symmetric, else BiCGStab. It stops as the pseudo-transient
    iteration does: on ||R||_max / ||R(u=0)||_max, and on the estimated error of u.

    Parameters
    ----------
    operator, args
        The residual ``operator(u, args)``.
    preconditioner : Preconditioner, optional
        Of the same dR/du, from an earlier solve.

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
    u, history, iterations, status = initial, [], 0, ""
    while not status:
        found, progress, report = iterate(
            (operator, preconditioner.kind),
            preconditioner.hierarchies,
            u,
            args,
            tolerance,
            max_iterations - iterations,
        )
        count = int(progress.iterations)
        before, residual, floor, scale = np.asarray(report).tolist()
        scale = max(scale, TINY)
        history += [(iterations, before / scale)] if not history else []
        steps = np.asarray(progress.history)[:count].tolist()
        history += [(iterations + i, r / scale) for i, r in enumerate(steps, 1)]
        iterations += count
        gained = residual <= 0.5 * before or residual == 0.0
        u = found if residual <= before else u
        residual = min(residual, before)
        history[-1] = (iterations, residual / scale)
        met = residual <= tolerance * scale
        if not math.isfinite(residual):
            status = "diverged"
        elif met and float(progress.error) <= ERROR * tolerance:
            status = "converged"
        elif iterations >= max_iterations:
            status = "max_iterations"
        elif not gained and residual <= 100.0 * floor:
            status = "converged" if met else "round-off"
        elif not gained:
            status = "stagnated"
    work += iterations * work_of_iteration(operator.model, preconditioner.kind) + 2.0
    wall = time.perf_counter() - start
    convergence = Convergence(
        status=status,
        iterations=iterations,
        residual=history[-1][1],
        tolerance=tolerance,
        wall_time=wall,
        spectrum=None,
        throughput=work * traffic(u, args) / wall,
        history=np.array(history),
        method="multigrid",
        work=work,
    )
    return u, convergence, preconditioner


def suits(model: Model) -> bool:
    """Whether the model declares elliptic coefficients."""
    return type(model).elliptic is not Model.elliptic


def prepare(model: Model, c: Any, u: Fields) -> Preconditioner:
    """Hierarchies of -dR/du at u."""
    hierarchies = hierarchies_of(model, c, u)
    bound = EXACT * float(jnp.finfo(jax.tree.leaves(u)[0].dtype).eps)
    declared, symmetric = np.asarray(_kind(model, c, u, _disordered(u))).tolist()
    kind = "exact" if declared <= bound else "symmetric" if symmetric <= bound else "general"
    return Preconditioner(hierarchies, kind)


# Less effort of the compiler: most of what is compiled is for small levels.
@partial(compiled, static_argnums=0, quickly=True)
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
    return found


def stencils_of(model: Model, c: Any, u: Fields) -> dict[str, Stencil]:
    return {k: from_faces(e.faces, e.sink) for k, e in _declared(model, c, u).items()}


_disordered = compiled(disorder)


@partial(compiled, static_argnums=0)
def _kind(model: Model, c: Any, u: Fields, v: Fields) -> Any:
    """How far -dR/du is from the declared operator, and from symmetry, in a product with v,
    relative to the diagonal."""
    stencils = stencils_of(model, c, u)
    tangent = jax.jvp(lambda u: model.residual(u, c), (u,), (v,))[1]
    adjoint = jax.vjp(lambda u: model.residual(u, c), u)[1](v)[0]

    declared = {k: tangent[k] + s.apply(v[k]) for k, s in stencils.items()}
    symmetric = jax.tree.map(jnp.subtract, tangent, adjoint)
    return jnp.stack(
        [
            largest({k: off[k] / s.diagonal() for k, s in stencils.items()})
            for off in (declared, symmetric)
        ]
    )


@compiled_loop
def iterate(
    key: tuple[Operator, str],
    hierarchies: dict[str, Hierarchy],
    u: Fields,
    args: tuple[Any, ...],
    tolerance: Any,
    max_iterations: Any,
) -> tuple[Fields, Progress, Any]:
    """Iterations until the goal is met or nothing moves any more; then the true residual at the
    start and at the end, its round-off, and ||R(u=0)||_max."""
    operator, kind = key
    model = operator.model
    c, *rest = args
    stencils = stencils_of(model, c, rest[0] if rest else u)

    def product(p: Fields) -> Fields:
        if kind == "exact":
            return {k: stencils[k].apply(a) for k, a in p.items()}
        tangent = jax.jvp(lambda u: operator(u, args), (u,), (p,))[1]
        return jax.tree.map(jnp.negative, tangent)

    def precondition(r: Fields) -> Fields:
        return {k: cycle(hierarchies[k], model.grid.spacing, a) for k, a in r.items()}

    def size(u: Fields) -> Any:
        """||u||_max; where a constant is free, at least half the range of values."""
        leaves = jax.tree.leaves(u)
        tiny = jnp.finfo(leaves[0].dtype).tiny
        if not model.null_space:
            return largest(u) + tiny
        return sum(0.5 * (fold(jnp.max, a) - fold(jnp.min, a)) for a in leaves) + tiny

    # Round-off leaves a constant in r, where u is free by one, that no u can take away.
    r = gauged(model, operator(u, args))
    scale = largest(operator(jax.tree.map(jnp.zeros_like, u), args))
    method = bicgstab if kind == "general" else conjugate_gradients
    before = largest(r)
    eps = jnp.finfo(before.dtype).eps
    goal = Goal(
        MARGIN * tolerance * scale, ERROR * tolerance, PRECISION * eps * before, max_iterations
    )
    u, progress = method(product, precondition, u, r, goal, size)
    residual = largest(gauged(model, operator(u, args)))
    floor = round_off(product, u)
    return u, progress, jnp.stack([before, residual, floor, scale])


def work_of_iteration(model: Model, kind: str) -> float:
    """Operator applications of one Krylov iteration."""
    n, total = list(model.grid.shape), 0.0
    for k, axes in enumerate(plan(model.grid.shape, model.grid.spacing)):
        total += 2 * DEGREES[min(k, len(DEGREES) - 1)] * math.prod(n) / model.grid.size
        for a in axes:
            n[a] = (n[a] + 1) // 2
    return (2.0 if kind == "general" else 1.0) * (1.0 + total)


# The preconditioner


def plan(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[tuple[int, ...], ...]:
    """The axes that are halved at each level."""
    out = []
    n, h = list(shape), list(spacing)
    while math.prod(n) > COARSEST:
        strength = {a: h[a] ** -2 for a in range(len(n)) if n[a] > 1}
        most = max(strength.values())
        # From the last axis, whose cells lie side by side in memory.
        axes = tuple(a for a in reversed(range(len(n))) if strength.get(a, 0.0) >= STRONG * most)
        for a in axes:
            n[a], h[a] = (n[a] + 1) // 2, 2.0 * h[a]
        out.append(axes)
    return tuple(out)


def hierarchy(elliptic: Elliptic, spacing: tuple[float, ...], *, null_space: bool) -> Hierarchy:
    """All levels for one unknown."""
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


def _stored(once: Any, function: Any, *args: Any) -> Any:
    """function(*args), by a loop that runs once, which the compiler cannot foresee: it would
    otherwise work out each value anew wherever it is used, through many levels."""
    kinds = jax.eval_shape(function, *args)
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), kinds)
    return lax.fori_loop(0, once, lambda *_: function(*args), zero)


def _smoother(stencil: Stencil) -> Any:
    """1 / sum_j |A_ij|: Gershgorin bounds the eigenvalues of A scaled by it by one. Row by row (the
    l1 norm of Baker et al. 2011, SIAM J. Sci. Comput. 33, 2864), since beside a barrier coarse
    operators have a few rows far from diagonally dominant."""
    return 1.0 / (stencil.diagonal() + stencil.diagonal(jnp.abs))


def _inverse(stencil: Stencil, null_space: bool) -> Any:
    shape, size = stencil.shape, math.prod(stencil.shape)
    wide = jnp.result_type(float)
    one = jnp.eye(size, dtype=wide).reshape(size, *shape)
    dense = jax.vmap(stencil.map(lambda k: k.astype(wide)).apply)(one).reshape(size, size)
    if null_space:
        # The constant gets the eigenvalue of a typical cell.
        dense = dense + jnp.trace(dense) / size**2
    return jnp.linalg.inv(dense).astype(jnp.float32)


def cycle(h: Hierarchy, spacing: tuple[float, ...], b: Any) -> Any:
    """One V-cycle for A x = b from zero, symmetric in b."""
    axes = plan(b.shape, spacing)
    size = jnp.max(jnp.abs(b))
    size = jnp.where(size > 0, size, 1)
    x = _cycle(h, axes, (b / size).astype(jnp.float32), 0)
    return x.astype(b.dtype) * (size / h.scale)


def _cycle(h: Hierarchy, axes: Any, b: Any, k: int) -> Any:
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
    e = _cycle(h, axes, r, k + 1)
    for axis, weight, n in reversed(list(zip(axes[k], level.weights, shapes, strict=True))):
        e = prolong(e, weight, axis, n)
    return lax.fori_loop(0, degree, after, (x + e, zero))[0]


def _coefficients(degree: int) -> tuple[list[float], list[float], tuple[float, ...]]:
    """Of the Chebyshev steps d <- a d + c D^-1 r / rho, x <- x + beta d."""
    i = range(1, degree + 1)
    return (
        [(2 * j - 3) / (2 * j + 1) for j in i],
        [(8 * j - 4) / (2 * j + 1) for j in i],
        _BETA[degree],
    )
