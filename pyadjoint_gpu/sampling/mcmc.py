"""Markov chains by gradients: NUTS, HMC and MALA, on any target."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..core.checks import check_choice, count, finite_array
from ..core.errors import ConfigError, DataError
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..core.progress import progress_bar
from .chains import ChainSettings, ChainsJournal, Run, check_until
from .options import set_counts
from .target import Target
from .targets import Sampled, target_of

METHODS = ("nuts", "hmc", "mala")


@dataclass(frozen=True)
class MCMC(AsGiven, Frozen):
    """Markov chains of one density, side by side.

    Hamiltonian Monte Carlo in the whitened variable, with the kernels of blackjax: "nuts" chooses
    its own lengths of trajectories, "hmc" takes `leapfrogs` steps, "mala" one. All chains adapt
    together in the warm-up, their step and the covariance that stands for a mass matrix (see
    `windows`), and nothing afterwards.

    Parameters
    ----------
    target : Problem or LogDensity
    method : {"nuts", "hmc", "mala"}
    chains : int
    draws : int
        Most draws of each chain, after the warm-up.
    warmup : int
        Transitions of the warm-up.
    leapfrogs : int
        Steps of a trajectory of "hmc".
    depth : int
        Most doublings of a trajectory of "nuts".
    start : "prior", "map" or array of shape (chains, n)
        Where chains start: at draws from the prior, all at the maximum of the posterior, or at
        these theta. By default at the target's `start`, or draws from the prior.
    until : mapping, optional
        ``{"ess": 400}``, ``{"r_hat": 1.01}`` or both: chains stop when the smallest bulk and tail
        ESS of all unknowns, and the largest R-hat, are reached.
    batch : int
        Solves side by side, where the engine can (see `Problem.evaluate_many`).

    Raises
    ------
    ConfigError, DataError
        If a setting cannot be used.
    """

    target: Sampled
    method: str = "nuts"
    chains: int = 4
    draws: int = 1000
    warmup: int = 500
    leapfrogs: int = 10
    depth: int = 10
    start: str | ArrayLike | None = None
    until: Mapping[str, float] | None = None
    batch: int = 32

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        set_counts(self, chains=1, draws=4, warmup=0, leapfrogs=1, depth=1, batch=1)
        check_until(self.until)
        _ = self._start

    @cached_property
    def _target(self) -> Target:
        # Chains ask for no more rows at a time than there are of them.
        return target_of(self.target, min(self.batch, self.chains))

    @cached_property
    def _start(self) -> str | Float[np.ndarray, "chains n"]:
        """Where chains start: x, or what to start from."""
        start, target = self.start, self._target
        if start is None:
            given = target.starts(self.chains)
            return "prior" if given is None else given
        if isinstance(start, str):
            check_choice("start", start, ("prior", "map"))
            if start == "prior" and not target.has_prior:
                raise ConfigError("start: found 'prior', but the density has none")
            return start
        found = np.atleast_2d(finite_array("start", start))
        if found.shape != (self.chains, target.size):
            raise DataError(
                f"start: found shape {found.shape}, expected (chains, n) ="
                f" {(self.chains, target.size)}"
            )
        return target.whitened(found)

    def run(
        self,
        *,
        seed: int = 0,
        journal: str | Path | None = None,
        overwrite: bool = False,
        executor: Executor | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Sample.

        Parameters
        ----------
        seed : int
        journal : path, optional
            File of draws and states; the same call resumes from there, with the same result. One of
            other inputs is refused.
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
            Samples of each unknown (dimensions ``chain``, ``draw``), their ``log_density``, the
            ``acceptance``, and ESS and R-hat.

        Raises
        ------
        ConvergenceError
            If a chain has no start with a density.
        DataError
            If a gradient is not finite where the density is.

        Warns
        -----
        SamplingWarning
            Where there is reason not to trust the result.
        """
        seed = count("seed", seed, 0)
        own = {k: getattr(self, k) for k in ChainSettings._fields if k not in ("until", "name")}
        settings = ChainSettings(self.method, **own, until=self.until or {})
        run = Run(settings, self._target, self._start, seed, executor)
        with (
            ChainsJournal.optional(
                journal, lambda: self._made_with(seed), overwrite=overwrite
            ) as book,
            progress_bar(
                total=self.warmup + self.draws, shown=progress, unit="draws", desc=self.method
            ) as bar,
        ):
            return run.followed(book, bar)

    def _made_with(self, seed: int) -> dict[str, Any]:
        """The inputs that determine the samples."""
        names = "method", "chains", "draws", "warmup", "leapfrogs", "depth", "batch"
        return {
            **self._target.made_with(),
            **{k: getattr(self, k) for k in names},
            "start": self.start,
            "until": dict(self.until or {}),
            "seed": seed,
        }
