"""Tempered sampling of linear problems d = G s + e, e and s Gaussian, s in a box if asked.

The likelihood is Gaussian in s, so that every stage has a density of `hmc`'s kind. In a box the
prior cannot be sampled directly, and is reached by stages first: from independent components, whose
truncated normal distributions are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from ..core.checks import fraction
from ..core.errors import ConfigError
from ..core.frozen import Frozen
from ..core.precision import AnyArray, compiled_loop
from . import tempering
from .hmc import Box, Columns, Quadratic, each, move, product, tuned
from .options import set_counts

Rows = Float[AnyArray, "particles components"]
"""Particles, the rows of an array."""

STAGES = 200
"""Most stages of one sampler."""


@dataclass(frozen=True)
class Settings(Frozen):
    """Settings of a sampler.

    Attributes
    ----------
    particles : int
        N.
    moves, leapfrogs : int
        Trajectories a stage, and steps of each.
    ess : float
        Effective sample size after a stage, as a fraction of N.
    jitter : float
        Relative variation of the steps' length between trajectories.
    """

    particles: int = 1000
    moves: int = 3
    leapfrogs: int = 50
    ess: float = 0.5
    jitter: float = 0.2

    def check(self) -> Settings:
        """Settings as Python numbers; a `ConfigError` where a value makes no sense."""
        checked = replace(self)
        # One particle has no scatter to choose temperatures by.
        set_counts(checked, particles=2, moves=1, leapfrogs=1)
        fraction("ess", self.ess)
        fraction("jitter", self.jitter, zero=True)
        return checked


USUAL = Settings()


def checked_settings(name: str, found: object) -> Settings:
    """The checked settings of a sampler, or a `ConfigError`."""
    if not isinstance(found, Settings):
        raise ConfigError(
            f"{name}: found {type(found).__name__}, expected Settings(particles=..., ...)"
        )
    return found.check()


class Stages(NamedTuple):
    """Diagnostics by stage, NaN beyond the last: gamma at its end, ESS / N after it, acceptance,
    and the length of its trajectories in marginal standard deviations."""

    gamma: Float[Array, "*batch stages"]
    ess: Float[Array, "*batch stages"]
    acceptance: Float[Array, "*batch stages"]
    length: Float[Array, "*batch stages"]


class Sampled(NamedTuple):
    """Particles of equal weight, the first particle that each descends from, ln Z, the number of
    stages, and their diagnostics."""

    s: Float[Array, "*batch components particles"]
    ancestor: Int[Array, "*batch particles"]
    log_evidence: Float[Array, "*batch"]
    count: Any  # Int[Array, "*batch"]; tuples have a method of this name
    stages: Stages


def moved(
    key: jax.Array, s: Columns, density: Quadratic, box: Box | None, settings: Settings
) -> tuple[Columns, Float[Array, ""], Float[Array, ""]]:
    """Particles after the trajectories of a stage, which leave `density` as it is, the acceptance,
    and the length of the trajectories."""
    variance, step = tuned(density.matrix, settings.leapfrogs)
    s, acceptance = move(
        key,
        s,
        density,
        variance,
        step,
        box,
        moves=settings.moves,
        leapfrogs=settings.leapfrogs,
        jitter=settings.jitter,
    )
    return s, acceptance, step * settings.leapfrogs


Carry = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, Stages]
"""Particles, their ancestors, gamma, ln Z, the number of stages, and their diagnostics."""


def temper(
    key: jax.Array,
    s: Columns,
    start: Quadratic,
    change: Quadratic,
    constant: Float[Array, ""],
    box: Box | None,
    settings: Settings,
) -> Sampled:
    """Move particles of the density `start` to `start` times L, ln L given by `change` and
    `constant`; Z is the mean of L over `start`."""
    count = s.shape[1]
    nothing = jnp.full(STAGES, jnp.nan, s.dtype)

    def unfinished(state: Carry) -> jax.Array:
        _, _, gamma, _, k, _ = state
        return (gamma < 1.0) & (k < STAGES)

    def stage(state: Carry) -> Carry:
        s, ancestor, gamma, log_evidence, k, stages = state
        draw, run = jax.random.split(jax.random.fold_in(key, k))
        log_likelihood = constant + change.log(s)
        step, gain = tempering.increment(log_likelihood, gamma, settings.ess)
        weights = step * log_likelihood
        which = tempering.systematic(draw, weights)
        s, ancestor = s[:, which], ancestor[which]
        left = jnp.exp(
            2.0 * jax.nn.logsumexp(weights) - jax.nn.logsumexp(2.0 * weights) - jnp.log(count)
        )
        gamma = jnp.where(step >= 1.0 - gamma, 1.0, gamma + step)
        s, acceptance, length = moved(run, s, start.plus(gamma, change), box, settings)
        report = Stages(gamma, left, acceptance, length)
        stages = jax.tree.map(lambda old, new: old.at[k].set(new), stages, report)
        return s, ancestor, gamma, log_evidence + gain, k + 1, stages

    zero = jnp.zeros((), s.dtype)
    none = jnp.zeros((), jnp.int32)
    begin = s, jnp.arange(count), zero, zero, none, Stages(*[nothing] * 4)
    s, ancestor, _, log_evidence, k, stages = lax.while_loop(unfinished, stage, begin)
    return Sampled(s, ancestor, log_evidence, k, stages)


def drawn(
    key: jax.Array, prior: Quadratic, box: Box | None, settings: Settings
) -> tuple[Columns, Int[Array, " particles"]]:
    """Particles of the prior: independent draws, or, in a box, by stages from the truncated normal
    distributions of independent components; and the first particle that each descends from."""
    n, dtype = len(prior.vector), prior.vector.dtype
    factor = jnp.linalg.cholesky(prior.matrix)
    mean = jax.scipy.linalg.cho_solve((factor, True), prior.vector)[:, None]
    draw, run = jax.random.split(key)
    shape = n, settings.particles
    if box is None:
        noise = jax.random.normal(draw, shape, dtype)
        s = mean + jax.scipy.linalg.solve_triangular(factor, noise, lower=True, trans="T")
        return s, jnp.arange(settings.particles)
    root = jax.scipy.linalg.solve_triangular(factor, jnp.eye(n, dtype=dtype), lower=True)
    spread = jnp.sqrt(jnp.sum(root**2, axis=0))[:, None]
    low, high = ((side[:, None] - mean) / spread for side in box)
    s = mean + spread * jax.random.truncated_normal(draw, low, high, shape, dtype)
    s = jnp.clip(s, box.lower[:, None], box.upper[:, None])
    apart = Quadratic(jnp.diag(1.0 / spread[:, 0] ** 2), (mean / spread**2)[:, 0])
    rest = Quadratic(prior.matrix - apart.matrix, prior.vector - apart.vector)
    found = temper(run, s, apart, rest, jnp.zeros((), dtype), box, settings)
    return found.s, found.ancestor


def likelihood(
    design_matrix: Float[Array, "data components"],
    data: Float[Array, " data"],
    constant: Float[Array, ""],
) -> tuple[Quadratic, Float[Array, ""]]:
    """ln p(d | s) as a quadratic in s and a constant, of Sigma^(-1/2) G, Sigma^(-1/2) d and
    -ln det(2 pi Sigma) / 2."""
    change = Quadratic(product(design_matrix.T, design_matrix), product(design_matrix.T, data))
    return change, constant - 0.5 * jnp.sum(data**2)


def posterior(
    settings: Settings,
    keys: Key[Array, " batch"],
    design_matrix: Float[Array, "batch data components"],
    data: Float[Array, " data"],
    constant: Float[Array, ""],
    prior: Quadratic,
    box: Box | None,
) -> Sampled:
    """The posterior of s for each of a batch of Sigma^(-1/2) G, given Sigma^(-1/2) d and the
    constant -ln det(2 pi Sigma) / 2. ln Z is for the prior normalised in the box."""

    def one(key: Key[Array, ""], design_matrix: Float[Array, "data components"]) -> Sampled:
        first, second = jax.random.split(key)
        s, _ = drawn(first, prior, box, settings)
        change, rest = likelihood(design_matrix, data, constant)
        return temper(second, s, prior, change, rest, box, settings)

    return each(one)(keys, design_matrix)


sample = compiled_loop(posterior, static_argnums=(0,))


@partial(compiled_loop, static_argnums=(0,))
def first(
    settings: Settings,
    key: Key[Array, ""],
    design_matrix: Float[Array, "data components"],
    data: Float[Array, " data"],
    constant: Float[Array, ""],
    prior: Quadratic,
    box: Box | None,
) -> tuple[Rows, Int[Array, " particles"], Float[Array, " particles"]]:
    """Particles of the prior and their ancestors, as by `drawn`, and ln p(d | s) of each; arguments
    are those of `posterior`."""
    s, ancestor = drawn(key, prior, box, settings)
    change, rest = likelihood(design_matrix, data, constant)
    return s.T, ancestor, rest + change.log(s)


@partial(compiled_loop, static_argnums=(0,))
def next_stage(
    settings: Settings,
    key: Key[Array, ""],
    s: Rows,
    gamma: Float[AnyArray, ""],
    design_matrix: Float[Array, "data components"],
    data: Float[Array, " data"],
    constant: Float[Array, ""],
    prior: Quadratic,
    box: Box | None,
) -> tuple[Rows, Float[Array, " particles"], Float[Array, ""], Float[Array, ""]]:
    """Resampled particles after the moves of a stage that ends at `gamma`, ln p(d | s) of each, the
    acceptance, and the length of trajectories."""
    change, rest = likelihood(design_matrix, data, constant)
    columns, acceptance, length = moved(
        key, jnp.asarray(s).T, prior.plus(gamma, change), box, settings
    )
    return columns.T, rest + change.log(columns), acceptance, length
