"""A run file, its data and its problem, ways to spoil them, and the command as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.inversion.journal import started

GRID = pag.Grid((8, 12), (800.0, 1200.0), (0.0, -600.0))
WELLS = (pag.Well((400.0, -350.0), 1.0), pag.Well((400.0, 350.0), -1.0))
COMMAND = [sys.executable, "-m", "pyadjoint_gpu"]
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu"}

SHARED_TABLES = """\
[parameters]
porosity = 0.2

[controls.permeability]
initial = 1.0
transform = "log"
bounds = [1e-6, 1e2]

[misfit]
observations = "observations.nc"

"""
"""The tables that all run files of the tests have, whatever their units."""

RUN_FILE = (
    """\
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

"""
    + SHARED_TABLES
    + """\
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
)


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


SIGMA = "pressure_sigma"
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


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, hidden files too, with its bytes."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


def settings(*overrides: str) -> list[str]:
    return ["run", "run.toml", *(a for o in overrides for a in ("--set", o))]


def noted(stderr: str) -> str:
    """Standard error without the lines that only tell that a run still goes on, as it does where
    the machine is slow."""
    progress = re.compile(r"^\w[\w ]*: .*( \.\.\.| min)$")
    return "".join(x for x in stderr.splitlines(keepends=True) if not progress.match(x.strip()))


def process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )


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


def journal(path: Path, *, finished: bool) -> None:
    """A journal without evaluations."""
    options = {"method": "L-BFGS-B", "max_iterations": 2, "tolerance": 1e-6, "discrepancy": False}
    with started(path, problem(), options | {"title": None}) as book:
        if finished:
            book.finish()
