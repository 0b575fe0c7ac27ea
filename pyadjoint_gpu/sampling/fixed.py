"""Sequential Monte Carlo for linear problems d = G s + e with one design matrix G."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike

from ..core.checks import check_choice, count, finite_array
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..core.precision import double
from ..results.dataset import Variables, named
from ..results.samples import DIMS, attributes, sample_coordinates, weights_of_runs
from ..statistics.densities import BoundPrior
from ..statistics.noise import Noise
from ..statistics.priors import Prior
from . import journal as journals
from . import tempering
from .checks import check_trajectories
from .estimates import workers
from .inputs import Fixed, fixed, on_components
from .linear import USUAL, Settings, checked_settings, first, next_stage
from .runs import Tempered, paths, pooled, run_attributes, run_variables, within_run


@dataclass(frozen=True)
class State(Tempered):
    """State of a run; its `path` has gamma, ESS / N, acceptance and length of trajectories of each
    stage."""

    s: Float[np.ndarray, "particles components"]
    log_likelihood: Float[np.ndarray, " particles"]

    @property
    def worst(self) -> tuple[float, float, float]:
        """The least acceptance, the shortest and the longest trajectory of all stages."""
        acceptance, length = self.path[:, 2], self.path[:, 3]
        return np.min(acceptance), np.min(length), np.max(length)


@dataclass(frozen=True)
class LinearSMC(AsGiven, Frozen):
    """Sampler of a problem d = G s + e with a known G.

    Trajectories are as long as the marginal standard deviations say. Where a posterior, or a prior
    in a box, is much wider in some directions than its components are on their own, as smooth slip
    on many patches is, particles forget slowly which one they descend from: ln Z scatters by more
    than it would by independent ones, which the error, by families of particles (see
    `runs.within_run`), says of a single run too. Z is unbiased, so that ln Z of a run is low by
    about half its variance, v / 2, on average, and by more than that as often as not. More
    particles make v smaller as 1 / N; more moves do, at most to that of independent ones.

    Parameters
    ----------
    green : array, shape (m, n)
        Design matrix G.
    data, noise, prior, bounds, dtype
        As for `HierarchicalSMC`.
    settings : Settings
        Settings of the sampler.

    Raises
    ------
    ConfigError, DataError
        If a setting or an array is not what it should be, and where the prior is improper.
    """

    green: ArrayLike
    data: ArrayLike
    noise: ArrayLike | Noise
    prior: ArrayLike | Prior | BoundPrior
    bounds: tuple[ArrayLike, ArrayLike] | None = None
    settings: Settings = USUAL
    dtype: str = "float64"

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, ("float64", "float32"))
        self._set(settings=checked_settings("settings", self.settings))
        _ = self._white

    @cached_property
    def _fixed(self) -> Fixed:
        prior = on_components(self.prior, lambda: np.shape(self.green)[-1])
        return fixed(self.data, self.noise, prior, self.bounds)

    @cached_property
    def _white(self) -> Float[np.ndarray, "data components"]:
        return self._fixed.whiten(finite_array("green", self.green), "green")

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
        """Sample s given d.

        Parameters
        ----------
        seed : int
        repeats : int
            Independent runs, whose scatter gives the error of ln Z.
        journal : path, optional
            File of the state after each stage, with an executor of each run's last one; the same
            call resumes from there, with the same result. One of other inputs is refused.
        overwrite : bool
            Start the journal anew.
        executor : concurrent.futures.Executor, optional
            Pool of processes that share the runs; see `HierarchicalSMC.run`.
        progress : bool, optional
            A bar where someone looks, else a line a minute; False for nothing.

        Returns
        -------
        xr.Dataset
            Samples of s, ``slip``: the particles, ``draw``, of each run, ``chain``; several runs
            have a ``weight`` each, Z over its mean. Without bounds, ``log_density``,
            ln p(d | s) + ln p(s). Moments of s; ln Z, its error (see `results.samples.evidence`),
            and how it was computed.

        Warns
        -----
        SamplingWarning
            Where there is reason not to trust the result.
        """
        seed, repeats = count("seed", seed, 0), count("repeats", repeats)
        with workers(executor) as pool:
            states = journals.followed(
                State,
                journal,
                lambda: self._made_with(seed),
                self._firsts(seed, repeats, pool),
                lambda now, k: self._moved(now, (seed, k)),
                repeats=repeats,
                overwrite=overwrite,
                progress=progress,
            )
        for now in states:
            check_trajectories(*now.worst)
        return self._dataset(states[:repeats], seed)

    def started(
        self, journal: str | Path, *, seed: int = 0, overwrite: bool = False
    ) -> list[float]:
        """As `HierarchicalSMC.started`."""
        return journals.started(State, journal, lambda: self._made_with(seed), overwrite=overwrite)

    def _firsts(self, seed: int, repeats: int, executor: Executor | None) -> Callable[[int], State]:
        """The state with which `followed` begins a run, by its number: its first, or, where an
        executor computes this and all later runs, its last."""
        if executor is None:
            return lambda k: self._first((seed, k))
        ended: Iterator[State] | None = None

        def last(k: int) -> State:
            nonlocal ended
            if ended is None:
                ended = executor.map(self._last, [(seed, j) for j in range(k, repeats)])
            return next(ended)

        return last

    def _last(self, stream: tuple[int, int]) -> State:
        now = self._first(stream)
        while not now.ended:
            now = self._moved(now, stream)
        return now

    @double
    def _first(self, stream: tuple[int, int]) -> State:
        key = _key(np.random.default_rng([*stream, 0]))
        s, ancestor, log_likelihood = map(np.asarray, first(self.settings, key, *self._given))
        return State(path=np.zeros((0, 4)), ancestor=ancestor, s=s, log_likelihood=log_likelihood)

    @double
    def _moved(self, now: State, stream: tuple[int, int]) -> State:
        """The state after a stage."""
        generator = np.random.default_rng([*stream, now.step])
        stage = tempering.stage(now.log_likelihood, now.gamma, self.settings.ess, generator)
        now, key = now.at_stage(stage, np.nan), _key(generator)
        gamma = np.asarray(stage.gamma, self.dtype)
        found = next_stage(self.settings, key, now.s[stage.which], gamma, *self._given)
        s, log_likelihood, rate, length = map(np.asarray, found)
        fields = now.after_move(float(rate), 1.0, 1)
        fields["path"][-1, 3] = length
        return replace(now, **fields, s=s, log_likelihood=log_likelihood)

    @cached_property
    def _given(self) -> tuple[Any, ...]:
        """Arguments of `first` after the key."""
        given = (self._white, *self._fixed.shared)
        return jax.tree.map(lambda a: np.asarray(a, self.dtype), given)

    def _made_with(self, seed: int) -> dict[str, Any]:
        """The inputs that determine the samples."""
        given = self._fixed
        return {
            "green": self._white,
            "data": [given.data, given.used],
            "noise": given.noise,
            "prior": given.prior,
            "bounds": given.box,
            "settings": self.settings,
            "dtype": self.dtype,
            "seed": seed,
        }

    def _dataset(self, states: list[State], seed: int) -> xr.Dataset:
        log_evidence = np.array([now.log_evidence for now in states])
        s = np.stack([now.s for now in states])
        mean, variance = pooled(s, weights_of_runs(log_evidence))
        variables: Variables = {
            "slip": ((*DIMS, "component"), s, named("s")),
            "slip_mean": ("component", mean, named("mean of s")),
            "slip_sd": ("component", np.sqrt(variance), named("standard deviation of s")),
        }
        if self.bounds is None:
            log_density = self._fixed.log_density(self._white, s)
            variables["log_density"] = DIMS, log_density, named("ln p(d | s) + ln p(s)")
        variables |= run_variables(
            log_evidence,
            paths(states),
            acceptance=named("accepted trajectories"),
            length=named("length of trajectories in marginal standard deviations"),
        )
        return xr.Dataset(
            variables,
            sample_coordinates(len(states), self.settings.particles),
            attributes(
                "SMC of a linear problem",
                **run_attributes(log_evidence, [within_run(now) for now in states]),
                **self._fixed.counts,
                seed=seed,
            ),
        )


def _key(generator: np.random.Generator) -> Key[Array, ""]:
    return jax.random.key(int(generator.integers(2**63)))
