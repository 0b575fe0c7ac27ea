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

from ..core.checks import check_choice, fraction
from ..core.errors import ConfigError, ConvergenceError
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..results.dataset import named
from ..results.samples import attributes, evidence
from . import journal as journals
from . import tempering
from .checks import check_collapse, check_diversity, check_noise, check_possible, check_trajectories
from .estimates import Estimates, Work, estimate, joined, workers
from .inputs import fixed
from .linear import USUAL, Settings, checked_settings
from .options import check_names, check_run, set_counts

OWN = ("component", "slip", "slip_mean", "slip_sd", "slip_kind", "along", "down", "observed")
OWN += ("predicted", "residual", "sigma", "observation_x", "observation_y")
OWN += ("look_east", "look_north", "look_up")
"""Names in results beside those of all samplers, the ones for faults included."""
REPEATED = 8
"""Estimates of one ln p(d | theta), from which their scatter is found."""
PROBED = 4
"""Draws of the prior at which a journal records G."""


@dataclass(frozen=True)
class State:
    """State of a run after the first estimates, and after each move of all particles.

    Attributes
    ----------
    step : int
        Estimates made of all particles so far.
    move : int
        Moves done in this stage, which is finished when they equal the moves a stage.
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
    impossible : int
        Estimates so far for which G was not finite.
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
    impossible: int


@dataclass(frozen=True)
class HierarchicalSMC(AsGiven, Frozen):
    """Sampler of a problem d = G(theta) s + e.

    Parameters
    ----------
    forward : callable
        Map from theta, a dict of numbers by name, to G, shape (m, n); batched where it consists of
        JAX operations. Where G is not finite, the likelihood is zero.
    data : array, shape (m,)
        d; missing values (NaN, or masked) are not observed.
    noise : float or array
        Standard deviations of e, infinite where d is not observed, or its covariance (m, m).
    slip_prior : array or GaussianPrior
        Prior of s: standard deviations (n,) or a covariance (n, n), around zero.
    theta_prior : mapping
        Distributions of `scipy.stats` by name, each of one number, independent. Results have a
        variable of each name, which is none of their own (``slip``, ``gamma``, ...).
    bounds : pair of float or array, optional
        Bounds of s, whose prior is then truncated to them.
    particles : int
        Number of particles of theta.
    inner : Settings
        Settings of the samplers of s.
    moves : int
        Metropolis moves of theta a stage, random walks of 2.38^2 / p times its covariance.
    ess : float
        Effective sample size after a stage, as a fraction of the particles of theta.
    batch : int
        Samplers of s at a time on one device. Results do not depend on how many devices or
        processes there are, but may on this, in the last digits.
    draws : int
        Samples of s that are kept for each theta.
    dtype : {"float64", "float32"}
        Precision of the samplers of s.

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
        set_counts(self, particles=2, moves=1, batch=1, draws=1)
        self._set(inner=checked_settings("inner", self.inner))
        if self.draws > self.inner.particles:
            raise ConfigError(
                f"draws: found {self.draws}, expected at most the inner sampler's particles,"
                f" {self.inner.particles}"
            )
        fraction("ess", self.ess)
        self._check_prior()
        self._check_forward()

    def _check_prior(self) -> None:
        if not isinstance(self.theta_prior, Mapping):
            raise ConfigError(
                f"theta_prior: found {type(self.theta_prior).__name__}, expected a dict of"
                " distributions of scipy.stats by name"
            )
        if not self.theta_prior:
            raise ConfigError("theta_prior: it is empty; LinearSMC takes one G")
        check_names("theta_prior", self.theta_prior, OWN)
        for name, prior in self.theta_prior.items():
            if not (hasattr(prior, "rvs") and hasattr(prior, "logpdf")):
                raise ConfigError(
                    f"theta_prior.{name}: found {prior!r}, expected a distribution of scipy.stats"
                )
            shape = np.shape(prior.rvs(size=2, random_state=np.random.default_rng(0)))
            if shape != (2,):
                raise ConfigError(
                    f"theta_prior.{name}: found a distribution of arrays of shape {shape[1:]},"
                    " expected a distribution of one number"
                )

    def _check_forward(self) -> None:
        if not callable(self.forward):
            raise ConfigError(
                f"forward: found {type(self.forward).__name__}, expected a function of a dict of"
                " theta, such as Fault.forward(...), that gives G"
            )
        try:
            self._work.design_matrix(self._drawn(np.random.default_rng(0), 1))
        except KeyError as error:
            key = error.args[0] if error.args else ""
            raise ConfigError(
                f"forward: it asks for {key!r}, which theta_prior does not have; it has"
                f" {', '.join(self.theta_prior)}"
            ) from None

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
            Independent runs, whose scatter gives the error of ln Z.
        journal : path, optional
            File of the state after each move of all particles. The same call resumes from there,
            with the same result; one of another problem, or another function `forward`, is refused.
        overwrite : bool
            Start the journal anew.
        executor : concurrent.futures.Executor, optional
            Pool of processes (``ProcessPoolExecutor``, or ``mpi4py.futures.MPIPoolExecutor`` for
            many nodes) that share the inner samplers; without one, the JAX devices of this process
            do. Processes import the program anew (in place of a pool that forks, which JAX cannot
            bear, as many others start): a file that is run has ``if __name__ == "__main__":``.
        progress : bool, optional
            A bar where someone looks, else a line a minute; False for nothing.

        Returns
        -------
        xr.Dataset
            Joint samples of equal weight (dimension ``sample``), their moments, ln Z and how it
            was computed; the attribute ``not_finite`` counts the G that were not finite.

        Raises
        ------
        ConfigError, DataError
            If an option cannot be used, or the journal's place; before anything is sampled.
        ConvergenceError
            If G is finite for no particle of the prior.

        Warns
        -----
        SamplingWarning
            Where there is reason not to trust the result.
        """
        seed, repeats = check_run(seed, repeats, journal)
        with workers(executor, self._work) as pool:
            states = journals.followed(
                State,
                journal,
                lambda: self._made_with(seed),
                # Independent streams of random numbers, one for each purpose.
                lambda k: self._first((seed, k), pool),
                lambda now, k: self._moved(now, (seed, k), pool),
                moves=self.moves,
                repeats=repeats,
                overwrite=overwrite,
                progress=progress,
            )
            noise = self._noise(states[0], seed, pool)
        self._check_possible(states[:repeats], seed)
        for now in states:
            check_trajectories(*now.worst)
            check_collapse(now.path[:, 1], self.ess)
            check_diversity(now.theta)
        check_noise(noise)
        return self._dataset(states[:repeats], seed, noise)

    def started(
        self, journal: str | Path, *, seed: int = 0, overwrite: bool = False
    ) -> list[float]:
        """Exponents of the likelihood from which `run`, called so, would resume its runs; nothing
        is sampled.

        Raises
        ------
        DataError
            As by `run`.
        """
        found = journals.States.found(journal, lambda: self._made_with(seed), overwrite=overwrite)
        if found is None:
            return []
        with found:
            return [now.gamma for now in found.load(State)]

    def _check_possible(self, states: list[State], seed: int) -> None:
        count = sum(now.impossible for now in states)
        if not count:
            return
        theta = self._drawn(np.random.default_rng([seed, 0, 0]), self.particles)
        bad = self._impossible(theta)
        example = ""
        if np.any(bad):
            row = theta[np.argmax(bad)]
            pairs = zip(self.theta_prior, row, strict=True)
            example = f", such as {', '.join(f'{k} = {v:.4g}' for k, v in pairs)}"
        check_possible(count, sum(now.step for now in states) * self.particles, example)

    def _impossible(self, theta: np.ndarray) -> np.ndarray:
        parts = [theta[i : i + self.batch] for i in range(0, len(theta), self.batch)]
        matrices = np.concatenate([self._work.design_matrix(part) for part in parts])
        return ~np.all(np.isfinite(matrices), axis=(1, 2))

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
                **self._work.fixed.counts,
                log_likelihood_noise=noise,
                inner_acceptance=min(now.worst[0] for now in states),
                not_finite=sum(now.impossible for now in states),
                seed=seed,
            ),
        )

    def _made_with(self, seed: int) -> dict[str, Any]:
        """The inputs that determine the samples; functions are also probed at several points."""
        given = self._work.fixed
        theta = self._drawn(np.random.default_rng(0), PROBED)
        return {
            "forward": [self.forward, self._work.design_matrix(theta)],
            "data": [given.data, given.used],
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
        impossible = found.log_evidence == -np.inf
        if np.all(impossible):
            raise ConvergenceError(
                f"forward: G is finite for none of the {len(theta)} particles of the prior; give a"
                " prior of what is possible"
            )
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
            impossible=int(np.sum(impossible)),
        )

    def _moved(self, now: State, stream: tuple[int, int], executor: Executor | None) -> State:
        """The state after a move of all particles; the first of a stage takes the step in gamma."""
        generator = np.random.default_rng([*stream, now.step])
        if now.move == self.moves:
            now = self._resampled(now, generator)
        proposed = now.theta + generator.standard_normal(now.theta.shape) @ now.spread.T
        log_prior = self._log_prior(proposed)
        possible = np.isfinite(log_prior)
        # An impossible proposal is replaced by its particle, so that batches are all alike.
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
            impossible=now.impossible + int(np.sum(possible & (found.log_evidence == -np.inf))),
        )

    def _resampled(self, now: State, generator: np.random.Generator) -> State:
        stage = tempering.stage(now.estimates.log_evidence, now.gamma, self.ess, generator)
        p = now.theta.shape[1]
        covariance = np.cov(now.theta, rowvar=False, aweights=stage.weights, ddof=0).reshape(p, p)
        # If few particles have all the weight, their covariance may be singular.
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
        """Estimates, each with random numbers that do not depend on the process."""
        tags = np.array([(*stream, step, i) for i in range(len(theta))])
        return joined(list(estimate(self._work, theta, tags, executor)))

    def _noise(self, now: State, seed: int, executor: Executor | None) -> float:
        """Scatter of repeated estimates for the particle of median ln p(d | theta)."""
        middle = np.argsort(now.estimates.log_evidence)[len(now.theta) // 2]
        theta = np.repeat(now.theta[middle][None], REPEATED, axis=0)
        # A stream that no run uses.
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
