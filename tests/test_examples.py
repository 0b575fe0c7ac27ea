"""Examples run, at a small size where they have one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyadjoint_gpu.runfiles.schema import read
from pyadjoint_gpu.sampling import HierarchicalSMC

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("channel", "wrote channel.png"),
        ("darcy_modes", "wrote darcy_modes.png"),
        ("diffusion", "wrote diffusion.png"),
        ("stars", "wrote stars.nc, stars_posterior.nc and stars.png"),
        ("tsunami", "wrote tsunami.png"),
        ("uncertainty", "wrote uncertainty.nc and uncertainty.png"),
        ("waves", "wrote waves.png"),
    ],
)
def test_runs(name, says, tmp_path):
    done = run([EXAMPLES / f"{name}.py", "--small"], tmp_path)
    assert says in done
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.slow
def test_slip(tmp_path):
    """And its run file is as good as its script, as far as the sampler."""
    done = run([EXAMPLES / "slip.py", "--small"], tmp_path)
    assert re.search(r"90 % intervals hold [0-5] of 5 truths", done)
    assert "wrote slip.nc" in done
    (tmp_path / "slip.toml").write_bytes((EXAMPLES / "slip.toml").read_bytes())
    found = read(tmp_path / "slip.toml").build()
    assert isinstance(found.sampler, HierarchicalSMC)
    assert len(found.sampler.data) == 3 * 16 + 2 * 60


def test_tsunami():
    """The run file is whole by itself."""
    found = read(EXAMPLES / "tsunami.toml").build()
    assert len(found.candidates) == 60 and found.choice["budget"] == 15
    assert found.model.space("source").shape == (100, 720)
    np.testing.assert_allclose(found.points[:, 0], 297e3)
    assert found.truth is not None
    total = 30.0 * found.truth.sum(axis=0)
    assert 2.9 < total.max() < 3.0  # a cell's middle is not the rupture's


@pytest.mark.slow
def test_a_notebook_runs_from_top_to_bottom():
    """Its cells of code in turn, as a script that is in no file, as a notebook is."""
    notebook = json.loads((EXAMPLES / "reaction_diffusion.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    done = run(["-c", "\n\n".join(cells)], EXAMPLES)
    assert "converged" in done
    assert "Taylor test: passed" in done
    assert "adjoint test: passed" in done
    errors = [float(found) for found in re.findall(r"growth: rms error (\S+) per year", done)]
    assert len(errors) == 2
    assert max(errors) < 0.3  # its standard deviation is 0.77
    assert "skipped: no Julia here" in done
    # As it was committed.
    assert all(c["execution_count"] for c in notebook["cells"] if c["cell_type"] == "code")


def run(arguments, folder):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYADJOINT_GPU_ENGINE": "embedded", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
