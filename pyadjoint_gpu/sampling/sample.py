"""`sample`: from a problem, or any density, to samples of it, and its evidence."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import fields
from pathlib import Path
from typing import Any

import xarray as xr

from ..core.checks import check_choice
from ..core.errors import ConfigError, nearest
from .flow_chains import FlowMCMC
from .log_density import LogDensity
from .mcmc import MCMC, METHODS
from .smc import SMC
from .targets import Sampled


def sample(
    target: Sampled,
    *,
    method: str = "auto",
    seed: int = 0,
    journal: str | Path | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Any,
) -> xr.Dataset:
    """Draw the unknowns of a problem from their posterior, p(theta | d) ~ exp(-J(theta)), or those
    of any density with a gradient.

    Parameters
    ----------
    target : Problem or LogDensity
        A problem in which every control has a prior, or a `Smoothness`, the same object that
        `invert` takes; or a density of one's own.
    method : {"auto", "smc", "flow", "nuts", "hmc", "mala"}
        "smc": sequential Monte Carlo, which gives ln Z too, and finds several modes. "flow": Markov
        chains that start from its particles, with global moves proposed by a normalizing flow that
        is trained on them, and a more precise ln Z: for several modes, and many nearly independent
        draws. The others are Markov chains for one mode and many unknowns: the No-U-Turn
        sampler, Hamiltonian Monte Carlo with trajectories of one length, and the Langevin
        algorithm. "auto" is "smc", but "nuts" for a density without a prior.
    seed : int
    journal : path, optional
        File of what is computed, as it goes; the same call resumes from there, with the same
        result. One of other inputs is refused.
    overwrite : bool
        Start the journal anew.
    executor : concurrent.futures.Executor, optional
        Pool of processes that share the evaluations of a problem, or of a function that returns its
        gradient.
    progress : bool, optional
        A bar where someone looks, else a line a minute; False for nothing.
    **options
        Of "smc": `particles`, `moves`, `leapfrogs`, `ess`, `batch` and `repeats`, as for
        `sampling.SMC`. Of "flow": `chains`, `draws`, `rounds`, `local`, `proposals`, `leapfrogs`,
        `particles`, `until`, `batch`, as for `sampling.FlowMCMC`. Of the others: `chains`, `draws`,
        `warmup`, `leapfrogs`, `depth`, `start`, `until`, `batch`, as for `sampling.MCMC`.

    Returns
    -------
    Dataset
        Samples of each unknown (dimensions ``chain``, ``draw`` and its own), ``log_density``, and
        the attributes ``status``, ``gradients``, ``failures``; for a problem also moments of theta.
        By "smc" and "flow" ``log_evidence``, ``log_evidence_error``: ln Z with all constants, so
        that models with other priors can be compared. By all but "smc" ``r_hat``, ``ess_bulk``,
        ``ess_tail``, ``ess_per_gradient``.

    Raises
    ------
    ConfigError, DataError
        If an option cannot be used, a control has no prior, or one has bounds on theta.
    ConvergenceError
        If no particle of the prior, or no start of a chain, can be evaluated.
    EngineError
        If a package is missing: ``pip install 'pyadjoint_gpu[sampling]'``.

    Examples
    --------
    >>> samples = pag.sample(problem, method="nuts", until={"ess": 400}, journal="samples.h5")
    """
    check_choice("method", method, ("auto", "smc", "flow", *METHODS))
    if method == "auto":
        bare = isinstance(target, LogDensity) and target.prior is None
        method = "nuts" if bare else "smc"
    run: dict[str, Any] = {"seed": seed, "journal": journal, "overwrite": overwrite}
    run |= {"executor": executor, "progress": progress}
    if method == "smc":
        repeats = options.pop("repeats", 1)
        _check_options(method, options, SMC, "repeats")
        return SMC(target, **options).run(repeats=repeats, **run)
    if method == "flow":
        _check_options(method, options, FlowMCMC)
        return FlowMCMC(target, **options).run(**run)
    _check_options(method, options, MCMC)
    return MCMC(target, method, **options).run(**run)


def _check_options(method: str, options: dict[str, Any], kind: type, *more: str) -> None:
    known = [f.name for f in fields(kind) if f.name not in ("target", "method")] + list(more)
    for name in options:
        if name not in known:
            raise ConfigError(f"{name}: no option of method {method!r}{nearest(name, known)}")
