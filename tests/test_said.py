"""What objects and results say of themselves."""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from run_files import GRID, WELLS, observations

import pyadjoint_gpu as pag
from pyadjoint_gpu.inversion.optimisers import fit
from pyadjoint_gpu.models import (
    AcousticWave,
    Channel,
    Darcy,
    Diffusion,
    Ice,
    ShallowWater,
    Transient,
)

DARCY = Darcy(GRID, WELLS)
LINE = pag.Grid(8, 2.0, units="km")
WARM = Diffusion(LINE, {"x_min": 1.0, "x_max": 0.5}, inflow=())
STARTED = xr.DataArray(np.full(GRID.shape, 2.0), dims=("y", "x"))
CONTROL = pag.Control("permeability", STARTED, transform="log", bounds=(1e-6, 1e2), truth=STARTED)
SMOOTH = pag.Smoothness("permeability", 1e-3, 200.0)


def squares(state):
    return jnp.sum(state["pressure"] ** 2)


PROBLEM = pag.Problem(
    DARCY, CONTROL, pag.LeastSquares(observations()), SMOOTH, parameters={"porosity": 0.2}
)

EXACTLY = {
    "Grid(shape=(8,), extent=(2.0,), origin=(0.0,), units='km')": LINE,
    "Control('permeability', initial=DataArray of shape (8, 12), bounds=(1e-06, 100.0),"
    " transform='log', truth=DataArray of shape (8, 12))": CONTROL,
    "Control('permeability', initial=1.0)": pag.Control("permeability", 1.0),
    "Smoothness(name='permeability', weight=0.001, length=200.0)": SMOOTH,
    "LeastSquares(pressure, pressure_sigma (6))": pag.LeastSquares(observations()),
    "LeastSquares(pressure, pressure_sigma (6), sigma=0.1)": pag.LeastSquares(
        observations(), sigma=0.1
    ),
    """\
Darcy on 8 x 12 cells (y, x), extent 800 x 1200 m; 2 wells, no fixed side, arithmetic face means
  unknowns    pressure [Pa]
  parameters  permeability [m2 s-1 Pa-1], porosity [1] (optional)""": DARCY,
    """\
Transient, 4 steps of 0.5 s, a state every 2, of Diffusion on 8 cells (x), extent 2 km; fixed\
 height on x_min, x_max
  unknowns    height [m]
  parameters  diffusivity [m2 s-1], exponent [1], source [m s-1], boundary_height [m],
              initial_height [m]""": Transient(WARM, 0.5, 4, every=2),
    """\
Problem of 96 unknown numbers
  model    Darcy on 8 x 12 cells (y, x), extent 800 x 1200 m; 2 wells, no fixed side, arithmetic\
 face means
  control  permeability [m2 s-1 Pa-1]: 8 x 12, log, bounds 1e-06 to 100, starts at 2
  misfit   least squares of 6 values of pressure [Pa], -0.2 to 0.3, sigma 0.01
  penalty  Smoothness(name='permeability', weight=0.001, length=200.0)
  known    porosity 0.2
  engine   embedded, tolerance 1e-08""": PROBLEM,
}

SHORT = [
    *EXACTLY.values(),
    WARM,
    Transient(WARM, 0.5, 4).one_step,
    Channel(GRID, smallest=1e-3),
    Ice(GRID, sea_level=0.0),
    AcousticWave(GRID, 1.0, 4, source=[(400.0, 0.0)], absorbing="x_min"),
    ShallowWater(GRID, 1.0, 4, source=np.ones(GRID.shape, dtype=bool)),
    Darcy(GRID, WELLS * 40, fixed_pressure={"x_min": np.linspace(0.0, 1.0, 8)}),
    pag.Control("permeability", lambda y, x: 1.0 + 0.0 * x),
    pag.LeastSquares(observations(), sigma=np.full(6, 0.1)),
    pag.Problem(DARCY, CONTROL, squares, [SMOOTH, lambda fields: 0.0]),
    WELLS[0],
]


@pytest.mark.parametrize("said", EXACTLY, ids=lambda said: said.split("(")[0][:12])
def test_a_repr_is_for_people(said: str):
    if "Problem" in said:  # whatever engine this machine has
        said = said.replace("embedded", PROBLEM.engine.name)
    assert repr(EXACTLY.get(said, PROBLEM)) == said


@pytest.mark.parametrize("thing", SHORT, ids=lambda thing: type(thing).__name__)
def test_a_repr_is_short(thing: Any):
    text = repr(thing)
    assert len(text) < 700
    assert all(len(line) < 160 for line in text.splitlines())
    assert len(text.splitlines()) < 10
    assert "array(" not in text
    assert "<xarray" not in text


def inverted(factor: float, penalty: Any = (), **options: Any) -> xr.Dataset:
    """K of one value, from data whose sigma is `factor` times their scatter."""
    points = [(y, x) for y in (100.0, 300.0, 500.0) for x in (-500.0, -100.0, 100.0, 500.0)]
    data = pag.synthetic.observe(DARCY, {"permeability": 1.5}, points, noise=0.05, seed=4)
    data["pressure_sigma"] = factor * data["pressure_sigma"]
    control = pag.Control("permeability", 1.0, transform="log", basis="constant")
    problem = pag.Problem(DARCY, control, pag.LeastSquares(data), penalty)
    return pag.invert(problem, progress=False, **options)


@pytest.mark.slow
def test_data_that_are_fitted_to_their_errors_need_no_word():
    """Twelve data may have a chi2 of 0.4."""
    result = inverted(1.0)
    assert 0.3 < result.attrs["chi2"] < 0.5
    assert "chi2" not in result.attrs["message"]


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (10.0, "the data are fitted beyond their errors; give a penalty or use discrepancy=True"),
        (0.1, "the data are not fitted to their errors; the errors (sigma) are too small"),
    ],
)
def test_a_fit_far_from_the_errors_says_so(factor: float, words: str):
    message = inverted(factor).attrs["message"]
    assert words in message
    assert "; chi2 " in message
    assert "\n" not in message


WORDS = [
    (0.12, "converged", False, "raise the penalty's weight or use discrepancy=True"),
    (0.12, "converged", True, "beyond their errors; raise the penalty's weight"),
    (0.12, "interrupted", False, "chi2 0.12"),
    (
        30.0,
        "converged",
        False,
        "chi2 30: .* not fitted .* lower the penalty's weight, or",
    ),
    (30.0, "max_iterations", False, "take more iterations, or lower the penalty's weight"),
    (30.0, "stalled", False, "lower the penalty's weight"),
    (30.0, "stopped", False, None),
    (30.0, "failed", False, None),
    (0.5, "converged", False, None),
    (2.0, "converged", False, None),
    (None, "converged", False, None),
]


@pytest.mark.parametrize(("chi2", "status", "discrepancy", "words"), WORDS)
def test_the_lever_is_one_that_there_is(chi2: Any, status: str, discrepancy: bool, words: Any):
    said = fit(PROBLEM, chi2, status, discrepancy)
    if words is None:
        assert said == ""
        return
    assert re.search(words, said)
    assert ("discrepancy=True" in said) == (chi2 < 1.0 and not discrepancy)
