"""Time to a converged solve and to one gradient: ours, SuperLU and pyamg.

Each solves the same discrete Darcy problem to a residual of 1e-8 (max norm, relative to the
source) or less. "forward" is one solve, with all set-up that a new coefficient asks for
(preconditioner, factorisation, multigrid hierarchy); "gradient" is that, the adjoint solve (for
the peers with the same factors or hierarchy) and the product with dR/dm, for a J that is linear
in the pressures of some cells. Ours is multigrid; "pseudo-transient" is our reference, run once.
Not counted: JAX's compilation (one warm-up a grid, given apart) and the assembly of the peers'
matrix. Of pyamg's two multigrid methods both are measured, and the faster is shown.

A residual of 1e-8 is not the same error for every solver: smooth errors have small residuals.
So each row has the error of the pressure where the timed solve stopped, against SuperLU (pyamg
converged further, where that is skipped), and "agreed", the time of ours to a gradient when it
goes on to smaller residuals until both pressure and gradient are within 1e-6 (relative, max norm)
of the reference. pyamg must be, too, after up to ten iterations more. Anything else raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pyadjoint_gpu import EmbeddedEngine
from pyadjoint_gpu.models import Darcy

from .cases import adjoint_source, coefficients, matrix, models, sensitivity
from .machine import timed
from .peers import HIERARCHIES, Direct, Multigrid
from .report import markdown, size

TOLERANCE = 1e-8
AGREE = 1e-6
LIMIT = 10**6
MOST_BYTES, MOST_SECONDS = 8e9, 300.0
"""What SuperLU may take, as predicted from the last smaller grid."""
LEAST = 1e-13
"""Smallest residual that ours is asked for where it must agree with the others."""

Pair = tuple[np.ndarray, np.ndarray]
"""Pressure (flat) and dJ/dK."""


def run(*, quick: bool = False) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for model in models(quick=quick):
        compile_seconds = _warm_up(model, "multigrid")
        _warm_up(model, "pseudo-transient")
        for name, k in coefficients(model.grid):
            row = {"case": name, "shape": model.grid.shape, "compile_seconds": compile_seconds}
            row |= _one(model, k, _affordable(rows, name, model))
            rows.append(row)
            print(f"{size(row)} {name}: {row['ours']['forward']:.3g} s")
    return {"tolerance": TOLERANCE, "agree": AGREE, "rows": rows}


def _warm_up(model: Darcy, solver: str) -> float:
    """Seconds of the first, short, solve and gradient on this grid: compilation."""
    engine = EmbeddedEngine(solver=solver)
    m = {"permeability": np.ones(model.grid.shape)}
    options: dict[str, Any] = {"tolerance": TOLERANCE, "max_iterations": 1}

    def first() -> None:
        s = engine.solve(model, m, **options)
        bar = adjoint_source(model)
        back = None
        for _ in range(2):  # from nothing, and from an earlier one
            back = engine.adjoint(model, m, s, bar, initial=back, **options)

    return timed(first)[0]


def _one(model: Darcy, k: np.ndarray, affordable: bool) -> dict[str, Any]:
    """One row: all methods on one coefficient field."""
    assembly, a = timed(lambda: matrix(model.grid, k))
    bar = adjoint_source(model)
    q, b = model.source.ravel(), -bar["pressure"].ravel()

    def gradient(p: np.ndarray, multiplier: np.ndarray) -> Pair:
        shape = model.grid.shape
        return p, sensitivity(model.grid, p.reshape(shape), multiplier.reshape(shape))

    def peer(make: Callable[[], Direct | Multigrid]) -> tuple[dict[str, Any], Any, Pair]:
        def forward() -> tuple[Any, np.ndarray]:
            method = make()
            return method, method.forward(q)

        times, (method, _), found = _measure(forward, lambda s: gradient(s[1], s[0].adjoint(b)))
        return times, method, found

    out: dict[str, Any] = {"cells": model.grid.size, "assembly_seconds": assembly, "splu": None}
    reference = None
    if affordable:
        times, method, reference = peer(lambda: Direct(a))
        out["splu"] = times | {"bytes": method.nbytes}
    for kind in HIERARCHIES:
        amg = Multigrid(a, kind)
        n, m = (amg.iterations_for(rhs, TOLERANCE) for rhs in (q, b))
        times, _, found = peer(lambda kind=kind, n=n, m=m: Multigrid(a, kind, (n, m)))
        further = gradient(*(amg.solve(x, i + 10, tolerance=1e-10) for x, i in ((q, n), (b, m))))
        reference = reference or further
        _require(kind, further, reference)
        out[kind] = times | {"iterations": [n, m]} | _errors(found, reference)
    out["ours"] = _ours(model, k, bar, reference)
    out["pseudo-transient"] = _ours(model, k, bar, None)
    return out


def _ours(model: Darcy, k: np.ndarray, bar: Any, reference: Pair | None) -> dict[str, Any]:
    """Multigrid, or, without a reference to compare it with, the pseudo-transient iteration."""
    engine = EmbeddedEngine(solver="multigrid" if reference else "pseudo-transient")
    m = {"permeability": k}

    def solve(initial: Any = None, tolerance: float = TOLERANCE) -> Any:
        s = engine.solve(model, m, tolerance=tolerance, max_iterations=LIMIT, initial=initial)
        jax.block_until_ready(s.fields)
        return s

    def adjoint(state: Any, initial: Any = None, tolerance: float = TOLERANCE) -> Any:
        s = engine.adjoint(
            model, m, state, bar, tolerance=tolerance, max_iterations=LIMIT, initial=initial
        )
        jax.block_until_ready(s.gradient)
        return s

    out, state, back = _measure(solve, adjoint, 7 if reference else 1)
    for s in (state, back):
        if s.convergence.status != "converged":
            raise RuntimeError(s.convergence.message)
    iterations = [s.convergence.iterations for s in (state, back)]
    out |= {"iterations": iterations, "work": [s.convergence.work for s in (state, back)]}
    if reference is None:
        return out
    seconds, tolerance = out["gradient"], TOLERANCE
    found = _results(state, back)
    out |= _errors(found, reference)
    while max(_errors(found, reference).values()) > AGREE and tolerance > LEAST:
        tolerance /= 10.0
        ahead, state = timed(lambda s=state, t=tolerance: solve(s, t))
        behind, back = timed(lambda s=state, b=back, t=tolerance: adjoint(s, b, t))
        seconds, found = seconds + ahead + behind, _results(state, back)
    _require("ours", found, reference)
    return out | {"agreed": seconds, "agreed_tolerance": tolerance}


def _results(state: Any, back: Any) -> Pair:
    """Pressure and gradient."""
    return np.asarray(state.fields["pressure"]).ravel(), np.asarray(back.gradient["permeability"])


def _measure(
    forward: Callable[[], Any], gradient: Callable[[Any], Any], repeats: int = 7
) -> tuple[dict[str, Any], Any, Any]:
    """Shortest seconds of up to `repeats` runs (one, where it takes over 1 s), and the results."""
    ahead, back = [], []
    for _ in range(repeats):
        seconds, state = timed(forward)
        ahead.append(seconds)
        seconds, result = timed(lambda s=state: gradient(s))
        back.append(seconds)
        if sum(ahead) + sum(back) > 1.0:
            break
    return {"forward": min(ahead), "gradient": min(ahead) + min(back)}, state, result


def _errors(found: Pair, reference: Pair) -> dict[str, float]:
    """Relative, in the max norm, of pressure and gradient."""
    return {
        name: float(np.max(np.abs(x - y)) / np.max(np.abs(y)))
        for name, x, y in zip(("error", "gradient_error"), found, reference, strict=True)
    }


def _require(name: str, found: Pair, reference: Pair) -> None:
    errors = [*_errors(found, reference).values()]
    if not max(errors) <= AGREE:
        raise AssertionError(f"{name}: pressure and gradient differ by {errors}, expected {AGREE}")


def _affordable(rows: list[dict[str, Any]], name: str, model: Darcy) -> bool:
    """SuperLU fits the limits, judged from the same case on the last smaller grid; in 3-D time
    grows with the square of the number of cells and memory with its power 4/3."""
    n = model.grid.size
    for row in reversed(rows):
        if row["case"] == name and len(row["shape"]) == model.grid.ndim and row["splu"]:
            growth = n / row["cells"]
            seconds = row["splu"]["gradient"] * growth**2
            return seconds <= MOST_SECONDS and row["splu"]["bytes"] * growth ** (4 / 3) < MOST_BYTES
    return True


def _peers(row: dict[str, Any]) -> dict[str, Any]:
    """SuperLU (None where skipped), the faster of pyamg's methods, and our reference."""
    amg = min((row[kind] for kind in HIERARCHIES), key=lambda r: r["gradient"])
    return {"splu": row["splu"], "pyamg": amg, "PT": row["pseudo-transient"]}


def tables(result: dict[str, Any]) -> str:
    intro = (
        f"Seconds to a residual of {result['tolerance']:g} (max norm, relative); in brackets how"
        ' many times ours the peer takes (above 1: ours is faster). "agreed": ours, until'
        f' pressure and gradient are within {result["agree"]:g} of the reference. "error": of'
        " the pressure where the timed solve stopped. Ours is multigrid; PT the pseudo-transient"
        " iteration."
    )
    head = ["nx x ny (x nz)", "case", "iterations"]
    head += [f"{kind}: {who}" for kind in ("forward", "gradient") for who in WHO]
    head += ["agreed: ours", "error: ours", "error: pyamg", "compile"]
    rows = []
    for r in result["rows"]:
        ours, peers = r["ours"], _peers(r)
        cells = [size(r), r["case"], "{} + {}".format(*ours["iterations"])]
        for kind in ("forward", "gradient"):
            cells.append(f"{ours[kind]:.3g}")
            for peer in peers.values():
                ratio = f"{peer[kind]:.3g} ({peer[kind] / ours[kind]:.2f})" if peer else "skipped"
                cells.append(ratio)
        cells += [f"{ours['agreed']:.3g}", f"{ours['error']:.0e}", f"{peers['pyamg']['error']:.0e}"]
        rows.append([*cells, f"{r['compile_seconds']:.2g}"])
    return f"{intro}\n\n{markdown(head, rows)}\n\n{losses(result['rows'])}"


WHO = ("ours", "splu", "pyamg", "PT")


def losses(rows: list[dict[str, Any]]) -> str:
    """One line: where a peer is faster, and by what factors."""
    parts = []
    for kind in ("forward", "gradient"):
        for who in WHO[1:]:
            factors: dict[str, list[float]] = {}
            for row in rows:
                if peer := _peers(row)[who]:
                    factors.setdefault(size(row), []).append(row["ours"][kind] / peer[kind])
            grids = []
            for grid, values in factors.items():
                lost = [f"{v:.1f}" for v in sorted(values) if v > 1.0]
                if lost:
                    span = lost[0] if len(lost) == 1 else f"{lost[0]} to {lost[-1]}"
                    grids.append(f"{grid}: {len(lost)} of {len(values)} cases, {span} times")
            if grids:
                parts.append(f"{kind} to {who} ({'; '.join(grids)})")
    return "Where we lose: " + ("; ".join(parts) or "nowhere") + "."
