"""What of a state is observed, and what of the observations is there."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.sampling import HierarchicalSMC, LinearSMC, SamplingWarning, Settings

GRID = pag.Grid((6, 8), (1.0, 2.0), (0.0, -1.0))
MODEL = pag.models.Darcy(GRID, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
Y, X = np.meshgrid(*GRID.centers, indexing="ij")
K = np.exp(0.5 * np.sin(2.0 * X) * np.cos(3.0 * Y))
POINTS = [(0.2, -0.7), (0.5, 0.1), (0.75, 0.6), (0.31, -0.25)]
STATE = pag.solve(MODEL, {"permeability": K}, tolerance=1e-12)


def observed(name: str = "pressure", **options: Any) -> xr.Dataset:
    return pag.synthetic.observe(MODEL, {"permeability": K}, POINTS, variable=name, **options)


def problem(data: xr.Dataset, model: pag.models.Model = MODEL, **options: Any) -> pag.Problem:
    return pag.Problem(
        model,
        pag.Control("permeability", 1.0, transform="log"),
        pag.LeastSquares(data, **options),
        parameters={"porosity": 0.1},
        tolerance=1e-11,
    )


def by_hand(name: str) -> np.ndarray:
    """xarray's interpolation, from where the field lives."""
    at = {d: (f"{d}_face" if f"{d}_face" in STATE[name].dims else d) for d in ("y", "x")}
    values = [
        STATE[name].interp({at["y"]: y, at["x"]: x}, method="linear").item() for y, x in POINTS
    ]
    return np.array(values)


@pytest.mark.parametrize("name", ["pressure", "flux_x", "flux_y"])
def test_fields_are_seen_from_where_they_live(name: str):
    data = observed(name, noise=0.0)
    np.testing.assert_allclose(data[name], by_hand(name), rtol=1e-7, atol=1e-12)
    assert data[name].attrs["units"] == ("Pa" if name == "pressure" else "m s-1")


@pytest.mark.parametrize("name", ["flux_x", "velocity_y"])
def test_fluxes_are_inverted_as_fluxes(name: str):
    """J = 0 at the truth, and a gradient that passes the Taylor test."""
    data = pag.synthetic.observe(
        MODEL, {"permeability": K, "porosity": 0.1}, POINTS, noise=0.0, variable=name
    )
    p = problem(data)
    assert p.evaluate(p.theta({"permeability": K})).misfit < 1e-12
    assert p.evaluate(p.initial).misfit > 1e-4
    assert pag.taylor_test(p).passed
    data = data.rename({name: "q"}).drop_vars(f"{name}_sigma")
    mapped = problem(data, variable="q", observes=name, sigma=1.0)
    assert mapped.evaluate(p.initial).misfit == p.evaluate(p.initial).misfit


@pytest.mark.slow
def test_an_output_in_time_is_seen_between_states():
    inner = pag.models.Diffusion(pag.Grid(8, 1.0), {"x_min": 1.0, "x_max": 0.5})
    model = pag.models.Transient(inner, 0.05, 4)
    m = {"diffusivity": 0.5, "initial_height": 1.0}
    state = pag.solve(model, m, tolerance=1e-10)
    data = pag.synthetic.observe(model, m, [(0.075, 0.5)], noise=0.0, variable="flux_x")
    expected = state["flux_x"].interp(time=0.075, x_face=0.5)
    assert data["flux_x"].item() == pytest.approx(expected.item(), rel=1e-8)


WRONG: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    (
        {"variable": "head"},
        DataError,
        ["'head' is not a field of model 'darcy'", "observes='pressure'"],
    ),
    ({"variable": "presure"}, DataError, ["no variable 'presure'", "did you mean 'pressure'"]),
    ({"observes": "flux"}, ConfigError, ["'flux' is not a field", "did you mean 'flux_"]),
    ({"observes": "flux_x"}, DataError, ["found variables head, pressure", "flux_x"]),
]


@pytest.mark.parametrize(("options", "kind", "patterns"), WRONG)
def test_a_name_that_the_model_has_not_is_refused(options: Any, kind: Any, patterns: list[str]):
    data = observed()[["pressure"]].assign(head=observed()["pressure"])
    with pytest.raises(kind) as error:
        problem(data, sigma=1.0, **options)
    for pattern in patterns:
        assert re.search(pattern, str(error.value)), str(error.value)


def test_a_head_is_a_pressure_where_that_is_said():
    data = observed()
    head = data.rename(pressure="head", pressure_sigma="head_sigma")
    found = problem(head, variable="head", observes="pressure").value_and_gradient()
    assert found[0] == problem(data).value_and_gradient()[0]


def test_a_state_without_the_field_is_refused():
    model = pag.models.Darcy(GRID, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
    data = observed("flux_x").rename(flux_x="velocity_x", flux_x_sigma="velocity_x_sigma")
    p = pag.Problem(
        model, pag.Control("permeability", 1.0, transform="log"), pag.LeastSquares(data)
    )
    with pytest.raises(ConfigError, match="no 'velocity_x'"):
        p.value_and_gradient()


# What is missing


def with_gap(how: str) -> tuple[xr.Dataset, dict[str, Any]]:
    """The same data with the third one missing."""
    data, gap = observed(), np.array([False, False, True, False])
    sigma: Any = data["pressure_sigma"].values
    data["x"][2] = np.nan if how == "nan" else data["x"][2]  # nobody needs it
    if how == "nan":
        data["pressure"] = data["pressure"].where(~gap)
    if how == "mask":
        data["pressure"] = ("observation", np.ma.masked_array(data["pressure"].values, gap))
    if how == "fill":
        data["pressure"] = data["pressure"].where(~gap, -9999.0).assign_attrs(_FillValue=-9999.0)
    if how == "sigma":
        data["pressure_sigma"] = data["pressure_sigma"].where(~gap, np.inf)
    if how == "sigma nan":
        data["pressure_sigma"] = data["pressure_sigma"].where(~gap)
    if how == "weight":
        data["pressure_weight"] = ("observation", np.where(gap, 0.0, 1.0))
    options = {"given": np.where(gap, np.inf, sigma), "masked": np.ma.masked_array(sigma, gap)}
    return data, ({"sigma": options[how]} if how in options else {})


GAPS = ["nan", "mask", "fill", "sigma", "sigma nan", "weight", "given", "masked"]


@pytest.mark.parametrize("how", GAPS)
def test_what_is_missing_is_not_observed(how: str):
    data, options = with_gap(how)
    found, expected = problem(data, **options), problem(observed().isel(observation=[0, 1, 3]))
    assert found.misfit.size == 3 and found.misfit.missing == 1
    value, gradient = found.value_and_gradient()
    assert value == expected.value_and_gradient()[0]
    xr.testing.assert_equal(gradient, expected.value_and_gradient()[1])


def test_gaps_of_a_map():
    state = STATE["pressure"].drop_attrs().assign_attrs(units="Pa")
    data = xr.Dataset({"pressure": state.where(~((state.y > 0.5) & (state.x < 0.0)))})
    p = problem(data, sigma=np.full((6, 8), 0.1))
    assert (p.misfit.size, p.misfit.missing) == (36, 12)
    sigma = xr.DataArray(np.full((8, 6), 1e-4), dims=("x", "y"), attrs={"units": "kPa"})
    assert problem(data, sigma=sigma).evaluate(p.initial).misfit == pytest.approx(
        p.evaluate(p.initial).misfit, rel=1e-12
    )


def test_weights_multiply_the_squares():
    data = observed()
    data["pressure_weight"] = ("observation", [4.0, 1.0, 1.0, 0.25])
    other = observed()
    other["pressure_sigma"] = other["pressure_sigma"] / np.array([2.0, 1.0, 1.0, 0.5])
    found = problem(data).value_and_gradient()[0]
    assert found == pytest.approx(problem(other).value_and_gradient()[0], rel=1e-12)
    data["pressure_weight"] = -data["pressure_weight"]
    with pytest.raises(DataError, match=r"pressure_weight.*-4.*no weight < 0"):
        problem(data)


@pytest.mark.slow
def test_a_result_says_what_was_missing_and_keeps_names(tmp_path):
    data, _ = with_gap("nan")
    data = data.assign_coords(well=("observation", ["A 1", "B 2", "lost", "D 4"]))
    result = pag.invert(
        problem(data), max_iterations=2, progress=False, journal=tmp_path / "run.h5"
    )
    again = pag.resume(tmp_path / "run.h5", progress=False)
    result.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    read = xr.load_dataset(tmp_path / "run.nc", engine="h5netcdf")
    for found in (result, again, read):
        assert found.attrs["observed_used"] == 3
        assert found.attrs["observed_missing"] == 1
        assert "1 of 4 observations are missing" in found.attrs["message"]
        assert found["well"].dims == ("observation",)
        assert list(found["well"].values) == ["A 1", "B 2", "D 4"]
        figure = found.pag.plot()
        written = [t.get_text() for axes in figure.axes for t in axes.texts]
        assert {"A 1", "B 2", "D 4"} <= set(written)


def test_all_missing_is_no_data():
    data = observed()
    data["pressure"] = data["pressure"] * np.nan
    with pytest.raises(DataError, match="none of 4 values of 'pressure' is observed"):
        problem(data)


def test_a_place_may_not_be_missing_where_something_is_observed():
    data = observed()
    data["x"][1] = np.nan
    with pytest.raises(DataError, match=r"'x'.*1 NaN.*observation 1, expected finite"):
        problem(data)
    data = observed()
    data["pressure"][2] = np.inf
    with pytest.raises(DataError, match=r"'pressure'.*observation 2"):
        problem(data)


def test_a_point_outside_is_called_by_its_own_number():
    data, _ = with_gap("nan")
    data["x"][3] = 7.0
    with pytest.raises(DataError, match=r"observation 3 .*outside"):
        problem(data)


def test_variances_in_place_of_standard_deviations_are_told():
    data = observed()
    data["pressure_sigma"].attrs["units"] = "Pa2"
    with pytest.raises(DataError, match=r"'pressure_sigma' is in 'Pa2'.*variance"):
        problem(data)


def test_dates_are_no_times_since_the_start():
    inner = pag.models.Diffusion(pag.Grid(8, 1.0), {"x_min": 1.0})
    model = pag.models.Transient(inner, 0.05, 4)
    data = xr.Dataset(
        {"height": ("observation", [1.0])},
        {
            "x": ("observation", [0.5]),
            "time": ("observation", np.array(["2000-01-01"], "datetime64[ns]")),
        },
    )
    with pytest.raises(DataError, match="'time': found dates"):
        pag.Problem(
            model,
            pag.Control("initial_height", 1.0),
            pag.LeastSquares(data, sigma=1.0),
            parameters={"diffusivity": 1.0},
        )


G = np.vander(np.linspace(0.0, 1.0, 6), 3)
ROOT = 0.1 * np.eye(6) + 0.02 * np.tri(6)
COVARIANCE = ROOT @ ROOT.T
KEPT = np.array([0, 1, 3, 5])


def _spoilt(data: np.ndarray, value: float) -> np.ndarray:
    data = data.copy()
    data[[2, 4]] = value
    return data


GAPS: dict[str, tuple[Any, Any, Any]] = {
    "NaN": (lambda d: _spoilt(d, np.nan), 0.1, 0.1),
    "masked": (lambda d: np.ma.masked_equal(_spoilt(d, 99.0), 99.0), 0.1, 0.1),
    "filled": (
        lambda d: xr.DataArray(_spoilt(d, -9999.0), attrs={"_FillValue": -9999.0}),
        np.full(6, 0.1),
        np.full(4, 0.1),
    ),
    "infinite sigma": (lambda d: d, _spoilt(np.full(6, 0.1), np.inf), 0.1),
    "covariance": (lambda d: _spoilt(d, np.nan), COVARIANCE, COVARIANCE[np.ix_(KEPT, KEPT)]),
}


@pytest.mark.filterwarnings("ignore::pyadjoint_gpu.sampling.SamplingWarning")
@pytest.mark.parametrize("gap", GAPS)
def test_samplers_know_what_is_observed(gap: str):
    """The same samples as without the rows of what is not."""
    data = G @ [1.0, -1.0, 0.5]
    spoil, noise, less = GAPS[gap]
    settings = Settings(particles=32, moves=1, leapfrogs=4)
    found = LinearSMC(G, spoil(data), noise, np.ones(3), settings=settings).run()
    expected = LinearSMC(G[KEPT], data[KEPT], less, np.ones(3), settings=settings).run()
    xr.testing.assert_equal(found, expected)
    counts = [[r.attrs[f"observed_{k}"] for k in ("used", "missing")] for r in (found, expected)]
    assert counts == [[4, 2], [4, 0]]


@pytest.mark.slow
def test_a_hierarchical_sampler_knows_what_is_observed(tmp_path):
    data, options = G @ [1.0, -1.0, 0.5], {"particles": 4, "batch": 4, "moves": 1}
    options |= {"inner": Settings(particles=8, moves=1, leapfrogs=2), "draws": 2}
    prior = {"shift": scipy.stats.norm(0.0, 0.1)}

    def smc(green, data, noise=0.1):
        forward = lambda theta: green + theta["shift"]  # noqa: E731
        return HierarchicalSMC(forward, data, noise, np.ones(3), prior, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        journal = tmp_path / "run.h5"
        found = smc(G, _spoilt(data, np.nan)).run(progress=False, journal=journal)
        expected = smc(G[KEPT], data[KEPT]).run(progress=False)
        xr.testing.assert_equal(found, expected)
        assert (found.attrs["observed_used"], found.attrs["observed_missing"]) == (4, 2)
        # Where the gaps are decides the samples.
        with pytest.raises(DataError, match="other forward, data"):
            smc(G, np.roll(_spoilt(data, np.nan), 1)).run(progress=False, journal=journal)
