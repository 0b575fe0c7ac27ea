"""The optimisers, of scipy but for Newton's: their options, checks, and advice on the fit they
reach."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.checks import check_choice, check_iterations, check_tolerance
from ..core.errors import ConfigError, shown
from ..problem.likelihood import BoundLeastSquares
from ..problem.penalty import Smoothness
from ..problem.problem import Problem
from ..statistics.residuals import chi2_p

FITTED = (0.5, 2.0)
"""Range of chi2 for a fit as good as the data; outside of it the message gives advice."""
CHANCE = 0.01
"""Probability of advice although the errors are right: of that on a low chi2, on a high one, and on
signs that are not random."""
COLLAPSED = 2.5
"""Standard deviations below its prior from which the scale of the noise is advised on."""
NEWTON = "newton-cg"
"""The method that uses Hessian products."""
_NEVER = 10**9
# `Run` decides when to stop; scipy's own criteria are set never to hold.
METHODS: dict[str, dict[str, Any]] = {
    "L-BFGS-B": {"maxiter": _NEVER, "maxfun": _NEVER, "ftol": 0.0, "gtol": 0.0, "maxcor": 20},
    "TNC": {"maxfun": _NEVER, "ftol": 0.0, "gtol": 0.0, "xtol": 0.0},
    "CG": {"maxiter": _NEVER, "gtol": 0.0},
    "BFGS": {"maxiter": _NEVER, "gtol": 0.0},
    NEWTON: {},
    "SLSQP": {"maxiter": _NEVER, "ftol": 1e-300},
    "trust-constr": {"maxiter": _NEVER, "gtol": 0.0, "xtol": 0.0, "barrier_tol": 0.0},
}
_BOUNDED = ("L-BFGS-B", "TNC", "SLSQP", "trust-constr")
_DENSE = ("BFGS", "SLSQP", "trust-constr")
_DENSE_LIMIT = 4000


def check(problem: Problem, settings: dict[str, Any], callback: object = None) -> None:
    """Raise a `ConfigError` if the optimiser cannot solve the problem with these settings."""
    if callback is not None and not callable(callback):
        raise ConfigError(f"callback: found {shown(callback)}, expected a function of an Iteration")
    method = settings["method"]
    check_choice("method", method, tuple(METHODS))
    if method not in _BOUNDED and np.any(np.isfinite(problem.box)):
        raise ConfigError(
            f"method {method!r} cannot keep bounds; use L-BFGS-B, or transform 'logistic'"
        )
    if method in _DENSE and problem.size > _DENSE_LIMIT:
        raise ConfigError(
            f"method {method!r} keeps a dense {problem.size} x {problem.size} matrix;"
            " use L-BFGS-B, TNC or CG"
        )
    if settings["discrepancy"] and not isinstance(problem.misfit, BoundLeastSquares):
        raise ConfigError("discrepancy: needs a LeastSquares misfit, which knows its errors")
    if settings["discrepancy"] and problem.experiment.nuisances:
        raise ConfigError("discrepancy: found True, but the scale of the noise is unknown")


def options(
    *,
    method: str = "L-BFGS-B",
    max_iterations: int = 50,
    tolerance: float = 1e-6,
    discrepancy: bool = False,
    title: str | None = None,
) -> dict[str, Any]:
    """The settings of `invert`, checked."""
    if not isinstance(discrepancy, bool | np.bool_):
        raise ConfigError(f"discrepancy: found {discrepancy!r}, expected True or False")
    by_name = {name.lower(): name for name in METHODS}
    return {
        "method": by_name.get(method.lower(), method) if isinstance(method, str) else method,
        "max_iterations": check_iterations("max_iterations", max_iterations, 50),
        "tolerance": check_tolerance("tolerance", tolerance),
        "discrepancy": bool(discrepancy),
        "title": title,
    }


def collapse(problem: Problem, theta: Float[np.ndarray, " n"]) -> str:
    """The advice in a result's message if a nuisance is far below its prior; else an empty text.

    Of controls that can fit all data there is no minimum in the scale of the noise but for the
    prior's sake (see `invert`)."""
    parts = problem.split(theta)
    for nuisance in problem.experiment.nuisances:
        assert nuisance.prior is not None
        away = float(nuisance.prior.white(parts[nuisance.name]))
        if away < -COLLAPSED:
            return (
                f"; {nuisance.name} {np.exp(float(parts[nuisance.name])):.2g} is {-away:.1f}"
                " standard deviations below its prior: the controls can fit the data however small"
                " the errors are; use sample, or take the sd with the largest ln Z of laplace"
            )
    return ""


def fit(
    problem: Problem, chi2: float | None, status: str, discrepancy: bool, runs_p: float = 1.0
) -> str:
    """The advice in a result's message if chi2 is far from 1, and farther than by chance for this
    number of data, or else if the residuals change sign too seldom along the data, which has the
    probability `runs_p` by chance; else an empty text."""
    if chi2 is None:
        return ""
    assert isinstance(problem.misfit, BoundLeastSquares)
    chance = CHANCE < chi2_p(chi2, problem.misfit.size) < 1.0 - CHANCE
    free = [c for c in problem.controls if c.prior is None]
    priors = len(free) < len(problem.controls)
    # The most probable field under a prior takes some of the noise up, so that chi2 is below 1.
    by_design = priors and all(c.control.basis != "field" for c in free)
    known = not problem.experiment.nuisances  # else chi2 is 1 but for the prior of the scale
    if known and chi2 < FITTED[0] and not chance and not by_design:
        smooth = any(isinstance(p, Smoothness) for p in problem.penalties)
        lever = "raise the penalty's weight" if smooth else "give a penalty"
        lever += "" if discrepancy else " or use discrepancy=True"
        return f"; chi2 {chi2:.2g}: the data are fitted beyond their errors; {lever}"
    if status not in ("converged", "stalled", "max_iterations"):
        return ""  # the message says why the run ended early
    if known and chi2 > FITTED[1] and not chance:
        levers = ["take more iterations"] if status == "max_iterations" else []
        levers += ["lower the penalty's weight"] if problem.penalties else []
        levers += ["widen the prior"] if priors else []
        levers.append("the errors (sigma) are too small for what the model leaves out")
        return f"; chi2 {chi2:.2g}: the data are not fitted to their errors; {', or '.join(levers)}"
    # A fit that is stopped early, as by the discrepancy principle, leaves some pattern of the data.
    if runs_p >= CHANCE or status == "max_iterations" or discrepancy:
        return ""
    also = " or its penalty" if problem.penalties else " or the prior" if priors else ""
    return (
        f"; neighbouring residuals have the same sign too often (runs test, p {runs_p:.1g}): the"
        f" model{also} leaves something out, or the errors are correlated"
    )
