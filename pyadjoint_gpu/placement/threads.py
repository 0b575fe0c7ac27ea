"""Threads for independent pieces of work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def workers() -> Iterator[Executor]:
    """A pool of one thread a core, and one more, so that some read while others compute. BLAS is
    limited to one thread meanwhile: with more, small products mostly wait for each other."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores() + 1) as pool:
        yield pool


def cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
