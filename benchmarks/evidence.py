"""ln Z of two modes of unequal weight, by our methods and by dynesty.

The likelihood has weights 0.1 and 0.9 about +3 and -3 in each of 4 or 11 components, the prior is
uniform: ln Z = -n ln 20. For each method the root mean square of the error over some seeds, the
mean of the error that it states, and the time of a run, by processor time on one core, so that the
machine need not be idle. Error x time is less for a shorter run of the same method, error^2 x time
is the same. Dynesty's likelihood is of numpy, several times quicker there than a call of a compiled
function. The first run of each of ours, which compiles it, is given apart. Gradients are ours;
nested samplers evaluate the likelihood alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import xarray as xr

import pyadjoint_gpu as pag

from .densities import Two
from .machine import in_a_process
from .report import markdown

Found = tuple[float, float, int | None]
"""ln Z less what it is, its stated error, and evaluations where they are counted."""


def run(*, quick: bool = False) -> dict[str, Any] | None:
    arguments = ["quick"] if quick else []
    core = {max(os.sched_getaffinity(0))}
    return in_a_process(
        __name__, *arguments, cores=core, environment={"PYADJOINT_GPU_CACHE": "off"}
    )


def measure(*, quick: bool) -> dict[str, Any]:
    load = os.getloadavg()[0]
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in (4,) if quick else (4, 11):
            rows += _rows(Two(n), 1 if quick else 3, quick=quick)
    peer = version("dynesty") if find_spec("dynesty") else None
    return {"load": load, "dynesty": peer, "rows": rows}


def _rows(two: Two, seeds: int, *, quick: bool) -> list[dict[str, Any]]:
    target = two.target()
    few = pag.sample(target, method="smc", particles=64, progress=False)
    methods: dict[str, Callable[[int], Found]] = {}
    if not quick:  # flows take a minute to compile
        methods["flow (bridge)"] = partial(_sampled, two, target, "flow")
    methods |= {
        "smc": partial(_sampled, two, target, "smc"),
        "nested (blackjax)": partial(_nested, two, target, few),
    }
    if find_spec("dynesty"):
        methods["dynesty"] = partial(_dynesty, two)
    rows = []
    for name, f in methods.items():
        first = _timed(f, 0)[0] if name != "dynesty" else None
        each = [_timed(f, seed) for seed in range(1, seeds + 1)]
        seconds, found = zip(*each, strict=True)
        off, stated, evaluations = zip(*found, strict=True)
        rows.append(
            {
                "n": two.n,
                "method": name,
                "first_seconds": first,
                "seconds": seconds,
                "off": off,
                "stated": stated,
                "evaluations": evaluations,
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _timed(f: Callable[[int], Found], seed: int) -> tuple[float, Found]:
    start = time.process_time()
    found = f(seed)
    return time.process_time() - start, found


def _sampled(two: Two, target: pag.LogDensity, method: str, seed: int) -> Found:
    found = pag.sample(target, method=method, seed=seed, progress=False).attrs
    off = found["log_evidence"] - two.log_evidence
    return off, found["log_evidence_error"], int(found["gradients"])


def _nested(two: Two, target: pag.LogDensity, few: xr.Dataset, seed: int) -> Found:
    """Samples are asked for, but not used."""
    found = pag.evidence(few, target, method="nested", seed=seed).attrs
    return found["log_evidence"] - two.log_evidence, found["log_evidence_error"], None


def _dynesty(two: Two, seed: int) -> Found:
    """With its own settings: 500 live points, bounds and moves by the number of components."""
    import dynesty

    def likelihood(x: np.ndarray) -> float:
        return float(two(x, np))

    def theta(u: np.ndarray) -> np.ndarray:
        return 20.0 * u - 10.0

    generator = np.random.default_rng(seed)
    nested: Any = dynesty.NestedSampler  # whose types are those of its base
    sampler = nested(likelihood, theta, two.n, rstate=generator)
    sampler.run_nested(print_progress=False)
    found = sampler.results
    off = float(found.logz[-1]) - two.log_evidence
    return off, float(found.logzerr[-1]), int(np.sum(found.ncall))


def tables(result: dict[str, Any]) -> str:
    table = []
    products = {(r["n"], r["method"]): _products(r) for r in result["rows"]}
    for r in result["rows"]:
        product = products[r["n"], r["method"]]
        peer = products.get((r["n"], "dynesty"))
        ratios = ""
        if peer is not None:
            times = [peer[k] / product[k] for k in range(2)]
            ratios = " / ".join(f"{x:.2g}" for x in times)
        first = "" if r["first_seconds"] is None else f" ({r['first_seconds']:.1f})"
        known = r["evaluations"][0] is not None
        table.append(
            [
                f"{r['n']}",
                r["method"],
                f"{len(r['off'])}",
                f"{_rms(r):.2g}",
                f"{np.mean(r['stated']):.2g}",
                f"{np.mean(r['seconds']):.3g}{first}",
                f"{np.mean(r['evaluations']):.0f}" if known else "not counted",
                " / ".join(f"{x:.2g}" for x in product),
                ratios,
            ]
        )
    head = ["n", "method", "runs", "rms error of ln Z", "stated error", "s a run (first)"]
    head += ["evaluations a run", "error x s / error^2 x s", "dynesty's over these"]
    peer = result["dynesty"] or "not installed"
    return "\n\n".join(
        [
            f"dynesty {peer}; processor time on one core (load average before:"
            f" {result['load']:.1f}). Our evaluations have gradients.",
            markdown(head, table),
        ]
    )


def _products(row: dict[str, Any]) -> tuple[float, float]:
    """Error x time, and error^2 x time."""
    seconds, error = float(np.mean(row["seconds"])), _rms(row)
    return error * seconds, error**2 * seconds


def _rms(row: dict[str, Any]) -> float:
    return float(np.sqrt(np.mean(np.square(row["off"]))))


if __name__ == "__main__":
    print(json.dumps(measure(quick="quick" in sys.argv)))
