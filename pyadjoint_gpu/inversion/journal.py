"""Journals of inversions: every evaluation and Hessian product, and the state from which the next
one starts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.errors import DataError
from ..core.journal import Journal
from ..engines.solutions import Adjoint, Solution
from ..problem.evaluation import Evaluation
from ..problem.hessian import Product
from ..problem.problem import Problem
from ..problem.specification import plain, problem_parts, specification
from ..solvers import Convergence, Spectrum

SETTINGS = ("method", "tolerance", "discrepancy")
"""Settings on which the iterates of an optimiser depend."""
NONE = np.empty((0, 2))
"""An empty history of a solve: later solves do not use it."""


@dataclass(frozen=True)
class Record:
    """The numbers of one evaluation that a restarted optimiser needs."""

    objective: float
    misfit: float
    penalty: float
    gradient: Float[np.ndarray, " n"]
    wall_time: float
    forward_iterations: int
    adjoint_iterations: int
    work: float

    @classmethod
    def of(cls, evaluation: Evaluation, wall_time: float) -> Record:
        assert evaluation.adjoint is not None
        forward, backward = evaluation.solution.convergence, evaluation.adjoint.convergence
        return cls(
            evaluation.objective,
            evaluation.misfit,
            evaluation.penalty,
            np.asarray(evaluation.gradient),
            wall_time,
            forward.iterations,
            backward.iterations,
            forward.work + backward.work,
        )


@dataclass(frozen=True)
class Multiplied:
    """A Hessian product, and the numbers of its two solves that a history needs."""

    vector: Float[np.ndarray, " n"]
    wall_time: float
    forward_iterations: int
    adjoint_iterations: int
    work: float

    @classmethod
    def of(cls, product: Product, wall_time: float) -> Multiplied:
        tangent, adjoint = product.tangent, product.adjoint
        work = tangent.work + adjoint.work
        return cls(product.vector, wall_time, tangent.iterations, adjoint.iterations, work)


def digest(*vectors: Float[np.ndarray, " n"]) -> str:
    """SHA-256 of the exact bits of theta, or of theta and a direction."""
    bits = (np.ascontiguousarray(v, dtype="<f8").tobytes() for v in vectors)
    return hashlib.sha256(b"".join(bits)).hexdigest()


class Evaluations(Journal):
    """Records of evaluations and Hessian products, the state of the last evaluation, from which the
    next one and products start, and the number of records when the run last finished."""

    kind = "a journal of evaluations"
    goes_on = "the same call, or `resume`,"
    records = ("evaluations", "products")
    slots = ("state", "end")

    @property
    def told(self) -> str:
        kind = "a journal" if self.finished else "an unfinished journal"
        return f"{kind} of {self.count} evaluations, which `resume` goes on with,"

    @property
    def count(self) -> int:
        return self.count_of("evaluations")

    @property
    def products(self) -> int:
        return self.count_of("products")

    @property
    def finished(self) -> bool:
        """True if the run that wrote the journal has finished."""
        end = self.last("end")
        return end is not None and end[0] == self.count + self.products

    def finish(self) -> None:
        """Mark the run as finished."""
        if not self.finished:
            self.put(end=(self.count + self.products, None))

    @property
    def settings(self) -> dict[str, Any]:
        return self.given(1, "what the optimiser was told")

    def problem(self) -> dict[str, Any] | None:
        """The tables of a run file that rebuild the problem; None if it has a user's code."""
        more = f"; its {self.count} evaluations go on with it given anew: resume(journal, problem)"
        return self.given(2, "the problem", more)

    def config(self, max_iterations: int | None = None) -> tuple[str, int] | None:
        """The ``config_json`` of the result, and its largest number of iterations; None for a
        problem with a user's code."""
        tables = self.problem()
        settings = self.settings
        if max_iterations is not None:
            settings["max_iterations"] = max_iterations
        return None if tables is None else (config(tables, settings), settings["max_iterations"])

    def record(self, k: int, theta: Float[np.ndarray, " n"]) -> Record:
        """Record k, an evaluation at `theta`.

        Raises
        ------
        DataError
            If it is an evaluation at another theta: the journal belongs to another problem.
        """
        mark, found = self._record(k)
        if mark != digest(theta):
            raise DataError(
                f"{self.path}: evaluation {k} is of other controls; the problem, the method or the"
                " versions differ from the run that wrote it"
            )
        return found

    def _record(self, k: int) -> tuple[str, Record]:
        mark, found = self.row(
            "evaluations",
            k,
            f"damaged, evaluation {{k}} of {self.count} is not the one that was written; the {{k}}"
            " before it are whole: take the file from a backup, or start anew (overwrite=True,"
            " --overwrite)",
        )
        return mark, Record(**found)

    def append(
        self, theta: Float[np.ndarray, " n"], evaluation: Evaluation, record: Record
    ) -> None:
        """Add one evaluation, which counts when it is wholly on disk."""
        k, adjoint = self.count, evaluation.adjoint
        assert adjoint is not None
        state = {
            "fields": {n: np.asarray(v) for n, v in evaluation.solution.fields.items()},
            "multiplier": {n: np.asarray(v) for n, v in adjoint.multiplier.items()},
            "gradient": {n: np.asarray(v) for n, v in adjoint.gradient.items()},
            "forward": asdict(replace(evaluation.solution.convergence, history=NONE)),
            "adjoint": asdict(replace(adjoint.convergence, history=NONE)),
            "tolerance": evaluation.tolerance,
        }
        self.put(state=(k, state), evaluations=(k, [digest(theta), asdict(record)]))

    def product(
        self, k: int, theta: Float[np.ndarray, " n"], v: Float[np.ndarray, " n"]
    ) -> Multiplied:
        """Record k of the Hessian products, that at `theta` with `v`.

        Raises
        ------
        DataError
            If it is another product: the journal belongs to another problem.
        """
        mark, found = self.row("products", k, "damaged, Hessian product {k} is not as written")
        if mark != digest(theta, v):
            raise DataError(
                f"{self.path}: Hessian product {k} is another; the problem, the method or the"
                " versions differ from the run that wrote it"
            )
        return Multiplied(**found)

    def append_product(
        self, theta: Float[np.ndarray, " n"], v: Float[np.ndarray, " n"], record: Multiplied
    ) -> None:
        """Add one Hessian product, which counts when it is wholly on disk."""
        self.put(products=(self.products, [digest(theta, v), asdict(record)]))

    def latest(self) -> Evaluation | None:
        """The last evaluation, as a start for the next one and for products."""
        k = self.count - 1
        if k < 0:
            return None
        record = self._record(k)[1]
        state = self.row(
            "state",
            k,
            "damaged, the state of evaluation {k} is not the one that was written, and nothing goes"
            f" on from it; max_iterations up to what its {k + 1} evaluations reach gives a result"
            " still",
        )
        return Evaluation(
            record.objective,
            record.misfit,
            record.penalty,
            record.gradient,
            Solution(state["fields"], _convergence(state["forward"])),
            Adjoint(state["gradient"], state["multiplier"], _convergence(state["adjoint"])),
            state["tolerance"],
        )


def started(
    path: str | Path, problem: Problem, settings: dict[str, Any], overwrite: bool = False
) -> Evaluations:
    """The journal at `path` of the same problem and settings, whatever its largest number of
    iterations and its title; a new one if there is none, or with `overwrite`."""
    return Evaluations.start(
        path,
        lambda: made_with(problem, settings),
        given=[settings, specification(problem)],
        overwrite=overwrite,
    )


def done_in(
    path: str | Path, problem: Problem, settings: dict[str, Any], overwrite: bool = False
) -> int:
    """The number of evaluations that `invert` with these arguments would find in its journal."""
    book = Evaluations.found(path, lambda: made_with(problem, settings), overwrite=overwrite)
    if book is None:
        return 0
    with book:
        return book.count


def _convergence(found: dict[str, Any]) -> Convergence:
    if found["spectrum"] is not None:
        found["spectrum"] = Spectrum(**found["spectrum"])
    return Convergence(**found)


def made_with(problem: Problem, settings: dict[str, Any]) -> dict[str, Any]:
    """The inputs on which an inversion's iterates depend, by name."""
    return problem_parts(problem) | {k: settings[k] for k in SETTINGS}


def inputs(problem: Problem, settings: dict[str, Any]) -> str:
    """The ``config_json`` of an inversion's result."""
    return config(specification(problem) or {"model": {"name": problem.model.name}}, settings)


def config(tables: dict[str, Any], settings: dict[str, Any]) -> str:
    """`inputs` from the tables that rebuild the problem."""
    inversion = {k: v for k, v in settings.items() if k != "title"}
    return json.dumps(plain(tables) | {"inversion": inversion}, sort_keys=True)
