"""Many ranks: the same field and gradient whatever their number, and failures that are told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from cases import habitat, ice_cap, inland_ice, problem, section, varied
from parity import TIGHT, relative, same_solves, setup
from run_files import process

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError, EngineError
from pyadjoint_gpu.engines import launches

pytestmark = [
    pytest.mark.julia,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("mpiexec") is None, reason="no mpiexec on PATH"),
    pytest.mark.filterwarnings("ignore::pyadjoint_gpu.core.errors.ConvergenceWarning"),
]

# Ranks that only wait for a core do no harm, but to the clock.
MPIEXEC = ["mpiexec", "-n"]

TOPOLOGIES = [
    (1, (15, 31), (1, 1), "fixed"),
    (2, (7, 10, 13), (2, 1, 1), "fixed"),
    (3, (15, 31), (1, 3), "fixed"),
    (4, (15, 31), (2, 2), "closed"),
    (4, (7, 10, 13), None, "closed"),
]
"""Ranks, cells, ranks along each axis, sides. The cells divide by no number of ranks."""


def processes():
    """The ranks that run on this machine."""
    found = subprocess.run(["pgrep", "-f", "AdjointGPU.serve"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize(("count", "shape", "topology", "kind"), TOPOLOGIES)
def test_same_field_and_gradient(count, shape, topology, kind, embedded):
    with pag.Launch([*MPIEXEC, str(count)], topology=topology) as ranks:
        assert ranks.info()["ranks"] == count
        model, m = setup(shape, "white", kind)
        here, there = ranks.solve(model, m, **TIGHT), embedded.solve(model, m, **TIGHT)
        assert relative(here.fields["pressure"], there.fields["pressure"]) < 1e-10
        source = {"pressure": np.random.default_rng(1).standard_normal(shape)}
        back = ranks.adjoint(model, m, here, source, **TIGHT)
        again = embedded.adjoint(model, m, there, source, **TIGHT)
        assert set(back.gradient) == set(again.gradient)
        for name, expected in again.gradient.items():
            assert relative(back.gradient[name], expected) < 1e-10, name
    assert processes() == []


@pytest.mark.parametrize("physics", ["channel", "ice"])
def test_cells_of_diagonal_neighbours_cross_too(physics, embedded):
    """Where the residual looks at all eight cells around."""
    if physics == "channel":
        model = section((9, 11))
        m = varied(model)
    else:
        model = ice_cap((11, 14))
        m = inland_ice(model)
    w = np.random.default_rng(1).standard_normal(model.shape)
    with pag.Launch([*MPIEXEC, "4"], topology=(2, 2)) as ranks:
        same_solves(model, model.fields(m), w, ranks, embedded, spectrum=None)


def test_a_model_of_ones_own(embedded):
    """Its file comes with the commands, and is loaded while the ranks run."""
    model, m = habitat((9, 11))
    w = np.random.default_rng(1).standard_normal(model.shape)
    with pag.Launch([*MPIEXEC, "2"], topology=(1, 2)) as ranks:
        same_solves(model, m, w, ranks, embedded, spectrum=None)


def test_a_line():
    grid = pag.Grid((11,), (2.0,))
    model = pag.models.Darcy(grid, [pag.Well(0.3, 1.0), pag.Well(1.7, -1.0)])
    m = model.fields({"permeability": np.exp(np.random.default_rng(0).standard_normal(11))})
    there = pag.EmbeddedEngine(solver="pseudo-transient").solve(model, m, **TIGHT)
    with pag.Launch([*MPIEXEC, "3"]) as ranks:
        here = ranks.solve(model, m, **TIGHT)
        assert relative(here.fields["pressure"], there.fields["pressure"]) < 1e-10
        with pytest.raises(DataError, match="leaves some of 3 ranks without any"):
            ranks.solve(*line_of(4), **TIGHT)


def line_of(cells):
    model = pag.models.Darcy(pag.Grid((cells,), (1.0,)), fixed_pressure={"x_min": 1.0})
    return model, model.fields({"permeability": 1.0})


def test_inversion_under_a_launch_and_resume_with_other_ranks(tmp_path):
    tested = problem((15, 31), engine="embedded", tolerance=1e-12)
    alone = pag.invert(tested, max_iterations=6, progress=False)
    with pag.Launch([*MPIEXEC, "2"]):
        pag.invert(tested, max_iterations=3, progress=False, journal=tmp_path / "run.h5")
    assert launches.launches == []
    with pag.Launch([*MPIEXEC, "3"]):
        rest = pag.resume(tmp_path / "run.h5", max_iterations=6)
    np.testing.assert_allclose(rest["objective"], alone["objective"], rtol=1e-7)
    assert relative(rest["permeability"], alone["permeability"]) < 1e-5
    assert rest.attrs["ranks"] == 3
    assert processes() == []


def test_a_launcher_in_a_run_file(folder):
    launcher = 'launcher=["mpiexec", "-n", "2"]'
    options = ["--set", "inversion.max_iterations=2", "--set", launcher, "-o", "ranks.nc"]
    done = process(folder, "run", "run.toml", *options)
    assert "wrote ranks.nc" in done.stdout, done.stderr
    with xr.open_dataset(folder / "ranks.nc", engine="h5netcdf") as result:
        assert result.attrs["ranks"] == 2
        assert result.attrs["engine"] == "julia"
    assert processes() == []


def test_a_killed_rank_is_told_and_the_journal_goes_on(tmp_path):
    tested = problem((63, 127), engine="embedded", tolerance=1e-10)
    ranks = pag.Launch([*MPIEXEC, "2"])
    with ranks:
        tested.evaluate(tested.initial)  # compiled
        pids = dict(ranks.start().pids())
        threading.Timer(2.0, os.kill, (pids[1], signal.SIGKILL)).start()
        with pytest.raises(EngineError, match=r"rank 1 died.*rank-1\.log") as caught:
            start = time.monotonic()
            pag.invert(tested, max_iterations=10_000, progress=False, journal=tmp_path / "run.h5")
        assert time.monotonic() - start < 60
        assert Path(str(caught.value).split("log: ")[1].rstrip(")")).is_file()
        assert processes() == []
    done = pag.resume(tmp_path / "run.h5", max_iterations=2)
    assert done["iteration"].size >= 3
    assert processes() == []


def test_a_rank_that_throws_names_its_log(tmp_path):
    model, m = setup((15, 31), "white", "closed")
    folder = tmp_path / "ranks"
    with pag.Launch([*MPIEXEC, "2"], folder=folder) as ranks:
        with pytest.raises(
            DataError, match=r"rank \d failed.*permeability is not given.*rank-\d.log"
        ):
            ranks.solve(model, {}, **TIGHT)
        assert any("permeability" in log.read_text() for log in folder.glob("rank-*.log"))
        assert processes() == []
        # The next solve starts them anew.
        assert ranks.solve(model, m, **TIGHT).convergence.usable


def test_a_launcher_that_fails_or_says_nothing():
    model, m = setup((15, 31), "white", "closed")
    with pytest.raises(EngineError, match="launcher exit code 3"):
        pag.Launch(["sh", "-c", "exit 3"]).solve(model, m, **TIGHT)
    start = time.monotonic()
    with pytest.raises(EngineError, match="no sign of life for 1 s"):
        pag.Launch(["sh", "-c", "sleep 600"], timeout=1.0).solve(model, m, **TIGHT)
    assert time.monotonic() - start < 20
    with pytest.raises(EngineError, match="no program 'no-such-launcher'"):
        pag.Launch(["no-such-launcher", "-n", "2"])
    with pytest.raises(ConfigError, match="expected 2 numbers"):
        pag.Launch(["sh"], topology=(1, 1, 1)).solve(model, m, **TIGHT)


def test_interrupted_and_still_there(tmp_path):
    model, m = setup((127, 255), "rough", "closed")
    with pag.Launch([*MPIEXEC, "2"]) as ranks:
        ranks.solve(model, m, tolerance=1e-2, max_iterations=10_000)
        # Jobs in a shell's background ignore it, and what they start does.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            ranks.solve(model, m, tolerance=1e-15, max_iterations=10**8)
        assert len(processes()) >= 2
        assert ranks.solve(model, m, tolerance=1e-2, max_iterations=10_000).convergence.usable


def test_no_orphans_when_python_is_killed():
    code = """
        import os, signal
        import pyadjoint_gpu as pag
        with pag.Launch(["mpiexec", "-n", "2"]) as ranks:
            print(ranks.info()["ranks"], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "2\n", done.stderr
    deadline = time.monotonic() + 60  # they may still be compiling
    while processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes() == []
