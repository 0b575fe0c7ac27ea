"""Transitions of Markov chains whose gradients the host computes: Julia, and other compiled codes.

Compiled code cannot wait for them: JAX's threads may then be the ones that the host's own solves
need. A transition is therefore a function of the values and gradients that are known so far, and
stops where it needs another; the host computes it, for all chains that wait, and the transition is
begun again. What is repeated is a kernel's own arithmetic, which costs nothing beside a solve, and
no gradient is computed that its chain does not need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..core.precision import compiled, double
from .hmc import each
from .kernels import Block, ChainStates, Kernel, Moved, Step
from .reference import Reference
from .runs import accepted

Rows = Float[np.ndarray, "rows n"]
Energies = Callable[[Rows], tuple[Float[np.ndarray, " rows"], Rows]]
"""Minus the log density and its gradient, at rows of x."""

ROOM = 16
"""Points of a trajectory that there is room for at first; more are made by doubling twice."""
FEW = 8
"""Components by which a point is looked for first."""


class Known(NamedTuple):
    """Points of each chain's trajectory where energy and gradient are known."""

    z: Float[np.ndarray, "chains room n"]
    energy: Float[np.ndarray, "chains room"]
    slope: Float[np.ndarray, "chains room n"]

    @classmethod
    def none(cls, chains: int, room: int, n: int) -> Known:
        """Room for so many."""
        # No point equals NaN.
        points = np.full((chains, room, n), np.nan)
        return cls(points, np.zeros((chains, room)), np.zeros((chains, room, n)))

    def wider(self) -> Known:
        """With four times the room."""
        more = 3 * self.energy.shape[1]
        pad = ((0, 0), (0, more), (0, 0))
        return Known(
            np.pad(self.z, pad, constant_values=np.nan),
            np.pad(self.energy, pad[:2]),
            np.pad(self.slope, pad),
        )


@jax.custom_vjp
def _looked_up(known: Known, z: Float[Array, " n"]) -> Float[Array, ""]:
    return _found(known, z)[0]


def place(known: Known, z: Float[Array, " n"]) -> tuple[Int[Array, ""], Bool[Array, ""]]:
    """Which of the points z is, and whether it is one of them."""

    def first(components: slice) -> Int[Array, ""]:
        return jnp.argmax(jnp.all(known.z[:, components] == z[components], axis=1))

    # A few components tell points apart, except where these do not move.
    few = first(slice(FEW))
    k = lax.cond(jnp.all(known.z[few] == z), lambda: few, lambda: first(slice(None)))
    return k, jnp.all(known.z[k] == z)


def _found(known: Known, z: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """The log density and its gradient; -inf and zero where they are not known."""
    k, have = place(known, z)
    return jnp.where(have, -known.energy[k], -jnp.inf), jnp.where(have, -known.slope[k], 0.0)


def _forward(known: Known, z: Float[Array, " n"]) -> Any:
    value, slope = _found(known, z)
    return value, (known, slope)


def _backward(kept: Any, by: Float[Array, ""]) -> Any:
    known, slope = kept
    return jax.tree.map(jnp.zeros_like, known), by * slope


_looked_up.defvjp(_forward, _backward)


class Replayed:
    """Transitions as `kernels.looped` makes them, where the host computes energies."""

    def __init__(self, kernel: Kernel, energies: Energies):
        self.kernel, self.energies = kernel, energies

    @double
    def __call__(
        self,
        adapt: bool,
        draws: int,
        keys: Any,
        chains: ChainStates,
        steps: Step,
        about: Reference,
    ) -> tuple[ChainStates, Step, Block]:
        count = len(keys)
        n = chains.z.shape[1]
        known, number = Known.none(count, ROOM, n), np.zeros(count, int)
        done, every = np.zeros(count, int), np.arange(count)
        x, slopes = np.zeros((count, draws, n)), np.zeros((count, draws, n if adapt else 0))
        kept: Any = None
        attempt, bits = _attempt(self.kernel), np.asarray(jax.random.key_data(keys))
        while np.any(done < draws):
            # While the step adapts to all chains they take each transition together.
            active = done < draws if not adapt else done == np.min(done)
            log_step = steps.log_step if adapt else steps.log_average
            now = bits[every, np.minimum(done, draws - 1)]
            new, moved, asked, z = jax.tree.map(
                np.asarray, attempt(now, chains, np.full(count, log_step), known, number)
            )
            waiting = active & asked
            if np.any(waiting):
                if np.max(number) == known.energy.shape[1]:
                    known = known.wider()
                known = self._with(known, waiting, number, z[waiting], about)
                number = number + waiting
            ended = active & ~asked
            if kept is None:
                kept = jax.tree.map(lambda a: np.zeros((count, draws), a.dtype), moved)
            which, at = every[ended], done[ended]
            for field, values in zip(kept, moved, strict=True):
                field[which, at] = values[ended]
            chains = accepted(ended, new, chains)
            x[which, at] = about.mean + about.root(chains.z[ended])
            if adapt:
                slopes[which, at] = about.inverse_root(chains.slope[ended])
            done = done + ended
            number = np.where(ended, 0, number)
            known.z[ended] = np.nan
            if adapt and np.any(ended) and np.ptp(done) == 0:
                acceptance = kept.acceptance[:, done[0] - 1]
                found = _updated(self.kernel.method)(steps, acceptance)
                steps = Step(*map(np.asarray, found))
        return chains, steps, Block(x, slopes, Moved(*kept))

    def _with(
        self,
        known: Known,
        waiting: Bool[np.ndarray, " chains"],
        number: np.ndarray,
        z: Rows,
        about: Reference,
    ) -> Known:
        """What is known, and the energies at z of the chains that wait."""
        energy, by_x = self.energies(about.mean + about.root(z))
        which = np.flatnonzero(waiting)
        at = number[which]
        known.z[which, at] = z
        known.energy[which, at] = energy
        known.slope[which, at] = about.root(by_x)
        return known


@cache
def _updated(method: str) -> Callable[..., Any]:
    return compiled(lambda steps, acceptance: steps.updated(method, acceptance))


@cache
def _attempt(kernel: Kernel) -> Callable[..., Any]:
    """A transition of every chain with what is known: the chains after it, what it gave, whether
    another point is needed, and which."""

    def one(
        bits: Any, chain: ChainStates, log_step: Any, known: Known, number: Any
    ) -> tuple[ChainStates, Moved, Any, Any]:
        reached = jnp.minimum(number + 1, kernel.leapfrogs)
        log_density = partial(_looked_up, known)
        key = jax.random.wrap_key_data(bits)
        new, moved, ends = kernel(key, chain, log_step, log_density, reached)
        # The start of a trajectory, too, is known, and that there is no density where gradients too
        # large have led to no number.
        fresh = [
            ~place(known, end.position)[1]
            & ~jnp.all(end.position == chain.z)
            & jnp.all(jnp.isfinite(end.position))
            for end in ends
        ]
        z = jnp.where(fresh[0], ends[0].position, ends[-1].position)
        asked = fresh[0] | fresh[-1]
        if not kernel.nuts:
            asked = asked | (reached < kernel.leapfrogs)
        return new, moved, asked, z

    return compiled(each(one))
