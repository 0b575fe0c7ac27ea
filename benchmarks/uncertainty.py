"""Inversions with a prior as the grid grows, and the posterior at their minimum.

Darcy's flow between two sides of given pressure, ln K a Matern field of standard deviation one and
length 0.3 on a box of 1 x 2, 50 pressures with errors of 1 %. L-BFGS-B iterates to a gradient of
1e-3 and of 1e-6 of the first, in the whitened variable, as `invert` does where every control has a
prior, and in theta itself, whose typical changes are scaled to one, at the same J; each is judged
by its own gradient, in 600 iterations at most. `laplace` then has rank 40.
"""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import patch

import numpy as np

import pyadjoint_gpu as pag
from pyadjoint_gpu.inversion import run as runs
from pyadjoint_gpu.inversion.variables import Scaled

from .report import markdown, size

LEVELS = (1e-3, 1e-6)
MOST = 600
RANK = 40


def run(*, quick: bool = False) -> dict[str, Any]:
    sizes = [16, 32] if quick else [32, 64, 128, 256, 512]
    return {"rows": [_case(n, slow=not quick and n <= 128) for n in sizes], "rank": RANK}


def _case(n: int, *, slow: bool) -> dict[str, Any]:
    """One size; the variable of theta where it does not take too long."""
    problem = channel(n, tolerance=1e-13)
    start = time.process_time()
    result, whitened = _inverted(problem)
    seconds = time.process_time() - start
    scaled = None
    if slow:
        with patch.object(runs, "variables", lambda problem, **_: Scaled(problem)):
            scaled = _inverted(problem)[1]
    start = time.process_time()
    post = pag.laplace(problem, result, rank=RANK, progress=False)
    return {
        "shape": problem.model.grid.shape,
        "whitened": whitened,
        "scaled": scaled,
        "seconds": seconds,
        "laplace_seconds": time.process_time() - start,
        "solves": int(post.attrs["solves"]),
        "gain": float(post.attrs["information_gain"]),
        "log_evidence": float(post.attrs["log_evidence"]),
    }


def channel(n: int, tolerance: float = 1e-8) -> pag.Problem:
    """The inversion, on n x 2 n cells."""
    grid = pag.Grid((n, 2 * n), (1.0, 2.0))
    model = pag.models.Darcy(grid, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
    points = [(y, x) for y in np.linspace(0.1, 0.9, 5) for x in np.linspace(0.1, 1.9, 10)]
    truth = {"permeability": lambda y, x: np.exp(np.sin(5 * x) * np.cos(4 * y))}
    data = pag.synthetic.observe(model, truth, points, noise=0.01)
    prior = pag.Matern(sd=1.0, length=0.3)
    control = pag.Control("permeability", 1.0, transform="log", prior=prior)
    return pag.Problem(model, control, pag.LeastSquares(data), tolerance=tolerance)


def _inverted(problem: pag.Problem) -> tuple[Any, list[int | None]]:
    result = pag.invert(problem, max_iterations=MOST, tolerance=LEVELS[-1], progress=False)
    norms = result["gradient_norm"].values
    below = [np.flatnonzero(norms <= level * norms[0]) for level in LEVELS]
    return result, [int(found[0]) if found.size else None for found in below]


def tables(result: dict[str, Any]) -> str:
    def counts(found: list[int | None] | None) -> list[str]:
        if found is None:
            return ["not run"] * len(LEVELS)
        return [f"{k}" if k is not None else "not reached" for k in found]

    rows = [
        [
            size(r),
            *counts(r["whitened"]),
            *counts(r["scaled"]),
            f"{r['seconds']:.0f}",
            f"{r['solves']}",
            f"{r['laplace_seconds']:.1f}",
            f"{r['gain']:.2f}",
            f"{r['log_evidence']:.2f}",
        ]
        for r in result["rows"]
    ]
    head = [
        "nx x ny",
        *(f"whitened, {k:.0e}" for k in LEVELS),
        *(f"theta, {k:.0e}" for k in LEVELS),
    ]
    head += ["CPU s", "laplace: solves", "CPU s", "gain (nats)", "ln Z"]
    return "Iterations of L-BFGS-B, and `laplace` of rank 40:\n\n" + markdown(head, rows)
