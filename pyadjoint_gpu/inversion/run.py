"""A run of an optimiser: evaluations, Hessian products, iterates, and stopping criteria."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.errors import ConvergenceError, ConvergenceWarning, DataError, warn
from ..core.progress import Task
from ..problem.evaluation import Evaluation
from ..problem.hessian import Hessian
from ..problem.problem import Problem
from .adaptive import evaluate
from .journal import Evaluations, Multiplied, Record, digest
from .optimisers import NEWTON
from .variables import variables

REFUSALS = 10
"""Number of trial steps in a row that cannot be evaluated, after which the inversion fails."""


@dataclass(frozen=True)
class Iteration:
    """An accepted iterate, the argument of callbacks.

    Attributes
    ----------
    iteration : int
        Its number; the start has 0.
    controls : dict
        Physical fields by control, and the ``noise_scale`` where it is unknown.
    objective, misfit, penalty : float
        J and its parts.
    gradient_norm : float
        L2 norm over the domain of the (projected) gradient.
    chi2 : float or None
        |w|^2 / n of n data, w their whitened residuals.
    """

    iteration: int
    controls: dict[str, Float[np.ndarray, "*shape"]]
    objective: float
    misfit: float
    penalty: float
    gradient_norm: float
    chi2: float | None


class Stop(Exception):
    """Ends the optimiser from within; its arguments are the run's status and message."""


class Run:
    """The objective in an optimiser's `Variables`, in units of `Variables.unit`, with records of
    evaluations, Hessian products and iterates."""

    def __init__(
        self,
        problem: Problem,
        settings: dict[str, Any],
        journal: Evaluations | None,
        callback: Callable[[Iteration], object] | None,
        bar: Task,
    ):
        self.problem, self.settings, self.callback, self.bar = problem, settings, callback, bar
        self.journal = journal
        self.recorded = journal.count if journal else 0
        self.multiplied = journal.products if journal else 0
        self.variables = variables(problem, smooth=settings["method"] == NEWTON)
        self.unit = 1.0  # unit of J, set by the first evaluation
        self.evaluations = self.products = 0
        self.warm: Evaluation | None = None
        self.here = ""  # digest of the theta of the last evaluation
        self.hessian: Hessian | None = None
        self.refused = 0  # trial steps in a row
        # Forward and adjoint iterations, seconds and work since the last iterate.
        self.since = np.zeros(4)
        self.pending: dict[str, Record] = {}
        self.rows: list[dict[str, float]] = []
        self.x: Float[np.ndarray, " n"] | None = None  # last accepted
        self.accepted: Record | None = None

    def objective(self, x: Float[np.ndarray, " n"]) -> tuple[float, Float[np.ndarray, " n"]]:
        """J and its gradient, from the journal as far as it goes."""
        theta = self.variables.theta(x)
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
        self.here, self.hessian = digest(theta), None
        self.pending[self.here] = record
        if self.x is None:
            self.unit = self.variables.unit(record.gradient)
            self.accept(x)
        return record.objective / self.unit, self.variables.gradient(record.gradient) / self.unit

    def product(
        self, x: Float[np.ndarray, " n"], p: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """The product of J's Hessian at x with p, from the journal as far as it goes."""
        theta, v = self.variables.theta(x), self.variables.change(p)
        if digest(theta) != self.here:
            self.objective(x)  # its solves are not in memory, nor in the journal
        if self.products < self.multiplied:
            assert self.journal is not None
            record = self.journal.product(self.products, theta, v)
        else:
            record = self._multiply(theta, v)
        self.products += 1
        self.since += (
            record.forward_iterations,
            record.adjoint_iterations,
            record.wall_time,
            record.work,
        )
        return self.variables.gradient(record.vector) / self.unit

    def _multiply(self, theta: Float[np.ndarray, " n"], v: Float[np.ndarray, " n"]) -> Multiplied:
        start = time.perf_counter()
        if self.warm is None and self.journal is not None:
            self.warm = self.journal.latest()
        assert self.warm is not None
        if self.hessian is None:
            self.hessian = self.problem.hessian(theta, self.warm)
        record = Multiplied.of(self.hessian.product(v), time.perf_counter() - start)
        if self.journal is not None:
            self.journal.append_product(theta, v, record)
        return record

    def _evaluate(self, theta: Float[np.ndarray, " n"]) -> Record:
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

    def _refusal(self, theta: Float[np.ndarray, " n"], error: Exception) -> Evaluation:
        """An evaluation in place of one that failed, which makes the optimiser try a shorter step:
        J is as much above that of the last iterate as the gradient there predicted it below."""
        self.refused += 1
        if self.x is None or self.accepted is None or self.warm is None or self.refused > REFUSALS:
            raise error
        warn(
            f"a trial step could not be evaluated, a shorter one is tried: {error}",
            ConvergenceWarning,
        )
        here = self.accepted
        rise = abs(float(here.gradient @ (theta - self.variables.theta(self.x))))
        return replace(
            self.warm, objective=here.objective + rise, penalty=0.0, gradient=-here.gradient
        )

    def _solve(self, theta: Float[np.ndarray, " n"]) -> Evaluation:
        if not self.problem.adaptive:
            return self.problem.evaluate(theta, initial=self.warm)
        x, last = self.variables.of(theta), [row["objective"] for row in self.rows[-2:]]
        decrease = last[0] - last[1] if len(last) == 2 else None
        return evaluate(
            self.problem,
            theta,
            initial=self.warm,
            decrease=decrease,
            norm=lambda g: float(np.linalg.norm(self._projected(x, g))),
        )

    def accept(self, x: Float[np.ndarray, " n"], *_: object) -> None:
        """Record an iterate, and raise `Stop` if a criterion holds; the callback of scipy."""
        theta = self.variables.theta(np.array(x))
        record = self.pending.get(digest(theta))
        if record is None:  # some methods round x: take the last one evaluated
            record = next(reversed(self.pending.values()))
        step = 0.0 if self.x is None else float(np.linalg.norm(x - self.x))
        if self.rows and step == 0.0:
            return  # some methods report their start, or a step of length zero
        self.pending = {digest(theta): record}
        self.x, self.accepted = np.array(x), record
        norm = float(np.linalg.norm(self._projected(x, record.gradient)))
        seconds = self.since[2] + (self.rows[-1]["wall_time"] if self.rows else 0.0)
        self.rows.append(
            {
                "objective": record.objective,
                "misfit": record.misfit,
                "penalty": record.penalty,
                "gradient_norm": norm,
                "step_length": step,
                "evaluations": self.evaluations,
                "products": self.products,
                "forward_iterations": self.since[0],
                "adjoint_iterations": self.since[1],
                "work": self.since[3],
                "wall_time": seconds,
            }
        )
        self.since = np.zeros(4)
        self._stop_if_done(theta, record, norm)

    def _projected(
        self, x: Float[np.ndarray, " n"], by_theta: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """The gradient by x without components that point out of the bounds."""
        of, gradient = self.variables, self.variables.gradient(by_theta)
        blocked = ((x <= of.low) & (gradient > 0)) | ((x >= of.high) & (gradient < 0))
        return np.where(blocked, 0.0, gradient)

    def _stop_if_done(self, theta: Float[np.ndarray, " n"], record: Record, norm: float) -> None:
        iteration = len(self.rows) - 1
        chi2 = self.problem.chi2(record.misfit, theta)
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
            raise Stop("stopped", f"stopped by the callback after {iteration} iterations")
        if self.settings["discrepancy"] and chi2 is not None and chi2 <= 1.0:
            raise Stop("converged", f"the data are fitted to their errors: chi2 = {chi2:.3g}")
        first = self.rows[0]["gradient_norm"]
        if norm <= self.settings["tolerance"] * first:
            raise Stop(
                "converged",
                f"gradient norm {norm:.2e}, {self.settings['tolerance']:.0e} of the first or less",
            )
        if iteration >= self.settings["max_iterations"]:
            raise Stop(
                "max_iterations",
                f"{iteration} iterations done, gradient norm {norm:.2e}"
                f" ({norm / first:.1e} of the first)",
            )
