"""Real ice: Greenland's bed and thickness, and a rate factor that explains them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pyadjoint_gpu.cli import main

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "greenland"
DATA = EXAMPLE / "greenland_96_176.nc"


def settings(data, folder):
    return [
        'engine="embedded"',
        f'grid.like="{data}:bed_elevation"',
        f'parameters.bed="{data}:bed_elevation"',
        f'parameters.reference_thickness="{data}:ice_thickness"',
        f'misfit.observations="{data}:ice_thickness"',
        "inversion.max_iterations=3",
        "solver.tolerance=1e-5",
        f'output.path="{folder}/out.nc"',
        f'output.journal="{folder}/out.h5"',
        f'output.figure="{folder}/out.png"',
    ]


@pytest.mark.slow
def test_another_resolution_with_y_descending(tmp_path, capsys):
    with xr.open_dataset(DATA) as data:
        coarse = data.coarsen(x=6, y=6, boundary="trim").mean().isel(y=slice(None, None, -1))
    assert coarse["y"][0] > coarse["y"][-1]
    coarse.to_netcdf(tmp_path / "coarse.nc", engine="h5netcdf")
    options = [x for s in settings(tmp_path / "coarse.nc", tmp_path) for x in ("--set", s)]
    assert main(["run", str(EXAMPLE / "greenland.toml"), *options]) == 1  # after 3 iterations
    assert "max_iterations: 3 iterations done" in capsys.readouterr().out
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as result:
        assert result["thickness"].shape == (29, 16)
        assert result["y"][0] < result["y"][-1]
        bed = coarse["bed_elevation"].sortby("y").values
        np.testing.assert_array_equal(result["bed"], bed)
        assert result["misfit"].values[-1] < 0.7 * result["misfit"].values[0]
        assert np.all(result["thickness"].values >= 0)
        sea = (bed < 0) & (result["reference_thickness"].values == 0)
        assert sea.mean() > 0.3 and np.all(result["thickness"].values[sea] == 0)
    assert (tmp_path / "out.png").stat().st_size > 50_000


@pytest.mark.slow
def test_the_example_says_how_well_it_fits(tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "maps.py"), str(DATA), "--small"],
        cwd=tmp_path,
        env=os.environ | {"PYADJOINT_GPU_ENGINE": "embedded"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(s for s in done.stdout.splitlines() if s.startswith("rms of the thickness"))
    start, end = (float(w) for w in line.split() if w.isdigit())
    assert end < 0.8 * start
    assert (tmp_path / "greenland.png").stat().st_size > 50_000
