"""Fault slip from GNSS and InSAR files to samples, by run files and in Python."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import xarray as xr
from run_files import put, settings, unit
from slip_files import (
    FAULT,
    FIXED,
    LOOK,
    LOOKS,
    POINTS,
    correlated,
    green,
    pixels,
    seen,
    stations,
    write,
)

from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.geophysics import Fault, slip_data
from pyadjoint_gpu.geophysics.faults import GEOMETRY
from pyadjoint_gpu.runfiles.sampling_run import run, summary
from pyadjoint_gpu.runfiles.schema import read
from pyadjoint_gpu.sampling import (
    HierarchicalSMC,
    LinearSMC,
    SamplingWarning,
    Settings,
    journal,
)
from pyadjoint_gpu.sampling.hierarchical import OWN
from pyadjoint_gpu.sampling.options import RESERVED
from pyadjoint_gpu.statistics import Matern
from pyadjoint_gpu.statistics.noise import Layout


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write(folder)
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in inputs.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def done(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xr.Dataset]:
    """The folder of a run, and its result."""
    folder = tmp_path_factory.mktemp("done")
    for file in inputs.iterdir():
        shutil.copy(file, folder)
    assert main(["run", str(folder / "run.toml")]) == 0
    return folder, load(folder / "result.nc")


def load(path: Path) -> xr.Dataset:
    return xr.load_dataset(path, engine="h5netcdf")


def test_names_of_results_are_those_that_no_unknown_may_have(done):
    names = {str(n) for n in (*done[1].variables, *done[1].dims)}
    assert names - {*GEOMETRY} <= {*RESERVED, *OWN}


# Priors


def covariance(fault: Fault, sd: Any, length: float) -> np.ndarray:
    return np.asarray(Matern(sd, length).on(fault.space).covariance(np.eye(fault.components)))


def test_a_smooth_prior_has_its_standard_deviation_everywhere():
    kinds = np.repeat([0.3, 2.0], 20)
    c = covariance(Fault(10.0, 6.0, along=5, down=4), kinds, 3.0)
    np.testing.assert_allclose(np.sqrt(np.diag(c)), kinds, rtol=1e-9)
    assert np.all(c[:20, 20:] == 0)
    assert np.all(c[:20, :20] > 0)


def test_correlation_is_the_same_on_finer_patches_and_that_of_matern():
    """From the fault's middle along the strike; far from the edges."""
    length, r = 3.0, np.array([2.5, 5.0])
    found = []
    for n in (16, 32):
        fault = Fault(40.0, 20.0, along=n, down=n // 2, slips=("dip",))
        c = covariance(fault, 1.0, length).reshape(n, n // 2, n, n // 2)
        found.append(c[n // 2, n // 4, n // 2 + (r * n / 40.0).astype(int), n // 4])
    matern = r / length * scipy.special.k1(r / length)
    np.testing.assert_allclose(found[0], matern, atol=0.02)
    np.testing.assert_allclose(found[1], matern, atol=0.02)


@pytest.mark.parametrize("patches", [(1, 6), (7, 1), (1, 1)])
def test_smooth_slip_of_one_row_has_the_covariance_of_the_formula(patches: tuple[int, int]):
    """sd_i sd_j C_ij / (C_ii C_jj)^(1/2), C = (1 / length^2 - Laplacian)^-2, one kind at a time."""
    fault, length = Fault(10.0, 6.0, *patches), 3.0
    size = math.prod(patches)
    cells, laplacian = np.arange(size).reshape(patches), np.zeros((size, size))
    for axis, h in enumerate((10.0 / patches[0], 6.0 / patches[1])):
        low = np.take(cells, range(patches[axis] - 1), axis=axis).ravel()
        high = np.take(cells, range(1, patches[axis]), axis=axis).ravel()
        for a, b in ((low, high), (high, low)):
            np.add.at(laplacian, (a, a), -1.0 / h**2)
            np.add.at(laplacian, (a, b), 1.0 / h**2)
    root = np.linalg.inv(np.eye(size) / length**2 - laplacian)
    c = root @ root
    one = c / np.sqrt(np.outer(np.diag(c), np.diag(c)))
    sd = np.linspace(0.5, 2.0, 2 * size)
    expected = np.kron(np.eye(2), one) * np.outer(sd, sd)
    np.testing.assert_allclose(covariance(fault, sd, length), expected, atol=1e-10)


# Data


def test_stacked_data_are_what_they_were():
    both = slip_data(stations(), [pixels(), correlated(pixels())], units="km")
    assert len(both) == 15 + 7 + 7
    again = np.r_[:22, 15:22]
    np.testing.assert_allclose(both.displacement, seen()[again], rtol=1e-12)
    np.testing.assert_allclose(both.points, POINTS[again], rtol=1e-12)
    np.testing.assert_allclose(both.look, LOOKS[again], rtol=1e-12)
    covariance = both.noise.errors(Layout(29)).toarray()
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(sd, np.repeat([0.02, 0.03], [15, 14]))
    assert covariance[22, 23] == pytest.approx(9e-4 / np.e)
    assert np.all(covariance[:22, 22:] == 0)
    plain = slip_data(stations(), pixels(), units="km")
    np.testing.assert_allclose(plain.errors, sd[:22])
    metres = slip_data(stations())
    np.testing.assert_allclose(metres.points, 1e3 * plain.points[:15])


def test_the_vertical_may_be_missing():
    flat = slip_data(stations().drop_vars(["displacement_up", "displacement_up_sigma"]), units="km")
    whole = slip_data(stations(), units="km")
    keep = np.arange(15) % 3 < 2
    np.testing.assert_array_equal(flat.displacement, whole.displacement[keep])
    np.testing.assert_array_equal(flat.look, whole.look[keep])


def long(name: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda data: data.assign({name: ("other", np.ones(3))})


LOS, UP = "displacement_los", "displacement_up"
SPOILT: list[tuple[str, Callable[[xr.Dataset], Any], str]] = [
    ("gnss", put(UP, np.inf), "displacements: 1 values are not finite"),
    ("gnss", put("x", np.inf), "'x': 1 values are not finite"),
    ("gnss", put(f"{UP}_sigma", -1.0), r"'displacement_up_sigma': found -0.001, expected.* > 0"),
    ("gnss", put(f"{UP}_sigma", 0.0), "'displacement_up_sigma': found 0"),
    ("gnss", unit(UP, "Pa"), "'displacement_up' is in 'Pa', expected 'm'"),
    ("gnss", unit("x", "degrees_east"), "'x' is in 'degrees_east', expected 'km'"),
    ("gnss", unit(f"{UP}_sigma", "s"), "'displacement_up_sigma' is in 's'"),
    (
        "gnss",
        lambda d: d.drop_vars("displacement_east"),
        "no variable 'displacement_east'; did you",
    ),
    ("gnss", lambda d: d.drop_vars(f"{UP}_sigma"), "no variable 'displacement_up_sigma'"),
    (
        "gnss",
        lambda d: d.rename({UP: "displacement_upp"}),
        "unknown variable 'displacement_upp'; d",
    ),
    ("gnss", lambda d: d.rename(x="lon", y="lat"), "no variable 'x'"),
    ("gnss", long("displacement_up"), r"'displacement_up' has the dimensions \(other\), expected"),
    ("gnss", lambda d: d.isel(station=slice(0)), "'x' is empty"),
    ("gnss", lambda d: 3, "found int, expected an xarray.Dataset"),
    ("insar", put("look_up", 0.5), "look vector of pixel 2 .* is 0.789.* expected a unit vector"),
    ("insar", put("look_east", np.nan), "'look_east': 1 values are not finite"),
    ("insar", put(LOS, -np.inf), "displacements: 1 values are not finite"),
    ("insar", lambda d: d.assign({LOS: d[LOS] * np.nan}), "none of 7 values is observed"),
    ("insar", lambda d: d.drop_vars("look_up"), "no variable 'look_up'; did you mean"),
    ("insar", lambda d: d.drop_vars(f"{LOS}_sigma"), "neither 'displacement_los_sigma' nor"),
    ("insar", lambda d: d.assign(correlated(d)), "both 'displacement_los_sigma' and"),
    ("insar", lambda d: put(f"{LOS}_covariance", 1.0)(correlated(d)), "is not symmetric"),
    ("insar", lambda d: -correlated(d), "covariance.* not positive definite"),
    ("insar", lambda d: unit(f"{LOS}_covariance", "m")(correlated(d)), "is in 'm', expected 'm2'"),
    ("insar", lambda d: d.expand_dims("time"), r"dimensions \(time, pixel\)"),
]


@pytest.mark.parametrize(("kind", "change", "match"), SPOILT)
def test_data_that_cannot_be_are_refused_by_name(kind, change, match):
    spoilt = change({"gnss": stations, "insar": pixels}[kind]())
    given = [spoilt] if kind == "insar" else [spoilt, stations()]
    where = "insar: " if kind == "insar" else r"gnss\[0\]: "
    with pytest.raises(DataError, match=f"^{where}.*{match}"):
        slip_data(**{kind: given}, units="km")


def test_no_data():
    with pytest.raises(DataError, match="neither gnss nor insar"):
        slip_data()


# Run files


def test_a_run_file_makes_the_samples_of_the_python_api(done):
    _, result = done
    data = slip_data(stations(), pixels(), units="km")
    smc = HierarchicalSMC(
        FAULT.forward(data.points, data.look, north=-2.0, depth=1.5, strike=20.0),
        data.displacement,
        data.noise,
        Matern(0.5, 4.0),
        {"east": scipy.stats.uniform(-2.0, 5.0), "dip": scipy.stats.truncnorm(-5, 5, 55.0, 3.0)},
        particles=8,
        moves=1,
        batch=8,
        inner=Settings(particles=32, moves=1, leapfrogs=2),
    )
    with pytest.warns(SamplingWarning):
        expected = smc.run(seed=3, progress=False)
    for name in expected.data_vars:
        np.testing.assert_array_equal(result[name], expected[name], err_msg=name)
    assert result.attrs["log_evidence"] == expected.attrs["log_evidence"]
    # And what they predict.
    total = np.zeros(22)
    for k in range(8):
        at = {name: float(result[name][0, k]) for name in ("east", "dip")}
        total += green(**at) @ result["slip"].values[0, k].mean(axis=0)
    np.testing.assert_allclose(result["predicted"], total / 8, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result["residual"], result["observed"] - result["predicted"])
    chi2 = np.mean((result["residual"] / result["sigma"]) ** 2)
    assert result.attrs["chi2"] == pytest.approx(float(chi2))


def test_runs_count_by_their_evidence_in_what_is_told(folder):
    case = read(folder / "run.toml", ["sampler.repeats=2"]).build()
    result = run(case, progress=False)
    weights, total = result["weight"].values, np.zeros(22)
    assert weights.min() < 0.9 < 1.1 < weights.max()  # that they matter
    for c, k in np.ndindex(2, 8):
        at = {name: float(result[name][c, k]) for name in ("east", "dip")}
        s = result["slip"].values[c, k].mean(axis=0)
        total += weights[c] / 16.0 * (green(**at) @ s)
    np.testing.assert_allclose(result["predicted"], total, rtol=1e-9, atol=1e-12)
    east = weights @ result["east"].values.mean(axis=1) / 2.0
    (said,) = (line for line in summary(result) if line.startswith("east "))
    assert float(said.split()[1]) == pytest.approx(east, rel=0.05)
    assert result.attrs["message"].startswith("2 runs of 8 samples of east, dip and 12 components")


def test_a_result_says_what_it_is_of(done):
    folder, result = done
    assert {p.name for p in folder.iterdir()} == {
        "run.toml", "gnss.nc", "insar.nc", "result.nc", "result.h5"
    }  # fmt: skip
    assert result.attrs["title"] == "A small earthquake"
    assert result.attrs["status"] == "done"
    assert re.fullmatch("[0-9a-f]{64}", result.attrs["inputs_sha256"])
    assert '"uniform": [-2.0, 3.0]' in result.attrs["config_json"]
    for name in result.data_vars:
        assert result[name].attrs.get("units") and result[name].attrs.get("long_name"), name
    assert result["east"].attrs["units"] == "km" and result["dip"].attrs["units"] == "degree"
    assert result["slip"].attrs["units"] == "m"
    assert float(result["north"]) == -2.0 and result["east"].dims == ("chain", "draw")
    maps = result["slip_mean"].set_index(component=["slip_kind", "along", "down"]).unstack()
    np.testing.assert_allclose(maps["along"], [-10 / 3, 0.0, 10 / 3], atol=1e-12)
    np.testing.assert_allclose(maps["down"], [1.5, 4.5])
    flat = maps.sel(slip_kind=["strike", "dip"]).transpose("slip_kind", "along", "down")
    np.testing.assert_array_equal(flat.values.ravel(), result["slip_mean"])
    np.testing.assert_allclose(result["look_up"][15:], LOOK[2])


def test_what_is_printed(done, folder, capsys):
    """Another run goes through the finished journal, and says the same."""
    shutil.copy(done[0] / "result.h5", folder)
    assert main(["run", "run.toml"]) == 0
    printed, warned = capsys.readouterr()
    lines = printed.splitlines()
    assert lines[0].startswith("done: 8 samples of east, dip and 12 components of slip, ")
    assert re.fullmatch(r"ln Z -?[\d.]+ \+- [\d.]+ \(one run; sampler.repeats = .*\)", lines[1])
    assert re.fullmatch(r"east -?[\d.]+ \+- [\d.]+ km", lines[2])
    assert re.fullmatch(r"dip [\d.]+ \+- [\d.]+ degree", lines[3])
    assert lines[4].startswith("strike slip: means ") and lines[5].startswith("dip slip: means ")
    assert lines[6].startswith("mean prediction: chi2 ")
    assert lines[7:] == ["wrote result.nc"]
    assert warned.startswith("pyadjoint-gpu: warning: ")
    assert all(line.startswith("pyadjoint-gpu: warning: ") for line in warned.splitlines())
    same(load(folder / "result.nc"), done[1])


def same(a: xr.Dataset, b: xr.Dataset) -> None:
    assert set(a.variables) == set(b.variables)
    for name in a.variables:
        np.testing.assert_array_equal(a[name], b[name], err_msg=str(name))
        assert a[name].attrs == b[name].attrs
    different = {k for k in {*a.attrs, *b.attrs} if a.attrs.get(k) != b.attrs.get(k)}
    assert different <= {"history", "created_at", "wall_time"}


def test_an_interrupted_run_goes_on(done, folder, capsys, monkeypatch):
    whole, calls = journal.States.save, []

    def killed(*arguments):
        whole(*arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(journal.States, "save", killed)
    assert main(["run", "run.toml"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("goes on from result.h5")
    assert not (folder / "result.nc").exists()
    begun = (folder / "result.h5").read_bytes()
    assert main(["run", "run.toml", "--dry-run"]) == 0
    assert re.search(
        r"would go on from result\.h5, which has 1 of 1 runs, the last at gamma = 0\.\d+\n",
        capsys.readouterr().out,
    )
    assert main(["run", "run.toml", "--dry-run", "--set", "sampler.seed=4"]) == 2
    assert "made with other inputs than now: other seed;" in capsys.readouterr().err
    assert main(["run", "run.toml", "--dry-run", "--overwrite", "--set", "sampler.seed=4"]) == 0
    assert (folder / "result.h5").read_bytes() == begun
    capsys.readouterr()
    # What else may be done with its journal.
    assert main(["resume", "result.h5"]) == 2
    assert "`pyadjoint-gpu run` with its run file goes on" in capsys.readouterr().err
    assert main(["run", "run.toml"]) == 0
    same(load(folder / "result.nc"), done[1])
    assert main(["run", "run.toml", "-o", "other.nc", "--set", "sampler.seed=4"]) == 2
    assert (
        "result.h5: a sampler's journal made with other inputs than now: other seed;"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_fixed_geometry_and_bounds(folder, capsys):
    bounds = ["slip_prior.kind=gaussian", "slip_prior.sd={strike = 0.5, dip = 1.0}",
              "slip_prior.bounds={strike = [-inf, inf], dip = [0.0, inf]}"]  # fmt: skip
    arguments = settings(*FIXED, *bounds)
    text = (folder / "run.toml").read_text().replace("length = 4.0\n", "")
    (folder / "run.toml").write_text(text)
    assert main([*arguments, "-o", "other.nc"]) == 0
    assert re.search(r"ln Z -?[\d.]+ \+- [\d.]+\n", capsys.readouterr().out)
    result = load(folder / "other.nc")
    data = slip_data(stations(), pixels(), units="km")
    low, sd = np.repeat([-np.inf, 0.0], 6), np.repeat([0.5, 1.0], 6)
    high = np.full(12, np.inf)
    smc = LinearSMC(
        green(), data.displacement, data.noise, sd, (low, high), Settings(particles=64)
    )  # fmt: skip
    expected = smc.run(seed=3, repeats=2)
    # G comes from another compilation.
    np.testing.assert_allclose(result["slip"], expected["slip"], rtol=1e-6, atol=1e-9)
    # By a journal.
    assert main([*arguments, "--set", "output.journal='fixed.h5'"]) == 0
    same(load(folder / "result.nc").drop_attrs(), result.drop_attrs())
    assert main([*arguments, "--set", "output.journal='fixed.h5'", "--dry-run"]) == 0
    assert "fixed.h5, which has 2 of 2 runs, the last at gamma = 1" in capsys.readouterr().out
    assert result["slip"].values[..., 6:].min() >= 0 > result["slip"].values[..., :6].min()
    np.testing.assert_allclose(result["predicted"], green() @ result["slip_mean"].values)
    assert float(result["dip"]) == 55.0


@pytest.mark.slow
def test_the_published_case(tmp_path, capsys):
    """Nine patches, 108 data, from the file with its G: ln Z of the closed form."""
    folder = os.environ.get("PYADJOINT_GPU_DATA", "../shared/data")
    path = Path(folder, "slip_patch9.nc").resolve()
    if not path.exists():
        pytest.skip(f"{path} is not there (PYADJOINT_GPU_DATA says where data are)")
    (tmp_path / "run.toml").write_text(
        f'[data]\ngreen = "{path}:green"\ndisplacement = "{path}:displacement"\n'
        f'covariance = "{path}:displacement_covariance"\n'
        '[slip_prior]\nkind = "gaussian"\nsd = 0.5\n'
        '[sampler]\nseed = 1\nrepeats = 4\nparticles = 300\n[output]\npath = "nine.nc"\n'
    )
    assert main(["run", str(tmp_path / "run.toml")]) == 0
    found = load(tmp_path / "nine.nc")
    with xr.open_dataset(path, engine="h5netcdf") as file:
        g, d, c = (file[k].values for k in ("green", "displacement", "displacement_covariance"))
    smc = LinearSMC(g, d, c, np.full(18, 0.5), settings=Settings(particles=300))
    same_samples = smc.run(seed=1, repeats=4)["slip"]
    np.testing.assert_array_equal(found["slip"], same_samples)
    assert found.attrs["log_evidence"] == pytest.approx(413.60014, abs=0.8)
    assert "of 18 components of slip" in capsys.readouterr().out


@pytest.mark.parametrize(
    "spoil",
    [
        put(LOS, np.nan),
        put(f"{LOS}_sigma", np.inf),
        put(f"{LOS}_sigma", np.nan),
        lambda d: correlated(put(LOS, np.nan)(d)),
    ],
)
def test_displacements_that_are_missing_are_not_observed(spoil):
    """Those of one pixel, the third; errors of the others stay as they are."""
    whole = correlated(pixels()) if f"{LOS}_covariance" in spoil(pixels()) else pixels()
    kept = np.arange(len(pixels()["x"])) != 2
    found, expected = slip_data((), spoil(pixels()), units="km"), slip_data((), whole, units="km")
    assert (len(found), found.missing, expected.missing) == (6, 1, 0)
    for name in ("points", "look", "displacement"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[kept])
    noise, every = (one.noise.errors(Layout(len(one))) for one in (found, expected))
    if noise.ndim == 2:
        noise, every = noise.toarray(), every.toarray()[:, kept]
    np.testing.assert_array_equal(noise, every[kept])
    assert (slip_data(stations(), units="km") + found).missing == 1


@pytest.mark.slow
def test_a_run_says_what_is_missing(folder, capsys):
    """The sampler's result says so, and the command line."""
    spoilt = put(LOS, np.nan)(pixels())
    spoilt.to_netcdf("insar.nc", engine="h5netcdf")
    assert main(settings(*FIXED)) == 0
    assert re.search(r"per datum, 21 data, 1 more missing\n", capsys.readouterr().out)
    result = load(folder / "result.nc")
    assert (result.attrs["observed_used"], result.attrs["observed_missing"]) == (21, 1)
    assert result.sizes["observation"] == 21
