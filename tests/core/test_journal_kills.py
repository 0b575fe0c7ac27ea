"""All that has a journal, killed at random instants again and again, ends in the same bits."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import journal_child
import numpy as np
import pytest
from journal_child import USERS

from pyadjoint_gpu.core.journal import Journal

KILLS = 4


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """A context of processes forked from one that has imported all and computed nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        found = get_context("forkserver")
        found.set_forkserver_preload(["journal_child"])
        process = found.Process(target=len, args=((),))  # the server starts
        process.start()
        process.join()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
def test_killed_at_random_instants(
    user: Callable[[Path], bytes], context: ForkServerContext, tmp_path: Path
):
    path, result = tmp_path / "kept.h5", tmp_path / "result"
    generator = np.random.default_rng(2)

    def killed(path: Path, writes: int | None) -> int | None:
        """The exit code of a run, killed some time after so many writes."""
        ready = context.Semaphore(0)
        process = context.Process(target=journal_child.run, args=(user, path, result, ready))
        process.start()
        if writes is not None:
            for _ in range(writes):
                assert ready.acquire(timeout=60)
            time.sleep(generator.uniform(0.0, 0.02))
            process.kill()
        process.join()
        return process.exitcode

    assert killed(tmp_path / "whole.h5", None) == 0
    whole = result.read_bytes()
    counts = [0]
    for _ in range(KILLS):
        assert killed(path, generator.integers(0, 8)) == -9
        counts.append(kept(USERS[user], path) if path.exists() else 0)
    assert counts == sorted(counts)  # nothing that counts is ever lost
    assert len(set(counts)) > 2  # the kills fell on different stages
    assert killed(path, None) == 0
    assert result.read_bytes() == whole


def kept(kind: type[Journal], path: Path) -> int:
    """How many rows a journal has, all of which are whole."""
    with kind.open(path) as book:
        names = [*kind.records, *(["rows"] if not kind.records else [])]
        done = [(name, k) for name in names for k in np.flatnonzero(book.done(name)).tolist()]
        for name, k in done:
            book.row(name, k)
        last = [found[0] + 1 for found in map(book.last, kind.slots) if found is not None]
        return len(done) + sum(last)
