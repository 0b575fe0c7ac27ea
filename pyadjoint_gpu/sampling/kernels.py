"""Transitions of many Markov chains in compiled code, with the kernels of blackjax.

Chains move in z = C^(-1/2) (x - mean), for a Gaussian N(mean, C) that approximates the density
(`Reference`): its covariance stands for the mass matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..core.extras import needed
from ..core.precision import compiled
from .reference import Reference

JITTER = 0.2
"""Relative variation of the steps' length between trajectories of fixed numbers of steps, whose
periods would else never be left."""
TURN = 0.5 * math.pi
"""Length of such trajectories, in standard deviations."""
ACCEPTANCE = {"nuts": 0.8, "hmc": 0.65, "mala": 0.574}
"""Acceptance that steps are adapted to."""


class ChainStates(NamedTuple):
    """Where chains are: z, minus the log density, and its gradient by z."""

    z: Float[np.ndarray, "chains n"]
    energy: Float[np.ndarray, " chains"]
    slope: Float[np.ndarray, "chains n"]


class Step(NamedTuple):
    """State of the dual averaging of the step of all chains, as blackjax has it."""

    log_step: Float[np.ndarray, ""]
    log_average: Float[np.ndarray, ""]
    number: Int[np.ndarray, ""]
    error: Float[np.ndarray, ""]
    mu: Float[np.ndarray, ""]

    @classmethod
    def at(cls, step: float, *, known: bool = True) -> Step:
        """The start from a step; where it is not `known` to be about right, longer ones are tried
        first."""
        log, more = np.log(step), 0.0 if known else np.log(10.0)
        return cls(*map(np.asarray, (log, log, 1, 0.0, log + more)))

    def updated(self, method: str, acceptance: Float[Array, " chains"]) -> Step:
        """The state after a transition. One chain's acceptance would be too noisy: steps would
        vary, and their mean be accepted less often."""
        adaptation = needed("blackjax.adaptation.step_size", "sampling")
        _, update, _ = adaptation.dual_averaging_adaptation(ACCEPTANCE[method])
        given = adaptation.DualAveragingAdaptationState(*self)
        return Step(*update(given, jnp.mean(acceptance)))


class Moved(NamedTuple):
    """What a transition of each chain gave."""

    energy: Float[np.ndarray, " *chains"]
    acceptance: Float[np.ndarray, " *chains"]
    gradients: Int[np.ndarray, " *chains"]
    divergent: Bool[np.ndarray, " *chains"]
    failed: Bool[np.ndarray, " *chains"]
    """Trajectories that ended where there is no density."""
    lost: Bool[np.ndarray, " *chains"]
    """Trajectories whose position is no number: a gradient was none."""


class Block(NamedTuple):
    """What some transitions of all chains gave: arrays (chains, draws, ...)."""

    x: Float[np.ndarray, "chains draws n"]
    slope: Float[np.ndarray, "chains draws n"]
    """The gradient of the energy by x while chains adapt; afterwards n is zero."""
    moved: Moved


LogDensityZ = Callable[[Float[Array, " n"]], Float[Array, ""]]


class Kernel:
    """Transitions of one chain by a method's kernel."""

    def __init__(self, method: str, *, leapfrogs: int, depth: int):
        blackjax = needed("blackjax", "sampling")
        self._state = needed("blackjax.mcmc.hmc", "sampling").HMCState
        self.method, self.nuts = method, method == "nuts"
        self.leapfrogs, self.depth = leapfrogs if method == "hmc" else 1, depth
        self._kernel = (blackjax.nuts if self.nuts else blackjax.hmc).build_kernel()

    def __call__(
        self,
        key: Any,
        chain: ChainStates,
        log_step: Float[Array, ""],
        log_density: LogDensityZ,
        leapfrogs: Int[Array, ""] | None = None,
    ) -> tuple[ChainStates, Moved, tuple[Any, ...]]:
        """The chain after a transition, what it gave, and the ends of its trajectory; with fewer
        `leapfrogs` only the part of the trajectory that has so many."""
        state = self._state(chain.z, -chain.energy, -chain.slope)
        unit = jnp.ones_like(chain.z)
        if self.nuts:
            step = jnp.exp(log_step)
            state, info = self._kernel(key, state, log_density, step, unit, self.depth)
            ends = info.trajectory_leftmost_state, info.trajectory_rightmost_state
        else:
            draw, key = jax.random.split(key)
            longest = np.log(TURN / self.leapfrogs / (1.0 + JITTER))
            vary = 1.0 + JITTER * jax.random.uniform(draw, minval=-1.0)
            step = jnp.exp(jnp.minimum(log_step, longest)) * vary
            count = self.leapfrogs if leapfrogs is None else leapfrogs
            state, info = self._kernel(key, state, log_density, step, unit, count)
            ends = (info.proposal,)
        moved = Moved(
            -state.logdensity,
            info.acceptance_rate,
            info.num_integration_steps,
            info.is_divergent,
            _any(~jnp.isfinite(end.logdensity) for end in ends),
            _any(~jnp.all(jnp.isfinite(end.position)) for end in ends),
        )
        return ChainStates(state.position, -state.logdensity, -state.logdensity_grad), moved, ends


def _any(masks: Any) -> Any:
    first, *others = masks
    for mask in others:
        first = first | mask
    return first


Transitions = Callable[..., tuple[ChainStates, Step, Block]]
"""Transitions of chains by (adapt, keys (chains, draws), chains, step, reference)."""


def traced(kernel: Kernel, energy: LogDensityZ) -> Transitions:
    """Transitions where minus the log density of x, `energy`, is a JAX function: one compiled
    loop."""

    def run(
        adapt: bool, keys: Any, chains: ChainStates, steps: Step, about: Reference
    ) -> tuple[ChainStates, Step, Block]:
        def log_density(z: Float[Array, " n"]) -> Float[Array, ""]:
            return -energy(about.mean + about.root(z))

        def one(key: Any, chain: ChainStates, log_step: Float[Array, ""]) -> Any:
            return kernel(key, chain, log_step, log_density)[:2]

        def each(carry: Any, key: Any) -> Any:
            chains, steps = carry
            log_step = steps.log_step if adapt else steps.log_average
            chains, moved = jax.vmap(one, in_axes=(0, 0, None))(key, chains, log_step)
            if adapt:
                steps = steps.updated(kernel.method, moved.acceptance)
            slopes = about.inverse_root(chains.slope) if adapt else chains.slope[:, :0]
            return (chains, steps), Block(about.mean + about.root(chains.z), slopes, moved)

        (chains, steps), out = jax.lax.scan(each, (chains, steps), keys.T)
        return chains, steps, jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), out)

    return compiled(run, static_argnums=(0,))
