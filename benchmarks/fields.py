"""Chains with a flow on a field, as its grid is refined.

ln K of a Darcy problem on 12 x 18 to 48 x 72 cells, under one Matern prior, from the same 16
pressures, synthetic on the finest grid. The flow has the directions that the data inform, and all
others are drawn from the prior: the acceptance of its proposals is to stay as it is.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

import pyadjoint_gpu as pag

from .report import markdown

GRIDS = (12, 18), (24, 36), (48, 72)
NOISE = 0.05
"""Of the pressures, relative."""


def run(*, quick: bool = False) -> dict[str, Any]:
    prior = pag.Matern(sd=1.0, length=0.6)  # of ln K; km
    truth = np.exp(prior.on(pag.Grid(GRIDS[-1], (2.0, 3.0))).draw(seed=5)[0])
    points = [(y, x) for y in (0.3, 0.8, 1.2, 1.7) for x in (0.4, 1.1, 1.9, 2.6)]
    data = pag.synthetic.observe(
        _model(GRIDS[-1]), {"permeability": truth}, np.array(points), noise=NOISE
    )
    rows = []
    for shape in GRIDS[: 1 if quick else None]:
        control = pag.Control("permeability", 1.0, transform="log", prior=prior)
        misfit = pag.LeastSquares(data)
        problem = pag.Problem(_model(shape), control, misfit, max_iterations=2000)
        began = time.perf_counter()
        with warnings.catch_warnings():
            # That so few draws of so few chains disagree.
            warnings.simplefilter("ignore")
            attrs = pag.sample(
                problem, method="flow", rounds=1 if quick else 3, draws=110, progress=False
            ).attrs
        names = "global_acceptance", "gradients", "r_hat", "ess_bulk"
        row = {name: float(attrs[name]) for name in names}
        rows.append({"grid": list(shape), "seconds": time.perf_counter() - began, **row})
        print(rows[-1], flush=True)
    return {"rows": rows}


def _model(shape: tuple[int, int]) -> Any:
    grid = pag.Grid(shape, (2.0, 3.0), units="km")
    wells = [pag.Well((1.0, 0.9), 0.5), pag.Well((1.1, 2.2), -0.5)]
    return pag.models.Darcy(grid, wells, fixed_pressure={"y_min": 0.0}, pressure_units="MPa")


def tables(result: dict[str, Any]) -> str:
    table = [
        [
            " x ".join(map(str, row["grid"])),
            f"{row['global_acceptance']:.2f}",
            f"{row['gradients']:.0f}",
            f"{row['seconds']:.0f}",
            f"{row['r_hat']:.2f}",
            f"{1000 * row['ess_bulk'] / row['gradients']:.2g}",
        ]
        for row in result["rows"]
    ]
    head = ["cells", "acceptance", "gradients", "s", "R-hat", "least ESS per 1000 gradients"]
    return markdown(head, table)
