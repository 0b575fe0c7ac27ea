"""Bad data and bad files are refused before any solve, by name, and leave nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from run_files import (
    SIGMA,
    Change,
    everything,
    fields,
    journal,
    observations,
    problem,
    process,
    put,
    save,
    settings,
    unit,
)

from pyadjoint_gpu.core.errors import DataError

# Observations: the same faults through the API and through a file

OBSERVATIONS = [
    pytest.param(put("pressure", -np.inf), ("'pressure'", "infinite", "finite"), id="inf"),
    pytest.param(
        lambda d: d.assign(pressure=d["pressure"] * np.nan), ("'pressure'", "6", "missing"),
        id="all-nan",
    ),
    pytest.param(
        lambda d: d.assign({SIGMA: d[SIGMA] * np.inf}), ("'pressure'", "sigma inf", "finite"),
        id="all-sigma-inf",
    ),
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
    pytest.param(lambda d: d.expand_dims(time=2), ("time", r"\('y', 'x'\)"), id="3-D"),
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


def test_one_line_from_the_real_command(folder: Path):
    """As a process: nothing else writes to stderr, warnings included."""
    (folder / "observations.nc").write_text("x,y,pressure\n")
    before = everything(folder)
    done = process(folder, "run", "run.toml")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"pyadjoint-gpu: error: .*observations\.nc.*\n", done.stderr)
    assert everything(folder) == before
