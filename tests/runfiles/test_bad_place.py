"""Bad run files of placement are refused before any solve, by name, and leave nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from placement_files import RUN_FILE
from run_files import save

SENSORS = "sensors.candidates"
LATTICE = "{low = [12e3, 15e3], high = [50e3, 65e3], shape = [3, 4]}"


def floor() -> xr.Dataset:
    depth = np.full((12, 16), 900.0)
    depth[3, 4] = -1.0
    return xr.Dataset({"depth": (("y", "x"), depth), "sigma": ("k", np.full(12, -1.0))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(RUN_FILE)
    (tmp_path / "result.nc").write_bytes(b"an older result")
    (tmp_path / "old.h5").write_bytes(b"another file")
    save(floor(), tmp_path / "sea.nc")
    y, x = (("k", v, {"units": "Pa"}) for v in (np.ones(3), np.ones(3)))
    save(xr.Dataset({"y": y, "x": x}), tmp_path / "units.nc")
    save(xr.Dataset({"y": ("k", np.ones(3)), "x": ("j", np.ones(2))}), tmp_path / "sizes.nc")
    return tmp_path


def settings(*overrides: str) -> list[str]:
    return ["place", "run.toml", *(a for o in overrides for a in ("--set", o))]


WRONG: list[tuple[list[str], list[str]]] = [
    # Names
    (["sensor.sigma=1"], ["sensor: unknown key", "'sensors'"]),
    (["sensors.sigam=1"], [r"sensors\.sigam", "unknown", "'sigma'"]),
    (["placement.buget=1"], [r"placement\.buget", "unknown", "'budget'"]),
    (["prior.lenght=1"], [r"prior\.lenght", "unknown", "'length'"]),
    (["forecast.pionts=[]"], [r"forecast\.pionts", "unknown", "'points'"]),
    (["rupture.sped=1"], [r"rupture\.sped", "unknown", "'speed'"]),
    (["output.jurnal='a'"], [r"output\.jurnal", "unknown", "'journal'"]),
    (["sensors.candidates={lo = [1, 2]}"], [r"sensors\.candidates\.lo\b", "unknown", "'low'"]),
    # The model
    (["model.name='wave'"], [r"model\.name", "'wave'"]),
    (["model={name = 'darcy'}"], [r"model\.name", "'darcy'", "explicit steps"]),
    (["grid={shape = [9], extent = [1.0]}", "model.source='cells'", "model.absorbing=[]",
      "model.sponge=0"], [r"grid\.shape", "found 1 axes", "two, y and x"]),
    (["model={name = 'shallow-water', step = 12.0, steps = 30}"], [r"model\.source is missing"]),
    (["model.source=[[30e3, 30e3]]"], [r"model\.source", "found points", "maps"]),
    (["model.step=100.0"], ["step: found 100", "at most"]),
    (["parameters.source=1.0"], [r"parameters\.source", "starts at rest"]),
    (["parameters.dept=1.0"], ["'dept'", "did you mean 'depth'"]),
    (["parameters.depth=0.0"], ["depth: 192 of 192 values are not positive"]),
    (["parameters.depth='sea.nc:depth'"], ["depth: 1 of 192 values are not positive"]),
    (["parameters.depth='sea.nc:dept'"], [r"parameters\.depth", "no variable 'dept'", "'depth'"]),
    (["parameters.depth.profile='flat'"], [r"parameters\.depth\.profile", "'flat'", "margin"]),
    (["parameters.depth.deep=100.0"], [r"parameters\.depth\.coast, shelf, deep", "50, 200, 100"]),
    (["parameters.depth.dep=1.0"], [r"parameters\.depth\.dep\b", "unknown", "'deep'"]),
    # The sensors
    ([f"{SENSORS}=3"], [r"sensors\.candidates", "found 3", "list of positions"]),
    ([f"{SENSORS}=[]"], [r"sensors\.candidates", r"\[\]", "list of positions"]),
    ([f"{SENSORS}=[[1, 2, 3]]"], [r"sensors\.candidates\[0\]", r"\[1, 2, 3\]", "2 numbers"]),
    ([f"{SENSORS}=[[1e3, 2e3], [1e3, 1e6]]"], [r"sensors\.candidates: number 1", "outside"]),
    ([f"{SENSORS}.shape=[3, 2.5]"], [r"sensors\.candidates\.shape", "2.5", "whole number"]),
    ([f"{SENSORS}={{low = [0, 0], high = [1, 1]}}"], [r"candidates\.shape is missing"]),
    ([f"{SENSORS}='none.nc'"], [r"sensors\.candidates", "no file", "none.nc"]),
    ([f"{SENSORS}='sea.nc'"], [r"sensors\.candidates", "found columns depth, sigma", "y, x"]),
    ([f"{SENSORS}='units.nc'"], [r"sensors\.candidates", "'y' is in 'Pa'", "'m'"]),
    ([f"{SENSORS}='sizes.nc'"], [r"sensors\.candidates", "shapes", "one length"]),
    (["sensors.sigma=-1.0"], [r"sensors\.sigma", "-1.0", "positive number"]),
    (["sensors.sigma=[0.1, 0.2]"], [r"sensors\.sigma", r"\[0\.1, 0\.2\]", "12 numbers"]),
    (["sensors.sigma='sea.nc:sigma'"], [r"sensors\.sigma", "found -1", "> 0"]),
    (["sensors.sigma='sea.nc:depth'"], [r"sensors\.sigma", r"\(12, 16\)", r"\(12,\)"]),
    (["sensors.costs=0"], [r"sensors\.costs", "found 0", "positive"]),
    (["sensors.existing=3"], [r"sensors\.existing", "found 3", "candidates"]),
    (["sensors.existing=[12]"], [r"sensors\.existing", "12", "0 to 11"]),
    (["sensors.existing=[1, 1]"], [r"sensors\.existing", "twice"]),
    (["sensors.existing=[1]", "sensors.forbidden=[1]"],
     [r"sensors\.forbidden", "sensor 1", "in place"]),
    # Prior, placement
    (["prior.sd=0"], [r"prior\.sd", "found 0", "positive"]),
    (["prior.length='far'"], [r"prior\.length", "'far'", "> 0"]),
    (["prior.duration=-1"], [r"prior\.duration", "-1", "positive"]),
    (["placement.budget=13"], [r"placement\.budget", "found 13", "1 to 12"]),
    (["placement.budget=2.5"], [r"placement\.budget", "2.5", "whole number"]),
    (["sensors.costs=1", "placement.budget=0.5"], [r"placement\.budget", "0.5", "not enough"]),
    (["placement.random=-1"], [r"placement\.random", "-1", ">= 0"]),
    (["placement.seed=true"], [r"placement\.seed", "True", "whole number"]),
    (["placement.dtype='half'"], [r"placement\.dtype", "'half'", "float32"]),
    (["placement.goal='coast'"], [r"placement\.goal", "'coast'", "parameter, forecast"]),
    # Forecast, rupture
    (["forecast.points=[[1e3, 9e9]]", "forecast.names=['a']"], [r"forecast\.points: number 0"]),
    (["forecast.names=['a']"], [r"forecast\.names", r"\['a'\]", "2 texts"]),
    (["forecast.names=['a', 3]"], [r"forecast\.names", "found 3", "text"]),
    (["forecast.until=10.0"], [r"forecast\.until", "found 10", "36 to 360 s"]),
    (["forecast.until=400.0"], [r"forecast\.until", "found 400", "36 to 360 s"]),
    (["rupture={uplift = 1}"], [r"rupture\.centre is missing"]),
    (["rupture.speed=0"], [r"rupture\.speed", "found 0", "positive"]),
    (["rupture.centre=[1e3]"], [r"rupture\.centre", "y and x"]),
    (["rupture.centre=[1e3, 1e3]", "rupture.width=1e3"], ["rupture: nothing moves"]),
    (["rupture.file='sea.nc:depth'"], [r"rupture\.", "beside 'file'"]),
    (["rupture={file = 'sea.nc:depth'}"], [r"rupture\.file", "dimensions", "interval"]),
    # Places
    (["output={}"], [r"output\.path is missing"]),
    (["output.path='none/a.nc'"], [r"output\.path", "no such directory"]),
    (["output.figure='a.docx'"], [r"output\.figure", "a.docx", "png"]),
    (["output.covariance='gauges.nc'"], [r"output\.covariance", "same file as output.path"]),
    (["output.journal='old.h5'"], ["old.h5", "not a journal of rows"]),
    (["title=3"], ["title", "found 3", "text"]),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "patterns"), WRONG, ids=lambda c: str(c)[:60])
def test_what_is_wrong_is_refused_by_name(overrides, patterns, refused):
    refused(settings(*overrides), *patterns)


@pytest.mark.parametrize("table", ["grid", "model", "sensors", "prior", "placement"])
def test_a_missing_table(table, folder, refused):
    parts = re.split(r"^(?=\[)", RUN_FILE, flags=re.MULTILINE)
    (folder / "run.toml").write_text("".join(p for p in parts if not p.startswith(f"[{table}]")))
    refused(["place", "run.toml"], rf"run\.toml: table \[{table}\] is missing")


@pytest.mark.parametrize("key", ["sensors.sigma", "prior.sd", "prior.length", "placement.budget"])
def test_a_missing_key(key, folder, refused):
    name = key.split(".")[1]
    text = re.sub(rf"^{name} = .*\n", "", RUN_FILE, count=1, flags=re.MULTILINE)
    (folder / "run.toml").write_text(text)
    refused(["place", "run.toml"], rf"{key} is missing".replace(".", r"\."))


def test_a_goal_needs_points(folder, refused):
    text = RUN_FILE[: RUN_FILE.index("[forecast]")] + RUN_FILE[RUN_FILE.index("[rupture]") :]
    (folder / "run.toml").write_text(text)
    refused(settings("placement.goal='forecast'"), r"placement\.goal", r"table \[forecast\]")


@pytest.mark.parametrize("command", ["run", "check"])
def test_it_is_for_another_command(command, refused):
    refused([command, "run.toml"], "run.toml", "pyadjoint-gpu place")


def test_a_result_of_something_else_is_not_drawn(folder, refused):
    save(xr.Dataset({"a": ("candidate", np.ones(3))}), folder / "a.nc")
    refused(["plot", "a.nc"], "a.nc", "not a result of a placement")
