"""README.md, pasted: its blocks of Python and of commands, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pyadjoint_gpu.sampling import SamplingWarning

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>.*?) -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)```", re.S)
NEEDS = ("a checkout", "Julia and MPI")


def blocks() -> list[tuple[int, str, str]]:
    """Those to be run: line, kind, code."""
    text = README.read_text(encoding="utf-8")
    out = []
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        if found["why"]:
            assert found["why"] in NEEDS, f"line {line}: {found['why']}"
        elif found["kind"] != "julia":
            assert found["kind"] in ("python", "sh"), f"line {line}: {found['kind']}"
            out.append((line, found["kind"], found["code"]))
    return out


@pytest.mark.slow
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    known: dict[str, object] = {}
    found = blocks()
    assert len(found) >= 6
    for line, kind, code in found:
        if kind == "sh":
            done = subprocess.run(["bash", "-euc", code], capture_output=True, text=True)
            assert done.returncode == 0, f"README.md, line {line}:\n{done.stdout}{done.stderr}"
            continue
        # As many lines before it as in the file, so that errors tell its own.
        compiled = compile("\n" * (line - 1) + code, str(README), "exec")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingWarning)  # few particles
            exec(compiled, known)
    for name in ("run.png", "wolfcamp.png", "posterior.png", "geometry.png", "network.png"):
        assert (tmp_path / name).stat().st_size > 10_000, name


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
