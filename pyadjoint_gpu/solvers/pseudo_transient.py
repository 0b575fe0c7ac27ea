"""Accelerated pseudo-transient iteration with automatic damping.

    V <- beta V + R / PC,   u <- u + alpha V,
    alpha = 2 dtau^2 / (2 + c dtau),   beta = (2 - c dtau) / (2 + c dtau),
    dtau = 0.99 * 2 / sqrt(lambda_max),   c = 2 sqrt(lambda_min),

with PC = -diag(dR/du), lambda_max a Gershgorin bound on PC^-1 dR/du, and lambda_min the Rayleigh
quotient of successive increments, re-estimated during the iteration: high-frequency errors decay
first, so that the increments, and with them the estimate, approach the slowest mode. Since alpha V
is the last increment of u, the iteration has the form

    u_next = u + beta (u - u_before) + alpha R / PC,

with one pass over memory instead of two.

It stops when ||R||_max / ||R(u=0)||_max is at most the tolerance, and the estimated error of u,

    ||R / PC||_max / lambda_min  <=  100 tolerance ||u||_max,

is small too: beside a point source a small smooth residual may come from a much larger error. With
it a tolerance of 1e-8 means an error of u below 1e-6. If R(u=0) is zero, so that u = 0 is another
solution, the largest term in R at the start replaces it. (Dynamic relaxation after Otter et al.
1966; accelerated pseudo-transient method of Raess et al. 2022, Geosci. Model Dev. 15, 5757.)
"""

from __future__ import annotations

import math
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..core.precision import compiled, compiled_loop
from ..core.progress import note
from ..models.base import Fields
from .base import (
    ERROR,
    TINY,
    Convergence,
    Operator,
    Spectrum,
    dot,
    fold,
    largest,
    summary,
    unit_round_off,
)

SAFETY = 0.99
"""Fraction of the longest stable step."""
FIRST = 7
"""Iterations until the preconditioner of a nonlinear residual is first rebuilt; the number
grows."""
RISE = 5.0
"""Growth of a nonlinear residual over the least so far at which the iteration returns to the u of
the latter."""
STALE = 1.2
"""Growth of the diagonal at which the preconditioner is rebuilt twice as often."""
LEAST = 0.01
"""Least PC of an unknown with a bound, over the bound's rate: just above it dR/du may vanish."""
SMALLEST = 1e-3
"""Fraction of the usual step at which a nonlinear solve is stopped."""


def solve(
    operator: Operator,
    args: tuple,
    initial: Fields,
    *,
    tolerance: float,
    max_iterations: int,
    spectrum: Spectrum | None = None,
    most: float = math.inf,
) -> tuple[Fields, Convergence]:
    """Drive the residual of an operator to zero: see `Solver`.

    Parameters
    ----------
    spectrum : Spectrum, optional
        A first estimate, from the forward problem of an adjoint or from a similar solve.
    most : float
        Residual, over ``||R(u=0)||_max``, above which the solve has diverged.
    """
    start = time.perf_counter()
    u = before = initial
    longest = max(max(a.shape) for a in jax.tree.leaves(u))
    chunk = usual = max(16, longest // 3)
    if not operator.affine:
        chunk = FIRST
    alpha, caution, best = 1.0, 1.0, (math.inf, u)
    inverse, bound = _precondition(operator, u, args)
    high = float(bound)
    # The first estimate: the slowest mode of a homogeneous box.
    low = spectrum.low if spectrum else 0.25 * high * (math.pi / (2 * longest)) ** 2
    zero, term, *first = _start(operator, u, args, inverse).tolist()
    scale = max(zero or term, TINY)

    def converged(residual: float, correction: float) -> bool:
        return residual <= tolerance * scale and correction <= ERROR * tolerance * low

    residual, correction, floor = first
    least = unit_round_off(u) * scale
    iterations = 0
    history = [(0, residual / scale)]
    status = "converged" if converged(residual, correction) else ""
    while not status:
        dtau = SAFETY * caution * 2.0 / math.sqrt(high)
        damping = 2.0 * math.sqrt(low) * dtau
        last, alpha = alpha, 2.0 * dtau**2 / (2.0 + damping)
        beta = (2.0 - damping) / (2.0 + damping)
        pairs = (min(chunk, max_iterations - iterations) - 1) // 2
        if pairs < 0:
            status = "max_iterations"
            break
        if residual <= best[0]:
            best = residual, u
        before, u, report = _advance(
            operator, before, u, args, inverse, pairs, alpha, beta, alpha / last
        )
        quotient, residual, correction, floor = report.tolist()
        floor = max(floor, least)
        iterations += 2 * pairs + 1
        history.append((iterations, residual / scale))
        note(f"{operator.kind} solve, {iterations} iterations, residual {residual / scale:.1e}")
        if not operator.affine and not residual <= RISE * best[0]:
            # dR/du has changed too much since it was preconditioned: try smaller steps.
            residual, u = best
            before, alpha, caution = u, 1.0, 0.5 * caution
            history[-1] = (iterations, residual / scale)
            inverse, bound = _precondition(operator, u, args)
            high = float(bound)
            chunk = max(FIRST, chunk // 2)
            status = "diverged" if caution < SMALLEST else ""
            continue
        if not residual < most * scale:
            status = "diverged"
        elif converged(residual, correction):
            status = "converged"
        elif residual < 100.0 * floor and _stagnant(history, low, high):
            status = "converged" if residual <= tolerance * scale else "round-off"
        # At the level of round-off increments are noise, unrelated to the spectrum.
        if 0.0 < quotient < high and residual > 100.0 * floor:
            low = quotient
        if not operator.affine:
            old = inverse
            inverse, bound = _precondition(operator, u, args)
            high, growth = float(bound), max(1.0, float(_growth(old, inverse)))
            # If the diagonal grows, steps become too long until the preconditioner is rebuilt.
            caution = min(1.1 * caution, 1.0 / math.sqrt(growth))
            chunk = max(FIRST, chunk // 2) if growth > STALE else min(2 * chunk, usual)
    convergence = summary(
        "pseudo-transient",
        status,
        history,
        u,
        args,
        tolerance=tolerance,
        start=start,
        work=float(iterations),
        spectrum=Spectrum(low, high),
    )
    return u, convergence


@compiled
def _growth(old: Fields, inverse: Fields) -> Float[Array, ""]:
    """Largest growth of the diagonal."""
    return jnp.max(jnp.stack([jnp.max(old[k] / inverse[k]) for k in old]))


def _stagnant(history: list[tuple[int, float]], low: float, high: float) -> bool:
    """Whether the residual has not halved over as many iterations as would reduce the slowest
    error, which falls by exp(-2 sqrt(low/high)) in each, by a factor of 50."""
    span = 2.0 / math.sqrt(low / high)
    chunk = history[1][0]
    checks = max(4, math.ceil(span / chunk))
    if len(history) < 2 * checks:
        return False
    residuals = np.array([r for _, r in history[-2 * checks :]])
    return bool(np.median(residuals[checks:]) > 0.5 * np.median(residuals[:checks]))


@compiled
def _start(operator: Operator, u: Fields, args: tuple, inverse: Fields) -> Float[Array, " norms"]:
    """||R(u=0)||_max, the largest term in R(u), and the `_norms` of R(u)."""
    zero = largest(operator(jax.tree.map(jnp.zeros_like, u), args))
    norms = _norms(operator, u, operator(u, args), inverse)
    return jnp.stack([zero, norms[-1] / jnp.finfo(zero.dtype).eps, *norms])


@compiled_loop
def _advance(
    operator: Operator,
    before: Fields,
    u: Fields,
    args: tuple,
    inverse: Fields,
    pairs: int,
    alpha: Float[Array, ""] | float,
    beta: Float[Array, ""] | float,
    rescale: Float[Array, ""] | float,
) -> tuple[Fields, Fields, Float[Array, " norms"]]:
    """``2 pairs + 1`` iterations; the last two u, with the Rayleigh quotient and the `_norms` of R.

    `rescale`, the ratio of this alpha to the last, makes the last increment alpha V.
    """
    dtype = jax.tree.leaves(u)[0].dtype
    alpha, beta, rescale = (jnp.asarray(a, dtype) for a in (alpha, beta, rescale))
    before = jax.tree.map(lambda b, u: u - rescale * (u - b), before, u)

    def step(before: Fields, u: Fields, r: Fields) -> Fields:
        return jax.tree.map(
            lambda b, u, r, i: u + beta * (u - b) + (alpha * i) * r, before, u, r, inverse
        )

    # In pairs, each iteration overwrites the older of the two fields and nothing is copied.
    def pair(_: Int[Array, ""], state: tuple[Fields, Fields]) -> tuple[Fields, Fields]:
        before, u = state
        before = step(before, u, operator(u, args))
        return before, step(u, before, operator(before, args))

    before, u = lax.fori_loop(0, pairs, pair, (before, u))
    r_before = lax.optimization_barrier(operator(u, args))
    before, u = u, step(before, u, r_before)
    r = lax.optimization_barrier(operator(u, args))
    increment = jax.tree.map(jnp.subtract, u, before)
    change = jax.tree.map(jnp.subtract, r_before, r)
    weighted = jax.tree.map(lambda d, i: d / i, increment, inverse)
    quotient = dot(increment, change) / (dot(increment, weighted) + jnp.finfo(dtype).tiny)
    return before, u, jnp.stack([quotient, *_norms(operator, u, r, inverse)])


def _norms(
    operator: Operator, u: Fields, r: Fields, inverse: Fields
) -> tuple[Float[Array, ""], ...]:
    """||R||_max, ||R/PC||_max / ||u||_max, and the round-off of R: the unit round-off times its
    largest term. With a null space u is taken without its mean."""
    precision = jnp.finfo(jax.tree.leaves(u)[0].dtype)
    floor = precision.eps * largest(jax.tree.map(lambda u, i: u / i, u, inverse))
    if operator.model.null_space:
        u = jax.tree.map(lambda a: a - fold(jnp.mean, a), u)
    correction = largest(jax.tree.map(lambda r, i: r * i, r, inverse)) / (
        largest(u) + precision.tiny
    )
    return largest(r), correction, floor


@compiled
def _precondition(operator: Operator, u: Fields, args: tuple) -> tuple[Fields, Float[Array, ""]]:
    """1/PC and the Gershgorin bound max_i sum_j |J_ij| / |J_ii|, computed exactly.

    J = dr/du couples cells at most `stencil_radius` apart, so one product with J separates the
    columns of every (2 radius + 1)-th cell along each axis (colouring): a product for each colour
    and unknown gives the diagonal and all row sums.
    """
    period = 2 * operator.model.stencil_radius + 1
    shape = jax.tree.leaves(u)[0].shape
    ndim = len(shape)

    def mask(color: Int[Array, ""]) -> Bool[Array, "*cells"]:
        inside = jnp.ones(shape, bool)
        for axis in range(ndim):
            at = lax.broadcasted_iota(jnp.int32, shape, axis)
            inside &= at % period == (color // period**axis) % period
        return inside

    zero = jax.tree.map(jnp.zeros_like, u)
    diagonal, rows = dict(zero), dict(zero)
    for name in u:

        def probe(
            color: Int[Array, ""], sums: tuple[Float[Array, "*cells"], Fields], name: str = name
        ) -> tuple[Float[Array, "*cells"], Fields]:
            own, rows = sums
            at = mask(color)
            product = operator.product(u, args, zero | {name: at.astype(u[name].dtype)})
            own = own + jnp.where(at, product[name], 0.0)
            return own, jax.tree.map(lambda s, p: s + jnp.abs(p), rows, product)

        diagonal[name], rows = lax.fori_loop(0, period**ndim, probe, (zero[name], rows))
    for name, lower in operator.model.lower.items():
        diagonal[name] = jnp.minimum(diagonal[name], -LEAST * lower.rate)
    bound = largest(jax.tree.map(lambda s, d: s / jnp.abs(d), rows, diagonal))
    return jax.tree.map(lambda d: -1.0 / d, diagonal), bound
