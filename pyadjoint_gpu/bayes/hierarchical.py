"""Hierarchical sequential Monte Carlo: d = G(theta) s + e, linear in s, not in theta.

An outer sampler moves theta; each of its particles carries an unbiased estimate of

    p(d | theta) = integral p(d | s, theta) p(s) ds

by an inner sampler of s, made when theta was proposed and never again (pseudo-marginal Metropolis
moves: Andrieu and Roberts 2009, Ann. Stat. 37, 697; SMC^2: Chopin, Jacob and Papaspiliopoulos 2013,
J. R. Stat. Soc. B 75, 397). All inner samplers do the same work, a batch of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr

from ..dataset import named
from ..errors import ConfigError, check_choice
from . import journal as journals
from . import tempering
from .checks import check_collapse, check_diversity, check_noise, check_trajectories
from .estimates import Estimates, Work, estimate, joined
from .inputs import fixed
from .linear import USUAL, Settings
from .results import attributes, evidence

REPEATED = 8
"""Estimates of one ln p(d | theta), for their scatter."""
PROBED = 4
"""Draws of the prior at which a journal knows G."""


@dataclass(frozen=True)
class State:
    """After the first estimates, and after each move of all particles.

    Attributes
    ----------
    step : int
        Estimates made of all particles so far.
    move : int
        Moves done in this stage; none are left where it is that of all stages.
    gamma, log_evidence : float
    theta : array, shape (N, p)
    log_prior : array, shape (N,)
    estimates : Estimates
    spread : array, shape (p, p)
        Cholesky factor of the random walk's covariance.
    path : array, shape (stages, 3)
        gamma, ESS / N and acceptance of each stage.
    worst : array, shape (3,)
        The least acceptance, the shortest and the longest trajectory of all inner samplers.
    """

    step: int
    move: int
    gamma: float
    log_evidence: float
    theta: np.ndarray
    log_prior: np.ndarray
    estimates: Estimates
    spread: np.ndarray
    path: np.ndarray
    worst: np.ndarray


@dataclass(frozen=True)
class HierarchicalSMC:
    """A problem d = G(theta) s + e, and how it is sampled.

    Parameters
    ----------
    forward : callable
        Theta, a dict of numbers by name, to G, shape (m, n). Where it is of JAX operations, those
        of a batch are computed at once.
    data : array, shape (m,)
        d.
    noise : float or array
        Standard deviations of e, or its covariance (m, m).
    slip_prior : array or GaussianPrior
        Of s: standard deviations (n,) or a covariance (n, n), around zero.
    theta_prior : mapping
        Distributions of `scipy.stats` by name, each of one number, independent.
    bounds : pair of float or array, optional
        Of s; its prior is then the normal distribution within.
    particles : int
        Of theta.
    inner : Settings
        Of the samplers of s.
    moves : int
        Metropolis moves of theta a stage, random walks of 2.38^2 / p times its covariance.
    ess : float
        Of the particles of theta, what a stage leaves.
    batch : int
        Samplers of s at a time on one device. Results do not depend on how many devices or
        processes there are, but may on this, in the last digits.
    draws : int
        Of s that are kept, for each theta.
    dtype : {"float64", "float32"}
        Of the samplers of s.

    Raises
    ------
    ConfigError, DataError
        If a setting or an array is not what it should be, and where the prior is improper.
    """

    forward: Callable[[dict[str, Any]], Any]
    data: Any
    noise: Any
    slip_prior: Any
    theta_prior: Mapping[str, Any]
    bounds: Any = None
    particles: int = 256
    inner: Settings = USUAL
    moves: int = 3
    ess: float = 0.5
    batch: int = 16
    draws: int = 4
    dtype: str = "float64"

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, ("float64", "float32"))
        for name in ("particles", "moves", "batch", "draws"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        self.inner.check()
        if not 0 < self.ess < 1:
            raise ConfigError(f"ess: found {self.ess}, expected a number between 0 and 1")
        if not self.theta_prior:
            raise ConfigError("theta_prior: it is empty; LinearSMC takes one G")
        for name, prior in self.theta_prior.items():
            if not (hasattr(prior, "rvs") and hasattr(prior, "logpdf")):
                raise ConfigError(
                    f"theta_prior.{name}: found {prior!r}, expected a distribution of scipy.stats"
                )
        self._work.green(self._drawn(np.random.default_rng(0), 1))

    @cached_property
    def _work(self) -> Work:
        given = fixed(self.data, self.noise, self.slip_prior, self.bounds)
        names = tuple(self.theta_prior)
        return Work(given, self.forward, names, self.inner, self.draws, self.batch, self.dtype)

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
        """Sample theta and s given d.

        Parameters
        ----------
        seed : int
            The same one gives the same samples, on however many devices and processes.
        repeats : int
            Whole runs: how far apart their ln Z are is what its error is taken from.
        journal : path, optional
            Where it stands after each move of all particles. The same call again goes on from
            there, and gives what it would have given; of another problem, also where `forward` is
            another function, it is refused.
        overwrite : bool
            Start the journal anew.
        executor : concurrent.futures.Executor, optional
            Of processes (``ProcessPoolExecutor``, or ``mpi4py.futures.MPIPoolExecutor`` for many
            nodes) that share the inner samplers; without one, the JAX devices of this process do.
        progress : bool, optional
            Whether to show a bar; by default where someone looks.

        Returns
        -------
        xr.Dataset
            Joint samples of equal weight (dimension ``sample``), their moments, ln Z, and how it
            was come by.

        Warns
        -----
        SamplingWarning
            Where there is reason not to trust the result.
        """
        states = journals.followed(
            State,
            journal,
            lambda: self._made_with(seed),
            # Streams of numbers, by what they are for.
            lambda k: self._first((seed, k), executor),
            lambda now, k: self._moved(now, (seed, k), executor),
            moves=self.moves,
            repeats=repeats,
            overwrite=overwrite,
            progress=progress,
        )
        noise = self._noise(states[0], seed, executor)
        for now in states:
            check_trajectories(*now.worst)
            check_collapse(now.path[:, 1], self.ess)
            check_diversity(now.theta)
        check_noise(noise)
        return self._dataset(states[:repeats], seed, noise)

    def _dataset(self, states: list[State], seed: int, noise: float) -> xr.Dataset:
        theta = np.concatenate([now.theta for now in states])
        found = joined([now.estimates for now in states])
        stages = max(len(now.path) for now in states)
        path = np.stack([_padded(now.path, stages) for now in states])
        log_evidence = np.array([now.log_evidence for now in states])
        spread = np.mean(found.sd**2, axis=0) + np.var(found.mean, axis=0)
        variables: dict[str, Any] = {
            name: ("sample", theta[:, k], named(name.replace("_", " ")))
            for k, name in enumerate(self.theta_prior)
        }
        variables |= {
            "log_likelihood": ("sample", found.log_evidence, named("estimate of ln p(d | theta)")),
            "slip": (("sample", "draw", "component"), found.draws, named("s, draws given theta")),
            "slip_mean": ("component", np.mean(found.mean, axis=0), named("mean of s")),
            "slip_sd": ("component", np.sqrt(spread), named("standard deviation of s")),
            "log_evidence": ("repeat", log_evidence, named("ln Z of each run")),
            "gamma": (("repeat", "stage"), path[..., 0], named("exponent of the likelihood")),
            "ess": (("repeat", "stage"), path[..., 1], named("ESS of the stage's weights over N")),
            "acceptance": (("repeat", "stage"), path[..., 2], named("accepted moves of theta")),
        }
        total = evidence(log_evidence)
        return xr.Dataset(
            variables,
            {"run": ("sample", np.repeat(np.arange(len(states)), self.particles))},
            attributes(
                f"hierarchical SMC of {', '.join(self.theta_prior)}",
                **total,
                log_likelihood_noise=noise,
                inner_acceptance=min(now.worst[0] for now in states),
                seed=seed,
            ),
        )

    def _made_with(self, seed: int) -> dict[str, Any]:
        """All that decides the samples; functions also by what they give at several points."""
        given = self._work.fixed
        theta = self._drawn(np.random.default_rng(0), PROBED)
        return {
            "forward": [self.forward, self._work.green(theta)],
            "data": given.data,
            "noise": given.noise,
            "slip_prior": given.prior,
            "theta_prior": [list(self.theta_prior.items()), theta, self._log_prior(theta)],
            "bounds": given.box,
            "inner": self.inner,
            "particles": self.particles,
            "moves": self.moves,
            "ess": self.ess,
            "batch": self.batch,
            "draws": self.draws,
            "dtype": self.dtype,
            "seed": seed,
        }

    # The outer sampler

    def _first(self, stream: tuple[int, int], executor: Executor | None) -> State:
        theta = self._drawn(np.random.default_rng([*stream, 0]), self.particles)
        found = self._estimates(theta, stream, 0, executor)
        p = theta.shape[1]
        return State(
            step=1,
            move=self.moves,
            gamma=0.0,
            log_evidence=0.0,
            theta=theta,
            log_prior=self._log_prior(theta),
            estimates=found,
            spread=np.zeros((p, p)),
            path=np.zeros((0, 3)),
            worst=_worst(found),
        )

    def _moved(self, now: State, stream: tuple[int, int], executor: Executor | None) -> State:
        """After a move of all particles; the first of a stage takes the stage's step in gamma."""
        generator = np.random.default_rng([*stream, now.step])
        if now.move == self.moves:
            now = self._resampled(now, generator)
        proposed = now.theta + generator.standard_normal(now.theta.shape) @ now.spread.T
        log_prior = self._log_prior(proposed)
        possible = np.isfinite(log_prior)
        # What is impossible is estimated elsewhere, for nothing: batches are all alike.
        found = self._estimates(
            np.where(possible[:, None], proposed, now.theta), stream, now.step, executor
        )
        ratio = now.gamma * (found.log_evidence - now.estimates.log_evidence)
        ratio = ratio + log_prior - now.log_prior
        good = possible & (np.log(generator.random(len(ratio))) < ratio)
        chosen = [
            np.where(good.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            for a, b in zip(found, now.estimates, strict=True)
        ]
        path = now.path.copy()
        path[-1, 2] += np.mean(good) / self.moves
        return replace(
            now,
            step=now.step + 1,
            move=now.move + 1,
            theta=np.where(good[:, None], proposed, now.theta),
            log_prior=np.where(good, log_prior, now.log_prior),
            estimates=Estimates(*chosen),
            path=path,
            worst=_extreme(now.worst, _worst(found)),
        )

    def _resampled(self, now: State, generator: np.random.Generator) -> State:
        stage = tempering.stage(now.estimates.log_evidence, now.gamma, self.ess, generator)
        p = now.theta.shape[1]
        covariance = np.cov(now.theta, rowvar=False, aweights=stage.weights, ddof=0).reshape(p, p)
        # Where all weight is on a few particles, their covariance may be singular.
        covariance = covariance + 1e-12 * np.cov(now.theta, rowvar=False).reshape(p, p)
        covariance = covariance + np.finfo(float).tiny * np.eye(p)
        return replace(
            now,
            move=0,
            gamma=stage.gamma,
            log_evidence=now.log_evidence + stage.gain,
            theta=now.theta[stage.which],
            log_prior=now.log_prior[stage.which],
            estimates=Estimates(*(a[stage.which] for a in now.estimates)),
            spread=2.38 / np.sqrt(p) * scipy.linalg.cholesky(covariance, lower=True),
            path=np.vstack([now.path, [stage.gamma, stage.ess, 0.0]]),
        )

    def _drawn(self, generator: np.random.Generator, count: int) -> np.ndarray:
        priors = self.theta_prior.values()
        return np.column_stack([p.rvs(size=count, random_state=generator) for p in priors])

    def _log_prior(self, theta: np.ndarray) -> np.ndarray:
        priors = self.theta_prior.values()
        logs = [p.logpdf(column) for p, column in zip(priors, theta.T, strict=True)]
        return np.sum(logs, axis=0)

    def _estimates(
        self,
        theta: np.ndarray,
        stream: tuple[int, int],
        step: int,
        executor: Executor | None,
    ) -> Estimates:
        """Each with numbers of its own, whoever makes it."""
        tags = np.array([(*stream, step, i) for i in range(len(theta))])
        return joined(list(estimate(self._work, theta, tags, executor)))

    def _noise(self, now: State, seed: int, executor: Executor | None) -> float:
        """Of repeated estimates for the particle in the middle, by ln p(d | theta)."""
        middle = np.argsort(now.estimates.log_evidence)[len(now.theta) // 2]
        theta = np.repeat(now.theta[middle][None], REPEATED, axis=0)
        # A stream that no run has.
        found = self._estimates(theta, (seed, 2**31 - 1), 0, executor)
        return float(np.std(found.log_evidence, ddof=1))


def _worst(found: Estimates) -> np.ndarray:
    return np.array(
        [np.min(found.acceptance), np.min(found.shortest), np.max(found.longest)], dtype=float
    )


def _extreme(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2])])


def _padded(path: np.ndarray, stages: int) -> np.ndarray:
    return np.pad(path, ((0, stages - len(path)), (0, 0)), constant_values=np.nan)
