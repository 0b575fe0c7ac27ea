"""Flow-enhanced Markov chains: local moves by gradients, global ones by a normalizing flow.

    alpha = min(1, p(x') q(x) / (p(x) q(x'))),    x' ~ q,

q a flow, or one for each separate mode, trained on the particles and on the chains' own history.
Chains start from particles that sequential Monte Carlo has brought from the prior, in every mode
that these have found. Training and adaptation end with the warm-up: afterwards q is fixed, and the
chains are Markov's. (Gabrie, Rotskoff and Vanden-Eijnden 2022, PNAS 119, e2109420119; Wong, Gabrie
and Foreman-Mackey 2023, J. Open Source Softw. 8, 5021.)
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from ..core.checks import count
from ..core.errors import ConfigError
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..core.precision import double
from ..core.progress import Task, note, phase, progress_bar
from ..problem.problem import Problem
from ..results.samples import evidence
from . import journal as journals
from .chains import ChainSettings, Run, State, check_until
from .flow.architecture import MOST
from .flow.mixture import Mixture, fit_mixture
from .kernels import Block, ChainStates, Moved
from .options import set_counts
from .runs import taken, within_run
from .smc import SMC
from .smc import State as Particles
from .target import Target
from .targets import Sampled, target_of

USUAL = {True: (16, 256), False: (64, 2048)}
"""Chains and particles, where evaluations are solves and where they are not."""
MOVES = 4
"""Trajectories of particles a stage."""


class FlowJournal(journals.States):
    """States of the particles, then draws and states of the chains and their flow."""

    kind = "a journal of flow-enhanced chains"
    goes_on = "the same call"
    records = ("runs", "blocks")
    slots = ("now",)


@dataclass(frozen=True)
class FlowState(State):
    """What continues the chains, with the flow that proposes."""

    flow: Mixture


@dataclass(frozen=True)
class FlowMCMC(AsGiven, Frozen):
    """Markov chains with global moves proposed by a normalizing flow, without pre-training.

    The `particles` of SMC start the chains and train the flow first. Each round has `local`
    trajectories of Hamiltonian Monte Carlo of all chains, then `proposals` of the flow, evaluated
    side by side; in the warm-up the flow is trained further after each round.

    Parameters
    ----------
    target : Problem or LogDensity
        Up to 64 unknowns.
    chains : int, optional
        16 for a problem, 64 for a density.
    draws : int
        Most draws of each chain, local and global ones, after the warm-up.
    rounds : int
        Rounds of the warm-up.
    local : int
        Trajectories a round.
    proposals : int
        Proposals of the flow a round, for each chain.
    leapfrogs : int
        Steps of a trajectory.
    particles : int, optional
        256 for a problem, 2048 for a density; they train the flow with as many draws.
    until : mapping, optional
        As for `MCMC`.
    batch : int
        Solves side by side, where the engine can (see `Problem.evaluate_many`).

    Raises
    ------
    ConfigError, DataError
        If a setting cannot be used.
    """

    target: Sampled
    chains: int | None = None
    draws: int = 500
    rounds: int = 5
    local: int = 2
    proposals: int = 20
    leapfrogs: int = 5
    particles: int | None = None
    until: Mapping[str, float] | None = None
    batch: int = 32

    def __post_init__(self) -> None:
        chains, particles = USUAL[isinstance(self.target, Problem)]
        if self.chains is None:
            self._set(chains=chains)
        if self.particles is None:
            self._set(particles=max(particles, int(self.chains or 1)))
        set_counts(self, chains=1, draws=4, rounds=1, local=1, proposals=1, leapfrogs=1, batch=1)
        check_until(self.until)
        size = self._target.size
        if size > MOST:
            raise ConfigError(
                f"method 'flow': found {size} unknowns, expected at most {MOST}; take 'smc' or"
                " 'nuts'"
            )
        set_counts(self, particles=max(self._chains, 10 * size))
        _ = self._smc

    @property
    def _chains(self) -> int:
        assert self.chains is not None
        return self.chains

    @cached_property
    def _target(self) -> Target:
        return target_of(self.target, self.batch)

    @cached_property
    def _smc(self) -> SMC:
        # Moves that leave no particles alike: the flow would take copies for modes.
        return SMC(self.target, self.particles, MOVES, self.leapfrogs, batch=self.batch)

    def run(
        self,
        *,
        seed: int = 0,
        journal: str | Path | None = None,
        overwrite: bool = False,
        executor: Executor | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Sample; arguments, errors and warnings are those of `MCMC.run`.

        Returns
        -------
        xr.Dataset
            As from `MCMC.run`, with the attributes ``global_acceptance``, and ``log_evidence`` and
            its error by the particles.
        """
        seed = count("seed", seed, 0)
        length = self.local + self.proposals
        settings = ChainSettings(
            name="flow",
            method="hmc",
            chains=self._chains,
            draws=self.draws,
            warmup=self.rounds * length,
            leapfrogs=self.leapfrogs,
            depth=1,
            until=self.until or {},
        )
        run = FlowRun(
            settings, self._target, self._smc, (self.local, self.proposals), seed, executor
        )
        with (
            FlowJournal.optional(
                journal, lambda: self._made_with(seed), overwrite=overwrite
            ) as book,
            progress_bar(shown=progress, unit="moves", desc="flow") as bar,
        ):
            return run.all(book, bar)

    def _made_with(self, seed: int) -> dict[str, Any]:
        """The inputs that determine the samples."""
        names = "chains", "draws", "rounds", "local", "proposals", "leapfrogs", "particles", "batch"
        own = {k: getattr(self, k) for k in names}
        return self._target.made_with() | own | {"until": dict(self.until or {}), "seed": seed}


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
        super().__init__(settings, target, "prior", seed, executor)

    def _ends(self) -> Int[np.ndarray, " windows"]:
        length = self._local + self._proposals
        return np.arange(length, self.of.warmup + 1, length)

    def all(self, book: FlowJournal | None, bar: Task) -> xr.Dataset:
        """Run the particles, then the chains, to their ends, and make the dataset."""
        first, moved = self._smc.steps(self.seed, self.executor)
        (particles,) = journals.follow(Particles, book, bar, first, moved, 1)
        self._particles = particles
        self.begun = self._smc.gradients([particles])
        state = self._resumed(book)
        if state is None:
            state = self._started(particles)
        return self._continued(state, book, bar)

    @double
    def _started(self, particles: Particles) -> FlowState:
        generator = np.random.default_rng([self.seed, 3])
        points = particles.points
        which = generator.permutation(len(points.x))[: self.of.chains]
        with phase("compiling, and training the flow"):
            flow = fit_mixture(points.x, seed=self.seed)
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
        with phase("training the flow"):
            note(f"training the flow, {self._accepted():.0%} of its proposals accepted")
            flow = fit_mixture(self._history(), seed=self.seed + state.done, start=state.flow)
        adapted = self._adapted(state)
        return replace(adapted, flow=flow)

    @double
    def _jumped(self, state: FlowState, proposals: int, adapt: bool) -> tuple[FlowState, Block]:
        """Independence Metropolis moves of all chains, with all proposals drawn beforehand."""
        flow, about, chains = state.flow, state.about, self.of.chains
        key = jax.random.fold_in(jax.random.key(self.seed), 2**30 + state.done)
        drawn, log_q = flow.draw(key, chains * proposals)
        energy, slope = self._energies(drawn)
        n = self.target.size
        drawn, slope = (a.reshape(chains, proposals, n) for a in (drawn, slope))
        log_q, energy = (a.reshape(chains, proposals) for a in (log_q, energy))
        chance = np.random.default_rng([self.seed, 4, state.done]).random(energy.shape)
        x = np.array(about.mean + about.root(state.chains.z))
        by_x = np.array(about.inverse_root(state.chains.slope))
        here, q = np.array(state.chains.energy), flow.log_density(x)
        xs, energies, slopes = np.empty(drawn.shape), np.empty(energy.shape), np.empty(drawn.shape)
        probability = np.empty(energy.shape)
        for k in range(proposals):
            ratio = here - energy[:, k] + q - log_q[:, k]
            probability[:, k] = np.exp(np.minimum(ratio, 0.0))
            good = chance[:, k] < probability[:, k]
            x = np.where(good[:, None], drawn[:, k], x)
            by_x = np.where(good[:, None], slope[:, k], by_x)
            here, q = np.where(good, energy[:, k], here), np.where(good, log_q[:, k], q)
            xs[:, k], energies[:, k], slopes[:, k] = x, here, by_x
        none = np.zeros(energy.shape, bool)
        moved = Moved(
            energies, probability, np.ones(energy.shape, int), none, ~np.isfinite(energy), none
        )
        at = ChainStates(about.whiten(x), here, about.root(by_x))
        block = Block(xs, slopes if adapt else slopes[..., :0], moved)
        return replace(state, chains=at, done=state.done + proposals), block

    def _history(self) -> Float[np.ndarray, "rows n"]:
        """Rows that train the flow: the particles, and as many of the later half of the chains'
        draws, which alone are too much alike where hardly any proposals are accepted."""
        rows = self._particles.points.x
        later = self.blocks[len(self.blocks) // 2 :]
        own = np.concatenate([b.x for b in later], axis=1).reshape(-1, self.target.size)
        generator = np.random.default_rng([self.seed, 5, len(self.blocks)])
        return np.concatenate([rows, own[generator.choice(len(own), len(rows))]])

    def _accepted(self) -> float:
        """Acceptance of the flow's proposals in the last round."""
        return float(np.mean(self.blocks[-1].moved.acceptance[:, self._local :]))

    # Results

    def _record(self, state: State) -> dict[str, Any]:
        assert isinstance(state, FlowState)
        return super()._record(state) | {"flow": state.flow.arrays()}

    def _recorded(self, record: dict[str, Any]) -> State:
        flow = Mixture.of_arrays(record["flow"])
        return FlowState(**vars(super()._recorded(record)), flow=flow)

    def _more(self) -> dict[str, Any]:
        own = self.blocks[self.of.warmup // (self._local + self._proposals) :]
        rate = np.mean(np.concatenate([b.moved.acceptance[:, self._local :] for b in own], axis=1))
        log_z = np.array([self._particles.log_evidence + self.target.constant])
        within = np.array([within_run(self._particles)])
        return {"global_acceptance": float(rate), **evidence(log_z, within)}
