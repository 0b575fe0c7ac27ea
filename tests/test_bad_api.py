"""The Python API refuses bad arguments as the command does, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from run_files import GRID, WELLS, everything, journal, observations, problem

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError

API = [
    (lambda: pag.Grid((8, 12.5), (1, 1)), ConfigError, r"grid\.shape.*12\.5.*whole"),
    (lambda: pag.Grid((8, 1), (1, 1)), ConfigError, r"grid\.shape.*>= 2"),
    (lambda: pag.Grid((8, 12), (1, 0)), ConfigError, r"grid\.extent.*positive"),
    (lambda: pag.Grid((8, 12), (1, np.nan)), ConfigError, r"grid\.extent.*finite"),
    (lambda: pag.Grid((8, 12), (1, 1, 1)), ConfigError, r"grid\.extent.*3.*2"),
    (lambda: pag.Grid((8, 12), ("1", "2")), ConfigError, r"grid\.extent.*numbers"),
    (lambda: pag.Grid((8, 12), (1, 2), units=3), ConfigError, r"grid\.units"),
    (lambda: pag.Well("here", 1.0), ConfigError, "well.*'here'.*numbers"),
    (lambda: pag.Well((1.0, 1.0), np.nan), ConfigError, "rate.*finite"),
    (lambda: problem(model={"wells": [pag.Well((900.0, 0.0), 0.0)]}), ConfigError, "900.*outside"),
    (lambda: problem(model={"wells": [pag.Well((1.0,), 0.0)]}), ConfigError, "position.*1.*2"),
    (lambda: problem(model={"wells": WELLS[:1]}), ConfigError, "wells.*sum to 1.*zero"),
    (lambda: problem(model={"face_mean": "median"}), ConfigError, "face_mean.*'median'.*harmonic"),
    (lambda: problem(model={"fixed_pressure": ["left"]}), ConfigError, "'left'.*x_min"),
    (lambda: problem(model={"fixed_pressure": ["x_min"]}), ConfigError, "boundary_pressure"),
    (lambda: problem(model={"fixed_pressure": 3}), ConfigError, "fixed_pressure.*3"),
    (lambda: problem(model={"pressure_units": 3}), ConfigError, "pressure_units.*3"),
    (lambda: problem(name="pressure"), ConfigError, "'pressure'.*permeability"),
    (lambda: problem(name="permeabilty"), ConfigError, "permeabilty.*did you mean 'permeability'"),
    (lambda: problem(initial=None), ConfigError, "initial.*missing"),
    (lambda: problem(initial=0.0), DataError, "permeability.*> 0"),
    (lambda: problem(initial=1e3), DataError, "permeability.*1000.*bounds"),
    (lambda: problem(initial=True), (ConfigError, DataError), "permeability.*True.*number"),
    (lambda: problem(initial="low"), DataError, "permeability.*'low'.*number"),
    (lambda: problem(initial=np.ones((12, 8))), DataError, r"\(12, 8\).*\(8, 12\)"),
    (lambda: problem(initial=lambda y, x: x), DataError, "permeability.*positive"),
    (lambda: problem(initial={"value": 1.0}), ConfigError, "permeability.*value.*gradient"),
    (lambda: problem(bounds=(1e2, 1e-6)), ConfigError, "permeability.bounds.*low < high"),
    (lambda: problem(bounds=(0.0, 1.0)), ConfigError, "permeability.bounds.*> 0.*log"),
    (lambda: problem(bounds=3), ConfigError, "permeability.bounds.*3.*two numbers"),
    (lambda: problem(bounds=None, transform="logistic"), ConfigError, "bounds.*logistic"),
    (lambda: problem(bounds=None, transform="identity"), ConfigError, "permeability.*positive"),
    (lambda: problem(transform="ln"), ConfigError, "permeability.transform.*'ln'.*log"),
    (lambda: problem(basis="points"), ConfigError, "permeability.basis.*'points'.*field"),
    (lambda: problem(parameters={"porosity": np.nan}), DataError, "porosity.*NaN"),
    (lambda: problem(parameters={"porosity": -0.1}), DataError, "porosity.*> 0"),
    (lambda: problem(parameters={"porosity": np.ones(3)}), DataError, r"porosity.*\(3,\)"),
    (lambda: problem(parameters={"porosty": 0.1}), ConfigError, "porosty.*did you mean 'porosity'"),
    (lambda: problem(parameters={"permeability": 1.0}), ConfigError, "permeability.*both"),
    (lambda: problem(parameters=[0.2]), ConfigError, r"parameters.*\[0\.2\]"),
    (lambda: problem(observations={"pressure": [1.0]}), DataError, "dict.*Dataset"),
    (lambda: problem(misfit={"variable": "head"}), DataError, "'head'.*pressure"),
    (lambda: problem(misfit={"sigma": -1.0}), DataError, "sigma.*-1.*positive"),
    (lambda: problem(misfit={"sigma": 0.0}), DataError, "sigma.*0.*positive"),
    (lambda: problem(misfit={"sigma": np.nan}), DataError, "sigma.*NaN"),
    (lambda: problem(misfit={"sigma": np.ones(5)}), DataError, r"sigma.*\(5,\).*\(6,\)"),
    (lambda: problem(misfit={"sigma": "small"}), DataError, "sigma.*numeric"),
    (lambda: pag.Smoothness("permeability", "a", 1.0), ConfigError, "weight.*'a'.*number"),
    (lambda: pag.Smoothness("permeability", 1.0, -1.0), ConfigError, "length.*-1.*>= 0"),
    (lambda: pag.Smoothness("permeability", np.nan, 1.0), ConfigError, "weight.*nan.*>= 0"),
    (lambda: problem(penalty=pag.Smoothness("porosity", 1, 1)), ConfigError, "porosity.*permeab"),
    (lambda: problem(penalty=3), ConfigError, "penalty.*int.*Smoothness"),
    (lambda: problem(options={"engine": "embeded"}), ConfigError, "engine.*'embeded'.*embedded"),
    (lambda: problem(options={"engine": 3}), ConfigError, "engine.*3"),
    (lambda: problem(options={"tolerance": True}), ConfigError, "tolerance.*True.*number"),
    (lambda: problem(options={"tolerance": 0}), ConfigError, r"tolerance.*0.*\(0, 1\)"),
    (lambda: problem(options={"adjoint_tolerance": "a"}), ConfigError, "adjoint_tolerance.*'a'"),
    (lambda: problem(options={"max_iterations": -1}), ConfigError, "max_iterations.*-1.*>= 1"),
    (lambda: pag.EmbeddedEngine(dtype="float16"), ConfigError, "dtype.*'float16'.*float32"),
    (lambda: pag.Problem("darcy", [], None), ConfigError, "model.*str.*Model"),
    (lambda: pag.Problem(darcy(), [], misfit()), ConfigError, "controls.*at least one"),
    (lambda: pag.Problem(darcy(), "permeability", misfit()), ConfigError, "controls.*permeability"),
    (lambda: pag.Problem(darcy(), [control()] * 2, misfit()), ConfigError, "permeability.*twice"),
    (lambda: pag.Problem(darcy(), control(), 3), ConfigError, "misfit.*LeastSquares"),
    (lambda: pag.solve(darcy(), {}), ConfigError, "permeability.*not given"),
    (lambda: pag.solve(darcy(), {"permeability": np.nan}), DataError, "permeability.*NaN"),
    (lambda: pag.solve(darcy(), {"permeability": 0}), DataError, "permeability.*> 0"),
    (lambda: pag.solve(darcy(), {"permeability": 1, "k": 1}), ConfigError, "'k'.*permeability"),
    (lambda: pag.solve(darcy(), {"permeability": 1}, tolerance="a"), ConfigError, "tolerance.*'a'"),
    (lambda: observe([[400.0, 700.0]]), DataError, "point 0.*x=700.*outside"),
    (lambda: observe([400.0, 0.0]), DataError, r"points.*\(2,\).*\(n, 2\)"),
    (lambda: observe([[400.0, 0.0]], noise=-1), ConfigError, "noise.*-1"),
    (lambda: problem().theta({"permeability": np.nan}), DataError, "permeability.*NaN"),
    (lambda: problem().value_and_gradient({"permeability": 0}), DataError, "permeability.*> 0"),
    (lambda: problem().value_and_gradient({"porosity": 1}), ConfigError, "'porosity'.*permeab"),
    (lambda: pag.invert(problem(), method="LBFGS"), ConfigError, "method.*'LBFGS'.*L-BFGS-B"),
    (lambda: pag.invert(problem(), method=["CG"]), ConfigError, r"method.*\['CG'\]"),
    (lambda: pag.invert(problem(), method="CG"), ConfigError, "'CG'.*bounds"),
    (lambda: pag.invert(problem(), max_iterations=0), ConfigError, "max_iterations.*0.*>= 1"),
    (lambda: pag.invert(problem(), tolerance="a"), ConfigError, "tolerance.*'a'"),
    (lambda: pag.invert(problem(), discrepancy="yes"), ConfigError, "discrepancy.*'yes'"),
]  # fmt: skip


def darcy() -> pag.models.Darcy:
    return pag.models.Darcy(GRID, WELLS)


def misfit() -> pag.LeastSquares:
    return pag.LeastSquares(observations())


def control() -> pag.Control:
    return pag.Control("permeability", 1.0, transform="log")


def observe(points: Any, **options: Any) -> xr.Dataset:
    return pag.synthetic.observe(darcy(), {"permeability": 1.0}, points, **options)


@pytest.mark.parametrize(("call", "error", "match"), API, ids=[c[2] for c in API])
def test_api(call: Callable[[], Any], error: type[Exception], match: str):
    with pytest.raises(error, match=match):
        call()


def test_api_journals(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.h5: no such journal"):
        pag.resume(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(DataError, match=r"text\.h5: not a journal"):
        pag.resume(tmp_path / "text.h5")
    journal(tmp_path / "open.h5", finished=False)
    before = everything(tmp_path)
    told = r"open\.h5: an unfinished journal of 0 evaluations.*other tolerance;"
    with pytest.raises(DataError, match=told):
        pag.invert(problem(), journal=tmp_path / "open.h5", tolerance=1e-3)
    with pytest.raises(ConfigError, match=r"max_iterations: found 0"):
        pag.resume(tmp_path / "open.h5", max_iterations=0)
    with pytest.raises(DataError, match="no such directory"):
        pag.invert(problem(), journal=tmp_path / "none" / "run.h5")
    assert everything(tmp_path) == before
