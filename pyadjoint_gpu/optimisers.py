"""scipy's optimisers, as they are used here."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ConfigError
from .misfit import BoundLeastSquares
from .problem import Problem, check_iterations, check_tolerance

_NEVER = 10**9
# Our own rules stop a run; scipy's are set so as not to interfere.
METHODS: dict[str, dict[str, Any]] = {
    "L-BFGS-B": {"maxiter": _NEVER, "maxfun": _NEVER, "ftol": 0.0, "gtol": 0.0, "maxcor": 20},
    "TNC": {"maxfun": _NEVER, "ftol": 0.0, "gtol": 0.0, "xtol": 0.0},
    "CG": {"maxiter": _NEVER, "gtol": 0.0},
    "BFGS": {"maxiter": _NEVER, "gtol": 0.0},
    "Newton-CG": {"maxiter": _NEVER, "xtol": 0.0},
    "SLSQP": {"maxiter": _NEVER, "ftol": 1e-300},
    "trust-constr": {"maxiter": _NEVER, "gtol": 0.0, "xtol": 0.0, "barrier_tol": 0.0},
}
_BOUNDED = ("L-BFGS-B", "TNC", "SLSQP", "trust-constr")
_DENSE = ("BFGS", "SLSQP", "trust-constr")
_DENSE_LIMIT = 4000


def check(problem: Problem, settings: dict[str, Any]) -> None:
    """A `ConfigError` where an optimiser cannot do what is asked of it."""
    method = settings["method"]
    if not isinstance(method, str) or method not in METHODS:
        raise ConfigError(f"method: found {method!r}, expected one of {', '.join(METHODS)}")
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
    return {
        "method": method,
        "max_iterations": check_iterations("max_iterations", max_iterations, 50),
        "tolerance": check_tolerance("tolerance", tolerance),
        "discrepancy": bool(discrepancy),
        "title": title,
    }
