"""`invert` and `resume`: from a problem to the recovered fields, journalled on request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..core.checks import check_iterations, check_kind
from ..core.errors import ConfigError, ConvergenceError, DataError
from ..core.files import path_of
from ..core.precision import double
from ..core.progress import progress_bar
from ..models.base import outputs
from ..problem.likelihood import BoundLeastSquares
from ..problem.problem import Problem
from ..problem.specification import build_problem
from ..problem.variables import observation_variables, part_variables, residual_attributes
from ..results.dataset import (
    describe,
    history_variables,
    parameter_variables,
    state_coordinates,
    state_variables,
    used_and_missing,
)
from .journal import Evaluations, inputs, made_with, started
from .newton import newton
from .optimisers import METHODS, NEWTON, check, collapse, fit, options
from .run import Iteration, Run, Stop

_FAR = 1e30


@double
def invert(
    problem: Problem,
    *,
    method: str = "L-BFGS-B",
    max_iterations: int = 50,
    tolerance: float = 1e-6,
    discrepancy: bool = False,
    callback: Callable[[Iteration], object] | None = None,
    progress: bool | None = None,
    journal: str | Path | None = None,
    overwrite: bool = False,
    throw: bool = False,
    title: str | None = None,
) -> xr.Dataset:
    """Minimise the problem's objective with one of scipy's optimisers.

    Parameters
    ----------
    problem : Problem
    method : str
        "L-BFGS-B", "TNC", "CG", "BFGS", "newton-cg", "SLSQP" or "trust-constr", in any case.
        "newton-cg" is Newton's method with a trust region from Hessian products, each of two
        solves (see `inversion.newton`), in whitened variables where every control has a prior or
        a `Smoothness`; the others are scipy's.
    max_iterations : int
        Largest number of iterations of the optimiser.
    tolerance : float
        Stop when the L2 norm of the (projected) gradient is this fraction of the first.
    discrepancy : bool
        Stop also when chi2 = 2 misfit / n <= 1 (Morozov's discrepancy principle).
    callback : callable, optional
        A function of an `Iteration`, called after each iterate; a true result stops.
    progress : bool, optional
        By default a bar on a terminal or in a notebook, elsewhere a line a minute; False for
        neither.
    journal : path, optional
        A file that keeps every evaluation and Hessian product. The same call again, or `resume`,
        continues from it, bit for bit, or returns the finished result; `max_iterations` may differ.
        Other inputs are refused.
    overwrite : bool
        Start the journal anew.
    throw : bool
        Raise a `ConvergenceError` (with ``result``) unless the run converged or was stopped.
    title : str, optional
        Title of the result.

    Returns
    -------
    Dataset
        Recovered fields, state, data and their prediction, history; attributes ``status``
        ("converged", "max_iterations", "stopped", "stalled", "failed" or "interrupted") and
        ``message``. After Ctrl-C it holds the last accepted iterate. Whether the errors of the data
        were right, ``residual_whitened`` shows: independent and of variance one if so. ``chi2_p``
        is the probability of a larger ``chi2`` by chance, ``runs_test_p`` that of residuals which
        change sign as seldom along the data, or more so; ``observation_set_chi2`` is chi2 by set,
        where a text coordinate of the data, such as a network, has labels that repeat.

        Where the noise has an unknown scale s, ``noise_scale`` is that of the joint minimum: s^2 is
        |w|^2 / n of n data and their residuals w, whitened by sigma as it was given, pulled to the
        prior of ln s. That is smaller than the unbiased |w|^2 / (n - k), where the controls fit k
        of the n. Where they can fit all data, as fields with many cells can, only the prior holds
        s up, and the message says so: then `sample`, which finds s as it is, or compare ln Z by
        `laplace` of problems with known noise.
        ``sigma``, ``residual_whitened``, ``chi2``, ``chi2_p`` and ``runs_test_p`` are with this s.
        At the minimum chi2 is then 1 + (ln s - mean) / (n sd^2), with the mean and sd of that
        prior: it tells how far s is from there, not whether the data are fitted.

    Raises
    ------
    ConfigError, DataError
        If an option cannot be used, or the journal belongs to other inputs, which are named.
    ConvergenceError
        If the very first evaluation fails, or as `throw` asks.
    """
    check_kind("problem", problem, Problem)
    settings = options(
        method=method,
        max_iterations=max_iterations,
        tolerance=tolerance,
        discrepancy=discrepancy,
        title=title,
    )
    check(problem, settings, callback)
    if journal is None:
        return _run(problem, settings, None, callback, progress, throw)
    with started(path_of("journal", journal), problem, settings, overwrite) as book:
        return _run(problem, settings, book, callback, progress, throw)


@double
def resume(
    journal: str | Path,
    problem: Problem | None = None,
    *,
    max_iterations: int | None = None,
    callback: Callable[[Iteration], object] | None = None,
    progress: bool | None = None,
    throw: bool = False,
) -> xr.Dataset:
    """Continue a journalled run, bit for bit as if it had never stopped.

    The optimiser, a deterministic routine, is replayed through the recorded evaluations, and then
    goes on.

    Parameters
    ----------
    journal : path
    problem : Problem, optional
        Required if the problem has a user's code (a model, a misfit); otherwise the journal has the
        problem.
    max_iterations : int, optional
        Largest number of iterations in all; by default that of the first run.
    callback, progress, throw
        As for `invert`.

    Returns
    -------
    Dataset
        As from `invert`.

    Raises
    ------
    ConfigError, DataError
        If the file is no journal of an inversion, or belongs to another problem.
    ConvergenceError
        As `throw` asks.
    """
    if problem is not None:
        check_kind("problem", problem, Problem)
    with Evaluations.open(path_of("journal", journal)) as book:
        settings = book.settings
        if max_iterations is not None:
            settings["max_iterations"] = check_iterations("max_iterations", max_iterations, 1)
        if problem is not None:
            book.check(made_with(problem, settings))
            check(problem, settings, callback)
            return _run(problem, settings, book, callback, progress, throw)
        found = book.problem()
        if found is None:
            raise ConfigError(
                f"{journal}: the problem has a user's code, which a journal cannot hold;"
                " give problem="
            )
        problem = build_problem(found)
        try:
            check(problem, settings, callback)
            return _run(problem, settings, book, callback, progress, throw)
        finally:
            problem.engine.close()  # ranks, to which nobody else has a handle


def _run(
    problem: Problem,
    settings: dict[str, Any],
    journal: Evaluations | None,
    callback: Callable[[Iteration], object] | None,
    progress: bool | None,
    throw: bool,
) -> xr.Dataset:
    with progress_bar(
        shown=progress, total=settings["max_iterations"], desc="inversion", unit="iterations"
    ) as bar:
        run = Run(problem, settings, journal, callback, bar)
        status, message = _optimise(run)
        if journal is not None and status != "interrupted":
            journal.finish()
    result = _result(run, status, message)
    if throw and status not in ("converged", "stopped"):
        raise ConvergenceError(f"the inversion ended with status {status!r}: {message}", result)
    return result


def _optimise(run: Run) -> tuple[str, str]:
    from scipy.optimize import Bounds, minimize

    method, low, high = run.settings["method"], run.variables.low, run.variables.high
    if method == "L-BFGS-B":
        # With finite bounds everywhere its first step is the gradient itself, not one of length
        # one, which could change a few cells by any amount.
        low, high = np.maximum(low, -_FAR), np.minimum(high, _FAR)
    bounds = None
    if np.isfinite(low).any() or np.isfinite(high).any():
        bounds = Bounds(low, high)  # type: ignore[arg-type]  # scipy's untyped defaults are floats
    start = run.variables.of(run.problem.initial)
    # scipy's types know the arguments of each method, these are of any.
    accept: Any = run.accept
    settings: Any = METHODS[method]
    try:
        if method == NEWTON:
            ending = newton(run.objective, run.product, start, run.accept)
        else:
            found = minimize(
                run.objective,
                np.clip(start, run.variables.low, run.variables.high),
                jac=True,
                method=method,
                bounds=bounds,
                callback=accept,
                options=settings,
            )
            ending = str(found.message).strip()
    except Stop as stop:
        status, message = stop.args
        return status, message
    except KeyboardInterrupt:
        if run.x is None:
            raise
        return "interrupted", f"interrupted after {len(run.rows) - 1} iterations"
    except (ConvergenceError, DataError) as error:
        # An error of the journal is not one of the problem.
        replayed = run.evaluations < run.recorded or run.warm is None
        if run.x is None or (isinstance(error, DataError) and replayed):
            raise
        return "failed", f"a trial step could not be evaluated: {error}"
    limit = f"the solves' tolerance, {run.problem.tolerance:.0e}, may be the limit"
    return "stalled", f"no further decrease was found ({ending}); {limit}"


def _result(run: Run, status: str, message: str) -> xr.Dataset:
    """The Dataset of a run, with the state solved for once more at the last accepted iterate."""
    problem, record = run.problem, run.accepted
    assert run.x is not None
    assert record is not None
    model, engine = problem.model, problem.engine
    theta = run.variables.theta(run.x)
    m = problem.parameters(theta)
    solution = engine.solve(
        model, m, tolerance=problem.tolerance, max_iterations=problem.max_iterations
    )
    misfit, counts = problem.misfit_at(theta), {}
    if isinstance(misfit, BoundLeastSquares):
        counts = used_and_missing(misfit.size, misfit.missing)
        if misfit.missing:
            total = misfit.size + misfit.missing
            message += f"; {misfit.missing} of {total} observations are missing"
    chi2 = problem.chi2(record.misfit, theta)
    state = solution.fields | outputs(model, solution.fields, m)
    residuals = residual_attributes(misfit, state)
    message += collapse(problem, theta) or fit(
        problem, chi2, status, run.settings["discrepancy"], residuals.get("runs_test_p", 1.0)
    )
    variables, coordinates = parameter_variables(model, problem.known)
    for more in (
        part_variables(problem.parts, problem.physical(theta), problem.split(record.gradient)),
        observation_variables(misfit, state),
    ):
        variables |= more[0]
        coordinates |= more[1]
    variables |= state_variables(model, solution.fields, m)
    variables |= history_variables(run.rows)
    text = inputs(problem, run.settings)
    return xr.Dataset(
        variables,
        state_coordinates(model) | coordinates,
        describe(
            f"inversion by {run.settings['method']}",
            engine,
            kind="inversion",
            title=run.settings["title"],
            status=status,
            message=message,
            solver=solution.convergence.method,
            unknowns=" ".join(v.name for v in model.unknowns),
            chi2=chi2,
            **residuals,
            **counts,
            config_json=text,
            # Arrays are in the text by their digests.
            inputs_sha256=hashlib.sha256(text.encode()).hexdigest(),
        ),
    )
