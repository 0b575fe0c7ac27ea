"""``python -m benchmarks``: run, print tables, write results.json and results.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import (
    calibration,
    evidence,
    fields,
    gpu,
    julia,
    linear,
    machine,
    memory,
    optimisers,
    physics,
    placement,
    samplers,
    sampling,
    scaling,
    solve,
    throughput,
    uncertainty,
)
from .report import document

SECTIONS = {
    "throughput": ("Iteration throughput", throughput),
    "solve": ("Time to a solution", solve),
    "scaling": ("Multigrid as the grid grows, and an adaptive tolerance", scaling),
    "memory": ("Memory of a gradient", memory),
    "physics": ("Each physics", physics),
    "uncertainty": ("Priors, whitened inversions and Laplace approximations", uncertainty),
    "optimisers": ("Solves that optimisers need", optimisers),
    "sampling": ("Sampling of linear problems", sampling),
    "samplers": ("Samplers of any density", samplers),
    "fields": ("Chains with a flow on a field", fields),
    "evidence": ("Evidence of two modes", evidence),
    "calibration": ("Calibration of hierarchical sampling", calibration),
    "placement": ("Sensor selection", placement),
    "linear": ("Linear time-invariant systems", linear),
    "julia": ("The Julia engine on CPU threads", julia),
    "gpu": ("The embedded engine on a GPU", gpu),
}
"""Title and module of each; a module has `run`, which measures, and `tables`, in Markdown."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(SECTIONS),
        metavar="NAME[,NAME]",
        help=f"some of {', '.join(SECTIONS)}; the others' results are kept",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, under 30 s; nothing is written"
    )
    options = parser.parse_args()
    for name in options.only:
        if name not in SECTIONS:
            parser.error(f"--only: found {name!r}, expected one of {', '.join(SECTIONS)}")
    path = Path(__file__).with_name("results.json")
    results = json.loads(path.read_text()) if path.exists() and not options.quick else {}
    for name in options.only:
        section = {"machine": machine.describe(), "quick": options.quick}
        section["result"] = SECTIONS[name][1].run(quick=options.quick)
        if section["result"] is None:
            print(f"{name}: not on this machine; earlier results are kept")
            continue
        # Read back, so that tables see what the file holds.
        results[name] = json.loads(json.dumps(section))
        print("\n" + document({name: results[name]}, SECTIONS).split("\n\n", 2)[2], flush=True)
        if not options.quick:
            path.write_text(json.dumps(results, indent=1) + "\n")
            path.with_suffix(".md").write_text(document(results, SECTIONS))


if __name__ == "__main__":
    main()
