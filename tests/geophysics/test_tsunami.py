"""A sea floor from a formula, and what breaks under it."""

import numpy as np
import pytest

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError
from pyadjoint_gpu.geophysics.bathymetry import continental_margin
from pyadjoint_gpu.geophysics.rupture import Rupture

KM = 1e3
GRID = pag.Grid((20, 60), (100 * KM, 300 * KM))


def rupture(**options):
    given = {"centre": (50 * KM, 150 * KM), "uplift": 2.0, "length": 60 * KM, "width": 40 * KM}
    return Rupture(**given | {"speed": 2 * KM, "rise_time": 60.0} | options)


def test_a_margin_by_its_depths():
    depth = continental_margin(GRID, coast=30.0, shelf=150.0, deep=4000.0)
    x = 300 * KM - GRID.centers[1]  # from the coast
    assert depth.shape == GRID.shape
    np.testing.assert_array_equal(depth, np.broadcast_to(depth[0], GRID.shape))
    assert np.all(np.diff(depth[0]) <= 0)
    shelf = x < 50 * KM
    np.testing.assert_allclose(depth[0, shelf], 30.0 + 120.0 * x[shelf] / (50 * KM), rtol=1e-12)
    np.testing.assert_array_equal(depth[0, x > 140 * KM], 4000.0)
    middle = 0.5 * (150.0 + 4000.0)  # halfway down the slope
    assert np.interp(-95 * KM, -x, depth[0]) == pytest.approx(middle, rel=1e-3)


@pytest.mark.parametrize("side", ["x_min", "x_max", "y_min", "y_max"])
def test_a_coast_on_any_side(side):
    options = {"shelf_width": 20 * KM, "slope_width": 50 * KM}
    depth = continental_margin(GRID, side=side, **options)
    turned = depth if side[0] == "x" else depth.T
    turned = turned[:, ::-1] if side.endswith("max") else turned
    assert turned[0, 0] == pytest.approx(50.0 + 150.0 * 2.5 / 20.0)  # in the middle of a cell
    assert np.all(turned == turned[0]) and turned[0, -1] == 4000.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": "z_min"}, "side: found 'z_min', expected one of y_min, y_max, x_min, x_max"),
        ({"coast": 0.0}, r"coast: found 0\.0, expected a positive number"),
        ({"shelf": "flat"}, "shelf: found 'flat', expected a positive number"),
        ({"deep": 100.0}, "coast, shelf, deep: found 50, 200, 100, expected depths that grow"),
        ({"slope_width": -1.0}, r"slope_width: found -1\.0, expected a positive number"),
    ],
)
def test_no_margin(options, message):
    with pytest.raises(ConfigError, match=message):
        continental_margin(GRID, **options)


def test_uplift_in_the_end():
    """Whatever is sampled, at steps that divide the rise time."""
    found = rupture(strike=30.0, origin=(30 * KM, 140 * KM))
    t = (np.arange(10) + 0.5) * 20.0
    y, x = np.meshgrid(*GRID.centers, indexing="ij")
    total = 20.0 * found(t[:, None, None], y, x).sum(0)
    np.testing.assert_allclose(total, found.final(y, x), rtol=0, atol=1e-14)
    assert found.final(50 * KM, 150 * KM) == 2.0
    along = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)]) * KM
    across = np.array([-along[1], along[0]])
    for direction, half in ((along, 30.0), (across, 20.0)):
        y, x = np.array([[50 * KM], [150 * KM]]) + np.outer(direction, [0.5 * half, 1.01 * half])
        np.testing.assert_allclose(found.final(y, x), [1.0, 0.0], atol=1e-12)


def test_it_spreads_from_its_origin():
    found = rupture(origin=(30 * KM, 150 * KM))
    t = np.linspace(0.0, 150.0, 1501)
    for distance in (0.0, 20 * KM, 40 * KM):
        moving = t[found(t, 30 * KM + distance, 150 * KM) > 0]
        assert moving[0] == pytest.approx(distance / (2 * KM), abs=0.2)
        assert moving[-1] == pytest.approx(distance / (2 * KM) + 60.0, abs=0.2)
    assert rupture().origin == (50 * KM, 150 * KM)


@pytest.mark.slow
def test_the_sea_rises_by_as_much_water():
    """Between walls."""
    source = {"low": [10 * KM, 120 * KM], "high": [90 * KM, 180 * KM]}
    model = pag.models.ShallowWater(GRID, 15.0, 40, every=2, source=source)
    depth = continental_margin(GRID)
    state = pag.solve(model, {"depth": depth, "source": rupture()})
    y, x = np.meshgrid(*GRID.centers, indexing="ij")
    lifted = np.sum(rupture().final(y, x))
    assert float(state["elevation"][-1].sum()) == pytest.approx(lifted, rel=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"centre": 3.0}, r"centre: found 3\.0, expected two numbers, y and x"),
        ({"origin": (1.0, 2.0, 3.0)}, r"origin: found \(1\.0, 2\.0, 3\.0\), expected two numbers"),
        ({"origin": (1.0, np.inf)}, "origin: .* expected finite numbers"),
        ({"speed": 0.0}, r"speed: found 0\.0, expected a positive number"),
        ({"uplift": np.nan}, "uplift: found nan, expected a number"),
    ],
)
def test_no_rupture(options, message):
    with pytest.raises(ConfigError, match=message):
        rupture(**options)
