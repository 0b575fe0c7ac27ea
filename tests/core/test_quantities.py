"""Units as texts, and what is missing of what is given."""

import re

import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.quantities import conversion, converter, inverse, numbers, power

SECONDS = 3.15569259747e7  # of UDUNITS' year


@pytest.mark.parametrize(
    ("found", "wanted", "scale"),
    [
        ("km", "m", 1e3),
        ("Metres", "m", 1.0),
        ("ft", "m", 0.3048),
        ("mm day-1", "m year-1", 1e-3 * SECONDS / 86400.0),
        ("m a-1", "m s-1", 1.0 / SECONDS),
        ("m/s", "m s-1", 1.0),
        ("m.s-1", "m s-1", 1.0),
        ("m^2/s", "m2 s-1", 1.0),
        ("m**2", "m2", 1.0),
        ("10^6 m3", "m3", 1e6),
        ("1e-3 m", "m", 1e-3),
        ("mD", "m2", 9.869233e-16),
        ("millidarcy", "m2", 9.869233e-16),
        ("psi", "Pa", 6894.757293168),
        ("mbar", "Pa", 100.0),
        ("m2 s-1 m-1", "m s-1", 1.0),
        ("%", "1", 0.01),
        ("radian", "degree", 180.0 / np.pi),
        ("degrees_north", "degree", 1.0),
        (None, "m", 1.0),
        ("1", "m", 1.0),
        ("", "m", 1.0),
    ],
)
def test_units_convert(found, wanted, scale):
    how = conversion(found, wanted)
    assert how is not None
    assert how.offset == 0.0
    assert how.scale == pytest.approx(scale, rel=1e-12)


def test_offsets_are_for_values_and_not_for_their_errors():
    how = conversion("degC", "K")
    assert how is not None
    assert how(np.array([0.0, 20.0])) == pytest.approx([273.15, 293.15])
    assert how.difference(2.0) == 2.0
    fahrenheit = conversion("degF", "degC")
    assert fahrenheit is not None
    assert fahrenheit(np.array([32.0, 212.0])) == pytest.approx([0.0, 100.0], abs=1e-10)
    assert fahrenheit.difference(9.0) == pytest.approx(5.0, rel=1e-12)


def test_a_mass_stands_for_a_volume_where_its_density_is_known():
    assert conversion("kg m-2 year-1", "m year-1") is None
    how = conversion("kg m-2 year-1", "m year-1", density=917.0)
    assert how is not None
    assert how(917.0) == pytest.approx(1.0, rel=1e-14)
    daily = conversion("mm day-1", "m year-1", density=917.0)
    assert daily is not None
    assert daily.scale == pytest.approx(1e-3 * SECONDS / 86400.0)


@pytest.mark.parametrize(
    ("found", "wanted", "patterns"),
    [
        ("kg", "m", ["'kg'", "'m'", "converts"]),
        ("bananas", "m", ["'bananas'", "no known unit", "'m'"]),
        ("m2", "m", ["'m2'", "square", "variance"]),
        ("m", "1", ["'m'", "'1'"]),
        ("days since 2000-01-01", "s", ["days since", "'s'"]),
        ("degrees_east", "m", ["degrees_east"]),
    ],
)
def test_what_does_not_convert_is_refused_by_name(found, wanted, patterns):
    with pytest.raises(DataError) as error:
        converter("depth", found, wanted, meaning="of the water")
    text = str(error.value)
    assert text.startswith("depth is in ")
    assert "\n" not in text
    for pattern in [*patterns, "of the water"]:
        assert pattern in text


def test_products_of_units():
    assert power(("m", 1), ("s", -1)) == "m s-1"
    assert power(("m s-1", 1), ("s", 1)) == "m"
    assert inverse("1") == "1"
    assert inverse("MPa") == "MPa-1"
    assert inverse("year-1") == "year"
    assert inverse("degree") == "degree-1"
    assert inverse("foo") == "(foo)-1"
    for units in ("m2 s-1 Pa-1", "kg m-2 year-1", "N m-3", "Pa s", "m-3 year-1"):
        there = conversion(inverse(inverse(units)), units)
        assert there is not None and there.scale == pytest.approx(1.0, rel=1e-14)


MISSING = np.array([1.0, np.nan, 3.0])


@pytest.mark.parametrize(
    "given",
    [
        [1.0, None, 3.0],
        np.array([1.0, np.nan, 3.0], np.float32),
        np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False]),
        np.ma.masked_array([1, 2, 3], [False, True, False]),
        xr.DataArray([1.0, np.nan, 3.0]),
        xr.DataArray([1.0, -999.0, 3.0], attrs={"_FillValue": -999.0}),
        xr.DataArray([1, 9, 3], attrs={"missing_value": [8, 9]}),
    ],
)
def test_what_is_missing_is_nan_however_it_is_said(given):
    np.testing.assert_array_equal(numbers("x", given), MISSING)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("text", "'text'"),
        (np.array(["2000-01-01"], "datetime64[s]"), "dates"),
        ([1.0 + 2.0j], "complex"),
        ([True, False], "numeric"),
        ([[1.0], [1.0, 2.0]], "different lengths"),
        (object(), "object"),
    ],
)
def test_what_is_no_number_is_refused(given, what):
    with pytest.raises(DataError, match=what):
        numbers("x", given)


GRID = pag.Grid((2, 3), (2.0, 3.0))
DARCY = pag.models.Darcy(GRID, fixed_pressure=["x_min", "x_max"], pressure_units="MPa")
ONES = np.ones((2, 3))


def permeability(value):
    return DARCY.field("permeability", value)


@pytest.mark.parametrize(
    "value",
    [
        xr.DataArray(ONES, dims=("y", "x"), attrs={"units": "m2 s-1 MPa-1"}),
        xr.DataArray(1e-6 * ONES, dims=("y", "x"), attrs={"units": "m2 s-1 Pa-1"}),
        xr.DataArray(86400.0 * ONES.T, dims=("x", "y"), attrs={"units": "m2 day-1 MPa-1"}),
        xr.DataArray(ONES[None], dims=("time", "y", "x")),
        xr.DataArray(1e-6, attrs={"units": "m2 s-1 Pa-1"}),
        xr.Dataset({"k": (("y", "x"), 1e-6 * ONES, {"units": "m2 s-1 Pa-1"})}),
        xr.Dataset({"permeability": (("y", "x"), ONES), "other": ("z", [1.0])}),
        np.ma.masked_array(ONES, np.zeros((2, 3), bool)),
        lambda y, x: np.ones(np.shape(x)),
    ],
)
def test_a_field_is_in_the_models_units_whatever_brings_it(value):
    np.testing.assert_allclose(permeability(value), ONES, rtol=1e-14)


def test_values_on_sides_are_converted():
    for value in (xr.DataArray(2e6, attrs={"units": "Pa"}), 2.0):
        model = pag.models.Darcy(
            GRID, fixed_pressure={"x_min": value, "x_max": 0.0}, pressure_units="MPa"
        )
        np.testing.assert_allclose(model.fields({"permeability": 1.0})["boundary_pressure"][:2], 2)


@pytest.mark.parametrize(
    ("value", "patterns"),
    [
        (
            xr.DataArray(ONES, dims=("y", "x"), attrs={"units": "mD"}),
            ["permeability", "'mD'", "'m2 s-1 MPa-1'", "viscosity"],
        ),
        (np.ma.masked_array(ONES, [[False] * 3, [False, True, True]]), ["2 NaN", r"\(1, 1\)"]),
        (np.where(ONES, np.inf, 0), ["6 NaN or infinite", r"\(0, 0\)"]),
        (xr.Dataset({"a": ("x", [1.0]), "b": ("x", [1.0])}), ["Dataset of a, b", "DataArray"]),
        (xr.DataArray(np.ones((2, 2, 3)), dims=("t", "y", "x")), ["dimensions"]),
        (np.array(["a", "b"]), ["a number or an array"]),
        (np.array("2000-01-01", "datetime64[s]"), ["dates"]),
    ],
)
def test_a_field_that_cannot_be_had_is_refused(value, patterns):
    with pytest.raises(DataError) as error:
        permeability(value)
    assert "\n" not in str(error.value)
    for pattern in patterns:
        assert re.search(pattern, str(error.value)), str(error.value)


def test_a_grid_has_a_unit_of_length():
    for units in ("Pa", "degrees_east", "bananas"):
        with pytest.raises(ConfigError, match=f"units: found '{units}', expected a unit of length"):
            pag.Grid((2, 3), (2.0, 3.0), units=units)
    assert pag.Grid((2, 3), (2.0, 3.0), units="1").si.units == "1"
    si = pag.Grid((2, 3), (2.0, 3.0), (1.0, -1.0), units="km").si
    assert (si.extent, si.origin, si.units) == ((2e3, 3e3), (1e3, -1e3), "m")


def test_a_number_that_states_its_units_is_no_bare_number():
    with pytest.raises(ConfigError, match="well"):
        pag.Well((0.5, 0.5), xr.DataArray(1.0, attrs={"units": "l s-1"}))
