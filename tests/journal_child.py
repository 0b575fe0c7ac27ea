"""Run as a process of its own, to be killed: a journalled inversion, new or resumed."""

import sys
from pathlib import Path

from cases import observations, problem

import pyadjoint_gpu as pag

path, iterations = Path(sys.argv[1]), int(sys.argv[2])


def ready(_):
    print("ready", flush=True)


if path.exists():
    pag.resume(path, max_iterations=iterations, callback=ready, progress=False)
else:
    pag.invert(
        problem((15, 31), data=observations((15, 31), noise=0.001)),
        max_iterations=iterations,
        tolerance=1e-12,
        journal=path,
        callback=ready,
        progress=False,
    )
print("done", flush=True)
