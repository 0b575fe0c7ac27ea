"""A small earthquake: its run file, its GNSS and InSAR, and what G is."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from run_files import save

from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.geophysics import Fault, gnss

FAULT = Fault(10.0, 6.0, along=3, down=2, slips=("strike", "dip"))
AT = {"east": 1.0, "north": -2.0, "depth": 1.5, "strike": 20.0, "dip": 55.0}
LOOK = np.array([0.6, -0.1, 0.79]) / np.linalg.norm([0.6, -0.1, 0.79])
RUN_FILE = """\
title = "A small earthquake"

[fault]
units = "km"
length = 10.0
width = 6.0
along = 3
down = 2
east = {uniform = [-2.0, 3.0]}
north = -2.0
depth = 1.5
strike = 20.0
dip = {normal = [55.0, 3.0], bounds = [40.0, 70.0]}

[data]
gnss = "gnss.nc"
insar = ["insar.nc"]

[slip_prior]
kind = "smooth"
sd = 0.5
length = 4.0

[sampler]
seed = 3
particles = 8
moves = 1
batch = 8

[sampler.inner]
particles = 32
moves = 1
leapfrogs = 2

[output]
path = "result.nc"
journal = "result.h5"
"""
FIXED = ["fault.east=1.0", "fault.dip=55.0", "sampler={seed = 3, repeats = 2, particles = 64}",
         'output={path = "result.nc"}']  # fmt: skip


STATIONS = np.random.default_rng(1).uniform(-10, 10, (5, 2))
PIXELS = np.random.default_rng(2).uniform(-10, 10, (7, 2))
POINTS, LOOKS = (
    np.concatenate([a, b]) for a, b in zip(gnss(STATIONS), (PIXELS, [LOOK] * 7), strict=True)
)


@cache
def _compiled() -> Any:
    return jax.jit(partial(FAULT.green, POINTS, LOOKS))


@double
def green(**geometry: float) -> np.ndarray:
    """Design matrix of all data."""
    return np.asarray(_compiled()(**(AT | geometry)))


@cache
def seen() -> np.ndarray:
    return green() @ np.linspace(0.2, 0.8, FAULT.components)


def stations() -> xr.Dataset:
    """In kilometres and millimetres."""
    parts = 1e3 * seen()[:15].reshape(5, 3)
    variables = {}
    for k, axis in enumerate(("east", "north", "up")):
        variables[f"displacement_{axis}"] = "station", parts[:, k], {"units": "mm"}
        variables[f"displacement_{axis}_sigma"] = "station", np.full(5, 20.0), {"units": "mm"}
    x, y = (("station", p, {"units": "km"}) for p in STATIONS.T)
    return xr.Dataset(variables, {"x": x, "y": y})


def pixels() -> xr.Dataset:
    """In metres."""
    variables: dict[str, Any] = {
        "displacement_los": ("pixel", seen()[15:], {"units": "m"}),
        "displacement_los_sigma": ("pixel", np.full(7, 0.03), {"units": "m"}),
    }
    for k, axis in enumerate(("east", "north", "up")):
        variables[f"look_{axis}"] = "pixel", np.full(7, LOOK[k])
    x, y = (("pixel", 1e3 * p, {"units": "m"}) for p in PIXELS.T)
    return xr.Dataset(variables, {"x": x, "y": y})


def correlated(data: xr.Dataset) -> xr.Dataset:
    """With a covariance in place of standard deviations."""
    apart = np.subtract.outer(np.arange(7), np.arange(7))
    c = ("pixel", "pixel2"), 9e-4 * np.exp(-np.abs(apart)), {"units": "m2"}
    return data.drop_vars("displacement_los_sigma").assign(displacement_los_covariance=c)


def write(folder: Path) -> None:
    """The run file and its data."""
    save(stations(), folder / "gnss.nc")
    save(pixels(), folder / "insar.nc")
    (folder / "run.toml").write_text(RUN_FILE)
