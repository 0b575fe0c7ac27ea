"""What launchers of ranks tell of one that died, without any."""

from __future__ import annotations

import pytest

from pyadjoint_gpu.engines.julia.processes import ended

WARNED = "[1795723969.824294] [vm:27878:0]   parser.c:1908 UCX  WARN  unused env variable\n"
TOLD = {
    "MPICH": "=   BAD TERMINATION OF ONE OF YOUR PROCESSES\n=   PID 27879 RUNNING AT vm",
    "Intel MPI": "=   RANK 1 PID 27879 RUNNING AT vm\n=   KILLED BY SIGNAL: 9 (Killed)",
    "Open MPI": "mpiexec noticed that process rank 1 with PID 27879 on node vm exited on signal 9",
}


@pytest.mark.parametrize("launcher", TOLD)
def test_the_rank_that_a_launcher_names(launcher: str):
    """Not one that merely warned, whose number may stand before."""
    assert ended(WARNED + TOLD[launcher], {27878: 0, 27879: 1}) == 1


def test_none_that_is_known():
    assert ended(WARNED, {27878: 0, 27879: 1}) is None
    assert ended(TOLD["MPICH"], {5: 0}) is None
