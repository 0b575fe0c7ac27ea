"""Transitions of many Markov chains in compiled code, with the kernels of blackjax.

Chains move in z = C^(-1/2) (x - mean), for a Gaussian N(mean, C) that approximates the density
(`Reference`): its covariance stands for the mass matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True)
class Kernel:
    """Transitions of one chain by a method's kernel."""

    method: str
    leapfrogs: int
    depth: int

    @classmethod
    def of(cls, method: str, leapfrogs: int, depth: int) -> Kernel:
        """The kernel of these settings, of those that its method has."""
        needed("blackjax", "sampling")
        return cls(method, leapfrogs if method == "hmc" else 1, depth if method == "nuts" else 1)

    @property
    def nuts(self) -> bool:
        """Whether it chooses the lengths of its trajectories."""
        return self.method == "nuts"

    @cached_property
    def _state(self) -> Any:
        return needed("blackjax.mcmc.hmc", "sampling").HMCState

    @cached_property
    def _kernel(self) -> Any:
        blackjax = needed("blackjax", "sampling")
        return (blackjax.nuts if self.nuts else blackjax.hmc).build_kernel()

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
"""So many transitions of chains by (adapt, count, keys (chains, most), chains, step, reference)."""


@compiled
def keys_of(seed: Any, chains: Any, transitions: Any) -> Any:
    """A key for each transition, by number, of each chain."""
    one = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return jax.vmap(one, in_axes=(0, None))(one(jax.random.key(seed), chains), transitions)


def looped(kernel: Kernel, energy: LogDensityZ) -> Transitions:
    """Transitions where minus the log density of x, `energy`, is a JAX function: one compiled loop,
    whatever their number, and whether steps adapt."""

    def run(
        adapt: Bool[Array, ""] | bool,
        count: Int[Array, ""] | int,
        keys: Any,
        chains: ChainStates,
        steps: Step,
        about: Reference,
    ) -> tuple[ChainStates, Step, Block]:
        def log_density(z: Float[Array, " n"]) -> Float[Array, ""]:
            return -energy(about.mean + about.root(z))

        def one(key: Any, chain: ChainStates, log_step: Float[Array, ""]) -> Any:
            return kernel(key, chain, log_step, log_density)[:2]

        def after(key: Any, chains: ChainStates, steps: Step) -> tuple[ChainStates, Step, Block]:
            log_step = jnp.where(adapt, steps.log_step, steps.log_average)
            chains, moved = jax.vmap(one, in_axes=(0, 0, None))(key, chains, log_step)
            updated = steps.updated(kernel.method, moved.acceptance)
            steps = jax.tree.map(lambda new, old: jnp.where(adapt, new, old), updated, steps)
            x, slopes = about.mean + about.root(chains.z), about.inverse_root(chains.slope)
            return chains, steps, Block(x, slopes, moved)

        def each(k: Int[Array, ""], carry: Any) -> Any:
            chains, steps, block = carry
            chains, steps, found = after(keys[:, k], chains, steps)
            return chains, steps, jax.tree.map(lambda a, new: a.at[:, k].set(new), block, found)

        most, shapes = keys.shape[1], jax.eval_shape(after, keys[:, 0], chains, steps)[2]
        empty = jax.tree.map(lambda a: jnp.zeros((a.shape[0], most, *a.shape[1:]), a.dtype), shapes)
        return jax.lax.fori_loop(0, count, each, (chains, steps, empty))

    program = compiled(run)

    def transitions(
        adapt: bool, count: int, keys: Any, chains: ChainStates, steps: Step, about: Reference
    ) -> tuple[ChainStates, Step, Block]:
        given = adapt, count, keys, chains, steps, about
        chains, steps, block = jax.tree.map(np.asarray, program(*given))
        block = jax.tree.map(lambda a: a[:, :count], block)
        return chains, steps, block if adapt else block._replace(slope=block.slope[..., :0])

    return transitions
