"""Effective draws of samplers of any density, for a gradient and for a second, beside peers.

All spend one budget of gradients on each density, all there are: those of the warm-up, of the
training and of the particles too, and evaluations without gradients count as one. ESS is bulk ESS
by arviz_stats, the smallest of all components and, where there are several modes, of the
indicators of all modes; none where R-hat of any of these is above 1.1, or where the weight of a
mode is off by more than 0.05. All start from the same distribution, the prior's.

In one process for each density, on one core, by processor time, so that the machine need not be
idle. The time is that of a whole run, warm-up and training included, after a short run that has
compiled the code; that of the short one is given apart. Ours compiles anew where its shapes differ,
which then counts.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np

from pyadjoint_gpu.core.extras import needed

from .chains import SAMPLERS
from .densities import DENSITIES, Density
from .machine import in_a_process
from .report import markdown

BUDGET = 200_000
"""Gradients."""
R_HAT, WEIGHT = 1.1, 0.05
"""Largest R-hat and error of a mode's weight of runs that count."""
QUICK = ("ours, NUTS", "emcee")
"""Samplers that are ready soon."""


def run(*, quick: bool = False) -> dict[str, Any]:
    core = {min(os.sched_getaffinity(0))}
    budget = BUDGET // 10 if quick else BUDGET
    samplers = QUICK if quick else SAMPLERS
    environment = {"PYADJOINT_GPU_CACHE": "off"}
    load, rows = os.getloadavg()[0], []
    for name in list(DENSITIES)[: 1 if quick else None]:
        arguments = name, str(budget), *samplers
        rows += in_a_process(__name__, *arguments, cores=core, environment=environment)
    return {"load": load, "budget": budget, "rows": rows}


def measure(name: str, budget: int, samplers: list[str]) -> list[dict[str, Any]]:
    with jax.enable_x64(True), warnings.catch_warnings():
        # Short first runs have not converged.
        warnings.simplefilter("ignore")
        return [_row(name, sampler, budget) for sampler in samplers]


def _row(name: str, sampler: str, budget: int) -> dict[str, Any]:
    f, package = SAMPLERS[sampler]
    row: dict[str, Any] = {"density": name, "sampler": sampler}
    if find_spec(package) is None:
        return row | {"skipped": "not installed"}
    row["version"] = version(package)
    seconds = []
    try:
        for seed, spent in ((0, 0), (1, budget)):
            start = time.process_time()
            x, gradients = f(DENSITIES[name], seed, spent)
            seconds.append(time.process_time() - start)
    except Exception as error:  # of a peer: told in the table, and the others are measured
        if package == "pyadjoint_gpu":
            raise
        traceback.print_exc()
        return row | {"skipped": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    row |= {"first_seconds": seconds[0], "seconds": seconds[1], "gradients": gradients}
    row |= effective(DENSITIES[name], x)
    print(row, file=sys.stderr, flush=True)
    return row


def effective(density: Density, x: np.ndarray) -> dict[str, Any]:
    """ESS and R-hat of draws (chains, draws, n) with those of the modes' indicators, and the
    largest error of the modes' weights."""
    array_stats = needed("arviz_stats.base", "sampling").array_stats
    error = 0.0
    if density.modes is not None:
        which = density.modes(x.reshape(-1, density.n)).reshape(x.shape[:2])
        inside = which[..., None] == np.arange(len(density.weights))
        error = float(np.max(np.abs(inside.mean(axis=(0, 1)) - density.weights)))
        x = np.concatenate([x, inside.astype(float)], axis=2)
    axes = {"chain_axis": 0, "draw_axis": 1}
    # Of an indicator that never changes there is no R-hat, and nothing has converged.
    r_hat = float(np.max(np.nan_to_num(array_stats.rhat(x, **axes), nan=np.inf)))
    ess = float(np.min(array_stats.ess(x, method="bulk", **axes)))
    counts = r_hat <= R_HAT and error <= WEIGHT
    draws = list(x.shape[:2])
    return {"draws": draws, "r_hat": r_hat, "weight_error": error, "ess": ess if counts else None}


def tables(result: dict[str, Any]) -> str:
    rows = result["rows"]
    best: dict[str, list[float]] = {}
    for row in rows:
        if row.get("ess"):
            rates = [row["ess"] / row["gradients"], row["ess"] / row["seconds"]]
            if row["sampler"] == "ours, flow":
                best[row["density"]] = rates
    table = []
    for row in rows:
        cells = [row["density"], f"{row['sampler']} {row.get('version', '')}".strip()]
        if "skipped" in row:
            table.append([*cells, row["skipped"], *[""] * 8])
            continue
        cells += [f"{row['gradients']}", " x ".join(map(str, row["draws"]))]
        several = DENSITIES[row["density"]].modes is not None
        cells += [f"{row['seconds']:.1f} ({row['first_seconds']:.1f})", f"{row['r_hat']:.3g}"]
        cells.append(f"{row['weight_error']:.3f}" if several else "")
        if row["ess"] is None:
            table.append([*cells, "none", "", "", ""])
            continue
        rates = [row["ess"] / row["gradients"], row["ess"] / row["seconds"]]
        ours = best.get(row["density"])
        ratios = "" if ours is None else " / ".join(
            f"{a / b:.2g}" for a, b in zip(ours, rates, strict=True)
        )  # fmt: skip
        cells += [f"{row['ess']:.0f}", f"{1000 * rates[0]:.3g}", f"{rates[1]:.3g}", ratios]
        table.append(cells)
    head = ["density", "sampler", "gradients", "chains x draws", "s (first run)", "R-hat"]
    head += ["error of weights", "ESS", "ESS per 1000 gradients", "ESS a second"]
    return "\n\n".join(
        [
            f"{result['budget']} gradients or little more, in all; processor time on one core (load"
            f" average before: {result['load']:.1f}). ESS: none where R-hat is above {R_HAT} or a"
            f" mode's weight off by more than {WEIGHT}. Ratios: our flow's ESS per gradient and a"
            " second over the row's.",
            markdown([*head, "ratios"], table),
        ]
    )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3:])))
