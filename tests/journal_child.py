"""Run as processes of their own, to be killed: a journalled inversion, new or resumed."""

from pathlib import Path
from typing import Any

from cases import observations, problem

import pyadjoint_gpu as pag


def journalled(path: Path, iterations: int, ready: Any) -> None:
    """It counts `ready`, a semaphore, up with every iterate."""

    def count(_: Any) -> None:
        ready.release()

    if path.exists():
        pag.resume(path, max_iterations=iterations, callback=count, progress=False)
    else:
        pag.invert(
            problem((15, 31), data=observations((15, 31), noise=0.001)),
            max_iterations=iterations,
            tolerance=1e-12,
            journal=path,
            callback=count,
            progress=False,
        )
