"""Greedy choice of sensors by pivoted block Cholesky, beside the forms that it replaces.

One selection of 40 from 150 candidates with 60 times each, whose covariance is in memory: by the
package's pivoted factorisation (every candidate up to date, lazily, and with scores in single
precision); by Schur complements, one triangular solve with all sensors chosen a candidate and step;
and naively, one Cholesky factorisation of everything a candidate and step. The last two are SciPy's
and NumPy's in double precision, read each block once like ours, and keep what they can. They choose
the same sensors, gains equal to 1e-10, or nothing is reported.

Operations are those of each form done once without laziness, additions and multiplications: of
pivots p = 1 ... k - 1, 2 C T^3 (p + 1) and of scores C T^3 / 3 each step; of Schur complements
C T^3 (p^2 + 2 p + 1/3); naively C T^3 (p + 1)^3 / 3, candidates already chosen left out of both.
Their rate stands beside that of one large product in double precision of the same process, measured
before and after.

Each in a process of its own, on one core by the processor time (the same whatever else the machine
does) and on all by the clock. Its peak memory is the resident size above that before, in which the
covariance is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pyadjoint_gpu.placement import select
from pyadjoint_gpu.statistics import DenseCovariance

from .machine import TOP, in_a_process
from .memory import reset_peak, status
from .report import markdown

AGREE = 1e-10
"""Of gains, relative."""

NOISE = 0.1

PIVOTED = {
    "pivoted": {"lazy": False},
    "pivoted, lazy": {"lazy": True},
    "pivoted, float32": {"lazy": False, "dtype": "float32"},
    "pivoted, lazy, float32": {"lazy": True, "dtype": "float32"},
}
FORMS = (*PIVOTED, "Schur", "naive")


def run(*, quick: bool = False) -> dict[str, Any]:
    size = (30, 20, 10) if quick else (150, 60, 40)
    cores = os.sched_getaffinity(0)
    sections = []
    for on in [{min(cores)}, cores] if len(cores) > 1 else [cores]:
        # Minutes, and no different on one core.
        forms = FORMS if on == cores else FORMS[:-1]
        load = os.getloadavg()[0]
        sizes, path = [*map(str, size)], {"PYTHONPATH": f"{TOP}:{TOP / 'tests'}"}
        rows = {
            form: in_a_process(__name__, form, *sizes, cores=on, environment=path) for form in forms
        }
        _check(rows)
        sections.append({"cores": len(on), "load": load, "rows": rows})
    return {"size": size, "sections": sections}


def _check(rows: dict[str, Any]) -> None:
    first = rows["pivoted"]
    for form, row in rows.items():
        if row["order"] != first["order"]:
            raise AssertionError(f"{form}: chose {row['order']}, expected {first['order']}")
        off = np.max(np.abs(np.divide(row["gains"], first["gains"]) - 1.0))
        if not off <= AGREE:
            raise AssertionError(f"{form}: gains are off by {off}, expected {AGREE} or less")


def measure(form: str, candidates: int, steps: int, budget: int) -> dict[str, Any]:
    from references import select_by_schur_complements, select_naively

    alone = len(os.sched_getaffinity(0)) == 1
    clock = time.process_time if alone else time.perf_counter
    x = _covariance(candidates, steps)
    choose: Callable[..., Any] = {
        "Schur": select_by_schur_complements,
        "naive": select_naively,
    }.get(form) or partial(select, progress=False, **PIVOTED[form])
    # What starts with the first call: libraries, threads.
    choose(_covariance(4, 3), NOISE, 2)
    large = _product(min(4000, candidates * steps))
    rates = [_rate(large, clock) for _ in range(2)]
    resident, reset = status("VmRSS"), reset_peak()
    seconds = []
    for _ in range(1 if form in ("Schur", "naive") else 5):
        start = clock()
        found = choose(x, NOISE, budget)
        seconds.append(clock() - start)
    peak = status("VmHWM") - resident
    rates += [_rate(large, clock) for _ in range(2)]
    return {
        "clock": clock.__name__,
        "order": found.order.tolist(),
        "gains": found.gains.tolist(),
        "blocks": found.blocks,
        "seconds": seconds,
        "flops": flops(form, candidates, steps, budget),
        "product_rate": max(rates),
        "peak_bytes": peak,
        "reset": reset,
    }


def flops(form: str, candidates: int, steps: int, budget: int) -> float:
    chosen = np.arange(budget, dtype=float)
    left = candidates - chosen
    if form == "Schur":
        each = left * (chosen**2 + 2.0 * chosen + 1.0 / 3.0)
    elif form == "naive":
        each = left * (chosen + 1.0) ** 3 / 3.0
    else:
        each = candidates * 2.0 * (chosen + (chosen > 0)) + left / 3.0
    return float(steps**3 * each.sum())


def _covariance(candidates: int, steps: int) -> Any:
    """Covariance of candidates in a plane of 6 x 6, smooth over a distance of 2 and 3 steps."""
    generator = np.random.default_rng(0)
    where = generator.uniform(0.0, 6.0, (candidates, 2))
    apart = np.linalg.norm(where[:, None] - where[None], axis=2)
    strength = generator.uniform(0.5, 1.5, candidates)
    space = np.exp(-0.5 * (apart / 2.0) ** 2) * np.outer(strength, strength)
    lag = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    return DenseCovariance(space[:, None, :, None] * np.exp(-lag / 3.0)[:, None])


def _product(n: int) -> Callable[[], np.ndarray]:
    a = np.random.default_rng(0).standard_normal((n, n))
    return partial(np.matmul, a, a, np.empty_like(a))


def _rate(product: Callable[[], np.ndarray], clock: Callable[[], float]) -> float:
    start = clock()
    n = len(product())
    return 2.0 * n**3 / (clock() - start)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:]))))


def tables(result: dict[str, Any]) -> str:
    candidates, steps, budget = result["size"]
    parts = [f"{budget} of {candidates} candidates with {steps} times each, float64 gains."]
    for section in result["sections"]:
        rows, table = section["rows"], []
        pivoted = min(rows["pivoted"]["seconds"])
        for form, r in rows.items():
            seconds = min(r["seconds"])
            # Lazy evaluation leaves out operations that are counted.
            share = "" if "lazy" in form else f"{r['flops'] / seconds / r['product_rate']:.2f}"
            table.append(
                [
                    form,
                    f"{seconds:.2f}",
                    f"{seconds / pivoted:.2f}",
                    f"{r['flops'] / 1e9:.0f}",
                    f"{r['flops'] / seconds / 1e9:.1f}",
                    f"{r['product_rate'] / 1e9:.1f}",
                    share,
                    f"{r['blocks']}",
                    f"{r['peak_bytes'] / 2**20:.0f}",
                ]
            )
        clock = "processor time" if rows["pivoted"]["clock"] == "process_time" else "time"
        parts.append(
            f"By {clock} on {section['cores']} core{'s' * (section['cores'] > 1)}"
            f" (load average before: {section['load']:.1f}):"
        )
        head = ["form", "s", "over pivoted", "GFLOP", "GFLOP/s", "a large product", "share of it"]
        parts.append(markdown([*head, "blocks read", "memory, MiB"], table))
    return "\n\n".join(parts)
