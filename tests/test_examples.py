"""Examples run, at a small size where they have one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("channel", "wrote channel.png"),
        ("diffusion", "wrote diffusion.png"),
        ("own_misfit", "wrote own_misfit.png"),
        ("waves", "wrote waves.png"),
    ],
)
def test_runs(name, says, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--small"],
        cwd=tmp_path,
        env=os.environ | {"PYADJOINT_GPU_ENGINE": "embedded"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert says in done.stdout
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
