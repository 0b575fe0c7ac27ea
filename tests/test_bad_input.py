"""Bad input is refused before any solve, by name, and leaves nothing behind; harmless variations
of good input make the same problem."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.config import build_problem, read
from pyadjoint_gpu.errors import ConfigError, DataError
from pyadjoint_gpu.journal import Journal

GRID = pag.Grid((8, 12), (800.0, 1200.0), (0.0, -600.0))
WELLS = (pag.Well((400.0, -350.0), 1.0), pag.Well((400.0, 350.0), -1.0))

RUN_FILE = """\
title = "Doublet"
engine = "auto"

[grid]
shape = [8, 12]
extent = [800.0, 1200.0]
origin = [0.0, -600.0]

[model]
name = "darcy"
wells = [
    {position = [400.0, -350.0], rate = 1.0},
    {position = [400.0, 350.0], rate = -1.0},
]

[parameters]
porosity = 0.2

[controls.permeability]
initial = 1.0
transform = "log"
bounds = [1e-6, 1e2]

[misfit]
observations = "observations.nc"

[penalty.permeability]
kind = "smoothness"
weight = 1e-3
length = 100.0

[solver]
tolerance = 1e-8
max_iterations = 10000

[inversion]
method = "L-BFGS-B"
max_iterations = 2

[output]
path = "result.nc"
journal = "result.h5"
"""


def observations() -> xr.Dataset:
    """Six wells with their pressure."""
    axis = "observation"
    return xr.Dataset(
        {
            "pressure": (axis, [0.3, 0.1, -0.2, 0.05, 0.2, -0.1], {"units": "Pa"}),
            "pressure_sigma": (axis, np.full(6, 0.01), {"units": "Pa"}),
        },
        {
            "x": (axis, [-400.0, -200.0, 300.0, 50.0, -450.0, 500.0], {"units": "m"}),
            "y": (axis, [150.0, 700.0, 333.0, 480.0, 600.0, 90.0], {"units": "m"}),
        },
    )


def fields() -> xr.Dataset:
    """A permeability that differs in every cell."""
    y, x = GRID.centers
    values = np.exp(0.3 * np.sin(y / 150.0)[:, None] * np.cos(x / 200.0 + 0.4))
    coordinates = {"y": ("y", y, {"units": "m"}), "x": ("x", x, {"units": "m"})}
    return xr.Dataset({"permeability": (("y", "x"), values)}, coordinates)


def save(data: xr.Dataset, path: Path) -> None:
    data.to_netcdf(path, engine="h5netcdf")


Change = Callable[[xr.Dataset], xr.Dataset]


def put(name: str, value: float) -> Change:
    """Sets one value of a variable."""

    def change(data: xr.Dataset) -> xr.Dataset:
        values = np.array(data[name].values)
        values.flat[2] = value
        return data.assign({name: (data[name].dims, values, data[name].attrs)})

    return change


def unit(name: str, units: str, factor: float = 1.0) -> Change:
    """Converts a variable to another unit (or, with factor 1, mislabels it)."""

    def change(data: xr.Dataset) -> xr.Dataset:
        v = data[name]
        return data.assign({name: (v.dims, v.values * factor, v.attrs | {"units": units})})

    return change


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run file, its data, and an older result that must not be touched."""
    (tmp_path / "run.toml").write_text(RUN_FILE)
    save(observations(), tmp_path / "observations.nc")
    save(fields(), tmp_path / "fields.nc")
    (tmp_path / "result.nc").write_bytes(b"an older result")
    return tmp_path


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, hidden files too, with its bytes."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


SEEN_BY_USERS = (UserWarning, RuntimeWarning, FutureWarning, SyntaxWarning)


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs a command that must be refused: exit code 2, one line on stderr in which every one of
    `patterns` is found, and not a byte changed in the folder."""

    def check(arguments: list[str], *patterns: str) -> None:
        monkeypatch.chdir(folder)
        before = everything(folder)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            code = main(arguments)
        printed, line = capsys.readouterr()
        assert line.startswith("pyadjoint-gpu: error: "), (code, printed, line)
        assert line.count("\n") == 1, line
        assert line.endswith("\n")
        for pattern in patterns:
            assert re.search(pattern, line), f"{pattern!r} is not in: {line}"
        assert len(line) < 400, f"too long to read: {line}"
        assert "np." not in line, f"numpy's repr: {line}"
        assert code == 2
        assert printed == ""
        assert everything(folder) == before
        assert [str(w.message) for w in caught if issubclass(w.category, SEEN_BY_USERS)] == []

    return check


def settings(*overrides: str) -> list[str]:
    return ["run", "run.toml", *(a for o in overrides for a in ("--set", o))]


def test_the_run_file_itself_is_good(folder: Path):
    problem = build_problem(read(folder / "run.toml").tables)
    assert problem.size == GRID.size


# Observations: the same faults through the API and through a file

SIGMA = "pressure_sigma"
OBSERVATIONS = [
    pytest.param(put("pressure", np.nan), ("'pressure'", "1 NaN", "finite"), id="nan"),
    pytest.param(put("pressure", -np.inf), ("'pressure'", "infinite", "finite"), id="inf"),
    pytest.param(put(SIGMA, np.nan), (SIGMA, "NaN", "finite"), id="sigma-nan"),
    pytest.param(put(SIGMA, np.inf), (SIGMA, "inf", "finite"), id="sigma-inf"),
    pytest.param(put(SIGMA, -0.5), (SIGMA, "-0.5", "positive"), id="sigma<0"),
    pytest.param(put(SIGMA, 0.0), (SIGMA, " 0", "positive"), id="sigma=0"),
    pytest.param(lambda d: d.drop_vars(SIGMA), (SIGMA, "no sigma|missing"), id="no-sigma"),
    pytest.param(put("x", np.nan), ("'x'", "1 NaN", "finite"), id="nan-x"),
    pytest.param(put("y", np.inf), ("'y'", "infinite", "finite"), id="inf-y"),
    pytest.param(put("x", 600.5), ("observation 2", "x=600.5", r"\[-600, 600\] m"), id="outside"),
    pytest.param(put("y", -1.0), ("observation 2", "y=-1", r"\[0, 800\] m"), id="below"),
    pytest.param(unit("x", "km"), ("observation 0", "x=-400000", r"600\] m"), id="km-outside"),
    pytest.param(lambda d: d.drop_vars("y"), ("no coordinate 'y'", "found", "x"), id="no-y"),
    pytest.param(unit("x", "degrees"), ("'x'", "'degrees'", "'m'"), id="degrees"),
    pytest.param(unit("x", "Pa"), ("'x'", "'Pa'", "'m'"), id="x-in-pascal"),
    pytest.param(unit("pressure", "m"), ("'pressure'", "'m'", "'Pa'"), id="pressure-in-metres"),
    pytest.param(unit(SIGMA, "K"), (SIGMA, "'K'", "'pressure'|'Pa'"), id="sigma-in-kelvin"),
    pytest.param(
        lambda d: d.rename(pressure="presure"), ("presure", "expected", "pressure"), id="misnamed"
    ),
    pytest.param(
        lambda d: d.drop_vars(["pressure", SIGMA]), ("none", "pressure"), id="no-variable"
    ),
    pytest.param(
        lambda d: d.expand_dims(time=2), ("'pressure'", "time", "expected one"), id="2-D"
    ),
    pytest.param(
        lambda d: d.isel(observation=0), ("'pressure'", r"\(\)", "expected one"), id="0-D"
    ),
    pytest.param(
        lambda d: d.isel(observation=slice(0)), ("observations", r"\b(no|0|none|empty)\b"),
        id="empty",
    ),
    pytest.param(
        lambda d: d.assign(x=("well", d["x"].values)), ("'x'", "'well'", "'observation'"), id="dim"
    ),
    pytest.param(
        lambda d: d.assign(pressure=("observation", list("abcdef"))), ("'pressure'", "numeric"),
        id="text",
    ),
    pytest.param(
        lambda d: d.assign(pressure_sigma=("time", np.ones(3))), (SIGMA, "3", "6"),
        id="sigma-shape",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "patterns"), OBSERVATIONS)
def test_observations(change: Change, patterns: tuple[str, ...]):
    with pytest.raises(DataError) as caught:
        problem(observations=change(observations()))
    for pattern in patterns:
        assert re.search(pattern, str(caught.value))


@pytest.mark.parametrize(("change", "patterns"), OBSERVATIONS)
def test_observation_files(change: Change, patterns: tuple[str, ...], folder: Path, refused):
    save(change(observations()), folder / "observations.nc")
    refused(settings("model.pressure_units=Pa"), *patterns)


# Fields

FIELDS = [
    pytest.param(put("permeability", np.nan), ("1 NaN", "finite"), id="nan"),
    pytest.param(put("permeability", np.inf), ("infinite", "finite"), id="inf"),
    pytest.param(put("permeability", 0.0), ("1 of 96", "smallest 0", "> 0"), id="zero"),
    pytest.param(put("permeability", -1.0), ("1 of 96", "smallest -1", "> 0"), id="<0"),
    pytest.param(put("permeability", 1e3), ("1000", "1e-06, 100"), id="above-bounds"),
    pytest.param(put("permeability", 1e-7), ("1e-07", "1e-06, 100"), id="below-bounds"),
    pytest.param(lambda d: d.isel(x=slice(11)), (r"\(8, 11\)", r"\(8, 12\)"), id="shape"),
    pytest.param(lambda d: d.isel(y=[0]), (r"\(1, 12\)", r"\(8, 12\)"), id="one-row"),
    pytest.param(
        lambda d: d.isel(x=slice(11)).drop_vars(["x", "y"]), (r"\(8, 11\)", r"\(8, 12\)"),
        id="shape-without-coordinates",
    ),
    pytest.param(lambda d: d.isel(y=0), (r"\('x',\)", r"\('y', 'x'\)"), id="1-D"),
    pytest.param(lambda d: d.expand_dims("time"), ("time", r"\('y', 'x'\)"), id="3-D"),
    pytest.param(lambda d: d.rename(x="lon"), ("lon", r"\('y', 'x'\)"), id="dimension-name"),
    pytest.param(lambda d: d.isel(y=[0, 2, 1, 3, 4, 5, 6, 7]), ("'y'", "monotonic"), id="order"),
    pytest.param(lambda d: d.isel(x=[0, 0, *range(2, 12)]), ("'x'", "monotonic"), id="twice"),
    pytest.param(put("x", np.nan), ("'x'", "monotonic|NaN"), id="nan-x"),
    pytest.param(lambda d: d.assign_coords(x=d["x"] + 5), ("'x'", "-545", "-550"), id="shifted"),
    pytest.param(lambda d: d.assign_coords(x=list("abcdefghijkl")), ("'x'", "numer"), id="text-x"),
    pytest.param(unit("x", "km"), ("'x'", "km|-550000", r"\bm\b|-550"), id="km"),
    pytest.param(unit("x", "degrees"), ("'x'", "degrees", r"\bm\b"), id="degrees"),
    pytest.param(
        lambda d: d.assign(permeability=xr.full_like(d["permeability"], "low", dtype=object)),
        ("permeability", "number|numeric"), id="text",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "patterns"), FIELDS)
def test_fields(change: Change, patterns: tuple[str, ...]):
    with pytest.raises(DataError, match="permeability") as caught:
        problem(initial=change(fields())["permeability"])
    for pattern in patterns:
        assert re.search(pattern, str(caught.value))


@pytest.mark.parametrize(("change", "patterns"), FIELDS)
def test_field_files(change: Change, patterns: tuple[str, ...], folder: Path, refused):
    save(change(fields()), folder / "fields.nc")
    refused(
        settings('controls.permeability.initial="fields.nc:permeability"'),
        "permeability", *patterns,
    )  # fmt: skip


# Settings: one wrong value each, what names it, what was found, what was expected

WELL = "{position = [400.0, 350.0], rate = -1.0}"
WRONG_VALUES = [
    # Types
    ("title=3", "title", "3", "text"),
    ("engine=3", "engine", "3", "embedded"),
    ("grid=3", "grid", "3", "table"),
    ("grid=[8, 12]", "grid", r"\[8, 12\]", "table"),
    ('grid.shape="8x12"', r"grid\.shape", "'8x12'", "cell counts|whole numbers"),
    ("grid.shape=true", r"grid\.shape", "True", "whole numbers"),
    ("grid.shape=[8, 12.5]", r"grid\.shape", "12.5", "whole numbers"),
    ("grid.shape=[8, true]", r"grid\.shape", "True", "whole numbers"),
    ("grid.shape={y = 8, x = 12}", r"grid\.shape", "'y': 8", "whole numbers|cell counts"),
    ('grid.extent="large"', r"grid\.extent", "'large'", "numbers"),
    ('grid.extent=["800", "1200"]', r"grid\.extent", "'800'", "numbers"),
    ("grid.extent=[true, 1200.0]", r"grid\.extent", "True", "numbers"),
    ("grid.extent=[[800.0], [1200.0]]", r"grid\.extent", r"\[\[800", "numbers"),
    ("grid.origin={y = 0}", r"grid\.origin", "'y': 0", "numbers"),
    ("grid.units=3", r"grid\.units", "3", "text"),
    ('model="darcy"', "model", "'darcy'", "table"),
    ("model.name=3", r"model\.name", "3", "darcy"),
    ('model.name=["darcy"]', r"model\.name", r"\['darcy'\]", "darcy"),
    ("model.wells=3", r"model\.wells", "3", "list|position"),
    ("model.wells=[3]", r"model\.wells\[0\]", "3", "position"),
    (f"model.wells={WELL}", r"model\.wells", "position", "expected"),
    ('model.wells=[{position = "middle", rate = 0.0}]', "well", "'middle'", "numbers"),
    ('model.wells=[{position = [400.0, 0.0], rate = "none"}]', "well", "'none'", "number"),
    ('model.wells=[{position = [400.0, 0.0], rate = "0"}]', "well", "'0'", "number"),
    ("model.wells=[{position = [400.0, 0.0], rate = false}]", "well", "False", "number"),
    ("model.wells=[{position = [400.0, 0.0], rate = [0.0, 0.0]}]", "well", r"\[0", "number"),
    ("model.face_mean=3", "face_mean", "3", "harmonic"),
    ("model.pressure_units=3", "pressure_units", "3", "text"),
    ("model.fixed_pressure=3", "fixed_pressure", "3", "side|expected"),
    ("model.fixed_pressure=[3]", "side|fixed_pressure", "3", "x_min"),
    ("model.fixed_pressure=[[1]]", "side|fixed_pressure", "1", "x_min"),
    ("model.fixed_pressure.x_min=true", r"fixed_pressure\.x_min", "True", "number"),
    ('model.fixed_pressure.x_min="high"', r"fixed_pressure\.x_min", "'high'", "number"),
    ('model.fixed_pressure.x_min={value = "a", gradient = [0, 0]}', "x_min", "'a'", "number"),
    ('model.fixed_pressure.x_min={value = 0, gradient = "a"}', "x_min", "'a'", "number"),
    ("parameters=3", "parameters", "3", "table"),
    ("parameters.porosity=true", "porosity", "True", "number"),
    ('parameters.porosity="high"', r"parameters\.porosity", "'high'", "number"),
    ("parameters.porosity={value = 0.2}", "porosity", "value", "gradient"),
    ('parameters.porosity={value = "a", gradient = [0, 0]}', "porosity", "'a'", "number"),
    ("controls=[]", "controls", r"\[\]", "table"),
    ("controls.permeability=1.0", r"controls\.permeability", "1.0", "table"),
    ("controls.permeability.initial=true", r"permeability\.initial", "True", "number"),
    ('controls.permeability.initial="low"', r"permeability\.initial", "'low'", "number"),
    ('controls.permeability.initial=[["a"]]', r"permeability\.initial", "a", "number"),
    ("controls.permeability.transform=3", r"permeability\.transform", "3", "log"),
    ("controls.permeability.transform=[]", r"permeability\.transform", r"\[\]", "log"),
    ("controls.permeability.basis=false", r"permeability\.basis", "False", "field"),
    ('controls.permeability.bounds="wide"', r"permeability\.bounds", "'wide'", "two numbers"),
    ('controls.permeability.bounds=["1", "2"]', r"permeability\.bounds", "'1'", "two numbers"),
    ("controls.permeability.bounds=[0.5, true]", r"permeability\.bounds", "True", "two numbers"),
    ("controls.permeability.bounds=2", r"permeability\.bounds", "2", "two numbers"),
    ("controls.permeability.bounds=[1, 2, 3]", r"permeability\.bounds", "3", "two numbers"),
    ("controls.permeability.bounds=[[1, 2], [3]]", r"permeability\.bounds", r"\[3", "two numbers"),
    ("controls.permeability.bounds={low = 1}", r"permeability\.bounds", "'low'", "two numbers"),
    ("misfit=[]", "misfit", r"\[\]", "table"),
    ("misfit.observations=3", r"misfit\.observations", "3", "text"),
    ("misfit.observations=[]", r"misfit\.observations", r"\[\]", "text"),
    ('misfit.sigma="small"', r"misfit\.sigma", "'small'", "number"),
    ("misfit.sigma=true", r"misfit\.sigma", "True", "number"),
    ("misfit.sigma={a = 1}", r"misfit\.sigma", "'a'", "number"),
    ("penalty=3", "penalty", "3", "table"),
    ("penalty.permeability=3", r"penalty\.permeability", "3", "table"),
    ("penalty.permeability.kind=3", r"penalty\.permeability\.kind", "3", "smoothness"),
    ('penalty.permeability.weight="a"', r"penalty\.permeability\.weight", "'a'", "number"),
    ("penalty.permeability.weight=true", r"penalty\.permeability\.weight", "True", "number"),
    ("penalty.permeability.length=[1]", r"penalty\.permeability\.length", r"\[1\]", "number"),
    ("solver=1e-8", "solver", "1e-08", "table"),
    ("solver.tolerance=true", r"solver\.tolerance", "True", "number"),
    ('solver.tolerance="tight"', r"solver\.tolerance", "'tight'", "number"),
    ("solver.adjoint_tolerance=[]", "adjoint_tolerance", r"\[\]", "number"),
    ("solver.max_iterations=1e4", r"solver\.max_iterations", "10000", "whole number"),
    ("solver.max_iterations=false", r"solver\.max_iterations", "False", "whole number"),
    ("solver.dtype=64", "dtype", "64", "float64"),
    ("inversion=50", "inversion", "50", "table"),
    ("inversion.method=3", "method", "3", "L-BFGS-B"),
    ('inversion.method=["CG"]', "method", r"\['CG'\]", "L-BFGS-B"),
    ('inversion.max_iterations="many"', r"inversion\.max_iterations", "'many'", "whole number"),
    ("inversion.max_iterations=2.5", r"inversion\.max_iterations", "2.5", "whole number"),
    ("inversion.tolerance=true", r"inversion\.tolerance", "True", "number"),
    ('inversion.discrepancy="yes"', "discrepancy", "'yes'", "true"),
    ("output=3", "output", "3", "table"),
    ("output.path=3", r"output\.path", "3", "text"),
    ("output.journal=true", r"output\.journal", "True", "text"),
    ("output.figure=[]", r"output\.figure", r"\[\]", "text"),
    # Values
    ("grid.shape=[8, 0]", r"grid\.shape", r"\[8, 0\]", "whole numbers >= 2"),
    ("grid.shape=[8, -12]", r"grid\.shape", r"-12", "whole numbers >= 2"),
    ("grid.shape=[2, 2, 2, 2]", r"grid\.shape", r"2, 2, 2, 2", "1 to 3"),
    ("grid.extent=[800.0, -1200.0]", r"grid\.extent", "-1200", "positive"),
    ("grid.extent=[800.0]", r"grid\.extent", "1 number", "2"),
    ("grid.extent=[800.0, nan]", r"grid\.extent", "nan", "finite"),
    ("grid.origin=[0.0, inf]", r"grid\.origin", "inf", "finite"),
    ("model.wells=[{position = [400.0, 900.0], rate = 0.0}]", "position", "900", "600"),
    ("model.wells=[{position = [400.0], rate = 0.0}]", "position", "1 number", "2"),
    ("model.wells=[{position = [nan, 0.0], rate = 0.0}]", "position", "nan", "outside|finite"),
    ("model.wells=[{position = [400.0, 0.0], rate = inf}]", "well", "inf", "finite"),
    ("model.wells=[{position = [400.0, 0.0], rate = 1.5}]", "wells", "1.5", "zero"),
    ('model.fixed_pressure=["left"]', "side|fixed_pressure", "'left'", "x_min"),
    ('model.fixed_pressure=["z_min"]', "side|fixed_pressure", "'z_min'", "x_min"),
    ('model.fixed_pressure=["x_min", "x_min"]', "side", "x_min", "twice"),
    ('model.fixed_pressure=["x_min"]', "boundary_pressure", "not given|missing"),
    ("model.fixed_pressure.x_min=nan", r"fixed_pressure\.x_min", "1 NaN", "finite"),
    ("model.fixed_pressure.x_min=[1.0, 2.0]", r"x_min", r"\(2,\)", r"\(8,\)"),
    ("model.fixed_pressure.x_min={value = 1, gradient = [1]}", "x_min", "1 number", "2"),
    ("parameters.porosity=-0.1", "porosity", "-0.1", "> 0"),
    ("parameters.porosity=nan", "porosity", "NaN", "finite"),
    ("parameters.porosity=[0.1, 0.2]", "porosity", r"\(2,\)", r"\(8, 12\)"),
    ("parameters.permeability=1.0", "permeability", "parameter", "control"),
    ("controls={}", "controls", "none", "at least one"),
    ("controls.permeability.initial=0", "permeability", "smallest 0", "> 0"),
    ("controls.permeability.initial=-1.0", "permeability", "smallest -1", "> 0"),
    ("controls.permeability.initial=nan", r"permeability\.initial", "NaN", "finite"),
    ("controls.permeability.initial=1e3", "permeability", "1000", r"1e-06, 100"),
    ("controls.permeability.initial=[1.0, 2.0]", r"initial", r"\(2,\)", r"\(8, 12\)"),
    ("controls.permeability.truth=[1.0]", r"permeability\.truth", r"\(1,\)", r"\(8, 12\)"),
    ("controls.permeability.bounds=[1e2, 1e-6]", r"bounds", r"100.*1e-06", "low < high"),
    ("controls.permeability.bounds=[1.0, 1.0]", "bounds", "1.0", "low < high"),
    ("controls.permeability.bounds=[nan, 1.0]", "bounds", "nan", "low < high"),
    ("controls.permeability.bounds=[0.0, 1e2]", "bounds", " 0", "> 0"),
    ("controls.permeability.bounds=[-1.0, 1e2]", "bounds", "-1", "> 0"),
    ('controls.permeability.basis="plane"', "bounds", "plane", "logistic"),
    ("misfit.sigma=-0.01", r"misfit\.sigma", "-0.01", "> 0"),
    ("misfit.sigma=0", r"misfit\.sigma", "0", "> 0"),
    ("misfit.sigma=nan", r"misfit\.sigma", "nan", "> 0"),
    ("misfit.sigma=inf", "sigma", "inf", "finite"),
    ("misfit.sigma=[0.1, 0.2]", "sigma", r"\(2,\)", r"\(6,\)"),
    ("misfit.sigma=1e-300", "sigma|misfit", "inf"),
    ("penalty.permeability.weight=-1", r"penalty\.permeability\.weight", "-1", ">= 0"),
    ("penalty.permeability.length=nan", r"penalty\.permeability\.length", "nan", ">= 0"),
    ("penalty.porosity={weight = 1, length = 1}", "penalty.*porosity", "control", "permeability"),
    ("solver.tolerance=0", r"solver\.tolerance", "0", r"\(0, 1\)"),
    ("solver.tolerance=2", r"solver\.tolerance", "2", r"\(0, 1\)"),
    ("solver.adjoint_tolerance=nan", "adjoint_tolerance", "nan", r"\(0, 1\)"),
    ("solver.max_iterations=0", r"solver\.max_iterations", "0", ">= 1"),
    ("inversion.max_iterations=-5", r"inversion\.max_iterations", "-5", ">= 1"),
    ("inversion.tolerance=1e9", r"inversion\.tolerance", "1e\\+09", r"\(0, 1\)"),
    ('inversion.method="CG"', "method", "'CG'", "bounds"),
    ("controls.pressure.initial=1.0", "pressure", "not a parameter", "permeability"),
    # Names; the nearest right one is told
    ('engine="embeded"', "engine", "'embeded'", "'embedded'"),
    ('engine="julia"', "engine", "'julia'", "embedded"),
    ('model.name="darci"', r"model\.name", "'darci'", "'darcy'"),
    ('model.face_mean="harmonc"', "face_mean", "'harmonc'", "harmonic"),
    ('controls.permeability.transform="logg"', r"transform", "'logg'", r"\blog\b"),
    ('controls.permeability.basis="plan"', "basis", "'plan'", r"\bplane\b"),
    ('penalty.permeability.kind="smooth"', r"permeability\.kind", "'smooth'", "smoothness"),
    ('inversion.method="LBFGS"', "method", "'LBFGS'", "L-BFGS-B"),
    ('solver.dtype="float16"', "dtype", "'float16'", "float32"),
    # Keys
    ("modle={}", "modle", "unknown", "'model'"),
    ("grid.shap=[8, 12]", r"grid\.shap\b", "unknown", "'shape'"),
    ("model.wels=[]", r"model\.wels", "unknown", "'wells'"),
    ("model.wells=[{positon = [400, 0], rate = 0}]", r"model\.wells\[0\]", "positon", "position"),
    ("model.fixed_pressure.x_mn=0", "side|fixed_pressure", "x_mn", "x_min"),
    ("model.fixed_pressure.x_min={value = 0, gradint = [0, 0]}", "x_min", "gradint", "gradient"),
    ("parameters.porosty=0.2", "porosty", "not a parameter|unknown", "did you mean 'porosity'"),
    ("controls.permeabilty.initial=1", "permeabilty", "not|unknown", "did you mean 'permeability'"),
    ("controls.permeability.inital=1", r"controls\.permeability\.inital", "unknown", "'initial'"),
    ("misfit.sigm=0.01", r"misfit\.sigm\b", "unknown", "'sigma'"),
    (
        "penalty.permeabilty={weight = 1, length = 1}",
        "permeabilty", "not a control", "did you mean 'permeability'",
    ),
    ("penalty.permeability.wieght=1", r"penalty\.permeability\.wieght", "unknown", "'weight'"),
    ("solver.tolerence=1e-8", r"solver\.tolerence", "unknown", "'tolerance'"),
    ('inversion.metod="CG"', r"inversion\.metod", "unknown", "'method'"),
    ('output.pth="a.nc"', r"output\.pth", "unknown", "'path'"),
    ("inversion.seed=1", r"inversion\.seed", "unknown", "method"),
    # Files
    ('misfit.observations="none.nc"', r"misfit\.observations", "none.nc", "no file"),
    ('misfit.observations="."', r"misfit\.observations", "no file|directory"),
    ('misfit.observations="observations.nc:presure"', "observations", "'presure'", "pressure"),
    ('controls.permeability.initial="none.nc:k"', r"permeability\.initial", "none.nc", "no file"),
    ('controls.permeability.initial="fields.nc"', r"initial", "'fields.nc'", "file.nc:variable"),
    (
        'controls.permeability.initial="fields.nc:permeabilty"',
        r"controls\.permeability\.initial", "'permeabilty'", "did you mean 'permeability'",
    ),
    ('parameters.porosity="none.nc:porosity"', r"parameters\.porosity", "none.nc", "no file"),
    ('output.path="none/result.nc"', r"output\.path", "none", "no such directory"),
    ('output.journal="none/result.h5"', r"output\.journal", "none", "no such directory"),
    ('output.figure="none/figure.png"', r"output\.figure", "none", "no such directory"),
    ('output.path="."', r"output\.path", "is a directory"),
    ('output.figure="figure.xyz"', r"output\.figure", "xyz", "png|format|ending"),
    ('output.journal="result.nc"', r"output\.journal|result\.nc", "same|not a journal"),
    ('output.path="result.h5"', r"output\.path|output\.journal", "result.h5", "same|both"),
    # --set itself
    ("grid.shape", "--set", "'grid.shape'", "a.b=value"),
    ("=3", "--set", "'=3'", "a.b=value"),
    ("grid..shape=3", "--set", r"'grid\.\.shape=3'", "a.b=value"),
    ("title.text=3", "--set", "'title'", "table"),
]  # fmt: skip


@pytest.mark.parametrize("case", WRONG_VALUES, ids=lambda case: case[0][:70])
def test_settings(case: tuple[str, ...], refused):
    override, *patterns = case
    refused(settings(override), *patterns)


def test_a_precision_is_not_for_an_engine_that_is_absent(refused):
    refused(settings('engine="julia"', "solver.dtype=float64"), "engine", "'julia'", "embedded")


BOUNDED = 'transform = "log"\nbounds = [1e-6, 1e2]\n'
REPLACED = [
    (BOUNDED, "", r"controls\.permeability", "positive", "bounds"),
    ("[grid]", "[grid", "run.toml", "line 4|TOML"),
    ("weight = 1e-3", "weight = ", "run.toml", "TOML", "line"),
    ("weight = 1e-3", "weight = 1\nweight = 2", "run.toml", "TOML"),
    (RUN_FILE[RUN_FILE.index("[grid]") : RUN_FILE.index("[model]")], "", r"\[grid\]", "missing"),
    (RUN_FILE[RUN_FILE.index("[model]") : RUN_FILE.index("[param")], "", r"\[model\]", "missing"),
    (RUN_FILE[RUN_FILE.index("[controls") : RUN_FILE.index("[misfit]")], "", "controls", "missing"),
    (RUN_FILE[RUN_FILE.index("[misfit]") : RUN_FILE.index("[penal")], "", r"\[misfit\]", "missing"),
    (RUN_FILE, "", r"\[grid\]", "missing"),
    ("shape = [8, 12]", "", r"grid\.shape", "missing"),
    ("extent = [800.0, 1200.0]", "", r"grid\.extent", "missing"),
    ('name = "darcy"', "", r"model\.name", "missing|expected one of darcy"),
    ("initial = 1.0", "", r"controls\.permeability\.initial", "missing"),
    ('observations = "observations.nc"', "", r"misfit\.observations", "missing"),
    ("weight = 1e-3", "", r"penalty\.permeability\.weight", "missing"),
    ("length = 100.0", "", r"penalty\.permeability\.length", "missing"),
    ('path = "result.nc"', "", r"output\.path", "missing"),
    ("bounds = [1e-6, 1e2]", 'bounds = [1e-6, 1e2]\nbasis = "point"', "basis", "'point'", "field"),
]


@pytest.mark.parametrize("case", REPLACED, ids=lambda case: case[0][:30].splitlines()[0])
def test_run_file_texts(case: tuple[str, ...], folder: Path, refused):
    old, new, *patterns = case
    assert RUN_FILE.count(old) == 1
    (folder / "run.toml").write_text(RUN_FILE.replace(old, new))
    refused(["run", "run.toml"], *patterns)


def test_no_run_file(refused):
    refused(["run", "rum.toml"], "rum.toml", "No such file")
    refused(["check", "rum.toml"], "rum.toml", "No such file")
    refused(["run", "."], "directory")


def test_a_run_file_that_is_no_text(folder: Path, refused):
    (folder / "run.toml").write_bytes(b"\xff\xfe\x00[grid]")
    refused(["run", "run.toml"], "run.toml", "TOML")
    refused(["run", "observations.nc"], "observations.nc", "TOML")


# Whole files


def cut(path: Path) -> None:
    """Half of the file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("spoil", [cut, lambda p: p.write_text("x y head\n1 2 3\n"),
                                   lambda p: p.write_bytes(b"")],
                         ids=["truncated", "text", "empty"])  # fmt: skip
def test_foreign_and_truncated_netcdf(spoil: Callable[[Path], Any], folder: Path, refused):
    spoil(folder / "fields.nc")
    refused(
        settings('controls.permeability.initial="fields.nc:permeability"'),
        r"controls\.permeability\.initial", "fields.nc", "not a NetCDF file|truncated",
    )  # fmt: skip
    refused(
        settings('parameters.porosity="fields.nc:porosity"'),
        r"parameters\.porosity", "fields.nc", "not a NetCDF file|truncated",
    )  # fmt: skip
    refused(["plot", "fields.nc", "-o", "figure.png"], "fields.nc", "not a NetCDF|truncated")
    spoil(folder / "observations.nc")
    for command in ("run", "check"):
        refused(
            [command, "run.toml"],
            r"misfit\.observations", "observations.nc", "not a NetCDF file|truncated",
        )  # fmt: skip


def journal(path: Path, *, finished: bool) -> None:
    """A journal without evaluations."""
    options = {"method": "L-BFGS-B", "max_iterations": 2, "tolerance": 1e-6, "discrepancy": False}
    with Journal.create(path, problem(), options | {"title": None}) as book:
        book.finish(finished)


def test_files_that_are_no_journals(folder: Path, refused):
    (folder / "text.h5").write_text("not HDF5")
    with h5py.File(folder / "other.h5", "w") as file:
        file["count"] = 3
    journal(folder / "cut.h5", finished=False)
    cut(folder / "cut.h5")
    for name in ("text.h5", "other.h5", "cut.h5", "fields.nc"):
        refused(["resume", name, "-o", "result.nc"], name, "not a journal")
        refused(settings(f'output.journal="{name}"'), name, "not a journal")
    refused(["resume", "none.h5"], "none.h5", "no such journal|no file")


def test_resume_of_a_directory(refused):
    refused(["resume", "."], "journal|directory")


def test_an_unfinished_journal_in_the_way(folder: Path, refused):
    journal(folder / "result.h5", finished=False)
    refused(["run", "run.toml"], "result.h5", "unfinished journal", "resume")


def test_resume_options(folder: Path, refused):
    journal(folder / "run.h5", finished=False)
    refused(["resume", "run.h5", "--max-iterations", "0"], "max.iterations", "0", ">= 1")
    refused(["resume", "run.h5", "-o", "none/result.nc"], "none", "no such directory")
    refused(["resume", "run.h5", "-o", "run.h5"], "output", "run.h5", "same|journal")
    refused(["resume", "run.h5", "-o", "."], "output", "is a directory")


def test_plot_of_what_is_no_result(folder: Path, refused):
    refused(["plot", "none.nc"], "none.nc", "no file")
    refused(["plot", "run.toml", "-o", "figure.png"], "run.toml", "not a NetCDF")
    refused(["plot", "fields.nc", "-o", "none/figure.png"], "none", "no such directory")
    refused(["plot", "fields.nc", "-o", "figure.png"], "fields.nc", "not a result")


def test_plot_of_a_journal(folder: Path, refused):
    journal(folder / "run.h5", finished=True)
    refused(["plot", "run.h5", "-o", "figure.png"], "run.h5", "not a")


def test_plot_into_a_directory(refused):
    refused(["plot", "fields.nc", "-o", "."], "output", "is a directory")


def test_the_output_option(folder: Path, refused):
    refused(["run", "run.toml", "-o", "none/result.nc"], "-o|output", "none", "no such directory")
    refused(["run", "run.toml", "-o", "."], "-o|output", "is a directory")


def test_check_refuses_as_run_does(refused):
    refused(["check", "run.toml", "--set", "grid.shap=[8, 12]"], r"grid\.shap\b", "'shape'")
    refused(["check", "run.toml", "--set", "misfit.sigma=-1"], r"misfit\.sigma", "-1", "> 0")


def test_one_line_from_the_real_command(folder: Path):
    """As a process: nothing else writes to stderr, warnings included."""
    (folder / "observations.nc").write_text("x,y,pressure\n")
    before = everything(folder)
    done = subprocess.run(
        [sys.executable, "-m", "pyadjoint_gpu", "run", "run.toml"],
        cwd=folder, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"pyadjoint-gpu: error: .*observations\.nc.*\n", done.stderr)
    assert everything(folder) == before


# The Python API


def problem(
    *,
    initial: Any = 1.0,
    name: str = "permeability",
    observations: xr.Dataset = observations(),  # noqa: B008
    misfit: dict[str, Any] | None = None,
    penalty: Any = (),
    model: dict[str, Any] | None = None,
    parameters: Any = None,
    options: dict[str, Any] | None = None,
    **control: Any,
) -> pag.Problem:
    """A good problem, but for what is given."""
    control = {"transform": "log", "bounds": (1e-6, 1e2)} | control
    return pag.Problem(
        pag.models.Darcy(GRID, **{"wells": WELLS} | (model or {})),
        [pag.Control(name, initial, **control)],
        pag.LeastSquares(observations, **misfit or {}),
        penalty,
        parameters=parameters,
        **options or {},
    )


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
    with pytest.raises(DataError, match=r"open\.h5: an unfinished journal"):
        pag.invert(problem(), journal=tmp_path / "open.h5")
    with pytest.raises(ConfigError, match=r"max_iterations: found 0"):
        pag.resume(tmp_path / "open.h5", max_iterations=0)
    with pytest.raises(DataError, match="no such directory"):
        pag.invert(problem(), journal=tmp_path / "none" / "run.h5")
    assert everything(tmp_path) == before


# Harmless variations


def solved(path: Path, *overrides: str) -> tuple[float, np.ndarray]:
    value, gradient = build_problem(read(path, overrides).tables).value_and_gradient()
    return value, gradient["permeability"].values


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, np.ndarray]:
    """Value and gradient of the plain files."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "run.toml").write_text(RUN_FILE)
    save(observations(), folder / "observations.nc")
    save(fields(), folder / "fields.nc")
    return solved(folder / "run.toml", INITIAL)


INITIAL = "controls.permeability.initial=fields.nc:permeability"
HEAD = ["misfit.observations=observations.nc:head", "misfit.sigma=0.01"]


def plain_coordinates(data: xr.Dataset) -> xr.Dataset:
    return data.reset_coords(["x", "y"])


def named_by_cf(data: xr.Dataset) -> xr.Dataset:
    """Coordinates under other names, known by their attributes."""
    data = plain_coordinates(data).rename(x="easting", y="northing")
    data["easting"].attrs["standard_name"] = "projection_x_coordinate"
    data["northing"].attrs["axis"] = "Y"
    return data


def other_order(data: xr.Dataset) -> xr.Dataset:
    """y first, sigma before the values."""
    names = ["y", "pressure_sigma", "x", "pressure"]
    return xr.Dataset({n: data[n].variable for n in names})


def kilometres(data: xr.Dataset) -> xr.Dataset:
    return unit("x", "km", 1e-3)(unit("y", "km", 1e-3)(data))


def head(data: xr.Dataset) -> xr.Dataset:
    return unit("head", "m")(data.rename(pressure="head").drop_vars("pressure_sigma"))


def with_others(data: xr.Dataset) -> xr.Dataset:
    """Further variables, with units of their own."""
    axis = "observation"
    more = {f"other_{u}": (axis, np.arange(6.0), {"units": u}) for u in ("K", "s", "kg", "m", "J")}
    return data.assign(more)


VARIED_OBSERVATIONS = [
    pytest.param(plain_coordinates, [], id="coordinates-as-variables"),
    pytest.param(lambda d: d.rename(observation="well"), [], id="dimension-well"),
    pytest.param(other_order, [], id="y-before-x"),
    pytest.param(kilometres, [], id="kilometres"),
    pytest.param(named_by_cf, [], id="coordinates-by-attributes"),
    pytest.param(head, HEAD, id="head"),
    pytest.param(head, [*HEAD, "model.pressure_units=m"], id="head-and-units"),
    pytest.param(unit("pressure", "kPa", 1e-3), ["model.pressure_units=Pa"], id="kilopascal"),
    pytest.param(unit(SIGMA, "mbar", 1e-2), [], id="sigma-in-millibar"),
    pytest.param(with_others, [], id="other-variables"),
]


@pytest.mark.parametrize(("change", "overrides"), VARIED_OBSERVATIONS)
def test_varied_observations(change: Change, overrides: list[str], folder: Path, plain: Any):
    save(change(observations()), folder / "observations.nc")
    same(solved(folder / "run.toml", INITIAL, *overrides), plain)


VARIED_FIELDS = [
    pytest.param(lambda d: d.isel(y=slice(None, None, -1)), id="y-descending"),
    pytest.param(lambda d: d.isel(y=slice(None, None, -1), x=slice(None, None, -1)), id="both"),
    pytest.param(lambda d: d.transpose("x", "y"), id="transposed"),
    pytest.param(lambda d: d.transpose("x", "y").isel(y=slice(None, None, -1)), id="transposed-y"),
    pytest.param(lambda d: d.drop_vars(["x", "y"]), id="no-coordinates"),
]


@pytest.mark.parametrize("change", VARIED_FIELDS)
def test_varied_fields(change: Change, folder: Path, plain: Any):
    save(change(fields()), folder / "fields.nc")
    same(solved(folder / "run.toml", INITIAL), plain)


def same(found: tuple[float, np.ndarray], expected: tuple[float, np.ndarray]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-12, abs=0)
    difference = np.max(np.abs(found[1] - expected[1]))
    assert difference <= 1e-12 * np.max(np.abs(expected[1]))
