"""Finding and installing Julia, on machines without one: nothing here starts or downloads it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import ConfigError, EngineError
from pyadjoint_gpu.doctor import report
from pyadjoint_gpu.engines.choose import automatic
from pyadjoint_gpu.engines.julia import installation

MANIFEST = """\
[[deps.AdjointGPU]]
path = "somewhere"
version = "0.1.0"

[[deps.PythonCall]]
version = "0.9.34"
"""


@pytest.fixture
def state(monkeypatch, tmp_path, no_julia):
    """juliapkg's state, with everything in a folder of the test."""
    from juliapkg.state import STATE

    project = tmp_path / "julia_env"
    for key, path in {
        "project": project,
        "prefix": project / "pyjuliapkg",
        "deps": project / "pyjuliapkg" / "juliapkg.json",
        "meta": project / "pyjuliapkg" / "meta.json",
        "install": project / "pyjuliapkg" / "install",
    }.items():
        monkeypatch.setitem(STATE, key, str(path))
    return STATE


def made(state):
    """As if juliapkg had resolved."""
    Path(state["meta"]).parent.mkdir(parents=True, exist_ok=True)
    Path(state["meta"]).write_text(json.dumps({"executable": sys.executable}))
    Path(state["project"], "Manifest.toml").write_text(MANIFEST)


def test_the_julia_package_is_found():
    source = installation.source()
    assert (source / "src" / "AdjointGPU.jl").is_file()
    assert (source / "ext" / "AdjointGPUCUDAExt.jl").is_file()


def test_nothing_found(no_julia, monkeypatch):
    with pytest.raises(EngineError, match="install-julia"):
        installation.find()
    monkeypatch.setenv("PYADJOINT_GPU_ENGINE", "auto")
    name, why = automatic()
    assert name == "embedded"
    assert "install-julia" in why
    assert "engine 'julia'     not ready" in report()
    with pytest.raises(EngineError, match=r"engine 'julia'.*'embedded' needs no Julia"):
        pag.solve(pag.models.Darcy(pag.Grid((4, 4), (1, 1))), {"permeability": 1}, engine="julia")


def test_what_was_installed_is_found(state, monkeypatch):
    made(state)
    found = installation.find()
    assert (found.executable, found.origin) == (Path(sys.executable), "install-julia")
    assert found.lacks("AdjointGPU", "MPI") == ["MPI"]
    monkeypatch.setenv("PYADJOINT_GPU_ENGINE", "auto")
    assert automatic()[0] == "julia"
    assert "AdjointGPU 0.1.0" in report()
    assert "MPI missing" in report()
    with pytest.raises(EngineError, match=r"lacks HDF5, ImplicitGlobalGrid, JSON, MPI.*many ranks"):
        pag.Launch(["sh"])
    Path(state["project"], "Manifest.toml").write_text("")
    with pytest.raises(EngineError, match=r"lacks AdjointGPU and PythonCall.*Pkg\.develop"):
        installation.find()


@pytest.mark.parametrize(
    ("executable", "project", "told"),
    [
        (sys.executable, None, "PYTHON_JULIACALL_PROJECT is not set"),
        (None, ".", "PYTHON_JULIACALL_EXE is not set"),
        ("no-such-julia", ".", "'no-such-julia' is no executable"),
        (sys.executable, "no-such-folder", "no directory 'no-such-folder'"),
        (sys.executable, ".", "lacks AdjointGPU"),
    ],
)
def test_wrong_environment_variables(executable, project, told, no_julia, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in (("EXE", executable), ("PROJECT", project)):
        if value is not None:
            monkeypatch.setenv(f"PYTHON_JULIACALL_{name}", value)
    with pytest.raises(EngineError, match=told):
        installation.find()


@pytest.mark.parametrize("backend", ["threads", "cuda", "amdgpu"])
def test_install(backend, state, monkeypatch, capsys):
    from juliapkg import deps

    resolved = []

    def resolve(**options):
        # What juliapkg would hand to Julia's package manager.
        compat, packages = deps.find_requirements()
        resolved.append((compat, {p.name: p for p in packages}))
        made(state)

    import juliapkg

    monkeypatch.setattr(juliapkg, "resolve", resolve)
    assert main(["install-julia", "--backend", backend]) == 0
    assert "julia_env" in capsys.readouterr().out
    ((compat, packages),) = resolved
    ours = packages["AdjointGPU"]
    assert ours.dev
    assert Path(ours.path) == installation.source()
    assert set(installation.RANKS) <= set(packages)
    gpu = {installation.BACKENDS[backend]} if backend != "threads" else set()
    assert gpu == set(installation.BACKENDS.values()) & set(packages)
    assert compat is not None


def test_a_failed_install_is_one_line(state, monkeypatch, capsys):
    import juliapkg

    def resolve(**options):
        raise OSError("no route to host")

    monkeypatch.setattr(juliapkg, "resolve", resolve)
    assert main(["install-julia"]) == 2
    assert capsys.readouterr().err == "pyadjoint-gpu: error: install-julia: no route to host\n"


def test_the_variable_that_decides(monkeypatch, no_julia):
    monkeypatch.setenv("PYADJOINT_GPU_ENGINE", "embeded")
    with pytest.raises(ConfigError, match=r"PYADJOINT_GPU_ENGINE.*'embedded'"):
        automatic()
    monkeypatch.setenv("PYADJOINT_GPU_ENGINE", "embedded")
    assert automatic()[0] == "embedded"
