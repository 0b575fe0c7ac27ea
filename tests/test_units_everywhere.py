"""Units, masks and names at doors that others have not: the same numbers however they are spelt, or
one line that refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from run_files import GRID

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.lti import LinearInversion, ToeplitzMap
from pyadjoint_gpu.models import AcousticWave, Darcy, ShallowWater
from pyadjoint_gpu.placement import place_sensors
from pyadjoint_gpu.problem.control import BoundControl
from pyadjoint_gpu.sampling import HierarchicalSMC
from pyadjoint_gpu.sampling.inputs import fixed
from pyadjoint_gpu.statistics import Independent

PLACES = np.array([(310.0, -240.0), (520.0, 130.0)])


def array(values: Any, units: str | None = None, dims: Any = None) -> xr.DataArray:
    values = np.asarray(values)
    dims = dims or [f"d{k}" for k in range(values.ndim)]
    return xr.DataArray(values, dims=dims, attrs={} if units is None else {"units": units})


def columns(scale: float, units: str) -> xr.Dataset:
    """Columns by name, x before y."""
    return xr.Dataset(
        {d: array(PLACES[:, k] * scale, units, ["n"]) for k, d in ((1, "x"), (0, "y"))}
    )


SPELLINGS = {
    "list": PLACES.tolist(),
    "km": array(PLACES / 1e3, "km"),
    "names": array(PLACES[:, ::-1], dims=["n", "axis"]).assign_coords(axis=["x", "y"]),
    "dataset": columns(1.0, "m"),
    "dataset in km": columns(1e-3, "km"),
    "masked without gaps": np.ma.masked_array(PLACES, mask=False),
}
REFUSED = {
    "other units": (array(PLACES, "s"), "'s'"),
    "a gap": (np.ma.masked_array(PLACES, mask=[[0, 0], [1, 0]]), "number 1 is not finite"),
    "no names": (columns(1.0, "m").rename(y="north"), "x.*expected y, x"),
}


def wave(source: Any) -> AcousticWave:
    return AcousticWave(GRID, 0.01, 4, source=source)


WAVE = wave(PLACES)
DARCY = Darcy(GRID, fixed_pressure={"x_min": 1.0, "x_max": 0.0})


def sources(given: Any) -> Any:
    return wave(given).source.given[1]


def shallow(given: Any) -> Any:
    return ShallowWater(GRID, 0.1, 2, source=given).source.given[1]


def sensors(given: Any) -> Any:
    column = pag.block_column(WAVE, {"wave_speed": 1000.0}, given)
    return np.stack([column["response"].sum(("lag", "source")), column["sensor_y"]])


def observed(given: Any) -> Any:
    data = pag.synthetic.observe(DARCY, {"permeability": 1.0}, given, noise=0.0)
    return np.stack([data["pressure"], data["x"]])


POSITIONS: dict[str, Callable[[Any], Any]] = {
    "AcousticWave": sources,
    "ShallowWater": shallow,
    "block_column": sensors,
    "observe": observed,
}


@pytest.mark.slow
@pytest.mark.parametrize("door", POSITIONS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_positions_are_the_same_in_any_spelling(door: str, spelling: str):
    found, expected = POSITIONS[door](SPELLINGS[spelling]), POSITIONS[door](PLACES)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("door", POSITIONS)
@pytest.mark.parametrize("slip", REFUSED)
def test_positions_that_cannot_be_are_refused(door: str, slip: str):
    given, words = REFUSED[slip]
    refused(lambda: POSITIONS[door](given), words)


def refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        call()
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message


def test_a_mask_of_cells_keeps_its_directions():
    plain = np.zeros(GRID.shape, dtype=bool)
    plain[1, 2:5] = True
    mask = xr.DataArray(plain, dims=("y", "x"), coords=dict(zip("yx", GRID.centers, strict=True)))
    for given in (mask, mask.T, mask.isel(y=slice(None, None, -1))):
        np.testing.assert_array_equal(wave(given).source.indices, wave(plain).source.indices)
    gap = np.ma.masked_array(plain, mask=np.broadcast_to(np.arange(12) == 4, plain.shape))
    assert wave(gap).source.indices.size == 2


# Linear systems: data in m

COLUMN = xr.DataArray(
    np.random.default_rng(0).standard_normal((3, 2, 4)),
    dims=("lag", "sensor", "place"),
    attrs={"observed_units": "m", "parameter_units": "m s-1"},
)
OF = ToeplitzMap.of(COLUMN)
PRIOR = Independent(1.0)
DATA = np.arange(6.0).reshape(3, 2)
NOISES = {
    "cm": array(30.0, "cm"),
    "one a sensor": array([300.0, 300.0], "mm"),
    "covariances": array(np.tile(9e4 * np.eye(3), (2, 1, 1)), "mm2"),
}


def inferred(noise: Any = 0.3, data: Any = DATA) -> np.ndarray:
    inversion = LinearInversion(OF, PRIOR, noise)
    streamed = inversion.stream().update(data)["mean"].values
    found = inversion.infer(data)["mean"].values
    np.testing.assert_allclose(streamed, found, rtol=1e-10, atol=1e-12)
    return found


def placed(noise: Any = 0.3) -> np.ndarray:
    return place_sensors(OF, PRIOR, noise, 2, random=1)["information"].values


@pytest.mark.parametrize("spelling", NOISES)
def test_noise_is_in_units_of_the_data(spelling: str):
    np.testing.assert_allclose(inferred(NOISES[spelling]), inferred(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(placed(NOISES[spelling]), placed(), rtol=1e-10)


DATAS = {
    "cm": array(100.0 * DATA, "cm"),
    "transposed": array(DATA.T, "m", ("sensor", "time")),
    "masked without gaps": np.ma.masked_array(DATA, mask=False),
}


@pytest.mark.parametrize("spelling", DATAS)
def test_data_are_in_units_of_the_map(spelling: str):
    np.testing.assert_allclose(inferred(data=DATAS[spelling]), inferred(), rtol=1e-10, atol=1e-12)


# Samplers

G = np.random.default_rng(1).standard_normal((4, 2))
SEEN = np.ones(4)


def whitened(data: Any = SEEN, noise: Any = 0.1) -> np.ndarray:
    return fixed(data, noise, Independent(1.0).on(2), None).data


def hierarchical(data: Any) -> object:
    prior = {"a": scipy.stats.norm()}
    return HierarchicalSMC(lambda theta: theta["a"] * G, data, 0.1, np.ones(2), prior)._work


@pytest.mark.parametrize(
    "noise",
    [array(10.0, "cm"), array(np.full(4, 100.0), "mm"), array(1e4 * np.eye(4), "mm2")],
    ids=["cm", "each", "covariance"],
)
def test_samplers_take_noise_in_units_of_the_data(noise: Any):
    np.testing.assert_allclose(whitened(array(SEEN, "m"), noise), whitened(), rtol=1e-12)


def field_prior(sd: Any, length: Any, transform: str = "identity") -> np.ndarray:
    control = pag.Control(
        "permeability", 1.0, transform=transform, bounds=(0.1, 2.0), prior=pag.Matern(sd, length)
    )
    prior = BoundControl(control, DARCY).prior
    assert prior is not None
    return np.asarray(prior.root(np.ones(GRID.shape)))


def test_a_prior_is_in_units_of_its_control():
    expected = field_prior(0.2, 300.0)
    units = DARCY.parameter("permeability").units
    found = field_prior(array(0.2, units), array(0.3, "km"))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


SLIPS: dict[str, tuple[Callable[[], Any], str]] = {
    "noise in s": (lambda: inferred(array(0.3, "s")), "noise is in 's', expected 'm'"),
    "place, noise in s": (lambda: placed(array(0.3, "s")), "noise is in 's', expected 'm'"),
    "variance": (lambda: inferred(array(0.3, "m2")), "noise is in 'm2'.*variance"),
    "data in s": (lambda: inferred(data=array(DATA, "s")), "data is in 's', expected 'm'"),
    "no data": (
        lambda: inferred(data=np.ma.masked_array(DATA, mask=True)),
        f"data: none of {DATA.size} values is observed",
    ),
    "sampler, noise in s": (
        lambda: whitened(array(SEEN, "m"), array(0.1, "s")),
        "noise is in 's', expected 'm'",
    ),
    "sampler, no data": (
        lambda: whitened(np.ma.masked_array(SEEN, SEEN > -99)),
        "data: none of 4 values",
    ),
    "hierarchical, no data": (
        lambda: hierarchical(np.ma.masked_array(SEEN, SEEN > -99)),
        "data: none of 4 values",
    ),
    "sd of a logarithm in m": (
        lambda: field_prior(array(0.2, "m"), 300.0, "log"),
        "permeability.prior.sd is in 'm'",
    ),
    "length in s": (
        lambda: field_prior(0.2, array(0.3, "s")),
        "permeability.prior.length is in 's'",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_what_does_not_convert_is_refused(slip: str):
    refused(*SLIPS[slip])
