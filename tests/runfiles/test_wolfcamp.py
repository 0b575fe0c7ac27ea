"""A real aquifer: 85 measured heads of the Wolfcamp formation, Palo Duro basin, Texas."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pyadjoint_gpu.cli import main
from pyadjoint_gpu.runfiles.schema import read

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "wolfcamp"
DATA = EXAMPLE / "wolfcamp_heads.nc"
PLANE_RMS = 61.0  # metres, of a plane fitted to all the heads


def settings(data, folder):
    return [
        f'misfit.observations="{data}:head"',
        f'output.path="{folder}/out.nc"',
        f'output.journal="{folder}/out.h5"',
        f'output.figure="{folder}/out.png"',
    ]


@pytest.mark.slow
def test_the_run_file_takes_the_data_as_they_are(tmp_path, capsys):
    options = [x for s in settings(DATA, tmp_path) for x in ("--set", s)]
    assert main(["run", str(EXAMPLE / "wolfcamp.toml"), *options]) == 0
    assert "chi2" in capsys.readouterr().out
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as result:
        assert result["permeability"].shape == (64, 96)
        assert result.attrs["status"] == "converged"
        assert result.attrs["chi2"] < 3.5
        assert float(np.sqrt((result["residual"] ** 2).mean())) < 40.0
        assert result["pressure"].attrs["units"] == "m"
        assert float(np.log(result["permeability"]).std()) > 0.2
    assert (tmp_path / "out.png").stat().st_size > 50_000


@pytest.mark.slow
def test_heads_left_out_are_predicted_better_than_by_a_plane():
    found = subprocess.run(
        [sys.executable, str(EXAMPLE / "crossvalidate.py"), str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rms = {line.split(":")[0]: float(line.split()[2]) for line in found.splitlines()[-2:]}
    assert found.count("fold") == 10
    assert rms["inversion"] < PLANE_RMS < rms["plane"]


def turned(data):
    """y before x, in km, under another dimension's name."""
    out = xr.Dataset()
    for name in ("y", "x"):
        out[name] = ("well", data[name].values / 1e3, {"units": "km"})
    out["head"] = ("well", data["head"].values, data["head"].attrs)
    return out


def named(data):
    """Coordinates told by their CF attributes only."""
    out = data.rename({"x": "easting", "y": "northing"})
    out["easting"].attrs["standard_name"] = "projection_x_coordinate"
    out["northing"].attrs["axis"] = "Y"
    return out


@pytest.mark.slow
@pytest.mark.parametrize("change", [turned, named])
def test_the_same_data_in_another_form_give_the_same_problem(change, tmp_path):
    data = xr.load_dataset(DATA)
    change(data).to_netcdf(tmp_path / "heads.nc", engine="h5netcdf")
    values = []
    for path in (DATA, tmp_path / "heads.nc"):
        file = read(EXAMPLE / "wolfcamp.toml", settings(path, tmp_path))
        values.append(file.build().value_and_gradient())
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-9)
    for name in values[0][1].data_vars:
        a, b = values[0][1][name].values, values[1][1][name].values
        np.testing.assert_allclose(a, b, atol=1e-7 * np.max(np.abs(a)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.rename({"x": "east"}), "'x'"),
        (lambda d: d.assign_coords(x=d["x"].assign_attrs(units="degrees_east")), "'degrees_east'"),
        (lambda d: d.assign_coords(x=d["x"].assign_attrs(units="km")), "outside"),
    ],
    ids=["renamed", "degrees", "mislabelled"],
)
def test_what_cannot_be_understood_is_refused_by_name(change, named, tmp_path, capsys):
    changed = change(xr.load_dataset(DATA))
    changed.to_netcdf(tmp_path / "heads.nc", engine="h5netcdf")
    options = [x for s in settings(tmp_path / "heads.nc", tmp_path) for x in ("--set", s)]
    assert main(["run", str(EXAMPLE / "wolfcamp.toml"), *options]) == 2
    assert named in capsys.readouterr().err
