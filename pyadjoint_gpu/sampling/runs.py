"""Runs of tempered samplers: their states, and their diagnostics as variables of a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from ..results.dataset import Variables, named
from ..results.samples import evidence, weights_of_runs
from .checks import check_scatter
from .tempering import Stage

P = TypeVar("P")
"""An array, or a NamedTuple of arrays, with a first axis of particles."""


@dataclass(frozen=True, kw_only=True)
class Tempered:
    """State of a run after its first particles were evaluated, and after each move of all of
    them."""

    step: int = 1
    """Evaluations of all particles so far, the first included."""
    move: int = 0
    """Moves done in this stage."""
    left: float = 0.0
    """What is left to be moved in this stage, 1 at its start; it is finished where nothing is."""
    gamma: float = 0.0
    """Exponent of the likelihood."""
    log_evidence: float = 0.0
    """ln Z up to gamma."""
    path: Float[np.ndarray, "stages statistics"]
    """gamma, ESS / N, acceptance, and further statistics of each stage."""
    ancestor: Int[np.ndarray, " particles"]
    """The first particle that each descends from."""

    def at_stage(self, stage: Stage, *more: float, **particles: Any) -> Self:
        """The state at the start of a stage, with its resampled `particles`; `more` are first
        values of further statistics."""
        return replace(
            self,
            move=0,
            left=1.0,
            gamma=stage.gamma,
            log_evidence=self.log_evidence + stage.gain,
            ancestor=self.ancestor[stage.which],
            path=np.vstack([self.path, [stage.gamma, stage.ess, 0.0, *more]]),
            **particles,
        )

    def after_move(self, rate: float, share: float, most: int) -> dict[str, Any]:
        """Fields after a move of acceptance `rate`, which is so large a `share` of what a stage
        needs; a stage has at most so many moves."""
        path = self.path.copy()
        path[-1, 2] += (rate - path[-1, 2]) / (self.move + 1)
        left = 0.0 if self.move + 1 >= most else self.left - share
        # Without the round-off of a sum of shares.
        left = left if left > 1e-9 else 0.0
        return {"step": self.step + 1, "move": self.move + 1, "left": left, "path": path}

    @property
    def ended(self) -> bool:
        """Whether the run has reached the posterior, and moved there."""
        return self.gamma >= 1.0 and self.left <= 0.0


def taken(particles: P, which: Int[np.ndarray, " particles"] | slice) -> P:
    """Some of the particles, each a row of every array."""
    return jax.tree.map(lambda a: a[which], particles)


def accepted(good: Bool[np.ndarray, " particles"], new: P, old: P) -> P:
    """New particles where `good`, else the old ones."""
    return jax.tree.map(
        lambda a, b: np.where(good.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old
    )


def paths(states: Sequence[Tempered]) -> Float[np.ndarray, "runs stages statistics"]:
    """Statistics of the stages of all runs, NaN beyond the last stage of each."""
    stages = max(len(now.path) for now in states)
    return np.stack(
        [
            np.pad(now.path, ((0, stages - len(now.path)), (0, 0)), constant_values=np.nan)
            for now in states
        ]
    )


def run_variables(
    log_evidence: Float[np.ndarray, " runs"],
    path: Float[np.ndarray, "runs stages statistics"],
    **statistics: dict[str, str],
) -> Variables:
    """Variables of a result by run and stage: ln Z, weights of several runs, gamma, ESS / N, and
    further statistics, which are the columns of `path` after these two, by name with their
    attributes."""
    columns = {
        "gamma": named("exponent of the likelihood"),
        "ess": named("ESS of the stage's weights over N"),
        **statistics,
    }
    found: Variables = {"log_evidence": ("chain", log_evidence, named("ln Z of each run"))}
    if len(log_evidence) > 1:
        weights = weights_of_runs(log_evidence)
        found["weight"] = "chain", weights, named("weight of each run's samples")
    return found | {
        name: (("chain", "stage"), path[..., k], about)
        for k, (name, about) in enumerate(columns.items())
    }


def within_run(state: Tempered) -> float:
    """Variance of ln Z of one run, of N particles in families of n_i that descend from one,

        sum over families of (n_i / N)^2 - 1 / N,

    but at least that of particles which are independent at every stage, the sum over stages of
    (1 / e - 1) / N, e = ESS / N of its weights. Families grow where their particles are alike, as
    after few moves. (Lee and Whiteley 2018, Biometrika 105, 609, eq. 5, without the factors of
    multinomial resampling, whose noise systematic resampling has not.)"""
    count = len(state.ancestor)
    shares = np.bincount(state.ancestor, minlength=count) / count
    return max(float(np.sum(shares**2)) - 1.0 / count, independent(state.path[:, 1], count))


def independent(ess: Float[np.ndarray, " stages"], count: int) -> float:
    """The sum over stages of (1 / e - 1) / N."""
    return float(np.nansum(1.0 / ess - 1.0)) / count


def run_attributes(
    log_evidence: Float[np.ndarray, " runs"], within: Sequence[float]
) -> dict[str, Any]:
    """Attributes of a result: the method, ln Z of all runs together, and its error, by the variance
    from `within` each; it warns where runs scatter."""
    variances = np.asarray(within)
    check_scatter(log_evidence, variances)
    return {"method": "smc", "status": "finished", **evidence(log_evidence, variances)}


def pooled(
    x: Float[np.ndarray, "runs particles *shape"], weights: Float[np.ndarray, " runs"]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Mean and variance over the particles of all runs, by the runs' weights, whose mean is 1."""
    weights = weights.reshape(-1, *[1] * (x.ndim - 1))
    mean = np.mean(weights * x, axis=(0, 1))
    return mean, np.mean(weights * (x - mean) ** 2, axis=(0, 1))
