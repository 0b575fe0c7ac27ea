"""Solves that optimisers need: L-BFGS-B and Newton's method on three inversions.

A solve is one of dR/du or its transpose: an evaluation of J with its gradient has two, a Hessian
product two. What counts is J above the lowest value that either reaches, in nats: where priors or
penalties state what is known, within 0.1 is the same answer. Both go on until the gradient is 1e-6
of the first, each in its own variable, or to the limit of iterations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.problem.specification import build_problem
from pyadjoint_gpu.runfiles.schema import read

from .report import markdown
from .uncertainty import channel

EXAMPLES = Path(__file__).parents[1] / "examples"
METHODS = ("L-BFGS-B", "newton-cg")
ABOVE = (10.0, 1.0, 0.1, 0.01)
MOST = 800


def run(*, quick: bool = False) -> dict[str, Any]:
    cases = {"geothermal doublet, 127 x 63": lambda: geothermal(63)}
    if quick:
        cases = {"geothermal doublet, 31 x 15": lambda: geothermal(15)}
    else:
        cases |= {
            "geothermal doublet, 255 x 127": lambda: geothermal(127),
            "Wolfcamp aquifer, 96 x 64": wolfcamp,
            "Matern prior, 256 x 128": lambda: channel(128),
        }
    return {"rows": [_case(name, make) for name, make in cases.items()]}


def geothermal(n: int) -> pag.Problem:
    """examples/geothermal.py without bounds, which Newton's method does not keep."""
    grid = pag.Grid((n, 2 * n + 1), (1.0, 2.0), origin=(0.0, -1.0), units="km")
    wells = [pag.Well((0.45, -0.6), 1.0), pag.Well((0.45, 0.6), -1.0)]
    model = pag.models.Darcy(grid, wells=wells, pressure_units="MPa")
    y, x = np.meshgrid(*grid.centers, indexing="ij")
    truth = np.where((abs(x) < 0.04) & (y > 0.3) & (y < 0.8), 1e-6, 1.0)
    points = [(py, px) for py in np.linspace(0.25, 0.85, 8) for px in np.linspace(-1 / 3, 1 / 3, 8)]
    data = pag.synthetic.observe(model, {"permeability": truth}, points, noise=0.01)
    return pag.Problem(
        model,
        pag.Control("permeability", 1.0, transform="log"),
        pag.LeastSquares(data),
        pag.Smoothness("permeability", weight=3.0, length=0.1),
    )


def wolfcamp() -> pag.Problem:
    """The run file of examples/wolfcamp."""
    return build_problem(read(EXAMPLES / "wolfcamp" / "wolfcamp.toml", []).tables())


def _case(name: str, make: Callable[[], pag.Problem]) -> dict[str, Any]:
    found = {}
    for method in METHODS:
        problem = make()
        start = time.process_time()
        result = pag.invert(
            problem, method=method, max_iterations=MOST, tolerance=1e-6, progress=False
        )
        found[method] = (result, time.process_time() - start)
    lowest = min(float(result["objective"].min()) for result, _ in found.values())
    return {
        "name": name,
        "start": float(found[METHODS[0]][0]["objective"][0]) - lowest,
        "lowest": lowest,
        "methods": {
            method: {
                "solves": [solves(result, lowest + above) for above in ABOVE],
                "all": _solves(result)[-1].item(),
                "status": result.attrs["status"],
                "above": float(result["objective"].min()) - lowest,
                "seconds": seconds,
            }
            for method, (result, seconds) in found.items()
        },
    }


def _solves(result: xr.Dataset) -> np.ndarray:
    return 2 * (result["evaluations"].values + result["products"].values)


def solves(result: xr.Dataset, level: float) -> int | None:
    """Solves until J is below a level; None if it never is."""
    below = np.flatnonzero(result["objective"].values <= level)
    return _solves(result)[below[0]].item() if below.size else None


def tables(result: dict[str, Any]) -> str:
    rows = []
    for case in result["rows"]:
        for method, found in case["methods"].items():
            ends = f"{found['all']:.0f} ({found['status']})"
            counts = [f"{k:.0f}" if k is not None else "not reached" for k in found["solves"]]
            above = f"{found['above']:.0e}"
            rows.append([case["name"], method, *counts, ends, above, f"{found['seconds']:.0f}"])
    head = ["inversion", "method", *(f"J within {k:g}" for k in ABOVE)]
    return "Solves until J is within some nats of the lowest:\n\n" + markdown(
        [*head, "all", "J above the lowest at the end", "CPU s"], rows
    )
