"""``python -m benchmarks``: run, print tables, write results.json and results.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import (
    calibration,
    gpu,
    julia,
    linear,
    machine,
    memory,
    physics,
    placement,
    report,
    sampling,
    scaling,
    solve,
    throughput,
)

RUNS = {
    "throughput": throughput.run,
    "solve": solve.run,
    "scaling": scaling.run,
    "memory": memory.run,
    "physics": physics.run,
    "sampling": sampling.run,
    "calibration": calibration.run,
    "placement": placement.run,
    "linear": linear.run,
    "julia": julia.run,
    "gpu": gpu.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(RUNS),
        metavar="NAME[,NAME]",
        help=f"some of {', '.join(RUNS)}; the others' results are kept",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, under 30 s; nothing is written"
    )
    options = parser.parse_args()
    for name in options.only:
        if name not in RUNS:
            parser.error(f"--only: found {name!r}, expected one of {', '.join(RUNS)}")
    path = Path(__file__).with_name("results.json")
    results = json.loads(path.read_text()) if path.exists() and not options.quick else {}
    for name in options.only:
        section = {"machine": machine.describe(), "quick": options.quick}
        section["result"] = RUNS[name](quick=options.quick)
        if section["result"] is None:
            print(f"{name}: not on this machine; earlier results are kept")
            continue
        # Read back, so that tables see what the file holds.
        results[name] = json.loads(json.dumps(section))
        print("\n" + report.document({name: results[name]}).split("\n\n", 2)[2], flush=True)
        if not options.quick:
            path.write_text(json.dumps(results, indent=1) + "\n")
            path.with_suffix(".md").write_text(report.document(results))


if __name__ == "__main__":
    main()
