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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import xarray as xr

from ..core.checks import count
from ..core.errors import ConfigError
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..core.progress import progress_bar
from ..problem.problem import Problem
from .chains import ChainSettings, check_until
from .flow.architecture import MOST
from .flow_run import FlowJournal, FlowRun
from .options import set_counts
from .smc import SMC
from .target import Target
from .targets import Sampled, target_of

USUAL = {True: (16, 128), False: (64, 512)}
"""Chains and particles, where evaluations are solves and where they are not."""
MOVES = 4
"""Trajectories of particles a stage."""


@dataclass(frozen=True)
class FlowMCMC(AsGiven, Frozen):
    """Markov chains with global moves proposed by a normalizing flow, without pre-training.

    The `particles` of SMC start the chains and train the flow first. Each round has `local`
    trajectories of Hamiltonian Monte Carlo of all chains, then `proposals` of the flow, evaluated
    side by side; in the warm-up the flow is trained further after each round.

    Parameters
    ----------
    target : Problem or LogDensity
        Of more than 16 unknowns with a Gaussian prior, as of a field on a grid, the flow has the
        directions that the data inform (see `flow.informed`); of others there are 64 at most.
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
        128 for a problem, 512 for a density, more of many unknowns or chains; they train the flow
        with as many draws, and with those of the stages before.
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
        set_counts(self, chains=1, draws=4, rounds=1, local=1, proposals=1, leapfrogs=1, batch=1)
        check_until(self.until)
        size = self._target.size
        if size > MOST and not self._target.gaussian:
            raise ConfigError(
                f"method 'flow': found {size} unknowns, expected at most {MOST} where the prior is"
                " not Gaussian; take 'smc' or 'nuts'"
            )
        least = max(self._chains, 2 * min(size, MOST) + 2)
        if self.particles is None:
            self._set(particles=max(particles, least))
        set_counts(self, particles=least)
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
            As from `MCMC.run`, with the attributes ``global_acceptance``; ``log_evidence`` and its
            error, by bridge sampling between the draws and the proposals (see `bridge`); and the
            same by the particles, ``log_evidence_smc``.
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
