"""Harmless variations of good input make the same problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from run_files import RUN_FILE, SIGMA, Change, fields, observations, save, unit

from pyadjoint_gpu.runfiles.schema import read


def solved(path: Path, *overrides: str) -> tuple[float, np.ndarray]:
    value, gradient = read(path, overrides).build().value_and_gradient()
    return value, gradient["permeability"].values


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, np.ndarray]:
    """Value and gradient of the plain files."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "run.toml").write_text(RUN_FILE)
    save(observations(), folder / "observations.nc")
    save(fields(), folder / "fields.nc")
    return solved(folder / "run.toml", INITIAL)


INITIAL = "controls.permeability.initial=fields.nc:permeability"
HEAD = [
    "misfit.observations=observations.nc:head",
    "misfit.observes=pressure",
    "misfit.sigma=0.01",
]


def plain_coordinates(data: xr.Dataset) -> xr.Dataset:
    return data.reset_coords(["x", "y"])


def named_by_cf(data: xr.Dataset) -> xr.Dataset:
    """Coordinates under other names, known by their attributes."""
    data = plain_coordinates(data).rename(x="easting", y="northing")
    data["easting"].attrs["standard_name"] = "projection_x_coordinate"
    data["northing"].attrs["axis"] = "Y"
    return data


def other_order(data: xr.Dataset) -> xr.Dataset:
    """y first, sigma before the values."""
    names = ["y", "pressure_sigma", "x", "pressure"]
    return xr.Dataset({n: data[n].variable for n in names})


def kilometres(data: xr.Dataset) -> xr.Dataset:
    return unit("x", "km", 1e-3)(unit("y", "km", 1e-3)(data))


def head(data: xr.Dataset) -> xr.Dataset:
    return unit("head", "m")(data.rename(pressure="head").drop_vars("pressure_sigma"))


def with_others(data: xr.Dataset) -> xr.Dataset:
    """Further variables, with units of their own."""
    axis = "observation"
    more = {f"other_{u}": (axis, np.arange(6.0), {"units": u}) for u in ("K", "s", "kg", "m", "J")}
    return data.assign(more)


VARIED_OBSERVATIONS = [
    pytest.param(plain_coordinates, [], id="coordinates-as-variables"),
    pytest.param(lambda d: d.rename(observation="well"), [], id="dimension-well"),
    pytest.param(other_order, [], id="y-before-x"),
    pytest.param(kilometres, [], id="kilometres"),
    pytest.param(named_by_cf, [], id="coordinates-by-attributes"),
    pytest.param(head, HEAD, id="head"),
    pytest.param(head, [*HEAD, "model.pressure_units=m"], id="head-and-units"),
    pytest.param(unit("pressure", "kPa", 1e-3), ["model.pressure_units=Pa"], id="kilopascal"),
    pytest.param(unit(SIGMA, "mbar", 1e-2), [], id="sigma-in-millibar"),
    pytest.param(with_others, [], id="other-variables"),
]


@pytest.mark.parametrize(("change", "overrides"), VARIED_OBSERVATIONS)
def test_varied_observations(change: Change, overrides: list[str], folder: Path, plain: Any):
    save(change(observations()), folder / "observations.nc")
    same(solved(folder / "run.toml", INITIAL, *overrides), plain)


VARIED_FIELDS = [
    pytest.param(lambda d: d.isel(y=slice(None, None, -1)), id="y-descending"),
    pytest.param(lambda d: d.isel(y=slice(None, None, -1), x=slice(None, None, -1)), id="both"),
    pytest.param(lambda d: d.transpose("x", "y"), id="transposed"),
    pytest.param(lambda d: d.transpose("x", "y").isel(y=slice(None, None, -1)), id="transposed-y"),
    pytest.param(lambda d: d.drop_vars(["x", "y"]), id="no-coordinates"),
    pytest.param(lambda d: d.expand_dims("time"), id="one-time"),
]


@pytest.mark.parametrize("change", VARIED_FIELDS)
def test_varied_fields(change: Change, folder: Path, plain: Any):
    save(change(fields()), folder / "fields.nc")
    same(solved(folder / "run.toml", INITIAL), plain)


def same(found: tuple[float, np.ndarray], expected: tuple[float, np.ndarray]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-12, abs=0)
    difference = np.max(np.abs(found[1] - expected[1]))
    assert difference <= 1e-12 * np.max(np.abs(expected[1]))
