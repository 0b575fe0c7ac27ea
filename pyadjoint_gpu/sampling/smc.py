"""Sequential Monte Carlo on any target, moved by exact gradients."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..core.checks import count, fraction
from ..core.errors import ConvergenceError
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..problem.problem import Problem
from ..results.dataset import named
from ..results.samples import DIMS, sample_coordinates, weights_of_runs
from . import journal as journals
from . import tempering
from .checks import check_collapse, check_diversity, check_failures, check_turns
from .density_target import check_spread
from .log_density import LogDensity
from .options import set_counts
from .reference import Reference, reference, trajectory
from .runs import Tempered, paths, run_attributes, run_variables, taken, within_run
from .target import Particles, Points, Target
from .targets import Sampled, target_of

TURN = 1.5
"""Angle of a trajectory, unless acceptance requires a smaller one."""
JITTER = 0.2
"""Relative variation of the angle between trajectories."""
ACCEPTANCE = 0.75
"""Acceptance that the length of steps is tuned for."""
MOST = 10
"""Most moves of a stage, over `moves`."""
USUAL = {True: 128, False: 1024}
"""Particles, where evaluations are solves and where they are not."""


@dataclass(frozen=True)
class State(Tempered):
    """State of a run; its `path` has gamma, ESS / N, mean probability of acceptance, and least
    angle of a trajectory of each stage."""

    points: Points
    about: Reference
    """Gaussian that this stage's trajectories follow."""
    angle: float
    """Angle of a step."""
    failures: int
    """Proposals so far that have no density."""


Evaluate = Callable[[Particles], Points]


@dataclass(frozen=True)
class SMC(AsGiven, Frozen):
    """Sampler of a density by particles that are followed from the prior,

        p_gamma(x) ~ exp(-Psi(x) - gamma Phi(x)),    gamma from 0 to 1,

    Psi that of the prior and exp(-Phi) the likelihood, and its evidence Z. Particles are moved by
    Hamiltonian Monte Carlo beside a Gaussian that is fitted to them at every stage. All happens in
    the whitened variable x, theta = mu + R x with the covariance R R^T of the prior, so that it
    does not depend on the grid. A density without a prior is taken relative to the Gaussian about
    its `start`.

    Of a `Problem` it is the posterior of its controls, and of the scale of the noise where that is
    unknown, p(theta | d) ~ exp(-J(theta)), with one forward and one adjoint solve a step. With an
    unknown scale the width of the posterior differs from particle to particle: where data are
    informative, ln Z then needs more particles, or moves, such as 10.

    Parameters
    ----------
    target : Problem or LogDensity
        A problem has a prior (see `Problem.prior`), and no bounds on theta. A user's own misfit is
        taken as -ln p(d | u).
    particles : int, optional
        128 for a problem, 1024 for a density.
    moves : int
        Trajectories a stage, where they are accepted as intended; more where they are not, or must
        be short, up to ten times as many.
    leapfrogs : int
        Steps, and gradients, of a trajectory; 1 is MALA.
    ess : float
        Effective sample size after a stage, as a fraction of the particles.
    batch : int
        Solves side by side, where the engine can (see `Problem.evaluate_many`).

    Raises
    ------
    ConfigError, DataError
        If a setting cannot be used, or the problem has no prior.
    """

    target: Sampled
    particles: int | None = None
    moves: int = 2
    leapfrogs: int = 5
    ess: float = 0.5
    batch: int = 32

    def __post_init__(self) -> None:
        set_counts(self, moves=1, leapfrogs=1, batch=1)
        _ = self._target
        if isinstance(self.target, LogDensity):
            check_spread(self.target)
        if self.particles is None:
            self._set(particles=USUAL[isinstance(self.target, Problem)])
        set_counts(self, particles=2)
        fraction("ess", self.ess)

    @cached_property
    def _target(self) -> Target:
        return target_of(self.target, self.batch)

    def run(
        self,
        *,
        seed: int = 0,
        repeats: int = 1,
        journal: str | Path | None = None,
        overwrite: bool = False,
        executor: Executor | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Sample.

        Parameters
        ----------
        seed : int
        repeats : int
            Independent runs, whose scatter goes into the error of ln Z.
        journal : path, optional
            File of the state after each move of all particles; the same call resumes from there,
            with the same result. One of other inputs is refused.
        overwrite : bool
            Start the journal anew.
        executor : concurrent.futures.Executor, optional
            Pool of processes that share the evaluations of a problem, or of a function that returns
            its gradient.
        progress : bool, optional
            A bar where someone looks, else a line a minute; False for nothing.

        Returns
        -------
        xr.Dataset
            Samples of each unknown, and of the ``noise_scale`` where it is unknown: the particles,
            ``draw``, of each run, ``chain``; several runs have a ``weight`` each, Z over its mean.
            ``log_density``, ln p(d | theta) + ln p(theta). Of a problem, mean, standard deviation
            and, where known, truth of theta (``ln_permeability_mean``, ``_sd``, ``_true`` under
            transform "log"). ln Z, its error (see `results.samples.evidence`), and how it was
            computed.

        Raises
        ------
        ConvergenceError
            If no particle of the prior can be evaluated.
        DataError
            If a gradient is not finite where the density is.

        Warns
        -----
        SamplingWarning
            Where there is reason not to trust the result.
        """
        seed, repeats = count("seed", seed, 0), count("repeats", repeats)

        first, moved = self.steps(seed, executor)
        states = journals.followed(
            State,
            journal,
            lambda: self._made_with(seed),
            first,
            moved,
            repeats=repeats,
            overwrite=overwrite,
            progress=progress,
        )
        for now in states:
            check_turns(np.min(now.path[:, 3]))
            check_collapse(now.path[:, 1], self.ess)
            check_diversity(now.points.x)
        return self._dataset(states[:repeats], seed)

    def steps(
        self, seed: int, executor: Executor | None
    ) -> tuple[Callable[[int], State], Callable[[State, int], State]]:
        """The first state of a run, by its number, and the state after a move."""

        def evaluate(x: Particles) -> Points:
            return self._target.evaluate(x, executor)

        return (
            lambda k: self._first((seed, k), evaluate),
            lambda now, k: self._moved(now, (seed, k), evaluate),
        )

    def gradients(self, states: list[State]) -> int:
        """Gradients that runs have taken."""
        moves = sum(now.step - 1 for now in states)
        return (len(states) + moves * self.leapfrogs) * self._count

    def _first(self, stream: tuple[int, int], evaluate: Evaluate) -> State:
        n = self._target.size
        generator = np.random.default_rng([*stream, 0])
        points = evaluate(self._target.drawn(generator, self._count))
        failed = int(np.sum(~np.isfinite(points.value)))
        if failed == self._count:
            raise ConvergenceError(
                "the model could be solved for no particle of the prior"
                if isinstance(self.target, Problem)
                else "function: the log density is finite at no particle of the prior"
            )
        return State(
            path=np.zeros((0, 4)),
            ancestor=np.arange(self._count),
            points=points,
            about=Reference(np.zeros(n), np.zeros((n, 0)), np.zeros(0)),
            angle=TURN / self.leapfrogs,
            failures=failed,
        )

    @property
    def _count(self) -> int:
        assert self.particles is not None
        return self.particles

    def _moved(self, now: State, stream: tuple[int, int], evaluate: Evaluate) -> State:
        """The state after a move of all particles; the first of a stage takes the step in gamma."""
        generator = np.random.default_rng([*stream, now.step])
        if now.left <= 0.0:
            now = self._resampled(now, generator)
        angle = now.angle * (1.0 + JITTER * generator.uniform(-1.0, 1.0))
        points, probability, failed = trajectory(
            generator, now.points, now.gamma, now.about, angle, self.leapfrogs, evaluate
        )
        rate = float(np.mean(probability))
        turn = now.angle * self.leapfrogs
        share = rate * min(turn / TURN, 1.0) / (self.moves * ACCEPTANCE)
        fields = now.after_move(rate, share, MOST * self.moves)
        fields["path"][-1, 3] = min(fields["path"][-1, 3], turn)
        return replace(
            now,
            **fields,
            points=points,
            angle=min(now.angle * np.exp(rate - ACCEPTANCE), TURN / self.leapfrogs),
            failures=now.failures + failed,
        )

    def _resampled(self, now: State, generator: np.random.Generator) -> State:
        stage = tempering.stage(-now.points.value, now.gamma, self.ess, generator)
        return now.at_stage(
            stage,
            np.inf,
            points=taken(now.points, stage.which),
            about=reference(now.points, stage.weights, stage.gamma),
        )

    def _made_with(self, seed: int) -> dict[str, Any]:
        """The inputs that determine the samples; the target is also probed at two points."""
        names = "particles", "moves", "leapfrogs", "ess", "batch"
        return self._target.made_with() | {k: getattr(self, k) for k in names} | {"seed": seed}

    def _dataset(self, states: list[State], seed: int) -> xr.Dataset:
        target, path = self._target, paths(states)
        log_evidence = np.array([now.log_evidence for now in states]) + target.constant
        theta = target.thetas(np.stack([now.points.x for now in states]))
        value = np.stack([now.points.value for now in states])
        variables, coordinates = target.variables(theta, value, weights_of_runs(log_evidence))
        log_density = target.log_density(theta, value)
        variables["log_density"] = DIMS, log_density, named("ln p(d | theta) + ln p(theta)")
        variables |= run_variables(
            log_evidence,
            path,
            acceptance=named("accepted trajectories"),
            turn=named("angle of trajectories", "rad"),
        )
        moves = sum(now.step - 1 for now in states)
        check_failures(sum(now.failures for now in states), (moves + len(states)) * self._count)
        return xr.Dataset(
            variables,
            coordinates | sample_coordinates(len(states), self._count),
            target.describe(
                "SMC",
                **run_attributes(log_evidence, [within_run(now) for now in states]),
                gradients=self.gradients(states),
                failures=sum(now.failures for now in states),
                seed=seed,
            ),
        )
