"""Optimisation: from a problem to the recovered fields, journalled and resumable."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..core.checks import check_iterations, check_kind
from ..core.errors import ConfigError, ConvergenceError, ConvergenceWarning, DataError
from ..core.files import path_of
from ..core.precision import double
from ..core.progress import progress_bar
from ..problem.problem import Evaluation, Problem
from ..problem.specification import build_problem
from ..problem.variables import control_variables, observation_counts, observation_variables
from ..results.dataset import (
    MISSING,
    describe,
    history_variables,
    parameter_variables,
    state_coordinates,
    state_variables,
)
from .adaptive import evaluate
from .journal import Evaluations, Record, digest, inputs, made_with, started
from .optimisers import METHODS, check, fit, options

_FAR = 1e30
REFUSALS = 10
"""Trial steps in a row that cannot be evaluated, after which an inversion has failed."""


@dataclass(frozen=True)
class Iteration:
    """What a callback is given after each accepted iterate.

    Attributes
    ----------
    controls : dict
        The physical fields.
    gradient_norm : float
        L2 norm over the domain of the (projected) gradient.
    chi2 : float or None
        2 misfit / number of data.
    """

    iteration: int
    controls: dict[str, np.ndarray]
    objective: float
    misfit: float
    penalty: float
    gradient_norm: float
    chi2: float | None


class _Stop(Exception):
    """Ends the optimiser from within."""

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status, self.message = status, message


@double
def invert(
    problem: Problem,
    *,
    method: str = "L-BFGS-B",
    max_iterations: int = 50,
    tolerance: float = 1e-6,
    discrepancy: bool = False,
    callback: Callable[[Iteration], Any] | None = None,
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
        "L-BFGS-B", "TNC", "CG", "BFGS", "Newton-CG", "SLSQP" or "trust-constr".
    max_iterations : int
        Of the optimiser.
    tolerance : float
        Stop when the L2 norm of the (projected) gradient is this fraction of the first.
    discrepancy : bool
        Stop also when chi2 = 2 misfit / n <= 1 (Morozov's discrepancy principle).
    callback : callable, optional
        Gets an `Iteration` after each iterate; a true result stops.
    progress : bool, optional
        A bar where someone looks, on a terminal or in a notebook, else a line a minute; False for
        nothing.
    journal : path, optional
        Keep every evaluation there. The same call again, or `resume`, continues from it, bit for
        bit, or returns what is finished; `max_iterations` may be another. Other inputs are refused.
    overwrite : bool
        Start the journal anew.
    throw : bool
        Raise a `ConvergenceError` (with ``result``) unless the run converged or was stopped.
    title : str, optional
        Of the result.

    Returns
    -------
    Dataset
        Recovered fields, state, data and their prediction, history; attributes ``status``
        ("converged", "max_iterations", "stopped", "stalled", "failed" or "interrupted") and
        ``message``. After Ctrl-C it holds the last accepted iterate.

    Raises
    ------
    ConfigError, DataError
        If an option cannot be used, or the journal is of other inputs, which are named.
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
    callback: Callable[[Iteration], Any] | None = None,
    progress: bool | None = None,
    throw: bool = False,
) -> xr.Dataset:
    """Continue a journalled run, bit for bit as if it had never stopped.

    The optimiser, a deterministic routine, is replayed through the evaluations on record, and
    then goes on.

    Parameters
    ----------
    journal : path
    problem : Problem, optional
        Needed where the problem holds code of the user's (a model, a misfit); otherwise the
        journal has it.
    max_iterations : int, optional
        In all; as the first run's where not given.
    callback, progress, throw
        As for `invert`.
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
                f"{journal}: the problem holds code that a journal cannot; give it as problem="
            )
        problem = build_problem(found)
        try:
            check(problem, settings, callback)
            return _run(problem, settings, book, callback, progress, throw)
        finally:
            problem.engine.close()  # ranks that nobody else could end


class _Run:
    """The optimiser's view of a problem, and the bookkeeping of evaluations and iterates.

    The optimiser sees x = sqrt(weight) theta / typical, whose Euclidean inner product is the
    controls' L2 one, and J divided so that the first step down the gradient changes no component
    of theta by more than its typical size.
    """

    def __init__(
        self,
        problem: Problem,
        settings: dict[str, Any],
        journal: Evaluations | None,
        callback: Callable[[Iteration], Any] | None,
        bar: Any,
    ):
        self.problem, self.settings, self.callback, self.bar = problem, settings, callback, bar
        self.journal = journal
        self.recorded = journal.count if journal else 0
        self.root = np.sqrt(problem.weight)
        self.scale = self.root / problem.typical
        self.unit = 1.0  # of the objective, set by the first evaluation
        low, high = problem.box
        self.low, self.high = low * self.scale, high * self.scale
        self.evaluations = 0
        self.warm: Evaluation | None = None
        self.refused = 0  # in a row
        self.since = np.zeros(4)  # forward and adjoint iterations, seconds, work
        self.pending: dict[str, Record] = {}
        self.rows: list[dict[str, float]] = []
        self.x: np.ndarray | None = None  # last accepted
        self.accepted: Record | None = None

    def objective(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        theta = x / self.scale
        if self.evaluations < self.recorded:
            assert self.journal is not None
            record = self.journal.record(self.evaluations, theta)
        else:
            record = self._evaluate(theta)
        self.evaluations += 1
        self.since += (
            record.forward_iterations,
            record.adjoint_iterations,
            record.wall_time,
            record.work,
        )
        self.pending[digest(theta)] = record
        gradient = record.gradient / self.scale
        if self.x is None:
            self.unit = float(np.max(np.abs(gradient) / self.root)) or 1.0
            self.accept(x)
        return record.objective / self.unit, gradient / self.unit

    def _evaluate(self, theta: np.ndarray) -> Record:
        if self.warm is None and self.journal is not None:
            self.warm = self.journal.latest()
        start = time.perf_counter()
        try:
            evaluation = self._solve(theta)
            self.refused = 0
        except (ConvergenceError, DataError) as error:
            evaluation = self._refusal(theta, error)
        record = Record.of(evaluation, time.perf_counter() - start)
        if self.journal is not None:
            self.journal.append(theta, evaluation, record)
        self.warm = evaluation
        return record

    def _refusal(self, theta: np.ndarray, error: Exception) -> Evaluation:
        """What a trial step that cannot be solved counts as, so that a shorter one is tried: J as
        much above the last iterate's as its slope would have taken it below."""
        self.refused += 1
        if self.x is None or self.accepted is None or self.warm is None or self.refused > REFUSALS:
            raise error
        warnings.warn(
            f"a trial step could not be evaluated, a shorter one is tried: {error}",
            ConvergenceWarning,
            stacklevel=2,
        )
        here = self.accepted
        rise = abs(float(here.gradient @ (theta - self.x / self.scale)))
        return replace(
            self.warm, objective=here.objective + rise, penalty=0.0, gradient=-here.gradient
        )

    def _solve(self, theta: np.ndarray) -> Evaluation:
        if not self.problem.adaptive:
            return self.problem.evaluate(theta, initial=self.warm)
        x = theta * self.scale
        return evaluate(
            self.problem,
            theta,
            initial=self.warm,
            decrease=self.rows[-2]["objective"] - self.rows[-1]["objective"]
            if len(self.rows) > 1
            else None,
            norm=lambda g: float(np.linalg.norm(self._projected(x, g / self.scale))),
        )

    def accept(self, x: np.ndarray, *_: Any) -> None:
        """Record an iterate, and stop where a rule says so. Also scipy's callback."""
        theta = np.array(x) / self.scale
        record = self.pending.get(digest(theta))
        if record is None:  # a method that rounds: the last one evaluated
            record = next(reversed(self.pending.values()))
        step = 0.0 if self.x is None else float(np.linalg.norm(x - self.x))
        if self.rows and step == 0.0:
            return  # no move: some methods report their start, or a null step
        self.pending = {digest(theta): record}
        self.x, self.accepted = np.array(x), record
        norm = float(np.linalg.norm(self._projected(x, record.gradient / self.scale)))
        seconds = self.since[2] + (self.rows[-1]["wall_time"] if self.rows else 0.0)
        self.rows.append(
            {
                "objective": record.objective,
                "misfit": record.misfit,
                "penalty": record.penalty,
                "gradient_norm": norm,
                "step_length": step,
                "evaluations": self.evaluations,
                "forward_iterations": self.since[0],
                "adjoint_iterations": self.since[1],
                "work": self.since[3],
                "wall_time": seconds,
            }
        )
        self.since = np.zeros(4)
        self._stop_if_done(theta, record, norm)

    def _projected(self, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """The gradient without the parts that push against a bound."""
        blocked = ((x <= self.low) & (gradient > 0)) | ((x >= self.high) & (gradient < 0))
        return np.where(blocked, 0.0, gradient)

    def _stop_if_done(self, theta: np.ndarray, record: Record, norm: float) -> None:
        iteration = len(self.rows) - 1
        chi2 = self.problem.chi2(record.misfit)
        self.bar.update(iteration - self.bar.done, J=record.objective, gradient_norm=norm)
        if self.callback is not None and self.callback(
            Iteration(
                iteration,
                self.problem.physical(theta),
                record.objective,
                record.misfit,
                record.penalty,
                norm,
                chi2,
            )
        ):
            raise _Stop("stopped", f"stopped by the callback after {iteration} iterations")
        if self.settings["discrepancy"] and chi2 is not None and chi2 <= 1.0:
            raise _Stop("converged", f"the data are fitted to their errors: chi2 = {chi2:.3g}")
        first = self.rows[0]["gradient_norm"]
        if norm <= self.settings["tolerance"] * first:
            raise _Stop(
                "converged",
                f"gradient norm {norm:.2e}, {self.settings['tolerance']:.0e} of the first or less",
            )
        if iteration >= self.settings["max_iterations"]:
            raise _Stop(
                "max_iterations",
                f"{iteration} iterations done, gradient norm {norm:.2e}"
                f" ({norm / first:.1e} of the first)",
            )


def _run(
    problem: Problem,
    settings: dict[str, Any],
    journal: Evaluations | None,
    callback: Callable[[Iteration], Any] | None,
    progress: bool | None,
    throw: bool,
) -> xr.Dataset:
    bar = progress_bar(
        shown=progress, total=settings["max_iterations"], desc="inversion", unit="iterations"
    )
    run = _Run(problem, settings, journal, callback, bar)
    try:
        status, message = _optimise(run)
        if journal is not None and status != "interrupted":
            journal.finish()
    finally:
        bar.close()
    result = _result(run, status, message)
    if throw and status not in ("converged", "stopped"):
        raise ConvergenceError(f"the inversion ended with status {status!r}: {message}", result)
    return result


def _optimise(run: _Run) -> tuple[str, str]:
    from scipy.optimize import Bounds, minimize

    method = run.settings["method"]
    bounds = None
    if method == "L-BFGS-B":
        # With finite bounds throughout its first step is the gradient as it is given, not one of
        # length one, which could change a few cells by any amount.
        bounds = Bounds(np.maximum(run.low, -_FAR), np.minimum(run.high, _FAR))  # type: ignore
    elif np.any(np.isfinite(run.low)) or np.any(np.isfinite(run.high)):
        bounds = Bounds(run.low, run.high)  # type: ignore[arg-type]
    try:
        found = minimize(
            run.objective,
            np.clip(run.problem.initial * run.scale, run.low, run.high),
            jac=True,
            method=method,
            bounds=bounds,
            callback=run.accept,
            options=METHODS[method],
        )
    except _Stop as stop:
        return stop.status, stop.message
    except KeyboardInterrupt:
        if run.x is None:
            raise
        return "interrupted", f"interrupted after {len(run.rows) - 1} iterations"
    except (ConvergenceError, DataError) as error:
        # What the journal could not give is not the problem's.
        replayed = run.evaluations < run.recorded or run.warm is None
        if run.x is None or (isinstance(error, DataError) and replayed):
            raise
        return "failed", f"a trial step could not be evaluated: {error}"
    limit = f"the solves' tolerance, {run.problem.tolerance:.0e}, may be the limit"
    return "stalled", f"no further decrease was found ({str(found.message).strip()}); {limit}"


def _result(run: _Run, status: str, message: str) -> xr.Dataset:
    """The Dataset of a run, its state solved afresh at the last accepted iterate."""
    problem, record = run.problem, run.accepted
    assert run.x is not None
    assert record is not None
    model, engine = problem.model, problem.engine
    theta = run.x / run.scale
    m = problem.parameters(theta)
    solution = engine.solve(
        model, m, tolerance=problem.tolerance, max_iterations=problem.max_iterations
    )
    counts = observation_counts(problem.misfit)
    if counts.get(MISSING):
        message += f"; {counts[MISSING]} of {sum(counts.values())} observations are missing"
    chi2 = problem.chi2(record.misfit)
    message += fit(problem, chi2, status, run.settings["discrepancy"])
    variables, coordinates = parameter_variables(model, problem.known)
    state = solution.fields | model.outputs(solution.fields, m)
    for more in (
        control_variables(
            problem.controls, problem.physical(theta), problem.split(record.gradient)
        ),
        observation_variables(problem.misfit, state),
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
            **counts,
            config_json=text,
            # Arrays stand in the text by their own digests.
            inputs_sha256=hashlib.sha256(text.encode()).hexdigest(),
        ),
    )
