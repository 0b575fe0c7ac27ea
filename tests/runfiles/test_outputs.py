"""What runs write: never over what they read, never a poorer result over a better one; whatever
cannot be written is known before anything is solved."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from placement_files import BARE
from run_files import RUN_FILE, everything, fields, save, settings
from run_files import observations as wells
from slip_files import RUN_FILE as SLIP
from slip_files import pixels, stations

from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.core.outputs import check_outputs, inputs
from pyadjoint_gpu.problem.problem import Problem

KINDS = {
    "inversion": (RUN_FILE, ["run", "run.toml"]),
    "slip": (SLIP, ["run", "run.toml"]),
    "placement": (BARE, ["place", "run.toml"]),
}
SPOILT = [
    # Over what is read
    ("inversion", "output.path=observations.nc", [r"output\.path", r"reads \(misfit\.obs"]),
    ("inversion", "output.journal=observations.nc", [r"output\.journal", "reads"]),
    ("inversion", "output.figure=run.toml", [r"output\.figure", r"reads \(the run file\)"]),
    ("inversion", "output.path=link.nc", [r"output\.path", "reads", "observations"]),
    ("inversion", "output.path=fields.nc", [r"output\.path", r"reads \(controls\.perm"]),
    ("inversion", "output.path=../here/run.toml", [r"output\.path", "the run file"]),
    ("slip", "output.path=gnss.nc", [r"output\.path", r"reads \(data\.gnss\)"]),
    ("slip", "output.journal=insar.nc", [r"output\.journal", r"reads \(data\.insar"]),
    ("placement", "output.path=sites.nc", [r"output\.path", r"reads \(sensors\.candidates\)"]),
    ("placement", "output.covariance=sites.nc", [r"output\.covariance", "reads"]),
    ("placement", "output.path=run.toml", [r"output\.path", "the run file"]),
    # Two of one
    ("placement", "output.covariance=gauges.h5", [r"output\.covariance", "same file"]),
    ("placement", "output.covariance=gauges-selection.h5", ["same file", "selection"]),
    ("slip", "output.figure=result.nc", ["same file", "output.path|output.figure"]),
    # Where nothing can be
    *(
        (kind, f"output.{key}={place}", [rf"output\.{key}", told])
        for kind, keys in (
            ("inversion", ("path", "journal", "figure")),
            ("slip", ("path", "journal", "figure")),
            ("placement", ("path", "journal", "figure", "covariance")),
        )
        for key in keys
        for place, told in (("none/a.nc", "no such directory"), (".", "is a directory"))
    ),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inputs of all kinds of runs, none of which may solve anything."""
    here = tmp_path / "here"
    here.mkdir()
    save(wells(), here / "observations.nc")
    save(fields(), here / "fields.nc")
    save(stations(), here / "gnss.nc")
    save(pixels(), here / "insar.nc")
    axes = {"y": ("k", [12e3, 30e3, 40e3, 50e3, 51e3]), "x": ("k", [15e3, 20e3, 40e3, 60e3, 65e3])}
    save(xr.Dataset(axes), here / "sites.nc")
    (here / "link.nc").symlink_to("observations.nc")
    return here


@pytest.mark.parametrize(("kind", "override", "patterns"), SPOILT, ids=lambda c: str(c)[:50])
def test_outputs_of_run_files(
    kind: str, override: str, patterns: list[str], folder: Path, refused: Any, monkeypatch: Any
):
    monkeypatch.setattr(Problem, "evaluate", None)
    text, command = KINDS[kind]
    (folder / "run.toml").write_text(text)
    more = {
        "inversion": ["controls.permeability.initial=fields.nc:permeability"],
        "placement": ["sensors.candidates=sites.nc", "output.covariance=k.h5"],
    }
    overrides = [*more.get(kind, []), override]
    refused([*command, *(a for o in overrides for a in ("--set", o))], *patterns)


def test_outputs_of_options(folder: Path, refused: Any):
    (folder / "run.toml").write_text(RUN_FILE)
    refused(["run", "run.toml", "-o", "observations.nc"], "--output", r"reads \(misfit\.obs")
    refused(["run", "run.toml", "-o", "run.toml"], "--output", "the run file")
    refused(["plot", "fields.nc", "-o", "fields.nc"], "--output", r"reads \(the result\)")
    # What the run file says does not matter then.
    refused([*settings("output.path=run.toml"), "-o", "none/a.nc"], "--output", "no such directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(folder: Path, refused: Any):
    (folder / "run.toml").write_text(RUN_FILE)
    (folder / "closed").mkdir(mode=0o555)
    refused(settings("output.path=closed/a.nc"), r"output\.path", "cannot write", "[Pp]ermission")


def test_a_disk_that_takes_nothing(folder: Path, refused: Any, monkeypatch: Any):
    """As a full or a read-only one."""

    def fails(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pyadjoint_gpu.core.files.tempfile.TemporaryFile", fails)
    (folder / "run.toml").write_text(RUN_FILE)
    refused(["run", "run.toml"], r"output\.\w+", "cannot write", "Read-only file system")


def test_files_that_a_run_file_names(tmp_path: Path):
    for name in ("a.nc", "b.nc", "c.nc", "run.toml"):
        (tmp_path / name).touch()
    tables = {
        "title": "c.nc",
        "data": {"gnss": ["a.nc", "none.nc"], "sigma": "b.nc:sigma"},
        "output": {"path": "c.nc"},
    }
    found = inputs(tables, tmp_path / "run.toml")
    assert {k: p.name for k, p in found.items()} == {
        "the run file": "run.toml", "data.gnss[0]": "a.nc", "data.sigma": "b.nc"
    }  # fmt: skip
    os.link(tmp_path / "a.nc", tmp_path / "d.nc")  # another name of it
    with pytest.raises(DataError, match=r"output\.path: .*d\.nc.*reads \(data\.gnss\[0\]\)"):
        check_outputs({"output.path": tmp_path / "d.nc", "output.journal": None}, found)


# Results in the way


def text_without_journal(text: str) -> str:
    return "".join(line for line in text.splitlines(True) if not line.startswith("journal"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an inversion with a journal, and its result of three iterations."""
    folder = tmp_path_factory.mktemp("done")
    save(wells(), folder / "observations.nc")
    (folder / "run.toml").write_text(RUN_FILE.replace("max_iterations = 2", "max_iterations = 3"))
    assert main(["run", str(folder / "run.toml")]) == 1
    assert iterations(folder) == 3
    return folder


def iterations(folder: Path) -> int:
    with xr.open_dataset(folder / "result.nc", engine="h5netcdf") as result:
        return result.sizes["iteration"] - 1


@pytest.fixture
def again(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(done, tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    return tmp_path / "again"


def test_a_poorer_result_does_not_replace_a_better_one(again: Path, capsys: Any):
    before = everything(again)
    for command in (
        ["resume", "result.h5", "--max-iterations", "2"],
        settings("inversion.max_iterations=2"),
        [*settings("inversion.max_iterations=2", 'output.journal="new.h5"')],
    ):
        assert main(command) == 2
        line = capsys.readouterr().err
        assert "result.nc: has a result of 3 iterations, which one of 2" in line
        assert line.count("\n") == 1
        assert everything(again) == before
    assert main(["resume", "result.h5", "--max-iterations", "4"]) == 1
    assert iterations(again) == 4
    assert main(["resume", "result.h5"]) == 2  # as far as the first run was to go
    assert "give another path by -o, or more iterations" in capsys.readouterr().err
    assert main(["resume", "result.h5", "-o", "less.nc"]) == 1
    assert iterations(again) == 4


def test_the_same_run_again(again: Path, capsys: Any, monkeypatch: Any):
    """It takes what is finished; without its journal it makes the same."""
    monkeypatch.setattr(Problem, "evaluate", None)
    assert main(["run", "run.toml"]) == 1
    assert iterations(again) == 3
    monkeypatch.undo()
    monkeypatch.chdir(again)
    (again / "run.toml").write_text(text_without_journal((again / "run.toml").read_text()))
    assert main(["run", "run.toml"]) == 1
    assert iterations(again) == 3


def test_other_inputs_do_not_replace_a_result(again: Path, capsys: Any):
    changed = settings("penalty.permeability.weight=1.0", "parameters.porosity=0.3")
    before = everything(again)
    assert main(changed) == 2
    line = capsys.readouterr().err
    assert "result.nc: has the result of other inputs (parameters.porosity, penalty.perm" in line
    assert everything(again) == before
    # With a path of its own for the result the journal is still another's.
    assert main([*changed, "-o", "other.nc"]) == 2
    line = capsys.readouterr().err
    assert "result.h5: a journal of" in line and "other parameters, penalty;" in line
    assert everything(again) == before
    assert main([*changed, "--overwrite"]) == 1
    assert everything(again) != before
    assert main(changed) == 1  # and now it is its own
    assert main(["resume", "result.h5"]) == 1


def test_an_interrupted_run_does_not_replace_a_better_one(again: Path, capsys: Any, monkeypatch):
    from pyadjoint_gpu.inversion.run import Run

    (again / "run.toml").write_text(text_without_journal((again / "run.toml").read_text()))
    accept = Run.accept

    def interrupted(self: Any, x: Any, *given: Any) -> None:
        accept(self, x, *given)
        if len(self.rows) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "accept", interrupted)
    before = everything(again)
    assert main(["run", "run.toml"]) == 2
    assert "3 iterations, which one of 1 is not to replace" in capsys.readouterr().err
    assert everything(again) == before


def test_a_result_that_was_damaged_is_not_drawn(again: Path, capsys: Any):
    raw = bytearray((again / "result.nc").read_bytes())
    raw[len(raw) // 2] ^= 4
    (again / "result.nc").write_bytes(raw)
    assert main(["plot", "result.nc"]) == 2
    assert "result.nc: damaged since it was written" in capsys.readouterr().err


def test_samples_and_placements_are_not_replaced_by_others(tmp_path: Path, monkeypatch, capsys):
    """Results say what their inputs were."""
    from pyadjoint_gpu.runfiles import placement_run as case
    from pyadjoint_gpu.runfiles import sampling_run as slip
    from pyadjoint_gpu.runfiles.schema import read

    monkeypatch.chdir(tmp_path)
    save(stations(), tmp_path / "gnss.nc")
    save(pixels(), tmp_path / "insar.nc")
    for text, (command, path), change, kind in (
        (SLIP, ("run", "result.nc"), "sampler.seed=5", slip),
        (BARE, ("place", "gauges.nc"), "prior.sd=0.5", case),
    ):
        (tmp_path / "run.toml").write_text(text)
        config = read("run.toml").build().config_json
        save(xr.Dataset(attrs={"config_json": config}), tmp_path / path)
        monkeypatch.setattr(kind, "run", lambda *_, **__: (_ for _ in ()).throw(DataError("ran")))
        assert main([command, "run.toml"]) == 2
        assert "error: ran" in capsys.readouterr().err
        assert main([command, "run.toml", "--set", change]) == 2
        key = change.partition("=")[0]
        assert f"{path}: has the result of other inputs ({key});" in capsys.readouterr().err
        assert main([command, "run.toml", "--set", change, "--overwrite"]) == 2
        assert "error: ran" in capsys.readouterr().err
