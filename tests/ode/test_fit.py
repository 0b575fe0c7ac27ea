"""Fits from many starts: solutions that are known, and what data leave open in closed form."""

from __future__ import annotations

from functools import partial
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.ode import Interval, fit
from pyadjoint_gpu.ode.units import KILOMETRES

X = np.linspace(0.0, 3.0, 12)
FEW = {"steps": 60, "rate": 0.2, "progress": False}


def decay(m):
    """Two solutions +a and -a; c does nothing."""
    return m["a"] ** 2 * jnp.exp(-m["k"] * X) + 0.0 * m["c"]


DECAY = {"a": (-5.0, 5.0), "k": Interval(0.01, 10.0, log=True), "c": (0.0, 1.0)}


@pytest.fixture(scope="module")
def both() -> xr.Dataset:
    return fit(decay, 4.0 * np.exp(-0.7 * X), DECAY, error=0.01, starts=8, **FEW)


def test_all_solutions(both):
    assert both.sizes["solution"] == 2 and both.sizes["start"] == 8
    assert sorted(both["a"].values) == pytest.approx([-2.0, 2.0], rel=1e-6)
    np.testing.assert_allclose(both["k"], 0.7, rtol=1e-6)
    assert both.attrs["message"] == "8 of 8 starts converged, to 2 solutions"
    assert int(both["starts"].sum()) == 8 and both["starts"].min() >= 1
    assert np.all(np.diff(both["loss_start"]) >= 0)
    for k in range(2):
        came = both["solution_of_start"].values == k
        assert np.count_nonzero(came) == both["starts"][k]
        np.testing.assert_allclose(both["a_start"][came], both["a"][k], rtol=1e-5)
    # The starts were other ones, in all of the interval.
    assert np.ptp(both["c_start"].values) > 0.5


def test_what_is_left_open(both):
    np.testing.assert_array_equal(both["determined"], [[1, 1, 0]] * 2)
    np.testing.assert_allclose(both["singular_value"][:, 2], 0.0)
    np.testing.assert_allclose(abs(both["direction_c"][:, 2]), 1.0)
    np.testing.assert_allclose(both["c_open"], 1.0)
    assert both["a_open"].max() < 1e-3
    # dr/da = 2 / (a error), dr/d ln k = -k x / error, times the lengths of their intervals.
    columns = [2 / 2.0 * 10.0 * np.ones(12), -0.7 * X * np.log(1000.0)]
    expected = np.linalg.svd(np.stack(columns, axis=1) / 0.01)[1]
    np.testing.assert_allclose(both["singular_value"][0, :2], expected, rtol=1e-6)
    covariance = np.linalg.inv(np.stack(columns) @ np.stack(columns, axis=1) / 1e-4 + np.eye(2))
    np.testing.assert_allclose(both["a_open"][0], np.sqrt(covariance[0, 0]), rtol=1e-6)


def test_a_dataset_of_the_house(both, tmp_path):
    assert both.attrs["kind"] == "fit" and both.attrs["status"] == "converged"
    assert all({"units", "long_name"} <= set(both[name].attrs) for name in both)
    both.pag.plot(tmp_path / "fit.png")
    both.pag.save(tmp_path / "fit.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "fit.nc", engine="h5netcdf"), both)


def line(m):
    return {"low": m["slopes"][0] * X + 1.0, "high": 2.0 + m["slopes"] @ jnp.ones(2) * X}


def test_noise_missing_data_and_vectors():
    """A linear problem: the weighted least-squares solution, and its covariance."""
    noise = np.random.default_rng(0).standard_normal((2, 12))
    low = xr.DataArray(
        (1.0 + 2.0 * X) * (1 + 0.05 * noise[0]), dims="x", coords={"x": X}, attrs={"units": "m"}
    )
    high = (2.0 + 5.0 * X) * (1 + 0.1 * noise[1])
    low[3], high[7] = np.nan, np.nan
    data = {"low": low, "high": high}
    interval = {"slopes": Interval(0.5, 8.0, shape=(2,))}
    found = fit(line, data, interval, error={"low": 0.05, "high": 0.1}, starts=3, **FEW)
    assert found.attrs["observed_used"] == 22 and found.attrs["observed_missing"] == 2
    rows = np.concatenate([np.stack([X, 0 * X], 1), np.stack([X, X], 1)])
    values = np.concatenate([low.values - 1.0, high - 2.0])
    weights = 1.0 / (np.array([0.05, 0.1]).repeat(12) * np.abs(np.concatenate([low.values, high])))
    kept = np.isfinite(values)
    A, b = (rows * weights[:, None])[kept], (values * weights)[kept]
    np.testing.assert_allclose(found["slopes"][0], np.linalg.lstsq(A, b)[0], rtol=1e-6)
    np.testing.assert_allclose(found["singular_value"][0], np.linalg.svd(A * 7.5)[1], rtol=1e-6)
    fitted = found["low_fitted"][0]
    assert (
        fitted.dims == ("x",)
        and fitted["x"][1] == X[1]
        and fitted.attrs["units"] == "m"
        and np.isnan(fitted[3])
    )
    assert found["direction_slopes"].dims == ("solution", "direction", "slopes_0")


def test_starts_of_ones_own_and_repeats():
    start = {"a": [-1.0, 1.0], "k": [1.0, 1.0], "c": [0.25, 0.5]}
    data = 4.0 * np.exp(-0.7 * X)
    found = fit(decay, data, DECAY, error=0.01, starts=start, **FEW)
    assert sorted(found["a_start"].values) == pytest.approx([-2.0, 2.0], rel=1e-6)
    again = fit(decay, data, DECAY, error=0.01, starts=start, **FEW)
    np.testing.assert_array_equal(found["a_start"], again["a_start"])


def test_fewer_data_than_parameters():
    found = fit(lambda m: m["a"] + m["b"], 3.0, {"a": (0, 4), "b": (0, 4)}, error=0.1, **FEW)
    assert found["determined"].values[0].tolist() == [1, 0]
    np.testing.assert_allclose(found["a"] + found["b"], 3.0, rtol=1e-6)
    assert np.ptp(found["a_start"].values) > 0.5 and found.sizes["solution"] == 1
    np.testing.assert_allclose(
        found["a_open"], np.sqrt(0.5 + 0.5 / (1 + 2 * (4 / 0.3) ** 2)), rtol=1e-6
    )


def test_starts_that_do_not_converge(monkeypatch):
    monkeypatch.setattr(import_module("pyadjoint_gpu.ode.descent"), "_MOST_REFINED", 0)
    with pytest.raises(
        pag.ConvergenceError, match=r"0 of 2 starts converged.*more steps"
    ) as caught:
        fit(decay, 4.0 * np.exp(-0.7 * X), DECAY, error=0.01, starts=2, steps=3, progress=False)
    assert caught.value.result["solution_of_start"].values.tolist() == [-1, -1]
    assert caught.value.result.attrs["status"] == "not converged"


def test_where_the_function_is_not_finite():
    """Starts in such a place are lost, the others are not."""

    def root(m):
        return jnp.sqrt(m["a"]) * jnp.ones(3)

    start = {"a": [-2.0, 1.0]}
    found = fit(root, [2.0] * 3, {"a": (-5.0, 6.0)}, error=0.1, starts=start, **FEW)
    assert found["a"].values == pytest.approx([4.0])
    assert found["solution_of_start"].values.tolist() == [0, -1]
    with pytest.raises(pag.ConvergenceError, match=r"function: .*not finite at all 3 starts"):
        fit(root, [2.0] * 3, {"a": (-5.0, -1.0)}, error=0.1, starts=3, **FEW)


@pytest.mark.slow
def test_a_diffrax_solve_of_ones_own():
    """Logistic growth y' = r y (1 - y / k), y(0) = 0.1."""
    import diffrax

    times = np.linspace(0.5, 6.0, 8)

    def growth(m):
        term = diffrax.ODETerm(lambda t, y, m: m["r"] * y * (1.0 - y / m["k"]))
        return diffrax.diffeqsolve(
            *(term, diffrax.Tsit5(), 0.0, 6.0, 0.1, 0.1, m),
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(1e-8, 1e-8),
        ).ys

    data = 3.0 / (1.0 + 29.0 * np.exp(-1.5 * times))
    intervals = {"r": Interval(0.1, 10.0, log=True), "k": Interval(0.5, 20.0, log=True)}
    found = fit(growth, data, intervals, error=0.02, starts=4, **FEW)
    assert found["r"].values == pytest.approx([1.5], rel=1e-5)
    assert found["k"].values == pytest.approx([3.0], rel=1e-5)
    np.testing.assert_allclose(found["data_fitted"][0], data, rtol=1e-5)


@pytest.mark.slow
def test_an_equation_of_state_from_twenty_stars():
    """The four parameters of SLy and 20 central log-enthalpies, from 20 masses and radii."""
    centres = np.linspace(0.1, 0.7, 20)

    def curve(m):
        eos = pag.ode.PiecewisePolytrope.with_crust(m["log_pressure"], m["gammas"])
        star = jax.vmap(partial(pag.ode.structure, tolerance=1e-6), (None, 0))(eos, m["centre"])
        return {"mass": star.mass, "radius": star.radius * KILOMETRES}

    truth = {"log_pressure": 34.384, "gammas": np.array([3.005, 2.988, 2.851]), "centre": centres}
    observed = {name: np.asarray(values) for name, values in double(curve)(truth).items()}

    intervals = {
        "log_pressure": (34.0, 34.8),
        "gammas": Interval(2.0, 4.0, shape=(3,)),
        "centre": Interval(0.03, 1.0, log=True, shape=(20,)),
    }
    found = fit(
        curve, observed, intervals, error=0.01, starts=2, steps=150, rate=0.1, progress=False
    )
    assert float(found["log_pressure"][0]) == pytest.approx(34.384, rel=1e-6)
    np.testing.assert_allclose(found["gammas"][0], [3.005, 2.988, 2.851], rtol=1e-6)
    np.testing.assert_allclose(found["centre"][0], centres, rtol=1e-6)
    assert found["determined"][0].all()
