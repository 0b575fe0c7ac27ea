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
from .tempering import Stage

P = TypeVar("P")
"""An array, or a NamedTuple of arrays, with a first axis of particles."""


@dataclass(frozen=True, kw_only=True)
class Tempered:
    """State of a run after its first particles were evaluated, and after each move of all of
    them."""

    step: int = 1
    """Evaluations of all particles so far, the first included."""
    move: int
    """Moves done in this stage, which is finished when they equal the moves a stage."""
    gamma: float = 0.0
    """Exponent of the likelihood."""
    log_evidence: float = 0.0
    """ln Z up to gamma."""
    path: Float[np.ndarray, "stages statistics"]
    """gamma, ESS / N, acceptance, and further statistics of each stage."""

    def at_stage(self, stage: Stage, *more: float, **particles: Any) -> Self:
        """The state at the start of a stage, with its resampled `particles`; `more` are first
        values of further statistics."""
        return replace(
            self,
            move=0,
            gamma=stage.gamma,
            log_evidence=self.log_evidence + stage.gain,
            path=np.vstack([self.path, [stage.gamma, stage.ess, 0.0, *more]]),
            **particles,
        )


def taken(particles: P, which: Int[np.ndarray, " particles"]) -> P:
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


def run_attributes(log_evidence: Float[np.ndarray, " runs"]) -> dict[str, Any]:
    """Attributes of a result: the method, ln Z of all runs together, and its error."""
    return {"method": "smc", **evidence(log_evidence)}


def pooled(
    x: Float[np.ndarray, "runs particles *shape"], log_evidence: Float[np.ndarray, " runs"]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Mean and variance over the particles of all runs, each weighted by its Z."""
    weights = weights_of_runs(log_evidence).reshape(-1, *[1] * (x.ndim - 1))
    mean = np.mean(weights * x, axis=(0, 1))
    return mean, np.mean(weights * (x - mean) ** 2, axis=(0, 1))
