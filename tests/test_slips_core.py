"""Common slips in calls of the core: each is one line that says where, what was found, what was
expected and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from run_files import GRID, WELLS, observations

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.models import AcousticWave, Channel, Darcy, Diffusion, Ice, Transient

K = {"permeability": 1.0}
CONTROL = pag.Control("permeability", 1.0, transform="log")
WAVE = AcousticWave(GRID, 1.0, 4, source=[(400.0, 0.0)])


def darcy(**options: Any) -> Darcy:
    return Darcy(GRID, WELLS, **options)


def problem(*args: Any, **options: Any) -> pag.Problem:
    return pag.Problem(darcy(), CONTROL, *(args or (pag.LeastSquares(observations()),)), **options)


def least_squares(data: Any = None, **options: Any) -> Any:
    return pag.LeastSquares(observations() if data is None else data, **options).bind(darcy())


def numpy_misfit(state):
    return np.sum((np.asarray(state["pressure"]) - 1.0) ** 2)


def scalar_of_numpy(state):
    return float(jnp.sum(state["pressure"]))


def numpy_penalty(fields):
    return np.linalg.norm(np.asarray(fields["permeability"]))


def misspelt(state):
    return jnp.sum(state["presure"])


SLIPS: dict[str, tuple[Callable[[], Any], str]] = {
    # Grid
    "grid of a text": (lambda: pag.Grid("8 x 12", (1.0, 1.0)), "grid.shape"),
    "grid of None": (lambda: pag.Grid(None, (1.0, 1.0)), "grid.shape"),
    "grid, no cells": (lambda: pag.Grid((), ()), "grid.shape"),
    "grid, extent missing": (lambda: pag.Grid((8, 12), None), "grid.extent"),
    "grid of a number without units": (
        lambda: pag.Grid((8, 12), (1.0, 1.0), units="miles per hour"),
        "grid.units",
    ),
    "grid like an array": (lambda: pag.Grid.like(np.ones((3, 4))), "grid.*ndarray.*DataArray"),
    # Wells
    "wells as tuples": (
        lambda: Darcy(GRID, [((400.0, -350.0), 1.0, "producer")]),
        r"wells\[0\].*Well\(position, rate\)",
    ),
    "one well, no list": (lambda: Darcy(GRID, WELLS[0]), "wells: found .*Well.*list"),
    "wells as dicts": (lambda: Darcy(GRID, [{"at": (400.0, -350.0), "rate": 1.0}]), r"wells\[0\]"),
    "wells as numbers": (lambda: Darcy(GRID, [1.0, -1.0]), r"wells\[0\]"),
    "wells as a text": (lambda: Darcy(GRID, "two"), "wells"),
    "wells with a rate of NaN": (lambda: pag.Well((400.0, 0.0), np.nan), "rate.*nan"),
    "well without position": (lambda: pag.Well(None, 1.0), "position None"),
    # Models
    "model on no grid": (lambda: Darcy((8, 12), WELLS), "grid.*tuple.*Grid"),
    "diffusion on no grid": (lambda: Diffusion((8, 12), "x_min"), "grid.*tuple.*Grid"),
    "channel on no grid": (lambda: Channel([8, 12], smallest=1e-3), "grid.*list.*Grid"),
    "ice on no grid": (lambda: Ice("grid"), "grid.*str.*Grid"),
    "wave on no grid": (lambda: AcousticWave((8, 12), 1.0, 4), "grid.*tuple.*Grid"),
    "transient of a text": (lambda: Transient("darcy", 1.0, 4), "model.*str.*Model"),
    "transient of a class": (lambda: Transient(Darcy, 1.0, 4), "model.*Darcy.*make one"),
    "steps as a float": (lambda: AcousticWave(GRID, 1.0, 4.0), "steps.*4.0.*whole"),
    "a misspelt option of a model": (
        lambda: darcy(face_means="harmonic"),
        "unexpected keyword argument 'face_means'",
    ),
    # Control
    "control without a name": (lambda: pag.Control(3, 1.0), "name.*3.*text"),
    "control, bounds reversed": (
        lambda: pag.Control("permeability", 1.0, bounds=(2.0, 1.0)),
        "bounds.*low < high",
    ),
    "control, transform of a class": (
        lambda: pag.Control("permeability", 1.0, transform=np.log),
        "transform",
    ),
    "control, misspelt option": (
        lambda: pag.Control("permeability", 1.0, bound=(1.0, 2.0)),
        "unexpected keyword argument 'bound'",
    ),
    "control in other units": (
        lambda: problem_of(xr.DataArray(1.0, attrs={"units": "m"})),
        "permeability.*'m'",
    ),
    "control, an empty start": (lambda: problem_of([]), r"permeability.*\(0,\)"),
    "control, a start of texts": (lambda: problem_of([["a"] * 12] * 8), "permeability.*number"),
    # Smoothness
    "smoothness of nothing": (
        lambda: problem(pag.LeastSquares(observations()), pag.Smoothness("permeabilty", 1.0, 0.1)),
        "'permeabilty'.*did you mean 'permeability'",
    ),
    "smoothness, misspelt option": (
        lambda: pag.Smoothness("permeability", wieght=1.0, length=0.1),
        "unexpected keyword argument 'wieght'",
    ),
    "smoothness without a length": (
        lambda: pag.Smoothness("permeability", 1.0),
        "missing 1 required .*'length'",
    ),
    "penalties as a dict": (
        lambda: problem(pag.LeastSquares(observations()), {"permeability": {"weight": 1.0}}),
        "penalty: found dict.*Smoothness",
    ),
    "penalty by NumPy": (
        lambda: problem(pag.LeastSquares(observations()), numpy_penalty).value_and_gradient(),
        "penalty.*numpy_penalty.*jax.numpy",
    ),
    # LeastSquares
    "observations as a list": (lambda: pag.LeastSquares([1.0, 2.0]), "observations.*list.*Dataset"),
    "observations as an array of data": (
        lambda: pag.LeastSquares(observations()["pressure"]),
        "observations.*DataArray.*Dataset",
    ),
    "observations as a path": (
        lambda: pag.LeastSquares("wells.nc"),
        "observations.*str.*Dataset.*open_dataset",
    ),
    "observations without names": (
        lambda: least_squares(xr.Dataset({"pressure": ("i", [1.0])})),
        "no coordinate 'y'",
    ),
    "observations without anything": (
        lambda: least_squares(xr.Dataset()),
        "observations.*none.*pressure",
    ),
    "observations, empty": (
        lambda: least_squares(observations().isel(observation=slice(0))),
        "'pressure' is empty",
    ),
    "observations of one number": (
        lambda: least_squares(xr.Dataset({"pressure": 1.0, "pressure_sigma": 0.1})),
        "pressure.*one .observation",
    ),
    "observations, a dict of lists": (
        lambda: pag.LeastSquares({"pressure": [1.0]}),
        "observations.*dict.*Dataset",
    ),
    "observations, all NaN": (lambda: least_squares(observations() * np.nan), "none of 6 values"),
    "observations in other units": (
        lambda: least_squares(
            observations().assign(pressure=observations()["pressure"].assign_attrs(units="m"))
        ),
        "'m'",
    ),
    "observations, misspelt variable": (
        lambda: least_squares(variable="presure"),
        "'presure'.*did you mean 'pressure'",
    ),
    "observations, misspelt option": (
        lambda: pag.LeastSquares(observations(), sigmas=0.1),
        "unexpected keyword argument 'sigmas'",
    ),
    "sigma as a name": (lambda: least_squares(sigma="pressure_sigma"), "sigma.*numeric"),
    # Problem
    "problem of a class": (lambda: pag.Problem(Darcy, CONTROL, least), "model.*Darcy.*make one"),
    "controls as a dict": (
        lambda: pag.Problem(darcy(), {"permeability": 1.0}, least),
        "controls.*Control",
    ),
    "misfit as a Dataset": (lambda: problem(observations()), "misfit: found Dataset.*LeastSquares"),
    "misfit by NumPy": (
        lambda: problem(numpy_misfit).value_and_gradient(),
        "misfit.*numpy_misfit.*jax.numpy",
    ),
    "misfit as a Python float": (
        lambda: problem(scalar_of_numpy).value_and_gradient(),
        "misfit.*scalar_of_numpy.*jax.numpy",
    ),
    "misfit of a misspelt field": (
        lambda: problem(misspelt).value_and_gradient(),
        "misfit.*'presure'.*did you mean 'pressure'",
    ),
    "misfit of nothing": (
        lambda: problem(lambda state: None).value_and_gradient(),
        "misfit.*None.*number",
    ),
    "misfit of arguments": (lambda: problem(lambda: 1.0).value_and_gradient(), "misfit.*argument"),
    "problem, misspelt option": (
        lambda: problem(tolerence=1e-8),
        "unexpected keyword argument 'tolerence'",
    ),
    "a parameter of texts": (lambda: problem(parameters={"porosity": "high"}), "porosity.*number"),
    "theta of the wrong length": (
        lambda: problem().evaluate(np.ones(5)),
        r"theta.*\(5,\).*\(96,\)",
    ),
    "theta of NaN": (lambda: problem().evaluate(np.full(96, np.nan)), "theta.*96.*finite"),
    "controls at a list": (lambda: problem().value_and_gradient([1.0]), "controls.*mapping"),
    # solve
    "solve a class": (lambda: pag.solve(Darcy, K), "model.*Darcy.*make one"),
    "solve a text": (lambda: pag.solve("darcy", K), "model.*str.*Model"),
    "parameters as a number": (lambda: pag.solve(darcy(), 1.0), "parameters: found 1.0, .*mapping"),
    "parameters as a list": (lambda: pag.solve(darcy(), [1.0]), "parameters.*mapping"),
    "solve, misspelt option": (
        lambda: pag.solve(darcy(), K, tol=1e-8),
        "unexpected keyword argument 'tol'",
    ),
    "solve on a misspelt engine": (
        lambda: pag.solve(darcy(), K, engine="jax"),
        "engine.*'jax'.*embedded",
    ),
    "solve_fields of a text": (lambda: pag.solve_fields("darcy", K), "model.*str.*Model"),
    # invert, resume
    "invert a model": (lambda: pag.invert(darcy()), "problem.*Darcy.*Problem"),
    "invert, callback no function": (
        lambda: pag.invert(problem(), callback=3),
        "callback.*3.*function",
    ),
    "invert, misspelt option": (
        lambda: pag.invert(problem(), max_iter=3),
        "unexpected keyword argument 'max_iter'",
    ),
    "invert, journal a number": (lambda: pag.invert(problem(), journal=3), "journal.*3.*path"),
    "resume a problem": (lambda: pag.resume(problem()), "journal.*Problem.*path"),
    "resume a folder": (
        lambda: pag.resume(Path(__file__).parent),
        "tests.*directory, not a journal",
    ),
    # Tests of gradients
    "taylor test of a model": (lambda: pag.taylor_test(darcy()), "problem.*Darcy.*Problem"),
    "taylor test, a step of a text": (
        lambda: pag.taylor_test(problem(), step="small"),
        "step.*'small'.*positive",
    ),
    "taylor test, no seed": (lambda: pag.taylor_test(problem(), seed=-1), "seed.*-1.*whole number"),
    "adjoint test of a problem": (lambda: pag.adjoint_test(problem(), K), "model.*Problem.*Model"),
    "adjoint test, no parameters": (
        lambda: pag.adjoint_test(darcy(), None),
        "parameters: found None.*mapping",
    ),
    # block_column
    "block column of a steady model": (
        lambda: pag.block_column(darcy(), K, [(400.0, 0.0)]),
        "model.*Darcy.*explicit",
    ),
    "block column, sensors as texts": (
        lambda: pag.block_column(WAVE, {"wave_speed": 1.0}, ["a"]),
        "sensors.*numbers",
    ),
    "block column, NaN": (
        lambda: pag.block_column(WAVE, {"wave_speed": 1.0}, [(np.nan, 0.0)]),
        "sensor.*finite",
    ),
    "block column, no sensor": (lambda: pag.block_column(WAVE, {"wave_speed": 1.0}, []), "sensors"),
    "block column, ragged": (
        lambda: pag.block_column(WAVE, {"wave_speed": 1.0}, [(1.0, 2.0), (3.0,)]),
        "sensors.*numbers",
    ),
    "block column, misspelt parameter": (
        lambda: pag.block_column(WAVE, {"wave_speed": 1.0}, [(400.0, 0.0)], parameter="sourc"),
        "'sourc'.*did you mean 'source'",
    ),
    # synthetic.observe
    "observe at texts": (lambda: pag.synthetic.observe(darcy(), K, ["a", "b"]), "points.*numbers"),
    "observe at NaN": (lambda: pag.synthetic.observe(darcy(), K, [(np.nan, 0.0)]), "point.*finite"),
    "observe nowhere": (lambda: pag.synthetic.observe(darcy(), K, []), "points"),
    "observe, noise a text": (
        lambda: pag.synthetic.observe(darcy(), K, [(400.0, 0.0)], noise="1%"),
        "noise.*'1%'.*number",
    ),
    "observe, seed a text": (
        lambda: pag.synthetic.observe(darcy(), K, [(400.0, 0.0)], seed="a"),
        "seed.*'a'.*whole number",
    ),
    "observe a problem": (
        lambda: pag.synthetic.observe(problem(), K, [(400.0, 0.0)]),
        "model.*Problem.*Model",
    ),
}


def least(state):
    return jnp.sum(state["pressure"] ** 2)


def problem_of(start: Any) -> pag.Problem:
    return pag.Problem(darcy(), pag.Control("permeability", start, transform="log"), least)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_line(slip: str):
    call, expected = SLIPS[slip]
    # A keyword that is none, or one that is missing, Python itself names in a line.
    of_python = "keyword argument" in expected or "missing 1" in expected
    with pytest.raises(TypeError if of_python else (ConfigError, DataError)) as caught:
        call()
    message = str(caught.value)
    assert re.search(expected, message), message
    assert "\n" not in message
    assert len(message) < 300
