"""The command line, from a run file to a result and back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from run_files import COMMAND, ENVIRONMENT, SHARED_TABLES, noted, process, save

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main

RUN_FILE = (
    """\
title = "Doublet"

[grid]
shape = [8, 12]
extent = [1.0, 1.5]
origin = [0.0, -0.75]

[model]
name = "darcy"
wells = [{position = [0.5, -0.4], rate = 1.0}, {position = [0.5, 0.4], rate = -1.0}]

"""
    + SHARED_TABLES
    + """\
[penalty.permeability]
weight = 1e-3
length = 0.1

[solver]
tolerance = 1e-10

[inversion]
max_iterations = 3

[output]
path = "result.nc"
journal = "result.h5"
figure = "result.png"
"""
)
PNG = b"\x89PNG\r\n\x1a\n"
HDF5 = b"\x89HDF\r\n\x1a\n"


def write_inputs(folder: Path) -> Path:
    """The run file and the data of a permeability that differs from its start."""
    points = [(0.2, -0.5), (0.9, -0.3), (0.4, 0.0), (0.7, 0.2), (0.1, 0.5), (0.6, 0.7)]
    grid = pag.Grid((8, 12), (1.0, 1.5), (0.0, -0.75))
    model = pag.models.Darcy(grid, [pag.Well((0.5, -0.4), 1.0), pag.Well((0.5, 0.4), -1.0)])
    true = np.exp(np.sin(3.0 * grid.centers[0])[:, None] * grid.centers[1])
    data = pag.synthetic.observe(model, {"permeability": true}, points)
    save(data, folder / "observations.nc")
    path = folder / "run.toml"
    path.write_text(RUN_FILE)
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """The folder of a run, and how it went as a process of its own."""
    folder = tmp_path_factory.mktemp("done")
    write_inputs(folder)
    return folder, process(folder, "run", "run.toml")


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working folder with the inputs."""
    for file in inputs.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(path: Path) -> xr.Dataset:
    return xr.load_dataset(path, engine="h5netcdf")


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Bit for bit, all but times."""
    assert set(found.variables) == set(expected.variables)
    for name in set(expected.variables) - {"wall_time"}:
        a, b = found[name], expected[name]
        assert a.dims == b.dims, name
        assert a.dtype == b.dtype, name
        assert a.values.tobytes() == b.values.tobytes(), name
        assert a.attrs == b.attrs, name
    different = {k for k in expected.attrs if found.attrs.get(k) != expected.attrs[k]}
    assert different <= {"history", "created_at"}
    assert set(found.attrs) == set(expected.attrs)


# run


def test_run_says_how_it_went(done: tuple[Path, subprocess.CompletedProcess]):
    folder, ended = done
    assert noted(ended.stderr) == ""
    status = load(folder / "result.nc").attrs["status"]
    assert status == "max_iterations"
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"{status}: ")
    assert "wrote result.nc" in ended.stdout
    assert "wrote result.png" in ended.stdout


def test_run_leaves_what_was_asked_for(done: tuple[Path, subprocess.CompletedProcess]):
    folder, _ = done
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "run.toml", "observations.nc", "result.nc", "result.h5", "result.png"
    }  # fmt: skip
    assert (folder / "result.nc").read_bytes().startswith(HDF5)
    assert (folder / "result.h5").read_bytes().startswith(HDF5)
    assert (folder / "result.png").read_bytes().startswith(PNG)


HISTORY = (
    "objective",
    "misfit",
    "penalty",
    "gradient_norm",
    "step_length",
    "evaluations",
    "forward_iterations",
    "adjoint_iterations",
    "wall_time",
)
ATTRIBUTES = (  # and seed, where numbers were drawn: an inversion draws none
    "Conventions",
    "title",
    "source",
    "history",
    "created_at",
    "status",
    "message",
    "pyadjoint_gpu_version",
    "engine",
    "engine_version",
    "device",
    "dtype",
    "ranks",
    "config_json",
    "inputs_sha256",
)


def test_result(done: tuple[Path, subprocess.CompletedProcess]):
    result = load(done[0] / "result.nc")
    assert dict(result.sizes) == {
        "y": 8, "x": 12, "y_face": 9, "x_face": 13, "observation": 6, "iteration": 4
    }  # fmt: skip
    cells = (
        "permeability", "permeability_initial", "permeability_gradient", "porosity", "pressure"
    )  # fmt: skip
    for name in cells:
        assert result[name].dims == ("y", "x"), name
    assert result["flux_x"].dims == ("y", "x_face")
    assert result["flux_y"].dims == ("y_face", "x")
    for name in ("observed", "predicted", "residual"):
        assert result[name].dims == ("observation",), name
    np.testing.assert_allclose(result["residual"], result["observed"] - result["predicted"])
    for name in HISTORY:
        assert result[name].dims == ("iteration",), name
    assert np.all(np.diff(result["objective"]) < 0)
    np.testing.assert_allclose(result["objective"], result["misfit"] + result["penalty"])
    np.testing.assert_allclose(result["x"], -0.6875 + 0.125 * np.arange(12))
    np.testing.assert_allclose(result["y_face"], 0.125 * np.arange(9))
    for name in ("x_face", "y_face"):
        assert result[name].attrs["c_grid_axis_shift"] == -0.5
    for name, variable in result.variables.items():
        assert np.all(np.isfinite(variable.values)), name
        assert variable.attrs.get("units"), name
        assert variable.attrs.get("long_name"), name


def test_attributes(done: tuple[Path, subprocess.CompletedProcess]):
    attributes = load(done[0] / "result.nc").attrs
    assert set(ATTRIBUTES) <= set(attributes)
    assert attributes["Conventions"] == "CF-1.11"
    assert attributes["title"] == "Doublet"
    assert attributes["engine"] == "embedded"
    assert attributes["pyadjoint_gpu_version"] == pag.__version__
    assert re.fullmatch("[0-9a-f]{64}", attributes["inputs_sha256"])


def test_run_to_convergence(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "run.toml", "--set", "inversion.tolerance=0.9"]) == 0
    printed, errors = capsys.readouterr()
    assert printed.startswith("converged: ")
    assert noted(errors) == ""
    assert load(folder / "result.nc").attrs["status"] == "converged"


@pytest.mark.slow
def test_output_option(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "run.toml", "-o", "other.nc"]) == 1
    assert "wrote other.nc" in capsys.readouterr().out
    assert load(folder / "other.nc").attrs["title"] == "Doublet"
    assert not (folder / "result.nc").exists()


@pytest.mark.slow
def test_set(folder: Path, capsys: pytest.CaptureFixture[str]):
    changes = ["title=Two steps", "inversion.max_iterations=2", 'inversion.method="TNC"',
               "controls.permeability.initial=2.0", "parameters={}"]  # fmt: skip
    assert main(["run", "run.toml", *(a for c in changes for a in ("--set", c))]) == 1
    result = load(folder / "result.nc")
    assert result.attrs["title"] == "Two steps"
    assert result.sizes["iteration"] == 3
    assert np.all(result["permeability_initial"] == 2.0)
    assert "porosity" not in result
    assert "TNC" in result.attrs["history"]


def test_paths_are_relative_to_the_run_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["run", "../run.toml", "--set", "inversion.max_iterations=1"]) == 1
    assert list(Path().iterdir()) == []
    assert (folder / "result.nc").is_file()


def test_a_result_is_replaced(folder: Path):
    (folder / "result.nc").write_bytes(b"an older result")
    assert main(["run", "run.toml", "--set", "inversion.max_iterations=1"]) == 1
    assert load(folder / "result.nc").sizes["iteration"] == 2


def test_no_convergence_of_the_first_solve(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = {p.name for p in folder.iterdir()}
    assert main(["run", "run.toml", "--set", "solver.max_iterations=1"]) == 1
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert re.fullmatch("pyadjoint-gpu: error: .*forward solve.*max_iterations.*\n", errors)
    assert {p.name for p in folder.iterdir()} == before


# check


def test_check(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = {p.name for p in folder.iterdir()}
    assert main(["check", "run.toml"]) == 0
    printed, errors = capsys.readouterr()
    assert "Taylor test: passed" in printed
    assert re.search("^adjoint test: passed", printed, re.MULTILINE | re.IGNORECASE)
    assert noted(errors) == ""
    assert {p.name for p in folder.iterdir()} == before


@pytest.mark.slow
def test_check_of_an_unusable_problem_fails(folder: Path, capsys: pytest.CaptureFixture[str]):
    """So few digits of J tell nothing about its gradient."""
    settings = ["check", "run.toml", "--set", "solver.method=pseudo-transient", "--set"]
    assert main([*settings, "solver.tolerance=0.1"]) == 1
    assert "FAILED" in capsys.readouterr().out


# resume


@pytest.mark.slow
def test_resume_gives_the_run_again(
    done: tuple[Path, subprocess.CompletedProcess], tmp_path: Path
):  # fmt: skip
    folder, first = done
    (tmp_path / "result.h5").write_bytes((folder / "result.h5").read_bytes())
    ended = process(tmp_path, "resume", "result.h5")
    assert noted(ended.stderr) == ""
    assert ended.returncode == first.returncode
    assert ended.stdout.splitlines()[0] == first.stdout.splitlines()[0]
    assert_same(load(tmp_path / "result.nc"), load(folder / "result.nc"))


@pytest.mark.slow
def test_resume_goes_on_as_if_never_stopped(folder: Path):
    assert main(["run", "run.toml", "-o", "whole.nc", "--set", "inversion.max_iterations=4"]) == 1
    assert main(["run", "run.toml", "--set", "inversion.max_iterations=2"]) == 1
    assert main(["resume", "result.h5", "--max-iterations", "4", "-o", "resumed.nc"]) == 1
    assert_same(load(folder / "resumed.nc"), load(folder / "whole.nc"))


# plot


@pytest.mark.slow
def test_plot(
    done: tuple[Path, subprocess.CompletedProcess],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
):
    (folder / "run.nc").write_bytes((done[0] / "result.nc").read_bytes())
    assert main(["plot", "run.nc"]) == 0
    assert capsys.readouterr().out == "wrote run.png\n"
    assert (folder / "run.png").read_bytes().startswith(PNG)
    assert main(["plot", "run.nc", "-o", "figure.pdf"]) == 0
    assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF")


# The rest


def test_doctor(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "engine 'auto'" in printed
    assert "embedded" in printed
    assert pag.__version__ in printed


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pyadjoint_gpu {pag.__version__}\n"


def test_help(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for command in ("run", "check", "resume", "plot", "doctor"):
        assert re.search(rf"^ +{command} ", printed, re.MULTILINE)
    assert "Exit codes" in printed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["rnu", "run.toml"], "'rnu'"),
        (["run"], "CONFIG"),
        (["run", "run.toml", "--sett", "a=1"], "--sett"),
        (["resume", "run.h5", "--max-iterations", "many"], "'many'"),
    ],
)
def test_wrong_usage(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.splitlines()[-1].startswith("pyadjoint-gpu")
    assert named in errors.splitlines()[-1]


def test_a_reader_that_has_seen_enough():
    """As in ``pyadjoint-gpu schema | head``: no traceback."""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([*COMMAND, "schema"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def packages(*arguments: str) -> set[str]:
    """Names of all modules that ``python ARGUMENTS`` imports."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return set(re.findall(r"^import time: .*\| +(\S+)$", ended.stderr, re.MULTILINE))


def test_help_imports_next_to_nothing():
    found = packages("-m", "pyadjoint_gpu", "--help")
    assert "pyadjoint_gpu.cli" in found
    assert not found & {"jax", "jaxlib", "numpy", "scipy", "xarray", "h5py", "matplotlib"}


def test_the_package_imports_nothing_heavy():
    found = packages("-c", "import pyadjoint_gpu")
    assert "pyadjoint_gpu.plots.accessor" in found
    heavy = {"jax", "jaxlib", "numpy", "pandas", "xarray", "scipy", "h5py", "matplotlib", "tqdm"}
    assert not found & heavy
    # Processor time: others may use the machine.
    code = (
        "import time; t = time.process_time(); import pyadjoint_gpu; print(time.process_time() - t)"
    )
    command = [sys.executable, "-c", code]
    times = [float(subprocess.check_output(command)) for _ in range(3)]
    assert min(times) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import pyadjoint_gpu, xarray",
        "import xarray, pyadjoint_gpu",
        "import pyadjoint_gpu; from xarray import core; import xarray",
        "import pyadjoint_gpu; pyadjoint_gpu.Grid; import xarray",
    ],
)
def test_datasets_have_the_accessor(imports: str, tmp_path: Path):
    """In either order; also in a module that is run by ``python -m``, as the command line is."""
    code = f"{imports}\nprint(type(xarray.Dataset().pag).__name__, xarray.__spec__.loader.name)"
    (tmp_path / "mycase.py").write_text(code)
    for arguments in (["-c", code], ["-m", "mycase"], ["mycase.py"]):
        command = [sys.executable, "-W", "error", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert ended.stderr == ""
        assert ended.stdout == "PagAccessor xarray\n"


@pytest.mark.slow
def test_the_installed_command(done: tuple[Path, subprocess.CompletedProcess], tmp_path: Path):
    """The script that pip installs starts otherwise than ``python -m``."""
    script = Path(sys.executable).with_name("pyadjoint-gpu")
    if not script.exists():
        pytest.skip("the package is not installed with its script")
    (tmp_path / "result.h5").write_bytes((done[0] / "result.h5").read_bytes())
    ended = subprocess.run(
        [script, "resume", "result.h5"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert noted(ended.stderr) == ""
    assert ended.returncode == 1
    assert (tmp_path / "result.nc").read_bytes().startswith(HDF5)
