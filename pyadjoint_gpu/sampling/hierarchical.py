"""Hierarchical sequential Monte Carlo: d = G(theta) s + e, linear in s, not in theta.

An outer sampler (`pseudo_marginal`) moves theta; each of its particles carries an unbiased estimate
of

    p(d | theta) = integral p(d | s, theta) p(s) ds

by an inner sampler of s (`estimates`). All inner samplers do the same work, a batch of them at a
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..core.checks import check_choice, count, fraction
from ..core.errors import ConfigError, DataError
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..core.spaces import Space
from ..results.dataset import Variables, named
from ..results.samples import DIMS, attributes, sample_coordinates, weights_of_runs
from ..statistics.densities import BoundPrior
from ..statistics.noise import Noise
from ..statistics.priors import Prior
from . import journal as journals
from .checks import check_collapse, check_diversity, check_noise, check_possible, check_trajectories
from .estimates import Forward, Work, workers
from .inputs import fixed, on_components
from .linear import USUAL, Settings, checked_settings
from .options import set_counts
from .pseudo_marginal import PseudoMarginal, State
from .runs import paths, pooled, run_attributes, run_variables, within_run
from .theta_prior import ThetaPrior

OWN = ("component", "slip", "slip_mean", "slip_sd", "slip_kind", "along", "down", "observed")
OWN += ("predicted", "residual", "sigma", "observation_x", "observation_y")
OWN += ("look_east", "look_north", "look_up")
"""Names in results beside those of all samplers, the ones for faults included."""
SETTINGS = ("inner", "particles", "moves", "ess", "batch", "draws", "dtype")
"""Fields that determine the samples by their values."""
PROBED = 4
"""Draws of the prior at which a journal records G."""


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
    noise : float, array or Noise
        Standard deviations of e, infinite where d is not observed, its covariance (m, m), or a
        `Noise`.
    prior : Prior, BoundPrior or array
        Gaussian prior of s, on the space that `forward` has (that of `Fault.forward` is the
        fault's), or of n components. Standard deviations (n,) or a covariance (n, n) are short for
        `Independent` and `Dense`.
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
        Metropolis moves of theta a stage, random walks of about 2.38^2 / p times its covariance:
        as many where half of them are accepted, more where fewer are, up to ten times as many.
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

    forward: Forward
    data: ArrayLike
    noise: ArrayLike | Noise
    prior: ArrayLike | Prior | BoundPrior
    theta_prior: Mapping[str, Any]
    bounds: tuple[ArrayLike, ArrayLike] | None = None
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
        _ = self._theta_prior
        self._check_forward()

    def _check_forward(self) -> None:
        if not callable(self.forward):
            raise ConfigError(
                f"forward: found {type(self.forward).__name__}, expected a function of a dict of"
                " theta, such as Fault.forward(...), that gives G"
            )
        try:
            self._work.design_matrix(self._theta_prior.draw(np.random.default_rng(0), 1))
        except KeyError as error:
            key = error.args[0] if error.args else ""
            raise ConfigError(
                f"forward: it asks for {key!r}, which theta_prior does not have; it has"
                f" {', '.join(self.theta_prior)}"
            ) from None

    @cached_property
    def _theta_prior(self) -> ThetaPrior:
        return ThetaPrior.of(self.theta_prior, OWN)

    @cached_property
    def _work(self) -> Work:
        prior = on_components(self.prior, self._place)
        given = fixed(self.data, self.noise, prior, self.bounds)
        names = tuple(self.theta_prior)
        return Work(given, self.forward, names, self.inner, self.draws, self.batch, self.dtype)

    def _place(self) -> Space | int:
        """The space of s, or the number of its components."""
        space = getattr(self.forward, "space", None)
        if isinstance(space, Space):
            return space
        (theta,) = self._theta_prior.draw(np.random.default_rng(0), 1).tolist()
        found = np.shape(self.forward(dict(zip(self.theta_prior, theta, strict=True))))
        if len(found) != 2:
            raise DataError(f"forward: found a matrix of shape {found}, expected (m, n)")
        return found[1]

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
            Joint samples: the particles, ``draw``, of each run, ``chain``, with several draws of
            slip for each theta, ``slip_draw``; several runs have a ``weight`` each, Z over its
            mean. ``log_density``, the estimate of ln p(d | theta) + ln p(theta). Moments of slip,
            ln Z and how it was computed; the attribute ``not_finite`` counts the G that were not
            finite.

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
        seed, repeats = count("seed", seed, 0), count("repeats", repeats)
        with workers(executor, self.forward) as pool:
            outer = PseudoMarginal(
                self._work, self._theta_prior, self.particles, self.moves, self.ess, pool
            )
            states = journals.followed(
                State,
                journal,
                lambda: self._made_with(seed),
                # Independent streams of random numbers, one for each purpose.
                lambda k: outer.first((seed, k)),
                lambda now, k: outer.moved(now, (seed, k)),
                repeats=repeats,
                overwrite=overwrite,
                progress=progress,
            )
            noise = outer.noise(states[0], seed)
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
        return journals.started(State, journal, lambda: self._made_with(seed), overwrite=overwrite)

    def _check_possible(self, states: list[State], seed: int) -> None:
        impossible = sum(now.impossible for now in states)
        if not impossible:
            return
        theta = self._theta_prior.draw(np.random.default_rng([seed, 0, 0]), self.particles)
        parts = [theta[i : i + self.batch] for i in range(0, len(theta), self.batch)]
        matrices = np.concatenate([self._work.design_matrix(part) for part in parts])
        bad = ~np.all(np.isfinite(matrices), axis=(1, 2))
        example = ""
        if np.any(bad):
            row = theta[np.argmax(bad)]
            pairs = zip(self.theta_prior, row, strict=True)
            example = f", such as {', '.join(f'{k} = {v:.4g}' for k, v in pairs)}"
        check_possible(impossible, sum(now.step for now in states) * self.particles, example)

    def _dataset(self, states: list[State], seed: int, noise: float) -> xr.Dataset:
        theta = np.stack([now.theta for now in states])
        log_prior = np.stack([now.log_prior for now in states])
        found = jax.tree.map(lambda *runs: np.stack(runs), *[now.estimates for now in states])
        log_evidence = np.array([now.log_evidence for now in states])
        weights = weights_of_runs(log_evidence)
        mean, between = pooled(found.mean, weights)
        within, _ = pooled(found.sd**2, weights)
        variables: Variables = {
            name: (DIMS, theta[..., k], named(name.replace("_", " ")))
            for k, name in enumerate(self.theta_prior)
        }
        likelihood = "estimate of ln p(d | theta)"
        variables |= {
            "log_likelihood": (DIMS, found.log_evidence, named(likelihood)),
            "log_density": (
                DIMS,
                found.log_evidence + log_prior,
                named(f"{likelihood} + ln p(theta)"),
            ),
            "slip": ((*DIMS, "slip_draw", "component"), found.draws, named("s, draws given theta")),
            "slip_mean": ("component", mean, named("mean of s")),
            "slip_sd": ("component", np.sqrt(within + between), named("standard deviation of s")),
        }
        path = paths(states)
        variables |= run_variables(log_evidence, path, acceptance=named("accepted moves of theta"))
        return xr.Dataset(
            variables,
            sample_coordinates(len(states), self.particles),
            attributes(
                f"hierarchical SMC of {', '.join(self.theta_prior)}",
                **run_attributes(log_evidence, [within_run(now) for now in states]),
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
        outer = self._theta_prior
        theta = outer.draw(np.random.default_rng(0), PROBED)
        return {
            "forward": [self.forward, self._work.design_matrix(theta)],
            "data": [given.data, given.used],
            "noise": given.noise,
            "prior": given.prior,
            "theta_prior": [list(self.theta_prior.items()), theta, outer.log_density(theta)],
            "bounds": given.box,
            **{k: getattr(self, k) for k in SETTINGS},
            "seed": seed,
        }
