"""With the core dependencies only: what needs an extra says which, before anything is solved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import placement_files
import pytest
import xarray as xr
from run_files import ENVIRONMENT, everything, settings
from slip_files import FIXED, write

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main

EXTRAS = ("matplotlib", "arviz", "mpi4py", "diffrax", "optax", "blackjax", "flowjax", "arviz_stats")
ON_USE = ("pyadjoint_gpu.__main__", "pyadjoint_gpu.sampling.flow.network")
"""Modules that are imported on use only: the command, and layers made of an extra's classes."""
NEEDS = r"matplotlib.*pip install 'pyadjoint_gpu\[plots\]'"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no extra was installed."""
    for name in {*EXTRAS, *(m for m in sys.modules if m.partition(".")[0] in EXTRAS)}:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def place(folder: Path) -> None:
    (folder / "run.toml").write_text(placement_files.BARE)


@pytest.fixture
def slip(folder: Path) -> None:
    write(folder)


@pytest.mark.slow
def test_every_module_can_be_imported():
    code = f"""
import importlib, pkgutil, sys
for name in {EXTRAS}:
    sys.modules[name] = None
import pyadjoint_gpu
for module in pkgutil.walk_packages(pyadjoint_gpu.__path__, "pyadjoint_gpu."):
    if module.name not in {ON_USE}:
        importlib.import_module(module.name)
for name in pyadjoint_gpu.__all__:
    getattr(pyadjoint_gpu, name)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_run_without_a_figure(bare: None, folder: Path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["check", "run.toml", "--dry-run"]) == 0
    assert main(["run", "run.toml"]) == 1
    assert main(["resume", "result.h5", "-o", "again.nc"]) == 1
    assert main(["doctor"]) == 0
    printed, errors = capsys.readouterr()
    assert "pip install 'pyadjoint_gpu[plots]'" in printed
    assert "error" not in errors
    result = xr.load_dataset(folder / "again.nc", engine="h5netcdf")
    for draw in (result.pag.plot, lambda: result.pag.plot("figure.png")):
        with pytest.raises(pag.EngineError, match=NEEDS):
            draw()
    before = everything(folder)
    assert main(["plot", "again.nc"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("pyadjoint-gpu: error: --output: figures need matplotlib")
    assert line.count("\n") == 1
    assert everything(folder) == before


def test_a_figure_is_refused_before_a_run(bare: None, refused):
    refused(settings("output.figure=result.png"), NEEDS)


def test_a_figure_is_refused_before_a_placement(bare: None, place: None, refused):
    refused(["place", "run.toml", "--set", "output.figure=gauges.png"], NEEDS)


def test_a_figure_is_refused_before_sampling(bare: None, slip: None, refused):
    changes = [*FIXED, 'output={path = "slip.nc", figure = "slip.png"}']
    refused(settings(*changes), NEEDS)


def test_arviz_is_named(bare: None):
    with pytest.raises(pag.EngineError, match=r"pip install 'pyadjoint_gpu\[arviz\]'"):
        xr.Dataset().pag.to_arviz()
