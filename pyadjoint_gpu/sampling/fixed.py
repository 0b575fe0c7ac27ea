"""Sequential Monte Carlo for linear problems d = G s + e with one design matrix G."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float
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
from .checks import check_trajectories
from .inputs import Fixed, fixed, on_components
from .linear import USUAL, Sampled, Settings, checked_settings, sample
from .runs import independent, pooled, run_attributes, run_variables


@dataclass(frozen=True)
class LinearSMC(AsGiven, Frozen):
    """Sampler of a problem d = G s + e with a known G.

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

    @double
    def run(self, *, seed: int = 0, repeats: int = 1) -> xr.Dataset:
        """Sample s given d.

        Parameters
        ----------
        seed : int
        repeats : int
            Independent runs, whose scatter gives the error of ln Z.

        Returns
        -------
        xr.Dataset
            Samples of s, ``slip``: the particles, ``draw``, of each run, ``chain``; several runs
            have a ``weight`` each, Z over its mean. Without bounds, ``log_density``,
            ln p(d | s) + ln p(s). Moments of s; ln Z and how it was computed.

        Warns
        -----
        SamplingWarning
            Where there is reason not to trust the result.
        """
        seed, repeats = count("seed", seed, 0), count("repeats", repeats)
        keys = jax.random.split(jax.random.key(seed), repeats)
        design_matrix = np.broadcast_to(self._white, (repeats, *self._white.shape))
        given = (design_matrix, *self._fixed.shared)
        arrays = jax.tree.map(lambda a: np.asarray(a, self.dtype), given)
        found: Sampled = sample(self.settings, keys, *arrays)
        log_evidence = np.asarray(found.log_evidence)
        path = np.stack(found.stages, axis=-1)[:, : np.max(found.count)]
        acceptance, length = path[..., 2], path[..., 3]
        check_trajectories(np.nanmin(acceptance), np.nanmin(length), np.nanmax(length))
        within = [independent(run[:, 1], self.settings.particles) for run in path]
        s = np.swapaxes(np.asarray(found.s), 1, 2)
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
            path,
            acceptance=named("accepted trajectories"),
            length=named("length of trajectories in marginal standard deviations"),
        )
        return xr.Dataset(
            variables,
            sample_coordinates(repeats, self.settings.particles),
            attributes(
                "SMC of a linear problem",
                **run_attributes(log_evidence, within),
                **self._fixed.counts,
                seed=seed,
            ),
        )
