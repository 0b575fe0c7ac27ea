"""Residuals in the results of inversions, and what messages say of them."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
import pytest
import scipy.stats
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.inversion.optimisers import CHANCE, fit
from pyadjoint_gpu.models import Darcy, Diffusion, Transient
from pyadjoint_gpu.problem.variables import observation_variables, residual_attributes
from pyadjoint_gpu.statistics.residuals import chi2_p, runs_test

GRID = pag.Grid((8, 12), (800.0, 1200.0), (0.0, -600.0))
DARCY = Darcy(GRID, wells=[pag.Well((350.0, -350.0), 1.0), pag.Well((350.0, 350.0), -1.0)])
PLACES = [(y, x) for y in (150.0, 350.0, 550.0) for x in np.linspace(-500.0, 500.0, 8)]
COMMON = {"transform": "log", "initial": 1.0}
CONSTANT = pag.Control("permeability", basis="constant", **COMMON)
FIELD = pag.Control("permeability", **COMMON)
PRIOR = pag.Control("permeability", prior=pag.Matern(sd=1.0, length=200.0), **COMMON)
SMOOTH = pag.Smoothness("permeability", 1.0, 200.0)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def observed() -> xr.Dataset:
    data = pag.synthetic.observe(DARCY, {"permeability": 1.5}, PLACES, noise=0.05, seed=4)
    network = np.repeat(["north", "south"], [8, 16])
    return data.assign_coords(network=("observation", network, {"long_name": "network"}))


def test_a_result_has_its_whitened_residuals():
    problem = pag.Problem(DARCY, CONSTANT, pag.LeastSquares(observed()))
    result = pag.invert(problem, progress=False)
    white = result["residual_whitened"]
    assert white.dims == ("observation",)
    assert white.attrs["units"] == "1"
    np.testing.assert_allclose(white, result["residual"] / result["sigma"])
    chi2 = result.attrs["chi2"]
    assert result.attrs["chi2_p"] == pytest.approx(scipy.stats.chi2.sf(24 * chi2, 24), rel=1e-6)
    assert result.attrs["runs_test_p"] == runs_test(white.values)
    assert result["observation_set"].values.tolist() == ["north", "south"]
    assert result["observation_set"].attrs["long_name"] == "network"
    assert result["observation_set_size"].values.tolist() == [8, 16]
    by_set = result["observation_set_chi2"].values
    np.testing.assert_allclose(by_set[0], np.mean(white.values[:8] ** 2))
    assert np.average(by_set, weights=[8, 16]) == pytest.approx(chi2, rel=1e-6)
    assert "residuals" not in result.attrs["message"]


def test_a_pattern_that_the_model_leaves_out_is_told():
    """A constant for a permeability that falls along x; sigma covers the differences."""
    _, x = np.meshgrid(*GRID.centers, indexing="ij")
    along = [(y, x) for y in (150.0, 350.0, 550.0) for x in np.linspace(-500.0, 500.0, 16)]
    truth = {"permeability": np.exp(-x / 400.0)}
    data = pag.synthetic.observe(DARCY, truth, along, noise=0.002, seed=4)
    problem = pag.Problem(DARCY, CONSTANT, pag.LeastSquares(data))
    state = pag.solve(DARCY, {"permeability": 1.0})
    off = observation_variables(problem.misfit, dict(state.data_vars))[0]["residual"][1]
    problem = pag.Problem(DARCY, CONSTANT, pag.LeastSquares(data, sigma=float(np.std(off))))
    result = pag.invert(problem, progress=False)
    assert 0.5 < result.attrs["chi2"] < 2.0
    assert result.attrs["runs_test_p"] < CHANCE
    assert "neighbouring residuals have the same sign too often" in result.attrs["message"]


def test_a_misfit_of_ones_own_has_no_residuals():
    assert residual_attributes(lambda state: 0.0, {}) == {}
    assert observation_variables(lambda state: 0.0, {}) == ({}, {})


def on_a_line(noise: pag.statistics.Noise) -> tuple[Any, dict[str, Any], np.ndarray]:
    """A misfit of two series, in an order of their own, its state of zeros, and the data."""
    grid = pag.Grid(8, 1.0)
    model = Transient(Diffusion(grid, {"x_min": 1.0, "x_max": 0.5}, inflow=()), 0.1, 10)
    time, x = (a.ravel() for a in np.meshgrid(np.linspace(0.1, 1.0, 10), [0.3, 0.7], indexing="ij"))
    values = np.where(x < 0.5, 1.0, -1.0) * (1.0 + 0.1 * np.sin(9.0 * time))
    data = xr.Dataset(
        {"height": ("observation", values)},
        {"time": ("observation", time), "x": ("observation", x)},
    )
    misfit = pag.LeastSquares(data, noise=noise).bind(model)
    shape = model.observables["height"][1]
    assert shape == ("time", "x")
    return misfit, {"height": np.zeros((len(model.times), 8))}, values


def test_runs_are_counted_along_each_series():
    misfit, state, values = on_a_line(pag.statistics.Noise(0.5))
    assert runs_test(values) > 0.99  # as given, their signs alternate
    found = residual_attributes(misfit, state)
    assert found["runs_test_p"] == pytest.approx(2.0 / 184_756)
    assert found["chi2_p"] == pytest.approx(chi2_p(np.mean(np.square(values / 0.5)), 20))


def test_correlated_errors_are_whitened():
    misfit, state, values = on_a_line(pag.statistics.Noise(0.5, duration=0.2))
    white = observation_variables(misfit, state)[0]["residual_whitened"][1]
    times = np.linspace(0.1, 1.0, 10)
    root = np.linalg.cholesky(0.25 * np.exp(-np.abs(times[:, None] - times) / 0.2))
    for first in (0, 1):
        np.testing.assert_allclose(white[first::2], np.linalg.solve(root, values[first::2]))


def problem(control: pag.Control, penalty: Any = (), *more: pag.Control) -> pag.Problem:
    return pag.Problem(DARCY, [control, *more], pag.LeastSquares(observed()), penalty)


POROSITY = {"name": "porosity", "initial": 0.2, "transform": "log"}
PROBLEMS = {
    "free": problem(CONSTANT),
    "smooth": problem(FIELD, SMOOTH),
    "prior": problem(PRIOR),
    "prior and number": problem(PRIOR, (), pag.Control(**POROSITY, basis="constant")),
    "prior and field": problem(PRIOR, (), pag.Control(**POROSITY)),
}
LOW, HIGH, FEW = 0.1, 30.0, 1e-4
BEYOND, SHORT, SIGNS = "beyond their errors; ", "not fitted to their errors; ", "neighbouring .* "
WORDS = [
    ("free", LOW, "converged", 1.0, BEYOND + "give a penalty"),
    ("free", LOW, "converged", FEW, BEYOND + "give a penalty or use discrepancy=True$"),
    ("smooth", LOW, "converged", 1.0, BEYOND + "raise the penalty's weight"),
    ("prior", LOW, "converged", 1.0, None),
    ("prior", LOW, "max_iterations", 1.0, None),
    ("prior and number", LOW, "converged", 1.0, None),
    ("prior and field", LOW, "converged", 1.0, BEYOND + "give a penalty"),
    ("prior", HIGH, "converged", FEW, SHORT + r"widen the prior, or the errors \(sigma\)"),
    ("smooth", HIGH, "converged", 1.0, SHORT + "lower the penalty's weight, or the errors"),
    ("free", HIGH, "converged", FEW, SHORT + r"the errors \(sigma\)"),
    ("free", 1.0, "converged", 2 * CHANCE, None),
    ("free", 1.0, "converged", FEW, SIGNS + r"p 0.0001\): the model leaves something out"),
    ("smooth", 1.0, "stalled", FEW, SIGNS + "the model or its penalty leaves"),
    ("prior", LOW, "converged", FEW, SIGNS + "the model or the prior leaves"),
    ("free", 1.0, "max_iterations", FEW, None),
    ("free", 1.0, "stopped", FEW, None),
    ("free", 1.0, "failed", FEW, None),
]


@pytest.mark.parametrize(("name", "chi2", "status", "runs_p", "words"), WORDS)
def test_one_advice_is_given_at_most(
    name: str, chi2: float, status: str, runs_p: float, words: str | None
):
    said = fit(PROBLEMS[name], chi2, status, False, runs_p)
    if words is None:
        assert said == ""
        return
    assert re.search(words, said)
    assert said.count(";") == 1 + ("their errors" in said)
    assert "\n" not in said


def test_the_discrepancy_principle_leaves_some_pattern():
    assert fit(PROBLEMS["smooth"], 1.0, "converged", True, FEW) == ""
