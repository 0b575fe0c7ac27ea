"""Priors of controls: in run files, and in the tables that journals keep."""

import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.problem.specification import build_problem, specification
from pyadjoint_gpu.runfiles.schema import read

GRID = pag.Grid((6, 8), (0.6, 0.8), units="km")
MODEL = pag.models.Darcy(GRID, fixed_pressure={"x_min": 1.0, "x_max": 0.0}, pressure_units="MPa")
MEAN = 1.0 + np.random.default_rng(0).random(GRID.shape)
FILE = """
[grid]
shape = [6, 8]
extent = [0.6, 0.8]
units = "km"
[model]
name = "darcy"
fixed_pressure = { x_min = 1.0, x_max = 0.0 }
pressure_units = "MPa"
[controls.permeability]
initial = 1.0
transform = "log"
[controls.permeability.prior]
kind = "matern"
sd = 0.7
length = [0.1, 0.3]
mean = "mean.nc:k"
[misfit]
observations = "data.nc"
"""


def data() -> xr.Dataset:
    points = [(0.2, 0.3), (0.4, 0.6)]
    return pag.synthetic.observe(MODEL, {"permeability": 2.0}, points, noise=0.1)


def problem(prior: pag.Prior, **options: object) -> pag.Problem:
    control = pag.Control("permeability", 1.0, prior=prior, **({"transform": "log"} | options))
    return pag.Problem(MODEL, control, pag.LeastSquares(data()), engine="embedded")


def test_a_run_file_and_the_api_make_the_same_prior(tmp_path):
    data().to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    xr.Dataset({"k": (("y", "x"), MEAN)}).to_netcdf(tmp_path / "mean.nc", engine="h5netcdf")
    (tmp_path / "run.toml").write_text(FILE)
    found = read(tmp_path / "run.toml").build().prior
    expected = problem(pag.Matern(0.7, (0.1, 0.3), mean=MEAN)).prior
    x = np.random.default_rng(1).standard_normal(48)
    np.testing.assert_array_equal(found.theta(x), expected.theta(x))
    np.testing.assert_array_equal(expected.theta(0.0 * x), np.log(MEAN).ravel())


WRONG = [
    ("kind='matren'", r"permeability\.prior\.kind: found 'matren'; did you mean 'matern'"),
    ("sd=-1", r"permeability\.prior\.sd: found -1, expected finite values > 0"),
    ("lenght=1", r"permeability\.prior\.lenght: unknown key; did you mean 'length'"),
    ("mean='mean.nc:q'", r"permeability\.prior\.mean: no variable 'q'"),
    ("", r"permeability\.prior: found 3, expected a table"),
]


@pytest.mark.parametrize(("change", "match"), WRONG)
def test_what_is_wrong_in_a_run_file(tmp_path, change, match):
    data().to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    xr.Dataset({"k": (("y", "x"), MEAN)}).to_netcdf(tmp_path / "mean.nc", engine="h5netcdf")
    (tmp_path / "run.toml").write_text(FILE)
    key = "controls.permeability.prior"
    with pytest.raises((ConfigError, DataError), match=match):
        read(tmp_path / "run.toml", [f"{key}.{change}" if change else f"{key}=3"]).build()


PRIORS = {
    "matern": lambda: problem(pag.Matern(xr.DataArray(0.7), {"y": 0.1, "x": 0.3}, mean=MEAN)),
    "length in m": lambda: problem(pag.Matern(1.0, xr.DataArray(150.0, attrs={"units": "m"}))),
    "independent": lambda: problem(pag.Independent(MEAN)),
    "dense": lambda: problem(pag.Dense(np.diag(MEAN.ravel()))),
    "uniform": lambda: problem(pag.Uniform(0.1, 5.0), transform="identity"),
}


@pytest.mark.parametrize("name", PRIORS)
def test_tables_make_the_same_problem_again(name):
    made = PRIORS[name]()
    again = build_problem(specification(made))
    x = np.random.default_rng(1).standard_normal(made.size)
    np.testing.assert_array_equal(again.prior.theta(x), made.prior.theta(x))
