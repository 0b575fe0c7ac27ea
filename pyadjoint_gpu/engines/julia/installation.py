"""The installation of Julia and its packages, found without starting or downloading anything."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from ...core.errors import EngineError

PACKAGE = "AdjointGPU"
RANKS = ("HDF5", "ImplicitGlobalGrid", "JSON", "MPI")
"""Packages that many ranks need beside our own."""
BACKENDS = {"cuda": "CUDA", "amdgpu": "AMDGPU"}
"""Packages of the GPU backends."""


def source() -> Path:
    """The Julia package: beside the Python code in a wheel, at the top of a checkout."""
    here = Path(__file__).resolve().parents[2]
    return next((p for p in (here / "julia", here.parent / "julia") if p.is_dir()), here / "julia")


@dataclass(frozen=True)
class Installation:
    """A Julia and a project with the packages that the engine needs.

    Attributes
    ----------
    executable, project : Path
    origin : str
        Where they were found: "environment variables" or "install-julia".
    """

    executable: Path
    project: Path
    origin: str

    @cached_property
    def packages(self) -> dict[str, str]:
        """Versions of the project's packages by name."""
        for name in ("JuliaManifest.toml", "Manifest.toml"):
            manifest = self.project / name
            if manifest.is_file():
                entries = tomllib.loads(manifest.read_text(encoding="utf-8")).get("deps", {})
                return {k: str(v[0].get("version", "stdlib")) for k, v in entries.items()}
        return {}

    def lacks(self, *names: str) -> list[str]:
        """The names that are not packages of the project."""
        return [name for name in names if name not in self.packages]


def find() -> Installation:
    """The installation that juliacall would start.

    The environment variables ``PYTHON_JULIACALL_EXE`` and ``PYTHON_JULIACALL_PROJECT`` take
    precedence over what ``pyadjoint-gpu install-julia`` made.

    Raises
    ------
    EngineError
        If something is missing: what it is, and how to get it.
    """
    if find_spec("juliacall") is None:
        raise EngineError("the package juliacall is missing: pip install juliacall")
    found = _chosen() or _installed()
    if found is None:
        raise EngineError(
            "no Julia was found: 'pyadjoint-gpu install-julia' installs one, or set"
            " PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT"
        )
    lacking = found.lacks(PACKAGE, "PythonCall")
    if lacking:
        add = f'Pkg.develop(path="{source()}")' if PACKAGE in lacking else 'Pkg.add("PythonCall")'
        raise EngineError(
            f"the Julia project {found.project} lacks {' and '.join(lacking)}:"
            f" {found.executable} --project={found.project} -e 'using Pkg; {add}'"
        )
    return found


def _chosen() -> Installation | None:
    names = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
    given = [os.environ.get(name) for name in names]
    if given == [None, None]:
        return None
    for name, value in zip(names, given, strict=True):
        if not value:
            raise EngineError(f"{' and '.join(names)} belong together, but {name} is not set")
    executable = shutil.which(str(given[0]))
    if executable is None:
        raise EngineError(f"PYTHON_JULIACALL_EXE: {given[0]!r} is no executable")
    project = Path(str(given[1]))
    if not project.is_dir():
        raise EngineError(f"PYTHON_JULIACALL_PROJECT: there is no directory {str(project)!r}")
    return Installation(Path(executable).absolute(), project.absolute(), "environment variables")


def _installed() -> Installation | None:
    from juliapkg.state import STATE

    try:
        made = json.loads(Path(STATE["meta"]).read_text(encoding="utf-8"))
        executable = Path(made["executable"])
    except (OSError, ValueError, KeyError):
        return None
    if not executable.is_file():
        return None
    return Installation(executable, Path(STATE["project"]), "install-julia")


def install(backend: str) -> Installation:
    """Let juliapkg find or download Julia, and install our package and its dependencies.

    The requirements go into juliapkg's own project of this Python environment; those of other
    packages are left as they are.

    Parameters
    ----------
    backend : {"threads", "cuda", "amdgpu"}

    Raises
    ------
    EngineError
        If juliapkg fails, with its message.
    """
    import juliapkg

    package = tomllib.loads((source() / "Project.toml").read_text(encoding="utf-8"))
    try:
        juliapkg.require_julia("1.10 - 1.11")
        juliapkg.add(PACKAGE, package["uuid"], path=str(source()), dev=True)
        for name in (*RANKS, *((BACKENDS[backend],) if backend in BACKENDS else ())):
            versions = package["compat"][name]
            juliapkg.add(name, package["weakdeps"][name], version=versions)
        juliapkg.resolve(force=True)
    except Exception as error:
        raise EngineError(f"install-julia: {error or type(error).__name__}") from error
    return find()


def available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
