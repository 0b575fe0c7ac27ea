"""`sample`: from a problem to samples of its posterior, and its evidence."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from ..core.checks import check_choice
from ..problem.problem import Problem
from .problem import ProblemSMC


def sample(
    problem: Problem,
    *,
    method: str = "auto",
    particles: int = 128,
    moves: int = 2,
    leapfrogs: int = 5,
    ess: float = 0.5,
    batch: int = 32,
    seed: int = 0,
    repeats: int = 1,
    journal: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Draw the controls of a problem from their posterior, p(theta | d) ~ exp(-J(theta)).

    Parameters
    ----------
    problem : Problem
        Every control has a prior, or a `Smoothness`; the same object that `invert` takes.
    method : {"auto", "smc"}
        Sequential Monte Carlo, which gives ln Z too.
    particles, moves, leapfrogs, ess, batch
        As for `ProblemSMC`.
    seed, repeats, journal, overwrite, progress
        As for `ProblemSMC.run`.

    Returns
    -------
    Dataset
        As from `ProblemSMC.run`: samples of the physical fields, along ``chain`` and ``draw``,
        ``log_density``, moments of theta, and the attributes ``log_evidence``,
        ``log_evidence_error``: ln Z with all constants, so that models with other priors can be
        compared.

    Raises
    ------
    ConfigError, DataError
        If an option cannot be used, a control has no prior, or one has bounds on theta.
    ConvergenceError
        If no particle of the prior can be evaluated.
    """
    check_choice("method", method, ("auto", "smc"))
    sampler = ProblemSMC(problem, particles, moves, leapfrogs, ess, batch)
    return sampler.run(
        seed=seed, repeats=repeats, journal=journal, overwrite=overwrite, progress=progress
    )
