"""Description of the machine, and timing."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

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
