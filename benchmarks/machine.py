"""Description of the machine, timing, processes of their own, and agreement."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

TOP = Path(__file__).parents[1]
"""The checkout."""

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "pyamg", "pyadjoint_gpu")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, versions and date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "gcc": _gcc(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    found: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name") or platform.processor() or platform.machine()
    cache = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    details = [f"{key} {found[key]}" for key in ("cpu family", "model") if key in found]
    if cache.exists():
        details.append(f"L3 {cache.read_text().strip()}")
    return f"{name} ({', '.join(details)})" if details else name


def _gcc() -> str:
    run = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Seconds that one call takes, and what it returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def best(function: Callable[[], T], *, repeats: int = 3, budget: float = 3.0) -> tuple[float, T]:
    """The shortest of up to `repeats` calls, as many as fit in `budget` seconds (at least one)."""
    shortest, result = timed(function)
    total = shortest
    for _ in range(repeats - 1):
        if total + shortest > budget:
            break
        seconds, result = timed(function)
        shortest, total = min(shortest, seconds), total + seconds
    return shortest, result


def in_a_process(
    module: str,
    *arguments: str,
    cores: set[int] | None = None,
    stderr: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """The JSON that a module prints last, run by itself: on these cores, which the process inherits
    from this thread, with as many threads of BLAS."""
    before = os.sched_getaffinity(0)
    threads = {"OPENBLAS_NUM_THREADS": str(len(cores))} if cores else {}
    os.sched_setaffinity(0, cores or before)
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=TOP,
            env=os.environ | threads | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=True,
        )
    finally:
        os.sched_setaffinity(0, before)
    return json.loads(done.stdout.splitlines()[-1])


def agree(what: str, found: np.ndarray, expected: np.ndarray, limit: float) -> float:
    """The relative difference, in the max norm; an error that begins with `what` above `limit`."""
    error = float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))
    if not error <= limit:
        raise AssertionError(f"{what} by {error:.1e}, expected {limit:g} or less")
    return error
