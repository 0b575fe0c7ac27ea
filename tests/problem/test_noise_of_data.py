"""Correlated noise in the likelihood, its results, journals and run files."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from linear_systems import spd

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.models import Transient
from pyadjoint_gpu.problem.specification import build_problem, specification

GRID = pag.Grid((5, 6), (1.0, 2.0), (0.0, -1.0), units="m")
MODEL = pag.models.Darcy(GRID, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
Y, X = np.meshgrid(*GRID.centers, indexing="ij")
K = {"permeability": np.exp(0.5 * np.sin(2.0 * X) * np.cos(3.0 * Y))}
START = K | {"initial_pressure": 0.2}
POINTS = np.array([(0.2, -0.7), (0.5, 0.1), (0.75, 0.6), (0.31, -0.25), (0.6, 0.8)])
DATA = pag.synthetic.observe(MODEL, K, POINTS, noise=0.05)
SIGMA = 0.01 * spd(5, 3)


def problem(data: xr.Dataset = DATA, model: Any = MODEL, **options: Any) -> pag.Problem:
    control = pag.Control("permeability", 1.0, transform="log")
    return pag.Problem(
        model,
        control,
        pag.LeastSquares(data, **options),
        parameters={"initial_pressure": 0.2} if isinstance(model, Transient) else None,
        tolerance=1e-11,
        engine="embedded",
    )


def residual(of: pag.Problem) -> np.ndarray:
    """Observed less predicted at the start."""
    with jax.enable_x64(True):
        state = pag.solve(
            of.model, of.known | {"permeability": 1.0}, tolerance=1e-11, engine="embedded"
        )
        fields = {str(k): v.values for k, v in state.data_vars.items()}
        return of.misfit.observed - np.asarray(of.misfit.predict(fields))


def objective(of: pag.Problem) -> float:
    return of.evaluate(of.initial, gradient=False).objective


def test_j_is_that_of_the_covariance():
    of = problem(noise=pag.Noise(covariance=SIGMA))
    r = residual(of)
    assert objective(of) == pytest.approx(0.5 * r @ np.linalg.solve(SIGMA, r), rel=1e-9)
    test = pag.taylor_test(of)
    assert test.passed, test
    log_density = scipy.stats.multivariate_normal(np.zeros(5), SIGMA).logpdf(r)
    assert of.log_normaliser - objective(of) == pytest.approx(log_density, rel=1e-9)


@pytest.mark.parametrize("spoil", ["value", "variance", "weight"])
def test_missing_data_drop_rows_and_columns(spoil: str):
    data, sigma = DATA.copy(deep=True), SIGMA.copy()
    if spoil == "value":
        data["pressure"][2] = np.nan
    elif spoil == "variance":
        sigma[2, 2] = np.inf
    else:
        data["pressure_weight"] = "observation", np.array([1.0, 1.0, 0.0, 4.0, 1.0])
    found = problem(data, noise=pag.Noise(covariance=sigma))
    kept = np.array([0, 1, 3, 4])
    weight = np.array([1.0, 1.0, 4.0 if spoil == "weight" else 1.0, 1.0])
    expected = SIGMA[np.ix_(kept, kept)] / np.sqrt(np.outer(weight, weight))
    r = residual(found)
    assert (found.misfit.size, found.misfit.missing) == (4, 1)
    assert objective(found) == pytest.approx(0.5 * r @ np.linalg.solve(expected, r), rel=1e-9)
    np.testing.assert_allclose(found.misfit.sigma, np.sqrt(np.diag(expected)), rtol=1e-14)


@pytest.mark.parametrize(
    ("noise", "sigma"),
    [
        (pag.Noise(0.3), 0.3),
        (pag.Noise(np.arange(1.0, 6.0)), np.arange(1.0, 6.0)),
        (0.3, 0.3),
        (pag.Noise(xr.DataArray(0.3, attrs={"units": "mPa"})), 0.3e-3),
        (pag.Noise(covariance=np.diag(np.arange(1.0, 6.0) ** 2)), np.arange(1.0, 6.0)),
    ],
)
def test_independent_noise_is_a_sigma(noise: Any, sigma: Any):
    found, expected = problem(noise=noise), problem(sigma=sigma)
    assert objective(found) == pytest.approx(objective(expected), rel=1e-12)
    assert found.misfit.noise.constant == pytest.approx(expected.misfit.noise.constant)


def test_noise_of_a_map_has_its_shape():
    at = {"y": ("y", [0.3, 0.6]), "x": ("x", [-0.5, 0.0, 0.5])}
    sd = np.arange(1.0, 7.0).reshape(2, 3)
    data = xr.Dataset({"pressure": (("y", "x"), np.zeros((2, 3)))}, at)
    expected = problem(data, sigma=sd).misfit.sigma
    for noise in (pag.Noise(sd), pag.Noise(xr.DataArray(sd.T, dims=("x", "y")))):
        np.testing.assert_allclose(problem(data, noise=noise).misfit.sigma, expected)
    both = problem(data, noise=pag.Noise(sd) + pag.Noise(2.0)).misfit.sigma
    np.testing.assert_allclose(both, np.hypot(expected, 2.0))


def series() -> tuple[Any, xr.Dataset]:
    """Pressure at two points at six times, one after the other at each."""
    model = Transient(MODEL, 0.1, 5)
    at = [(t, y, x) for y, x in POINTS[:2] for t in np.linspace(0.0, 0.5, 6)[1:]]
    return model, pag.synthetic.observe(model, START, at, noise=0.02)


def test_noise_correlated_in_time_between_data_at_one_point():
    model, data = series()
    order = np.random.default_rng(0).permutation(10)
    of = problem(data.isel(observation=order), model, noise=pag.Noise(0.1, duration=0.2))
    t, site = data["time"].values[order], (order >= 5)
    sigma = 0.01 * np.exp(-np.abs(t[:, None] - t) / 0.2) * (site[:, None] == site)
    r = residual(of)
    assert objective(of) == pytest.approx(0.5 * r @ np.linalg.solve(sigma, r), rel=1e-8)
    assert len(of.misfit.noise.blocks) == 1 and of.misfit.noise.blocks[0][1].shape == (2, 5, 5)


def test_observations_are_drawn_from_the_noise():
    """The same numbers as its bound noise draws; sigma says its standard deviations."""
    model = series()[0]
    at = [(0.1 * k, 0.5, 0.1) for k in range(1, 6)]
    noise = pag.Noise(0.1, duration=0.3) + pag.Noise(0.05)
    found = pag.synthetic.observe(model, START, at, noise, seed=4)
    exact = pag.synthetic.observe(model, START, at, 0.0)
    apart = np.abs(np.subtract.outer(np.arange(5), np.arange(5))) * 0.1
    root = np.linalg.cholesky(0.01 * np.exp(-apart / 0.3) + 0.0025 * np.eye(5))
    expected = root @ np.random.default_rng(4).standard_normal(5)
    np.testing.assert_allclose(found["pressure"] - exact["pressure"], expected, atol=1e-8)
    np.testing.assert_allclose(found["pressure_sigma"], np.sqrt(0.0125))


@pytest.mark.parametrize("noise", [pag.Noise(covariance=SIGMA), pag.Noise(0.1) + pag.Noise(0.2)])
def test_a_problem_is_made_again_from_its_tables(noise: pag.Noise):
    of = problem(noise=noise)
    tables = specification(of)
    assert tables is not None
    again = build_problem(tables)
    found, expected = (p.evaluate(p.initial) for p in (again, of))
    assert found.objective == expected.objective
    np.testing.assert_array_equal(found.gradient, expected.gradient)


def test_a_journal_knows_the_noise(tmp_path):
    path, options = tmp_path / "run.h5", {"max_iterations": 2, "progress": False}
    noise = pag.Noise(covariance=SIGMA)
    first = pag.invert(problem(noise=noise), journal=path, **options)
    again = pag.resume(path, progress=False)
    np.testing.assert_array_equal(again["permeability"], first["permeability"])
    other = SIGMA.copy()
    other[0, 1] = other[1, 0] = 0.9 * other[0, 1]
    with pytest.raises(DataError, match="other misfit;"):
        pag.invert(problem(noise=pag.Noise(covariance=other)), journal=path, **options)


def test_noise_that_cannot_be():
    with pytest.raises(ConfigError, match="noise: found beside sigma, expected one of them"):
        pag.LeastSquares(DATA, sigma=0.1, noise=pag.Noise(0.1))
    for noise, message in (
        (pag.Noise(-0.1), "noise: found -0.1, expected values > 0"),
        (pag.Noise([1.0, 2.0]), "noise: found 2 values, expected 5"),
        (pag.Noise(covariance=-SIGMA), "noise: the covariance is not positive definite"),
        (pag.Noise(0.1, duration=1.0), "noise.duration: found 1.0, but the data have no times"),
        (pag.Noise(xr.DataArray(1.0, attrs={"units": "s"})), "noise is in 's', expected 'Pa'"),
        ("small", "noise: found 'small', expected real numbers"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            problem(noise=noise)
