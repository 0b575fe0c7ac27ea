"""Maps as data: observations on a grid of their own, grids like a file's."""

import numpy as np
import pytest
import xarray as xr
from cases import doublet, grid_of, permeability

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.runfiles.schema import read


def chart(values, y, x, name="pressure"):
    return xr.Dataset({name: (("y", "x"), values)}, {"y": y, "x": x})


@pytest.fixture(scope="module")
def model():
    return doublet(grid_of((15, 31)))


@pytest.fixture(scope="module")
def pressure(model):
    return pag.solve(model, {"permeability": permeability(model.grid, "white")})["pressure"]


def test_a_map_is_its_points(model, pressure):
    """In any order of dimensions, either direction, and another resolution."""
    y, x = np.linspace(0.1, 0.9, 5), np.linspace(-0.8, 0.8, 7)
    values = np.random.default_rng(0).standard_normal((5, 7))
    data = chart(values, y, x)
    axes = np.meshgrid(y, x, indexing="ij")
    listed = xr.Dataset(
        {"pressure": ("observation", values.ravel())},
        {d: ("observation", a.ravel()) for d, a in zip("yx", axes, strict=True)},
    )
    u = {"pressure": pressure.values}
    expected = float(pag.LeastSquares(listed, sigma=0.1).bind(model)(u))
    turned = data.transpose("x", "y").isel(y=slice(None, None, -1))
    for given in (data, turned):
        bound = pag.LeastSquares(given, sigma=0.1).bind(model)
        assert bound.size == 35
        assert float(bound(u)) == pytest.approx(expected, rel=1e-12)
    sigmas = data.assign(pressure_sigma=(("y", "x"), np.full((5, 7), 0.1)))
    assert float(pag.LeastSquares(sigmas).bind(model)(u)) == pytest.approx(expected, rel=1e-12)
    own = pag.LeastSquares(data, sigma=np.full((5, 7), 0.1)).bind(model)
    assert float(own(u)) == pytest.approx(expected, rel=1e-12)


def test_bad_maps(model):
    values = np.ones((3, 4))
    data = chart(values, [0.2, 0.4, 0.6], [0.0, 0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="dimension 'y' of 'pressure' has no coordinate"):
        pag.LeastSquares(data.drop_vars("y"), sigma=1.0).bind(model)
    with pytest.raises(DataError, match=r"sigma: found shape \(4,\), expected \(3, 4\)"):
        pag.LeastSquares(data, sigma=np.ones(4)).bind(model)
    with pytest.raises(DataError, match="none of 12"):
        values[:] = np.nan
        pag.LeastSquares(chart(values, data.y, data.x), sigma=1.0).bind(model)


def test_grids_like_a_field():
    grid = pag.Grid((4, 6), (2.0, 1.5), (-1.0, 3.0), units="km")
    field = xr.DataArray(np.zeros((4, 6)), dims=("y", "x"))
    axes = zip(grid.dims, grid.centers, strict=True)
    field = field.assign_coords({d: (d, c, {"units": "km"}) for d, c in axes})
    for given in (field, field.transpose("x", "y"), field.isel(y=slice(None, None, -1))):
        found = pag.Grid.like(given)
        assert found.shape == grid.shape and found.units == "km"
        np.testing.assert_allclose(found.extent, grid.extent)
        np.testing.assert_allclose(found.origin, grid.origin)
    for bad, message in (
        (field.rename(x="east"), "found dimensions"),
        (field.drop_vars("x"), "dimension 'x' has no coordinate"),
        (field.assign_coords(x=[0.0, 1.0, 2.0, 3.0, 4.0, 9.0]), "coordinate 'x' has no equal"),
        (field.assign_coords(x=("x", grid.centers[1], {"units": "m"})), "coordinates are in km, m"),
    ):
        with pytest.raises(DataError, match=message):
            pag.Grid.like(bad)


RUN = """
engine = "embedded"
[grid]
like = "map.nc:pressure"
[model]
name = "darcy"
fixed_pressure = {x_min = 0.0, x_max = 1.0}
[controls.permeability]
initial = 1.0
transform = "log"
[misfit]
observations = "map.nc:pressure"
sigma = 0.1
[inversion]
max_iterations = 2
[output]
path = "out.nc"
"""


@pytest.mark.slow
def test_a_run_file_takes_its_grid_from_a_map(tmp_path, capsys):
    """Whose first row is the northernmost, say."""
    values = np.random.default_rng(0).random((6, 8))
    chart(values, np.linspace(1.0, 0.0, 6), np.linspace(0.0, 2.0, 8)).to_netcdf(
        tmp_path / "map.nc", engine="h5netcdf"
    )
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    assert main(["run", str(path)]) == 1  # after two iterations
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as result:
        assert result["pressure"].shape == (6, 8)
        assert abs(result["y"].values[0]) < 1e-12
        observed = result["observed"].values.reshape(6, 8)
        np.testing.assert_allclose(observed, values)
        predicted = result["predicted"].values.reshape(6, 8)
        np.testing.assert_allclose(predicted, result["pressure"].values[::-1])
    capsys.readouterr()
    for wrong, message in (
        ('like = "map.nc:presure"', "no variable 'presure' in map.nc; did you mean 'pressure'?"),
        ('like = "map.nc:pressure"\nshape = [3, 3]', "grid.shape: found beside 'like'"),
        ("like = 3.0", "grid.like: found 3.0, expected 'file.nc:variable'"),
    ):
        path.write_text(RUN.replace('like = "map.nc:pressure"', wrong))
        assert main(["run", str(path)]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"grid.shape is missing"):
        path.write_text(RUN.replace('like = "map.nc:pressure"', ""))
        read(path).build()
