"""Cost of multigrid as the grid grows, and savings of an adaptive tolerance in an inversion.

Coarse levels have every other cell of an axis, wherever channels run: where those are thin and
their contrast strong, iterations do grow. The table of channels shows it beside pyamg, the faster
of its two methods, which choose the coarse cells by the coefficients.

"work" counts applications of the operator, those on coarse levels in proportion to their cells,
with set-up and checks; seconds are those of a cold solve, set-up included, the best of three.

The inversions are the doublet's twin experiment: 64 pressures with errors of 1 %, L-BFGS-B. Work is
counted until J first gets to 10, 3 and 1.2 times the last J of the run with solves to 1e-8.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import pyadjoint_gpu as pag
from pyadjoint_gpu import EmbeddedEngine

from .cases import channels, coefficients, darcy_2d, darcy_3d, matrix
from .machine import best, timed
from .peers import HIERARCHIES, Multigrid
from .report import markdown, size

FACTORS = (10.0, 3.0, 1.2)
CONTRASTS = (1e2, 1e3, 1e4, 1e6)


def run(*, quick: bool = False) -> dict[str, Any]:
    sizes = [(63, 127), (127, 255)]
    sizes += [] if quick else [(255, 511), (511, 1023), (1023, 2047)]
    grids = [darcy_2d(s) for s in sizes] + [darcy_3d(n) for n in ([16] if quick else [32, 64, 96])]
    solves = [
        {"shape": model.grid.shape, "case": name} | _solve(model, k)
        for model in grids
        for name, k in coefficients(model.grid)
    ]
    inversions = [
        _inversions(shape) for shape in ([(31, 63)] if quick else [(63, 127), (127, 255)])
    ]
    channels = [_channels(s, c) for s in sizes[1:4] for c in ([1e2] if quick else CONTRASTS)]
    return {"solves": solves, "channels": channels, "factors": FACTORS, "inversions": inversions}


def _solve(model: Any, k: np.ndarray) -> dict[str, Any]:
    engine = EmbeddedEngine(solver="multigrid")

    def solve() -> Any:
        found = engine.solve(model, {"permeability": k}, tolerance=1e-8, max_iterations=10**6)
        jax.block_until_ready(found.fields)
        return found

    solve()  # compiles
    seconds, found = best(solve)
    c = found.convergence
    return {
        "status": c.status,
        "solver": c.method,
        "iterations": c.iterations,
        "work": c.work,
        "seconds": seconds,
    }


def _channels(shape: tuple[int, int], contrast: float) -> dict[str, Any]:
    model = darcy_2d(shape)
    k = channels(model.grid, contrast)
    a, q = matrix(model.grid, k), model.source.ravel()
    row = {"shape": shape, "contrast": contrast} | _solve(model, k)
    peers = []
    for kind in HIERARCHIES:
        try:
            n = Multigrid(a, kind).iterations_for(q, 1e-8)
        except RuntimeError:
            continue
        peers.append((timed(lambda k=kind, n=n: Multigrid(a, k, (n, n)).forward(q))[0], n, kind))
    seconds, n, kind = min(peers)
    return row | {"pyamg": {"seconds": seconds, "iterations": n, "kind": kind}}


def _inversions(shape: tuple[int, int]) -> dict[str, Any]:
    model = darcy_2d(shape)
    points = [(b, a) for b in np.linspace(0.25, 0.85, 8) for a in np.linspace(-0.33, 0.33, 8)]
    truth = dict(coefficients(model.grid))["barrier"]
    data = pag.synthetic.observe(model, {"permeability": truth}, points, noise=0.01)
    runs = {}
    for tolerance in (1e-8, "adaptive"):
        problem = pag.Problem(
            model,
            pag.Control("permeability", 1.0, bounds=(1e-6, 1e2), transform="log"),
            pag.LeastSquares(data),
            pag.Smoothness("permeability", weight=1.0, length=0.1),
            tolerance=tolerance,
            engine="embedded",
        )
        result = pag.invert(problem, max_iterations=80, tolerance=1e-9, progress=False)
        runs[str(tolerance)] = (result["objective"].values, np.cumsum(result["work"].values))
    last = float(runs["1e-08"][0][-1])
    work = {
        name: [float(w[np.argmax(j <= f * last)]) if j.min() <= f * last else None for f in FACTORS]
        for name, (j, w) in runs.items()
    }
    return {"shape": shape, "work": work, "last": {k: float(j[-1]) for k, (j, _) in runs.items()}}


def tables(result: dict[str, Any]) -> str:
    rows = [
        [
            size(r),
            r["case"],
            f"{r['iterations']}",
            f"{r['work']:.0f}",
            f"{r['seconds'] * 1e3:.1f}",
            f"{r['seconds'] / np.prod(r['shape']) * 1e9:.0f}",
        ]
        for r in result["solves"]
    ]
    head = ["nx x ny (x nz)", "case", "iterations", "work", "ms", "ns a cell"]
    parts = ["Cold multigrid solves to a residual of 1e-8:", markdown(head, rows)]
    parts.append("Channels a few cells wide:")
    rows = []
    for r in result["channels"]:
        amg = r["pyamg"]
        rows.append(
            [
                size(r),
                f"{r['contrast']:.0e}",
                f"{r['iterations']}",
                f"{r['seconds']:.3f}",
                f"{amg['iterations']}",
                f"{amg['seconds']:.3f}",
                f"{amg['seconds'] / r['seconds']:.1f}",
            ]
        )
    head = ["nx x ny", "contrast", "iterations", "s", "pyamg iterations", "pyamg s", "ratio"]
    parts.append(markdown(head, rows))
    parts.append("Work of an inversion until J is at so many times the last J of the first run:")
    rows = []
    for r in result["inversions"]:
        fixed, adaptive = r["work"]["1e-08"], r["work"]["adaptive"]
        for factor, a, b in zip(result["factors"], fixed, adaptive, strict=True):
            texts = [f"{b:.0f}", f"{a / b:.1f}"] if b else ["not reached", ""]
            rows.append([size(r), f"{factor:g}", f"{a:.0f}", *texts])
    head = ["nx x ny", "J", "solves to 1e-8", "adaptive", "ratio"]
    return "\n\n".join([*parts, markdown(head, rows)])
