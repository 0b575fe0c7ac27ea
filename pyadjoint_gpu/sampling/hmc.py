"""Hamiltonian Monte Carlo on Gaussian densities, in a box if asked, all particles at once.

    U(s) = s^T H s / 2 - b^T s,    K(p) = p^T C p / 2,

C the diagonal inverse mass. Particles are the columns of S [n, N]. Between half a kick at the start
and another at the end, the leapfrog method is Verlet's,

    S_k+1 = A S_k - S_k-1 + c,    A = 2 - dt^2 C H,    c = dt^2 C b:

one matrix product a step, and one pass over memory that reads two arrays and overwrites one of
them. Every particle takes as many steps as every other, of one length, which is drawn anew for each
trajectory: without such a jitter trajectories of a length near a multiple of half the period of
some mode never change its energy, and evidence comes out wrong while acceptance looks perfect. In a
box particles are reflected at the sides.
(Neal 2011, Handbook of Markov Chain Monte Carlo, ch. 5.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..core.precision import AnyArray

LENGTH = 1.75
"""Length of a trajectory in marginal standard deviations: between pi/2 and 2."""
STABLE = 1.0
"""Largest step times the largest frequency; the leapfrog method is stable up to 2."""
POWERS = 30
"""Power iterations for the largest frequency."""
SAFE = (0.5 * math.pi * 0.8, 2.0 * 1.2)
"""Lengths of trajectories beyond which to warn."""


Columns = Float[Array, "components particles"]
"""Particles, the columns of an array."""


class Quadratic(NamedTuple):
    """Logarithm of a Gaussian density, up to a constant: b^T s - s^T H s / 2."""

    matrix: Float[AnyArray, "components components"]
    vector: Float[AnyArray, " components"]

    def plus(self, factor: Float[AnyArray, ""] | float, other: Quadratic) -> Quadratic:
        """The quadratic of this density times a power of another."""
        return Quadratic(self.matrix + factor * other.matrix, self.vector + factor * other.vector)

    def log(self, s: Columns) -> Float[Array, " particles"]:
        """The logarithm at each column of s."""
        return jnp.sum(s * (self.vector[:, None] - 0.5 * product(self.matrix, s)), axis=0)


class Box(NamedTuple):
    """Bounds lower <= s <= upper, infinite where there is none."""

    lower: Float[AnyArray, " components"]
    upper: Float[AnyArray, " components"]

    def reflect(self, s: Columns, v: Columns) -> tuple[Columns, Columns]:
        """Position and velocity after all reflections at the bounds."""
        lower, upper = self.lower[:, None], self.upper[:, None]
        far = jnp.asarray(1e20 if s.dtype == jnp.float32 else 1e100, s.dtype)
        below, above = jnp.isfinite(lower), jnp.isfinite(upper)
        # Unfold reflections: intervals of the box's width from a finite bound, every other
        # mirrored.
        base = jnp.where(below, lower, jnp.where(above, upper, 0.0))
        width = jnp.where(below, jnp.where(above, upper - lower, far), -far)
        x = s - base
        room = jnp.where(below | above, jnp.floor(x / width), 0.0)
        odd = room % 2.0 != 0.0
        inside = base + jnp.where(odd, (room + 1.0) * width - x, x - room * width)
        # Round-off may reflect beyond the other bound.
        inside = jnp.clip(inside, lower, upper)
        return jnp.where(room == 0.0, s, inside), jnp.where(odd, -v, v)


def product(a: Float[AnyArray, "rows inner"], b: Float[AnyArray, "inner ..."]) -> jax.Array:
    """Product of a matrix with a vector or a matrix, in full precision on every device."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def each(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of each member of a batch: `jax.vmap(function)`, but on a CPU one after another,
    so that what a member works on stays in the cache, and none waits for the longest."""
    # Traced once for both platforms.
    one = jax.jit(function)

    def batch(*args: Any) -> Any:
        return lax.platform_dependent(
            *args,
            cpu=lambda *args: lax.map(lambda member: one(*member), args),
            default=jax.vmap(one),
        )

    return batch


def tuned(
    matrix: Float[AnyArray, "components components"], leapfrogs: int
) -> tuple[Float[Array, " components"], Float[Array, ""]]:
    """The inverse mass C, the variances of N(., H^-1), and a length of steps that makes a
    trajectory `LENGTH` long, or less where that would not be stable."""
    factor = jnp.linalg.cholesky(matrix)
    root = jax.scipy.linalg.solve_triangular(
        factor, jnp.eye(len(matrix), dtype=matrix.dtype), lower=True
    )
    variance = jnp.sum(root**2, axis=0)
    scale = jnp.sqrt(variance)

    def power(_: int, x: jax.Array) -> jax.Array:
        x = scale * product(matrix, scale * x)
        return x / jnp.linalg.norm(x)

    # A start without any special direction.
    x = jnp.cos(jnp.arange(1.0, len(matrix) + 1.0, dtype=matrix.dtype))
    x = lax.fori_loop(0, POWERS, power, x / jnp.linalg.norm(x))
    fastest = jnp.sqrt(jnp.linalg.norm(scale * product(matrix, scale * x)))
    return variance, jnp.minimum(LENGTH / leapfrogs, STABLE / fastest)


def move(
    key: jax.Array,
    s: Columns,
    density: Quadratic,
    variance: Float[Array, " components"],
    step: Float[Array, ""],
    box: Box | None,
    *,
    moves: int,
    leapfrogs: int,
    jitter: float,
) -> tuple[Columns, Float[Array, ""]]:
    """`moves` trajectories of every particle, each accepted or refused; and the mean acceptance.
    `variance` is C, the inverse mass; each trajectory takes a dt between (1 - jitter) and
    (1 + jitter) times `step`."""
    vector = density.vector[:, None]

    def potential(s: jax.Array, hs: jax.Array) -> jax.Array:
        return jnp.sum(s * (0.5 * hs - vector), axis=0)

    def drift(x: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The last two positions, the older one unfolded across the reflections in a box."""
        if box is None:
            return x, new
        new, v = box.reflect(new, new - x)
        return new - v, new

    def trajectory(
        k: int, state: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        s, hs, accepted = state
        noise, length, chance = jax.random.split(jax.random.fold_in(key, k), 3)
        dt = step * (1.0 + jitter * jax.random.uniform(length, minval=-1.0, dtype=s.dtype))
        kick = (dt**2 * variance)[:, None]
        v = jnp.sqrt(kick) * jax.random.normal(noise, s.shape, s.dtype)
        before = potential(s, hs) + 0.5 * jnp.sum(v**2 / kick, axis=0)

        a = 2.0 * jnp.eye(len(vector), dtype=s.dtype) - kick * density.matrix
        c = kick * vector

        def leap(_: int, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            old, x = at
            return drift(x, product(a, x) - old + c)

        first = drift(s, s + v + 0.5 * kick * (vector - hs))
        # Pairs of steps, after which both arrays are in place again: none is copied.
        old, x = lax.fori_loop(1, leapfrogs, leap, first, unroll=2)
        hx = product(density.matrix, x)
        v = x - old + 0.5 * kick * (vector - hx)
        after = potential(x, hx) + 0.5 * jnp.sum(v**2 / kick, axis=0)
        u = jax.random.uniform(chance, before.shape, s.dtype)
        good = jnp.log(u) < before - after
        return jnp.where(good, x, s), jnp.where(good, hx, hs), accepted + jnp.mean(good)

    start = s, product(density.matrix, s), jnp.zeros((), s.dtype)
    s, _, accepted = lax.fori_loop(0, moves, trajectory, start)
    return s, accepted / moves
