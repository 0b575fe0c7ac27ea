"""A run of flow-enhanced chains: particles, then rounds of local and global moves, with journal."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy import special

from ..core.precision import double
from ..core.progress import Task, note, phase
from ..results.samples import evidence
from . import journal as journals
from .bridge import bridge
from .chains import ChainSettings, Run, State
from .flow.informed import Informed, fit_informed, informed_directions
from .flow.mixture import Mixture, Rows
from .kernels import Block, ChainStates, Moved
from .runs import P, taken, within_run
from .smc import SMC
from .smc import State as ParticleState
from .target import Points, Target

GAIN = 0.01
"""Growth of the acceptance in a round of the warm-up after which the flow is trained further."""
WIDER = 3
"""Stages of particles whose gradients train the flow."""


class FlowJournal(journals.States):
    """States of the particles, then draws and states of the chains and their flow."""

    kind = "a journal of flow-enhanced chains"
    goes_on = "the same call"
    records = ("runs", "blocks")
    slots = ("now",)


@dataclass(frozen=True)
class Followed(ParticleState):
    """State of the particles, with those at the ends of the last `WIDER` stages, which are wider
    than the density."""

    wider: Points
    exponents: Float[np.ndarray, " stages"]


@dataclass(frozen=True)
class FlowState(State):
    """What continues the chains, with the flow that proposes."""

    flow: Informed


class FlowRun(Run):
    """One run of chains with a flow, in rounds of so many local and global moves."""

    def __init__(
        self,
        settings: ChainSettings,
        target: Target,
        smc: SMC,
        moves: tuple[int, int],
        seed: int,
        executor: Executor | None,
    ):
        self._smc, self._local, self._proposals = smc, *moves
        self.ratios: list[Float[np.ndarray, "2 chains proposals"]] = []
        super().__init__(settings, target, "prior", seed, executor)

    def _ends(self) -> Int[np.ndarray, " windows"]:
        length = self._local + self._proposals
        return np.arange(length, self.of.warmup + 1, length)

    def all(self, book: FlowJournal | None, bar: Task) -> xr.Dataset:
        """Run the particles, then the chains, to their ends, and make the dataset."""
        (particles,) = journals.follow(Followed, book, bar, *self._steps(), 1)
        self._particles = particles
        self.begun = self._smc.gradients([particles])
        state = self._resumed(book)
        if state is None:
            state = self._started(particles)
        return self._continued(state, book, bar)

    def _steps(self) -> tuple[Callable[[int], Followed], Callable[[Followed, int], Followed]]:
        """The particles' first state, and the one after a move."""
        first, moved = self._smc.steps(self.seed, self.executor)

        def begun(k: int) -> Followed:
            state = first(k)
            return Followed(
                **vars(state), wider=taken(state.points, slice(0)), exponents=np.zeros(0)
            )

        def after(now: Followed, k: int) -> Followed:
            new = moved(now, k)
            assert isinstance(new, Followed)
            if now.left > 0.0:
                return new
            # A stage began: those of the one before are at its end. Draws of the prior that have no
            # density, and no gradient, are left out for others.
            good = np.flatnonzero(np.isfinite(now.points.value))
            ended = taken(now.points, np.resize(good, len(now.points.x)))
            wider = _joined(now.wider, ended)
            kept = slice(-WIDER * len(now.points.x), None)
            exponents = np.append(now.exponents, now.gamma)[-WIDER:]
            return replace(new, wider=taken(wider, kept), exponents=exponents)

        return begun, after

    @double
    def _started(self, particles: Followed) -> FlowState:
        generator = np.random.default_rng([self.seed, 3])
        points = particles.points
        which = generator.permutation(len(points.x))[: self.of.chains]
        with phase("compiling, and training the flow"):
            flow = fit_informed(self._rows(), self._directions, seed=self.seed)
        return FlowState(**vars(self._begun_at(taken(points, which))), flow=flow)

    def _advanced(self, state: State) -> State:
        assert isinstance(state, FlowState)
        last = self.of.warmup + self.of.draws
        chains, steps, local = self._moved(state, min(self._local, last - state.done))
        state = replace(state, chains=chains, steps=steps, done=state.done + local.x.shape[1])
        proposals = min(self._proposals, last - state.done)
        # The last block is cut short.
        if proposals:
            state, wide = self._jumped(state, proposals, local.slope.shape[2] > 0)
            local = jax.tree.map(lambda a, b: np.concatenate([a, b], axis=1), local, wide)
        self.blocks.append(local)
        if state.done > self.of.warmup:
            return state
        adapted, rates = self._adapted(state), self._rates()
        if len(rates) > 1 and rates[-1] < rates[-2] + GAIN:
            return adapted
        note(f"training the flow, {rates[-1]:.0%} of its proposals accepted")
        with phase("training the flow"):
            flow = state.flow.trained(self._rows(), self.seed + state.done)
        return replace(adapted, flow=flow)

    @double
    def _jumped(self, state: FlowState, proposals: int, adapt: bool) -> tuple[FlowState, Block]:
        """Independence Metropolis moves of all chains, with all proposals drawn beforehand."""
        flow, about, chains = state.flow, state.about, self.of.chains
        key = jax.random.fold_in(jax.random.key(self.seed), 2**30 + state.done)
        # As many whatever the block, for one compilation.
        drawn, log_q = flow.draw(key, chains * self._proposals)
        drawn, log_q = drawn[: chains * proposals], log_q[: chains * proposals]
        energy, slope = self._energies(drawn)
        n = self.target.size
        drawn, slope = (a.reshape(chains, proposals, n) for a in (drawn, slope))
        log_q, energy = (a.reshape(chains, proposals) for a in (log_q, energy))
        chance = np.random.default_rng([self.seed, 4, state.done]).random(energy.shape)
        x = np.array(about.mean + about.root(state.chains.z))
        by_x = np.array(about.inverse_root(state.chains.slope))
        here, q = np.array(state.chains.energy), flow.log_density(x)
        xs, energies, slopes = np.empty(drawn.shape), np.empty(energy.shape), np.empty(drawn.shape)
        probability, at_chains = np.empty(energy.shape), np.empty(energy.shape)
        for k in range(proposals):
            ratio = here - energy[:, k] + q - log_q[:, k]
            probability[:, k] = np.exp(np.minimum(ratio, 0.0))
            good = chance[:, k] < probability[:, k]
            x = np.where(good[:, None], drawn[:, k], x)
            by_x = np.where(good[:, None], slope[:, k], by_x)
            here, q = np.where(good, energy[:, k], here), np.where(good, log_q[:, k], q)
            xs[:, k], energies[:, k], slopes[:, k] = x, here, by_x
            at_chains[:, k] = -here - q
        none = np.zeros(energy.shape, bool)
        moved = Moved(
            energies, probability, np.ones(energy.shape, int), none, ~np.isfinite(energy), none
        )
        at = ChainStates(about.whiten(x), here, about.root(by_x))
        block = Block(xs, slopes if adapt else slopes[..., :0], moved)
        self.ratios.append(np.stack([at_chains, -energy - log_q]))
        return replace(state, chains=at, done=state.done + proposals), block

    @cached_property
    def _directions(self) -> Float[np.ndarray, "n directions"]:
        if self.target.gaussian:
            return informed_directions(self._particles.points.slope)
        return np.eye(self.target.size)

    def _rows(self) -> Rows:
        """Rows that train the flow: the particles, those of the last stages before, by their
        weights, and, in place of the widest, as many different ones of the later half of the
        chains' draws, which alone are too much alike where hardly any proposals are accepted."""
        state = self._particles
        points, wider, count = state.points, state.wider, len(state.points.x)
        misfit = wider.value.reshape(-1, count)
        weights = special.softmax((state.exponents - 1.0)[:, None] * misfit, axis=1)
        # As many as their effective number.
        weights /= np.sum(weights**2, axis=1, keepdims=True)
        both = _joined(points, wider)
        rise = both.slope + both.prior_slope
        rows = Rows(both.x, -rise, np.concatenate([np.ones(count), np.ravel(weights)]))
        later = self.blocks[len(self.blocks) // 2 :]
        if not later:
            return rows
        x, rise = (
            np.concatenate(a, axis=1).reshape(-1, self.target.size)
            for a in zip(*((b.x, b.slope) for b in later), strict=True)
        )
        # A draw that a chain has stayed at is one row, which is either held out or not.
        _, first, stays = np.unique(x, axis=0, return_index=True, return_counts=True)
        generator = np.random.default_rng([self.seed, 5, len(self.blocks)])
        which = generator.permutation(len(first))[:count]
        chosen = first[which]
        new = Rows(x[chosen], -rise[chosen], stays[which] / np.mean(stays[which]))
        return _joined(taken(rows, slice(-len(chosen))), new)

    def _rates(self) -> list[float]:
        """Acceptance of the flow's proposals, by round."""
        moved = [b.moved.acceptance[:, self._local :] for b in self.blocks]
        return [float(np.mean(rates)) for rates in moved if rates.size]

    # Results

    def _record(self, state: State) -> dict[str, Any]:
        assert isinstance(state, FlowState)
        more = {"flow": state.flow.mixture.arrays(), "ratios": self.ratios[-1]}
        return super()._record(state) | more

    def _reloaded(self, record: dict[str, Any]) -> None:
        super()._reloaded(record)
        self.ratios.append(record["ratios"])

    def _recorded(self, record: dict[str, Any]) -> State:
        flow = Informed(Mixture.of_arrays(record["flow"]), self._directions)
        return FlowState(**vars(super()._recorded(record)), flow=flow)

    def _more(self) -> dict[str, Any]:
        rounds = self.of.warmup // (self._local + self._proposals)
        log_z = np.array([self._particles.log_evidence + self.target.constant])
        smc = evidence(log_z, np.array([within_run(self._particles)]))
        ratios = np.concatenate(self.ratios[rounds:], axis=2)
        log, error = bridge(*ratios)
        return {
            "global_acceptance": float(np.mean(self._rates()[rounds:])),
            "log_evidence": log + self.target.log_normaliser + self.target.constant,
            "log_evidence_error": error,
            **{k.replace("log_evidence", "log_evidence_smc"): v for k, v in smc.items()},
        }


def _joined(first: P, second: P) -> P:
    """Some particles, and others."""
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
