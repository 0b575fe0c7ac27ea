"""What is seen of a run while it lasts: by people, in logs and by programs."""

from __future__ import annotations

import inspect
import io
import json
import sys
import time
from pathlib import Path

import placement_files
import pytest
import slip_files
from run_files import everything, observations

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core import progress
from pyadjoint_gpu.lti import CovarianceFile
from pyadjoint_gpu.placement import place_sensors, select
from pyadjoint_gpu.runfiles import placement_run as case
from pyadjoint_gpu.sampling import SMC, HierarchicalSMC


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes and seconds pass within a tenth."""
    for name, seconds in {"UNSEEN": 0.05, "LOOKED_AT": 0.05, "EVERY": 0.1, "_TICK": 0.01}.items():
        monkeypatch.setattr(progress, name, seconds)


def wait_for(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Standard error, once `text` stands there."""
    said = ""
    for _ in range(1000):
        said += capsys.readouterr().err
        if text in said:
            return said
        time.sleep(0.01)
    pytest.fail(f"{text!r} was never said, but: {said}")


def test_a_log_has_phases_that_last_and_a_line_a_minute(
    quick: None, capsys: pytest.CaptureFixture[str]
):
    with progress.progress_bar(shown=None, desc="inversion", unit="iterations", total=9) as task:
        with progress.phase("compiling the forward solve for 8 x 12"):
            said = wait_for("min\n", capsys)
            assert "inversion: compiling the forward solve for 8 x 12 ...\n" in said
            assert "inversion: 0 of 9 iterations, compiling the forward solve for 8 x 12, " in said
            progress.note("forward solve, 90 iterations, residual 1.0e-03")
            wait_for("iterations, forward solve, 90 iterations, residual 1.0e-03, 0 min\n", capsys)
        task.update(2, J=12.3456, gradient_norm=1e-9)
        wait_for("inversion: 2 of 9 iterations, J=12.35 gradient_norm=1e-09, 0 min\n", capsys)
    assert capsys.readouterr().out == ""


def test_what_is_over_soon_leaves_no_line(capsys: pytest.CaptureFixture[str]):
    for k in progress.progress_bar([1, 2], shown=None, desc="covariance"):
        with progress.phase(f"number {k}"):
            pass
    assert capsys.readouterr() == ("", "")


def test_what_holds_python_up_is_said_at_once(capsys: pytest.CaptureFixture[str]):
    bar = progress.progress_bar(shown=None, desc="inversion")
    with bar, progress.phase("starting Julia", at_once=True):
        assert capsys.readouterr().err == "inversion: starting Julia ...\n"


def test_a_terminal_has_a_bar_and_phases(quick: None, monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.progress_bar(shown=None, desc="inversion", total=9) as task:
        with progress.phase("compiling"):
            while "compiling ...\n" not in terminal.getvalue():
                time.sleep(0.01)
        time.sleep(0.2)
        task.update(3, J=1.0)
    assert "inversion:  33%" in terminal.getvalue()
    assert "J=1" in terminal.getvalue()
    assert "min\n" not in terminal.getvalue()


def test_false_says_nothing(quick: None, capsys: pytest.CaptureFixture[str]):
    with progress.progress_bar(shown=False, desc="inversion") as task, progress.phase("compiling"):
        time.sleep(0.2)
        task.update()
    assert capsys.readouterr() == ("", "")


def test_records():
    heard: list[dict] = []
    with (
        progress.heard_by(heard.append),
        progress.progress_bar(shown=None, desc="SMC", unit="moves") as task,
    ):
        with progress.first_use(("test_records", 1), "compiling"):
            task.update(gamma=0.5)
        with progress.first_use(("test_records", 1), "compiling"):
            pass
    assert heard == [
        {"event": "phase", "task": "SMC", "phase": "compiling"},
        {"event": "progress", "task": "SMC", "done": 1, "total": None, "unit": "moves",
         "gamma": 0.5},
    ]  # fmt: skip


def test_another_grid_is_another_compilation():
    models = [pag.models.Darcy(pag.Grid(n, (1.0, 1.0)), fixed_pressure=["x_min"]) for n in
              ((4, 5), (4, 6), (4, 5))]  # fmt: skip
    heard: list[dict] = []
    with progress.heard_by(heard.append), progress.progress_bar(shown=None, desc="solves"):
        for model in models:
            pag.solve(model, {"permeability": 1.0, "boundary_pressure": 1.0}, engine="embedded")
    assert [r["phase"] for r in heard if r["event"] == "phase"] == [
        "compiling the forward solve for 4 x 5",
        "compiling the forward solve for 4 x 6",
    ]


@pytest.mark.slow
def test_solves_tell_what_they_compile():
    heard: list[dict] = []
    grid = pag.Grid((5, 7), (800.0, 1200.0), (0.0, -600.0))
    made = pag.Problem(
        pag.models.Darcy(grid, [pag.Well((400.0, -350.0), 1.0), pag.Well((400.0, 350.0), -1.0)]),
        [pag.Control("permeability", 1.0, transform="log")],
        pag.LeastSquares(observations()),
    )
    with progress.heard_by(heard.append):
        pag.invert(made, max_iterations=1)
    assert [r["phase"] for r in heard if r["event"] == "phase"] == [
        "compiling the forward solve for 5 x 7",
        "compiling the adjoint solve for 5 x 7",
    ]
    last = heard[-1]
    assert (last["task"], last["done"], last["total"]) == ("inversion", 1, 1)
    assert last["J"] > 0 and last["gradient_norm"] > 0


@pytest.mark.parametrize(
    "door",
    [pag.invert, pag.resume, pag.block_column, place_sensors, select, CovarianceFile.make,
     HierarchicalSMC.run, SMC.run],
)  # fmt: skip
def test_all_doors_have_the_same_keyword(door):
    assert inspect.signature(door).parameters["progress"].default is None


# The command line


def told(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_json(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["run", "run.toml", "--json", "--overwrite"]) == 1
    records = told(capsys)
    assert {r["event"] for r in records} <= {"phase", "progress", "result"}
    steps = [r for r in records if r["event"] == "progress"]
    assert [r["done"] for r in steps] == [0, 1, 2]
    result = records[-1]
    assert result["event"] == "result"
    assert result["status"] == "max_iterations"
    assert result["iterations"] == 2
    assert result["misfit"][1] < result["misfit"][0]
    assert result["path"] == "result.nc"
    assert "chi2" in result and "wall_time" in result
    assert main(["resume", "result.h5", "--json", "--max-iterations", "3"]) == 1
    assert told(capsys)[-1]["iterations"] == 3
    assert main(["check", "run.toml", "--json"]) == 0
    found = told(capsys)[-1]
    assert found["status"] == "passed"
    assert found["taylor_test"]["passed"] and found["adjoint_test"]["passed"]


def test_json_has_errors(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["run", "run.toml", "--json", "--set", "modell=1"]) == 2
    printed, line = capsys.readouterr()
    (record,) = map(json.loads, printed.splitlines())
    assert record["event"] == "error"
    assert record["exit_code"] == 2
    assert line == f"pyadjoint-gpu: error: {record['message']}\n"
    assert main(["run", "run.toml", "--json", "--set", "solver.max_iterations=1"]) == 1
    assert told(capsys)[-1]["exit_code"] == 1


def test_quiet(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch, quick: None):
    monkeypatch.chdir(folder)
    assert main(["run", "run.toml", "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")
    assert main(["run", "run.toml", "--quiet", "--set", "modell=1"]) == 2
    assert "modell" in capsys.readouterr().err


def test_quiet_json_is_neither(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["run", "run.toml", "--quiet", "--json"])
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.fixture
def nothing_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    def solve(*_: object, **__: object) -> None:
        pytest.fail("it was solved")

    for name in ("solve", "adjoint"):
        monkeypatch.setattr(pag.EmbeddedEngine, name, solve)


def test_dry_run(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch, nothing_solved: None
):
    monkeypatch.chdir(folder)
    before = everything(folder)
    assert main(["run", "run.toml", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "an inversion of permeability (96 unknowns, 6 data) by L-BFGS-B, 2 iterations at most;"
        " model 'darcy' on 8 x 12 cells, engine 'embedded'",
        "would write result.nc (there now)",
        "would write result.h5",
        "dry run: nothing was solved, nothing was written",
    ]
    assert main(["run", "run.toml", "--dry-run", "--json"]) == 0
    (plan,) = told(capsys)
    assert plan["event"] == "plan"
    assert plan["writes"] == {"output.path": "result.nc", "output.journal": "result.h5"}
    assert main(["check", "run.toml", "--dry-run"]) == 0
    assert everything(folder) == before


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ("output.path=nowhere/result.nc", "no such directory"),
        ("output.figure=result.docx", "result.docx"),
        ("inversion.method=Newton", "Newton"),
        ("output.journal=observations.nc", "observations.nc"),
        ("controls.permeability.initial=-1.0", "permeability"),
    ],
)
def test_dry_run_refuses_what_a_run_does(refused, nothing_solved: None, change: str, pattern: str):
    refused(["run", "run.toml", "--dry-run", "--set", change], pattern)


def test_dry_run_of_a_run_that_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.chdir(folder)
    assert main(["run", "run.toml", "--quiet"]) == 1
    before = everything(folder)
    assert main(["run", "run.toml", "--dry-run"]) == 0
    assert "would go on from result.h5, which has" in capsys.readouterr().out
    assert main(["resume", "result.h5", "--dry-run"]) == 0
    assert "would go on from result.h5, which has" in capsys.readouterr().out
    other = ["--set", "penalty.permeability.weight=2.0", "-o", "other.nc"]
    assert main(["run", "run.toml", "--dry-run", *other]) == 2
    assert "result.h5" in capsys.readouterr().err
    assert main(["run", "run.toml", "--dry-run", "--overwrite", *other]) == 0
    assert everything(folder) == before


def test_dry_run_of_fault_slip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    slip_files.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pag.sampling.HierarchicalSMC, "run", lambda *_, **__: pytest.fail("it ran"))
    before = everything(tmp_path)
    assert main(["run", "run.toml", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 run of 8 samples of east, dip, slip, given 22 data, by HierarchicalSMC",
        "would write result.nc",
        "would write result.h5",
        "dry run: nothing was solved, nothing was written",
    ]
    assert main(["run", "run.toml", "--dry-run", "--set", "output.path=insar.nc"]) == 2
    assert "insar.nc" in capsys.readouterr().err
    assert everything(tmp_path) == before


def test_dry_run_of_a_placement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "run.toml").write_text(placement_files.BARE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(case, "block_column", lambda *_, **__: pytest.fail("it was solved"))
    before = everything(tmp_path)
    assert main(["place", "run.toml", "--dry-run", "--json"]) == 0
    (plan,) = told(capsys)
    assert plan["event"] == "plan"
    assert plan["what"] == [
        "a block column of 12 adjoint runs of model 'shallow-water' on 12 x 16 cells, then the"
        " choice of sensors among 12 candidates (budget 4)"
    ]
    assert plan["writes"] == {"output.path": "gauges.nc", "output.journal": "gauges.h5"}
    assert everything(tmp_path) == before


def test_json_of_a_placement_and_dry_run_of_one_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "run.toml").write_text(placement_files.BARE)
    monkeypatch.chdir(tmp_path)
    assert main(["place", "run.toml", "--json"]) == 0
    records = told(capsys)
    assert {"phase", "result"} <= {r["event"] for r in records}
    assert records[-1]["event"] == "result" and records[-1]["path"] == "gauges.nc"
    assert (tmp_path / "gauges.nc").exists()
    before = everything(tmp_path)
    again = ["place", "run.toml", "--dry-run", "-o", "other.nc"]
    assert main(again) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "would go on from gauges.h5, which has 12 of 12 adjoint runs"
    other = ["--set", "model.step=11.0"]
    assert main([*again, *other]) == 2
    assert "gauges.h5: a journal made with other inputs" in capsys.readouterr().err
    assert main([*again, *other, "--overwrite"]) == 0
    assert everything(tmp_path) == before
