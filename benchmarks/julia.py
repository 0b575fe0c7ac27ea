"""The Julia engine's CPU backend: throughput, adjoint against forward, Python's share, ranks.

- Throughput: T_eff of a whole solve (set-up, checks and all), forward and adjoint, beside a
  STREAM triad in Julia measured in turn with them. A_eff counts u and V read and written, and
  1/PC and every coefficient read; forward and adjoint each by what they read.
- Beside the published workshop scheme (`julia_workshop.jl`): iterations and time to the same
  residual, ||R||_max / ||R(0)||_max = 1e-6.
- Python's share: a gradient (solve and adjoint at other parameters each time) called through
  Python and in Julia alone.
- Weak scaling: one iteration on 1 and on 2 ranks, one thread and the same number of cells each.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import pyadjoint_gpu as pag

from .cases import coefficients, darcy_2d
from .report import markdown

WORKSHOP = Path(__file__).with_name("julia_workshop.jl")
RESIDUAL = 1e-6


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure; skipped, with the reason, where there is no Julia."""
    try:
        engine = pag.JuliaEngine(backend="threads")
    except pag.EngineError as error:
        return {"skipped": str(error)}
    from pyadjoint_gpu.engines.julia.engine import _start

    julia = _start()
    julia.seval(f'include("{WORKSHOP}")')
    out: dict[str, Any] = {"info": engine.info()}
    shapes = [(63, 127), (16, 16, 16)] if quick else [(1023, 2047), (128, 128, 128)]
    out["throughput"] = [_throughput(engine, julia, shape) for shape in shapes]
    size = (63, 127) if quick else (255, 511)
    out["workshop"] = [
        _workshop(engine, julia, size, case, k)
        for case, k in coefficients(darcy_2d(size).grid)
        if case in ("homogeneous", "barrier", "white noise, std 1")
    ]
    out["overhead"] = _overhead(engine, julia, size)
    out["ranks"] = _ranks((127, 127) if quick else (1023, 1023))
    return out


def _box(shape: tuple[int, ...]) -> pag.models.Darcy:
    """A doublet in a box of unit cells."""
    grid = pag.Grid(shape, tuple(float(n) for n in shape))
    places = [[0.45 * n for n in shape[:-1]] + [f * shape[-1]] for f in (0.2, 0.8)]
    return pag.models.Darcy(grid, [pag.Well(places[0], 1.0), pag.Well(places[1], -1.0)])


def _throughput(engine: Any, julia: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    model = _box(shape)
    m = model.fields({"permeability": np.exp(np.random.default_rng(0).standard_normal(shape))})
    source = {"pressure": np.random.default_rng(1).standard_normal(shape)}
    options = {"tolerance": 1e-8, "max_iterations": 2 * max(shape) if len(shape) == 2 else 100_000}
    engine.solve(model, m, tolerance=1e-8, max_iterations=20)  # compiled
    first = engine.solve(model, m, tolerance=1e-8, max_iterations=20)
    engine.adjoint(model, m, first, source, tolerance=1e-8, max_iterations=20)
    rows: dict[str, list[float]] = {"triad": [], "forward": [], "adjoint": []}
    seconds: dict[str, list[float]] = {"forward": [], "adjoint": []}
    for repeat in range(2):
        rows["triad"] += [float(t) for t in julia.triad(2**25, 5)]
        changed = {"permeability": (1.0 + 0.01 * repeat) * m["permeability"]}  # nothing is reused
        state = engine.solve(model, changed, **options)
        rows["triad"] += [float(t) for t in julia.triad(2**25, 5)]
        start = time.perf_counter()
        back = engine.adjoint(model, changed, state, source, **options)
        whole = time.perf_counter() - start
        for name, c in (("forward", state.convergence), ("adjoint", back.convergence)):
            rows[name].append(c.throughput)
            seconds[name].append(c.wall_time / c.iterations)
        # With the reverse sweeps of the gradient.
        seconds["adjoint"][-1] = whole / back.convergence.iterations
    return {
        "shape": shape,
        "iterations": {
            "forward": state.convergence.iterations,
            "adjoint": back.convergence.iterations,
        },
        "triad": {"best": max(rows["triad"]), "median": float(np.median(rows["triad"]))},
        "t_eff": {k: float(np.median(rows[k])) for k in ("forward", "adjoint")},
        "seconds_per_iteration": {k: float(np.median(v)) for k, v in seconds.items()},
        "all": rows,
    }


def _workshop(
    engine: Any, julia: Any, shape: tuple[int, int], case: str, k: np.ndarray
) -> dict[str, Any]:
    model = darcy_2d(shape)
    m = model.fields({"permeability": k})
    fields = (np.ascontiguousarray(k).T, np.ascontiguousarray(model.source).T)
    julia.workshop(*fields, 2.0, 1.0, RESIDUAL, 1)  # compiled
    ours = engine.solve(model, m, tolerance=RESIDUAL, max_iterations=100_000).convergence
    theirs = julia.workshop(*fields, 2.0, 1.0, RESIDUAL, 60 * shape[1])
    return {
        "shape": shape,
        "case": case,
        "residual": RESIDUAL,
        "ours": {"iterations": ours.iterations, "seconds": ours.wall_time},
        "workshop": {
            "iterations": int(theirs[0]),
            "seconds": float(theirs[1]),
            "residual": float(theirs[2]),
        },
    }


def _overhead(engine: Any, julia: Any, shape: tuple[int, int]) -> dict[str, Any]:
    model = darcy_2d(shape)
    source = {"pressure": np.random.default_rng(1).standard_normal(shape)}
    rock = dict(coefficients(model.grid))["white noise, std 1"]
    fields = [model.fields({"permeability": f * rock}) for f in (1.0, 1.1)]
    options = {"tolerance": 1e-8, "max_iterations": 100_000}
    alone = julia.seval(
        "function (sim, K, s); t = time(); p = (; permeability=Array(K));"
        " u = first(solve!(sim, p; max_iterations=100000));"
        " adjoint!(sim, Array(s); state=u, parameters=p, max_iterations=100000); time() - t; end"
    )
    here, there = [], []
    for repeat in range(8):
        m = fields[repeat % 2]
        start = time.perf_counter()
        state = engine.solve(model, m, **options)
        engine.adjoint(model, m, state, source, **options)
        here.append(time.perf_counter() - start)
        m = fields[(repeat + 1) % 2]
        simulation = engine._simulation(model)
        k = np.ascontiguousarray(m["permeability"]).T
        there.append(float(alone(simulation, k, source["pressure"].T)))
    return {
        "shape": shape,
        "python_seconds": float(np.median(here[2:])),
        "julia_seconds": float(np.median(there[2:])),
        "python_best": min(here[2:]),
        "julia_best": min(there[2:]),
    }


def _ranks(cells: tuple[int, int]) -> dict[str, Any]:
    """Seconds an iteration, with the same cells on each rank."""
    rows = []
    for count in (1, 2):
        try:
            launch = pag.Launch(["mpiexec", "-n", str(count)], topology=(1, count), threads=1)
        except pag.EngineError as error:
            return {"skipped": str(error)}
        model = _box((cells[0], cells[1] * count))
        m = model.fields({"permeability": 1.0})
        with launch:
            times = []
            for _ in range(3):
                c = launch.solve(model, m, tolerance=1e-12, max_iterations=1000).convergence
                times.append(c.wall_time / c.iterations)
        rows.append({"ranks": count, "seconds_per_iteration": min(times[1:])})
    return {
        "cells_per_rank": cells,
        "rows": rows,
        "efficiency": rows[0]["seconds_per_iteration"] / rows[1]["seconds_per_iteration"],
    }


def tables(result: dict[str, Any]) -> str:
    if "skipped" in result:
        return f"Skipped: {result['skipped']}."
    info = result["info"]
    parts = [f"{info['engine_version']}, {info['device']}, {info['dtype']}."]
    rows = []
    for r in result["throughput"]:
        best, seconds = r["triad"]["best"], r["seconds_per_iteration"]
        rows.append(
            [
                " x ".join(map(str, r["shape"])),
                f"{best / 1e9:.1f} ({r['triad']['median'] / 1e9:.1f})",
                *(f"{r['iterations'][k]}" for k in ("forward", "adjoint")),
                *(f"{seconds[k] * 1e3:.2f}" for k in ("forward", "adjoint")),
                f"{seconds['adjoint'] / seconds['forward']:.2f}",
                *(f"{r['t_eff'][k] / 1e9:.1f}" for k in ("forward", "adjoint")),
                f"{r['t_eff']['forward'] / best:.2f}",
            ]
        )
    head = ["cells", "triad best (median), GB/s", "forward it.", "adjoint it."]
    head += ["forward ms/it.", "adjoint ms/it.", "adjoint / forward"]
    head += ["forward T_eff, GB/s", "adjoint T_eff, GB/s", "forward / best triad"]
    parts.append("Whole solves, set-up and checks (and the gradient's sweeps) included:")
    parts.append(markdown(head, rows))
    rows = []
    for r in result["workshop"]:
        ours, theirs = r["ours"], r["workshop"]
        fine = theirs["residual"] <= r["residual"]
        rows.append(
            [
                " x ".join(map(str, r["shape"])),
                r["case"],
                f"{ours['iterations']}",
                f"{theirs['iterations']}" if fine else f"residual {theirs['residual']:.0e}",
                f"{ours['seconds']:.2f}",
                f"{theirs['seconds']:.2f}" if fine else f"gave up after {theirs['seconds']:.1f}",
                f"{theirs['seconds'] / ours['seconds']:.1f}" if fine else "",
            ]
        )
    head = ["cells", "case", "our iterations", "workshop's", "our s", "workshop's s", "ratio"]
    parts.append(
        "Beside the workshop's scheme, to a relative residual of 1e-6 (ours also to an estimated"
        " error of 1e-4):"
    )
    parts.append(markdown(head, rows))
    o = result["overhead"]
    share = o["python_seconds"] / o["julia_seconds"] - 1.0
    best = o["python_best"] / o["julia_best"] - 1.0
    parts.append(
        f"A gradient at {' x '.join(map(str, o['shape']))}: {o['python_seconds']:.3f} s through"
        f" Python, {o['julia_seconds']:.3f} s in Julia alone (medians; {100 * share:+.1f} %;"
        f" of the best {100 * best:+.1f} %)."
    )
    r = result["ranks"]
    if "skipped" in r:
        parts.append(f"Ranks: skipped, {r['skipped']}.")
    else:
        each = ", ".join(
            f"{x['ranks']} rank{'s' * (x['ranks'] > 1)} {x['seconds_per_iteration'] * 1e3:.2f} ms"
            for x in r["rows"]
        )
        parts.append(
            f"Weak scaling, {' x '.join(map(str, r['cells_per_rank']))} cells and one thread a"
            f" rank: {each} an iteration, efficiency {r['efficiency']:.2f}."
        )
    return "\n\n".join(parts)
