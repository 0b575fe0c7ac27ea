"""`solve`: a forward solve with its result as a Dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from ..core.checks import check_iterations, check_kind, check_tolerance
from ..core.precision import double
from ..engines.base import Engine
from ..engines.choose import get_engine, running
from ..models.base import Model
from ..results.dataset import state_dataset
from ..solvers.base import Limits, default_iterations, require


def limits(model: Model, tolerance: float, max_iterations: int | None) -> Limits:
    """The limits of a solve, checked, with the model's own number of iterations by default."""
    return {
        "tolerance": check_tolerance("tolerance", tolerance),
        "max_iterations": check_iterations(
            "max_iterations", max_iterations, default_iterations(model)
        ),
    }


@double
def solve(
    model: Model,
    parameters: Mapping[str, Any],
    *,
    engine: str | Engine = "auto",
    solver: str = "auto",
    tolerance: float = 1e-8,
    max_iterations: int | None = None,
) -> xr.Dataset:
    """Solve R(u, m) = 0 for the state u.

    Parameters
    ----------
    model : Model
    parameters : mapping
        Parameter fields m by name: numbers, arrays of the grid's shape, DataArrays or functions
        of the coordinates.
    engine : {"auto", "embedded", "julia"} or Engine
    solver : {"auto", "multigrid", "pseudo-transient"}
        Method of the embedded engine: "auto" takes multigrid (with Newton's method, where R is
        nonlinear) for models that declare elliptic coefficients.
    tolerance : float
        Limit of ``||R||_max / ||R(u=0)||_max``; the estimated relative error of u is to be at most
        a hundred times as large.
    max_iterations : int, optional

    Returns
    -------
    Dataset
        The unknowns, further outputs (fluxes on faces), the parameters and the convergence, with
        attributes ``status`` ("converged", or "round-off" where the arithmetic's limit came
        first, with a warning), ``solver``, ``iterations``, ``residual``.

    Raises
    ------
    ConfigError, DataError
        If a parameter or option cannot be used.
    ConvergenceError
        If `max_iterations` is reached or the iteration diverges; the Dataset is its ``result``.
    """
    check_kind("model", model, Model)
    chosen = running(get_engine(engine, model, solver=solver), model)
    options = limits(model, tolerance, max_iterations)
    m = model.fields(parameters)
    solution = chosen.solve(model, m, **options)
    state = state_dataset(model, m, solution, chosen)
    require(solution.convergence, "the forward solve", state)
    return state
