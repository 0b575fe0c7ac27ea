"""Waves from the command line, from a state in which nothing moves."""

import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main

RUN = """
engine = "embedded"
[grid]
shape = [12, 18]
extent = [12e3, 18e3]
units = "m"
[model]
name = "shallow-water"
step = 5.0
steps = 60
every = 6
absorbing = ["x_min", "y_max"]
sponge = 2
[parameters]
depth = 1000.0
[controls.initial_elevation]
initial = 0.0
[misfit]
observations = "gauges.nc"
[penalty.initial_elevation]
weight = 0.3
length = 2e3
[inversion]
max_iterations = 3
[output]
path = "wave.nc"
figure = "wave.png"
"""


@pytest.fixture
def run(tmp_path):
    grid = pag.Grid((12, 18), (12e3, 18e3), units="m")
    options = {"every": 6, "absorbing": ("x_min", "y_max"), "sponge": 2}
    model = pag.models.ShallowWater(grid, 5.0, 60, **options)
    hump = lambda y, x: np.exp(-((y - 6e3) ** 2 + (x - 9e3) ** 2) / 4e6)  # noqa: E731
    places = [(t, y, x) for t in model.times[1:] for y in (3e3, 9e3) for x in (4e3, 14e3)]
    truth = {"depth": 1000.0, "initial_elevation": hump}
    data = pag.synthetic.observe(model, truth, places, noise=0.02)
    data.to_netcdf(tmp_path / "gauges.nc", engine="h5netcdf")
    path = tmp_path / "wave.toml"
    path.write_text(RUN)
    return path


@pytest.mark.slow
def test_run(run, capsys):
    assert main(["run", str(run)]) == 1
    assert "max_iterations: 3 iterations done" in capsys.readouterr().out
    with xr.open_dataset(run.with_name("wave.nc"), engine="h5netcdf") as result:
        assert result["elevation"].dims == ("time", "y", "x")
        assert result["misfit"].values[-1] < 0.3 * result["misfit"].values[0]
        found = result["initial_elevation"]
        assert float(found[5:7, 8:10].mean()) > 3 * float(abs(found).mean())
    assert run.with_name("wave.png").stat().st_size > 20_000


@pytest.mark.slow
def test_check(run, capsys):
    """Without a wave the depth changes nothing; the adjoint test must not stop there."""
    assert main(["check", str(run)]) == 0
    out = capsys.readouterr().out
    assert "Taylor test: passed" in out and "adjoint test: passed" in out
