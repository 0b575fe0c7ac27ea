"""Tempered sampler of theta, moved by pseudo-marginal Metropolis steps.

Each particle carries an unbiased estimate of p(d | theta), made when theta was proposed and never
again (Andrieu and Roberts 2009, Ann. Stat. 37, 697; Chopin, Jacob and Papaspiliopoulos 2013, J. R.
Stat. Soc. B 75, 397).
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ..core.errors import ConvergenceError
from . import tempering
from .estimates import Estimates, Work, estimate
from .runs import Tempered, accepted, taken
from .theta_prior import Theta, ThetaPrior

ACCEPTANCE = 0.25
"""Acceptance that the length of steps is tuned for (Roberts, Gelman and Gilks 1997, Ann. Appl.
Probab. 7, 110: 0.234 in many dimensions, 0.44 in one)."""
ACCEPTED = 0.5
"""Accepted steps a particle, over `moves`, after which a stage ends."""
MOST = 10
"""Most moves of a stage, over `moves`."""
REPEATED = 8
"""Estimates of one ln p(d | theta), from which their scatter is found."""


@dataclass(frozen=True)
class State(Tempered):
    """State of a run; its `path` has gamma, ESS / N and acceptance of each stage."""

    theta: Theta
    log_prior: Float[np.ndarray, " particles"]
    estimates: Estimates
    spread: Float[np.ndarray, "parameters parameters"]
    """Cholesky factor of the random walk's covariance."""
    worst: Float[np.ndarray, " statistics"]
    """The least acceptance, the shortest and the longest trajectory of all inner samplers."""
    length: float
    """Length of steps, 1 for 2.38^2 / p times the covariance."""
    impossible: int
    """Estimates so far for which G was not finite."""


@dataclass(frozen=True)
class PseudoMarginal:
    """Sampler of theta with settings of `HierarchicalSMC`; inner samplers, their `work`, estimate
    p(d | theta)."""

    work: Work
    prior: ThetaPrior
    particles: int
    moves: int
    ess: float
    executor: Executor | None

    def first(self, stream: tuple[int, int]) -> State:
        """The first state of a run, whose random numbers are those of `stream`."""
        theta = self.prior.draw(np.random.default_rng([*stream, 0]), self.particles)
        found = self._estimates(theta, stream, 0)
        impossible = found.log_evidence == -np.inf
        if np.all(impossible):
            raise ConvergenceError(
                f"forward: G is finite for none of the {len(theta)} particles of the prior; give a"
                " prior of what is possible"
            )
        p = theta.shape[1]
        return State(
            path=np.zeros((0, 3)),
            ancestor=np.arange(len(theta)),
            theta=theta,
            log_prior=self.prior.log_density(theta),
            estimates=found,
            spread=np.zeros((p, p)),
            length=1.0,
            worst=_worst(found, (np.inf, np.inf, -np.inf)),
            impossible=int(np.sum(impossible)),
        )

    def moved(self, now: State, stream: tuple[int, int]) -> State:
        """The state after a move of all particles; the first of a stage takes the step in gamma."""
        generator = np.random.default_rng([*stream, now.step])
        if now.left <= 0.0:
            now = self._resampled(now, generator)
        steps = generator.standard_normal(now.theta.shape) @ now.spread.T
        proposed = now.theta + now.length * steps
        log_prior = self.prior.log_density(proposed)
        possible = np.isfinite(log_prior)
        # An impossible proposal is replaced by its particle, so that batches are all alike.
        found = self._estimates(np.where(possible[:, None], proposed, now.theta), stream, now.step)
        ratio = now.gamma * (found.log_evidence - now.estimates.log_evidence)
        ratio = ratio + log_prior - now.log_prior
        good = possible & (np.log(generator.random(len(ratio))) < ratio)
        rate = float(np.mean(good))
        return replace(
            now,
            **now.after_move(rate, rate / (self.moves * ACCEPTED), MOST * self.moves),
            length=now.length * np.exp((rate - ACCEPTANCE) / 2.0),
            theta=accepted(good, proposed, now.theta),
            log_prior=accepted(good, log_prior, now.log_prior),
            estimates=accepted(good, found, now.estimates),
            worst=_worst(found, now.worst),
            impossible=now.impossible + int(np.sum(possible & (found.log_evidence == -np.inf))),
        )

    def noise(self, now: State, seed: int) -> float:
        """Scatter of repeated estimates for the particle of median ln p(d | theta)."""
        middle = np.argsort(now.estimates.log_evidence)[len(now.theta) // 2]
        theta = np.repeat(now.theta[middle][None], REPEATED, axis=0)
        # A stream that no run uses.
        found = self._estimates(theta, (seed, 2**31 - 1), 0)
        return float(np.std(found.log_evidence, ddof=1))

    def _resampled(self, now: State, generator: np.random.Generator) -> State:
        log_likelihood = np.asarray(now.estimates.log_evidence)
        stage = tempering.stage(log_likelihood, now.gamma, self.ess, generator)
        p = now.theta.shape[1]
        covariance = np.cov(now.theta, rowvar=False, aweights=stage.weights, ddof=0).reshape(p, p)
        # If few particles have all the weight, their covariance may be singular.
        covariance = covariance + 1e-12 * np.cov(now.theta, rowvar=False).reshape(p, p)
        covariance = covariance + np.finfo(float).tiny * np.eye(p)
        return now.at_stage(
            stage,
            theta=now.theta[stage.which],
            log_prior=now.log_prior[stage.which],
            estimates=taken(now.estimates, stage.which),
            spread=2.38 / np.sqrt(p) * scipy.linalg.cholesky(covariance, lower=True),
        )

    def _estimates(self, theta: Theta, stream: tuple[int, int], step: int) -> Estimates:
        """Estimates, each with random numbers that do not depend on the process."""
        tags = np.array([(*stream, step, i) for i in range(len(theta))])
        return estimate(self.work, theta, tags, self.executor)


def _worst(found: Estimates, before: Iterable[float]) -> Float[np.ndarray, " statistics"]:
    """`State.worst` of these inner samplers and those before."""
    acceptance, shortest, longest = before
    return np.array(
        [
            min(acceptance, np.min(found.acceptance)),
            min(shortest, np.min(found.shortest)),
            max(longest, np.max(found.longest)),
        ],
        dtype=float,
    )
