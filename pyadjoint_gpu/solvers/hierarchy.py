"""Multigrid hierarchies of an elliptic operator on one unknown, and the cycle on them.

Black box multigrid (Alcouffe, Brandt, Dendy and Painter 1981, SIAM J. Sci. Stat. Comput. 2, 430;
Dendy 1982, J. Comput. Phys. 48, 366), axis by axis: every other cell along an axis is kept, those
between are interpolated with weights from the operator itself, and the coarse operator is the
Galerkin product P^T A P, so that strong contrasts of the coefficients are represented on coarse
grids. Axes along which cells are much longer are coarsened later (semicoarsening). The smoothers
are the optimised fourth-kind Chebyshev polynomials of Lottes (2023, Numer. Linear Algebra Appl. 30,
e2518), which need only an upper bound of the spectrum. The coarsest level is solved by its inverse.

All levels are in single precision: a preconditioner need not be exact, and half the bytes take half
the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Int

from ..models.declarations import Elliptic
from .stencil import Stencil, coarsen, from_faces, interpolation, prolong, restrict

DEGREES = (2, 3)
"""Degrees of the smoother on the finest level, and on all others, which are cheap and rougher."""
TWICE = (1, 2)
"""Levels with two visits to the next coarser one in a cycle (W), so that iterations do not grow
with the number of levels. The others have one (V): on small levels time does not scale with
cells."""
COARSEST = 150
"""Largest number of cells of a level that is solved directly."""
STRONG = 0.25
"""Axes with couplings weaker than this times the strongest are not coarsened yet."""
_BETA = {
    2: (1.02387287570313, 1.26408905371085),
    3: (1.00842544782028, 1.08867839208730, 1.33753125909618),
}
"""Weights of the Chebyshev steps, by the degree (Lottes's table)."""

T = TypeVar("T")

Values = Float32[Array, "*cells"]
Axes = tuple[tuple[int, ...], ...]
"""The axes that are coarsened at each level."""


class Level(NamedTuple):
    """One level of a `Hierarchy`: its operator A, the diagonal scaling D^-1 of the smoother, and
    the interpolation weights along each axis that is coarsened, in that order."""

    stencil: Stencil
    inverse: Values
    weights: tuple[Float32[Array, " ..."], ...]


class Hierarchy(NamedTuple):
    """All levels of an operator A on one unknown, from fine to coarse: A / scale on each but the
    coarsest, its inverse there, and the scale, the largest diagonal entry of A."""

    levels: tuple[Level, ...]
    coarsest: Float32[Array, "n n"]
    scale: Float[Array, ""]

    @classmethod
    def of(cls, elliptic: Elliptic, spacing: tuple[float, ...], *, null_space: bool) -> Hierarchy:
        """The hierarchy of A = `elliptic`; `null_space` says whether A maps constants to zero."""
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
        return cls(tuple(levels), _inverse(stencil, null_space), scale)


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


def _stored(once: Int[Array, ""], function: Callable[..., T], *args: Any) -> T:
    """function(*args), in a loop of one iteration whose number the compiler does not know.
    Otherwise XLA would fuse it into each of its uses and recompute it there, through many
    levels."""
    kinds = jax.eval_shape(function, *args)
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), kinds)
    return lax.fori_loop(0, once, lambda *_: function(*args), zero)


def _smoother(stencil: Stencil) -> Values:
    """D^-1 = 1 / sum_j |A_ij|, which scales A to eigenvalues of at most one (Gershgorin).

    The l1 norm of each row (Baker et al. 2011, SIAM J. Sci. Comput. 33, 2864) instead of the
    diagonal is for rows of coarse operators beside barriers, some of which are far from diagonally
    dominant.
    """
    return 1.0 / (stencil.diagonal() + stencil.diagonal(jnp.abs))


def _inverse(stencil: Stencil, null_space: bool) -> Float32[Array, "n n"]:
    """The inverse of A; with a null space, of A plus a multiple of the mean."""
    shape, size = stencil.shape, math.prod(stencil.shape)
    wide = jnp.result_type(float)
    one = jnp.eye(size, dtype=wide).reshape(size, *shape)
    dense = jax.vmap(stencil.map(lambda k: k.astype(wide)).apply)(one).reshape(size, size)
    if null_space:
        # Give the null space the eigenvalue of a typical cell.
        dense = dense + jnp.trace(dense) / size**2
    return jnp.linalg.inv(dense).astype(jnp.float32)


def cycle(
    h: Hierarchy, spacing: tuple[float, ...], b: Float[Array, "*cells"]
) -> Float[Array, "*cells"]:
    """One multigrid cycle for A x = b from x = 0: a symmetric linear operator on b."""
    axes = plan(b.shape, spacing)
    size = jnp.max(jnp.abs(b))
    size = jnp.where(size > 0, size, 1)
    x = _cycle(h, axes, (b / size).astype(jnp.float32), 0)
    return x.astype(b.dtype) * (size / h.scale)


def _cycle(h: Hierarchy, axes: Axes, b: Values, k: int) -> Values:
    """The part of a cycle on level k and all coarser ones, for A x = b from x = 0."""
    if k == len(axes):
        return (h.coarsest @ b.ravel()).reshape(b.shape)
    level, degree = h.levels[k], DEGREES[min(k, len(DEGREES) - 1)]
    # The Chebyshev steps d <- a d + c D^-1 r, x <- x + beta d.
    j = np.arange(1, degree + 1)
    steps = (2 * j - 3) / (2 * j + 1), (8 * j - 4) / (2 * j + 1), _BETA[degree]
    a, c, beta = (jnp.asarray(v, b.dtype) for v in steps)

    def before(i: Int[Array, ""], state: tuple[Values, ...]) -> tuple[Values, ...]:
        x, step, r = state
        step = a[i] * step + c[i] * level.inverse * r
        x = x + beta[i] * step
        return x, step, b - level.stencil.apply(x)

    def after(i: Int[Array, ""], state: tuple[Values, ...]) -> tuple[Values, ...]:
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

        def again(_: Int[Array, ""], e: Values) -> Values:
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


def work_of_cycle(shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    """Work of a cycle, in applications of the operator on the finest level."""
    n, total, visits, size = list(shape), 0.0, 1, math.prod(shape)
    levels = plan(shape, spacing)
    for k, axes in enumerate(levels):
        total += visits * 2 * DEGREES[min(k, len(DEGREES) - 1)] * math.prod(n) / size
        for a in axes:
            n[a] = (n[a] + 1) // 2
        if _twice(k, levels):
            visits *= 2
            total += visits * math.prod(n) / size
    return total
