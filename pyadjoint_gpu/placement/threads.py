"""Threads for pieces of work that have nothing to do with each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def workers() -> Iterator[Executor]:
    """One a core, and one more, so that some read while others compute. Meanwhile BLAS has one
    thread for each: with more, small products mostly wait for threads to meet."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores() + 1) as pool:
        yield pool


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
