"""Bad slip run files are refused before any sampling, by name, and leave nothing behind."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from run_files import put, save, settings
from slip_files import FIXED, RUN_FILE, stations, write

from pyadjoint_gpu.core.errors import ConfigError
from pyadjoint_gpu.runfiles.schema import read
from pyadjoint_gpu.sampling import LinearSMC

UP = "displacement_up"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write(folder)
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path) -> Path:
    for file in inputs.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


ALONE = ["sampler={}", 'output={path = "result.nc"}']
GIVEN = 'data={green = "g.nc:g", displacement = "g.nc:d", sigma = 0.1}'
PLAIN = "slip_prior={kind = 'gaussian', sd = 1.0}"
PATCHES = "fault={length = 10, width = 6, along = 3, down = 2}"
WRONG: list[tuple[list[str], list[str]]] = [
    # Names
    (["fualt=1"], ["fualt", "unknown", "'fault'"]),
    (["fault.lenght=1"], [r"fault\.lenght", "unknown", "'length'"]),
    (["fault.stirke=1"], [r"fault\.stirke", "unknown", "'strike'"]),
    (["fault.east={unifrom = [0, 1]}"], [r"fault\.east\.unifrom", "unknown", "'uniform'"]),
    (["data.insra='a.nc'"], [r"data\.insra", "unknown", "'insar'"]),
    (["slip_prior.legnth=1"], [r"slip_prior\.legnth", "unknown", "'length'"]),
    (["sampler.particels=1"], [r"sampler\.particels", "unknown", "'particles'"]),
    (["sampler.inner.leapfrog=1"], [r"sampler\.inner\.leapfrog\b", "unknown", "'leapfrogs'"]),
    (["output.pth='a'"], [r"output\.pth", "unknown", "'path'"]),
    # The fault
    (["fault.units='Pa'"], [r"fault\.units", "'Pa'", "unit of length"]),
    (["fault.length=0"], [r"fault\.length", "found 0", "positive"]),
    (["fault.along=2.5"], [r"fault\.along", "2.5", "whole number"]),
    (["fault.slips=['dip', 'sideways']"], [r"fault\.slips", "sideways", "strike, dip, tensile"]),
    (["fault.slips='dip'"], [r"fault\.slips", "'dip'", "some of"]),
    (["fault.poisson=0.7"], [r"fault\.poisson", "0.7", "at most 0.5"]),
    (["fault.north='here'"], [r"fault\.north", "'here'", "number", "normal"]),
    (["fault.north=nan"], [r"fault\.north", "nan", "number"]),
    (["fault.depth=-1.0"], [r"fault\.depth", "-1", "0 to inf"]),
    (["fault.dip=190"], [r"fault\.dip", "190", "0 to 180"]),
    (["fault.east={}"], [r"fault\.east", "none", "uniform and normal"]),
    (["fault.east.normal=[0, 1]"], [r"fault\.east", "uniform and normal", "expected one"]),
    (["fault.east={value = 1, uniform = [0, 1]}"], [r"fault\.east\.value", "unknown"]),
    (["fault.east={uniform = [3, -2]}"], [r"fault\.east\.uniform", r"\[3, -2\]", "low < high"]),
    (["fault.east={uniform = 3}"], [r"fault\.east\.uniform", "found 3", "2 numbers"]),
    (["fault.east={normal = [3, 0]}"], [r"fault\.east\.normal", r"\[3, 0\]", "sd > 0"]),
    (["fault.east={uniform = [0, 1], bounds = [0, 1]}"], [r"fault\.east\.bounds", "uniform"]),
    (["fault.depth={normal = [2, 1]}"], [r"fault\.depth", "beyond 0 to inf", r"bounds = \[0, inf"]),
    (["fault.dip={uniform = [-5, 60]}"], [r"fault\.dip", "beyond 0 to 180"]),
    # The data
    (["data={}"], ["data", "nothing", "gnss, insar or green"]),
    (["data.gnss=3"], [r"data\.gnss", "found 3", "file or a list"]),
    (["data.gnss=[]"], [r"data\.gnss", r"\[\]", "file or a list"]),
    (["data.gnss='gone.nc'"], [r"data\.gnss", "no file", "gone.nc"]),
    (["data.gnss='run.toml'"], [r"data\.gnss", "run.toml", "not a NetCDF"]),
    (["data.insar=['insar.nc', 'gnss.nc']"], [r"data\.insar\[1\]: gnss.nc", "'look_east'"]),
    (["data.gnss='inf.nc'"], [r"data\.gnss: inf.nc: displacements: 1 values are not finite"]),
    (["data.sigma=0.1"], [r"data\.sigma", "data.green"]),
    ([GIVEN.replace("sigma", "sigm")], [r"data\.sigm\b", "'sigma'"]),
    (["data.green='g.nc:g'"], [r"fault\.|data\.", "green"]),
    ([*ALONE, PATCHES, GIVEN, "data.gnss='gnss.nc'"], [r"data\.gnss", "beside data.green"]),
    ([GIVEN], ["fault.depth", "beside data.green"]),
    ([*ALONE, PATCHES.replace("3", "4"), GIVEN], [r"data\.green", r"\(4, 12\)", r"\(4, 16\)"]),
    ([*ALONE, PATCHES, GIVEN, "data.covariance='g.nc:c'"], ["both of sigma and covariance"]),
    ([*ALONE, PATCHES, GIVEN, "data.sigma=-1"], [r"data\.sigma", "found -1", "positive"]),
    ([*ALONE, PATCHES, GIVEN, "data.displacement='g.nc:e'"], [r"data\.displacement", "'e'"]),
    (
        [*ALONE, PATCHES, GIVEN, "data.displacement='g.nc:g'"],
        [r"data\.displacement", "one axis"],
    ),
    ([*ALONE, PATCHES, GIVEN, "data.green='g.nc'"], [r"data\.green", "'g.nc'", "file.nc:variable"]),
    # The prior of slip
    (["slip_prior.kind='smoth'"], [r"slip_prior\.kind", "'smoth'", "smooth"]),
    (["slip_prior={kind = 'gaussian'}"], [r"slip_prior\.sd is missing"]),
    (["slip_prior={kind = 'smooth', sd = 1}"], [r"slip_prior\.length is missing", "improper"]),
    (["slip_prior.length=inf"], [r"slip_prior\.length", "inf", "improper", "10, or less"]),
    (["slip_prior.length=1e9"], [r"slip_prior\.length", "1e\\+09", "improper"]),
    (["slip_prior.length='far'"], [r"slip_prior\.length", "'far'", "positive number"]),
    (["slip_prior.kind='gaussian'"], [r"slip_prior\.length", "of 'smooth'"]),
    (["slip_prior.sd=-1"], [r"slip_prior\.sd", "-1", "positive"]),
    (["slip_prior.sd={strike = 1}"], [r"slip_prior\.sd\.dip is missing"]),
    (["slip_prior.sd={strike = 1, dp = 1}"], [r"slip_prior\.sd\.dp", "unknown", "'dip'"]),
    (["slip_prior.bounds=[1, 0]"], [r"slip_prior\.bounds", r"\[1, 0\]", "low < high"]),
    (["slip_prior.bounds=[nan, 1]"], [r"slip_prior\.bounds", "nan", "low < high"]),
    (["slip_prior.bounds=3"], [r"slip_prior\.bounds", "found 3", "2 numbers"]),
    # The sampler
    (["sampler=3"], ["sampler", "found 3", "table"]),
    (["sampler.particles=0"], [r"sampler\.particles", "found 0", "whole number"]),
    (["sampler.seed=-1"], [r"sampler\.seed", "-1", ">= 0"]),
    (["sampler.repeats=true"], [r"sampler\.repeats", "True", "whole number"]),
    (["sampler.ess=1.0"], [r"sampler\.ess", "1.0", "between 0 and 1"]),
    (["sampler.dtype='half'"], [r"sampler\.dtype", "'half'", "float32"]),
    (["sampler.inner.leapfrogs=2.5"], [r"sampler\.inner\.leapfrogs", "2.5", "whole"]),
    (["sampler.inner.ess=2.0"], [r"sampler\.inner\.ess", "2.0", "between"]),
    (["sampler.leapfrogs=5"], [r"sampler\.leapfrogs", r"sampler\.inner\.leapfrogs"]),
    ([*FIXED, "sampler.inner.leapfrogs=5"], [r"sampler\.inner", "fixed", r"\[sampler\]"]),
    ([*FIXED, "sampler.batch=5"], [r"sampler\.batch", "unknown"]),
    # Places
    (["output={}"], [r"output\.path is missing"]),
    (["output.path='none/a.nc'"], [r"output\.path", "no such directory"]),
    (["output.journal='result.nc'"], [r"output\.journal", "same file as output.path"]),
    (["output.journal='gnss.nc'"], [r"output\.journal", "gnss.nc", r"reads \(data\.gnss\)"]),
    (["output.journal='older.nc'"], ["older.nc", "not a sampler's journal"]),
    (["title=3"], ["title", "found 3", "text"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "patterns"), WRONG, ids=lambda c: str(c)[:60])
def test_what_is_wrong_is_refused_by_name(overrides, patterns, folder, refused):
    if any("inf.nc" in o for o in overrides):
        save(put(UP, np.inf)(stations()), folder / "inf.nc")
    if any("older.nc" in o for o in overrides):
        (folder / "older.nc").write_bytes(b"an older result")
    if any("g.nc:" in o for o in overrides):
        variables = {"g": (("m", "n"), np.ones((4, 12))), "d": ("m", np.ones(4))}
        save(xr.Dataset(variables), folder / "g.nc")
    refused(settings(*overrides), *patterns)


@pytest.mark.parametrize("table", ["fault", "data", "slip_prior"])
def test_a_missing_table(table, folder, refused):
    parts = re.split(r"^(?=\[)", RUN_FILE, flags=re.MULTILINE)
    (folder / "run.toml").write_text("".join(p for p in parts if not p.startswith(f"[{table}]")))
    refused(["run", "run.toml"], rf"run\.toml: table \[{table}\] is missing")


def test_missing_geometry(folder, refused):
    (folder / "run.toml").write_text(RUN_FILE.replace("strike = 20.0\n", ""))
    refused(["run", "run.toml"], r"fault\.strike is missing", "uniform")


def test_check_is_not_for_slip(folder, refused):
    refused(["check", "run.toml"], "run.toml", "fault slip", "`pyadjoint-gpu check` does not take")


def test_a_smooth_prior_needs_a_fault(folder):
    path = folder / "g.toml"
    path.write_text(
        '[data]\ngreen = "g.nc:g"\ndisplacement = "g.nc:d"\nsigma = 1e-3\n'
        '[slip_prior]\nkind = "gaussian"\nsd = 1.0\n'
    )
    variables = {"g": (("m", "n"), np.eye(4)), "d": ("m", np.ones(4), {"units": "mm"})}
    save(xr.Dataset(variables), folder / "g.nc")
    found = read(path).build()
    assert isinstance(found.sampler, LinearSMC)
    np.testing.assert_allclose(found.sampler.data, 1e-3)
    np.testing.assert_allclose(found.sampler.noise, 1e-6)
    with pytest.raises(ConfigError, match=r"slip_prior\.kind.*needs the table \[fault\]"):
        read(path, ["slip_prior.kind=smooth", "slip_prior.length=1"]).build()
    with pytest.raises(ConfigError, match=r"slip_prior\.sd: found a table"):
        read(path, ["slip_prior.sd={dip = 1}"]).build()
