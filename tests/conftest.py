"""Fixtures: engines, and folders of run files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

# Before NumPy is there: processes side by side, each with as many threads as there are cores for
# small products, mostly wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # A compiler that divides each program among all cores takes a tenth more of their time.
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_parallel_codegen_split_count=1"
    )

import jax
import pytest
from run_files import RUN_FILE, everything, fields, observations, save

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core import compilation, progress
from pyadjoint_gpu.core.errors import EngineError
from pyadjoint_gpu.engines.choose import AUTO
from pyadjoint_gpu.engines.julia.installation import find

# Compiling takes most of the time, of the same things again and again: in modules after each
# other, side by side, in processes of examples and of the command line, and in the next run of
# the tests. So what is compiled is kept, as the package keeps it, but beside what users have.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    kept = compilation.folder()
    if kept is None:
        _CACHE = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        kept = Path(_CACHE.name)
    else:
        kept = kept.parent / "tests" / kept.name
        if sum(f.stat().st_size for f in kept.glob("*")) > 2**30:
            shutil.rmtree(kept, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(kept)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    jax.config.update("jax_compilation_cache_dir", str(kept))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Most tests are of the mathematics, and run on the engine that is always there. With the variable
# set to "julia" they all run on that one.
os.environ.setdefault(AUTO, "embedded")


def missing() -> str | None:
    """Why tests of Julia cannot run here."""
    try:
        find()
    except EngineError as error:
        return str(error)
    return None


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_code() -> Iterator[None]:
    """Compiled code takes memory maps, of which Linux allows a process 65,530: all tests together
    would need more, and a compiler that gets none crashes."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = missing()
    for item in items:
        if why and item.get_closest_marker("julia"):
            item.add_marker(pytest.mark.skip(reason=f"no Julia: {why}"))


@pytest.fixture(scope="module")
def julia() -> pag.JuliaEngine:
    return pag.JuliaEngine(backend="threads")


@pytest.fixture(scope="module")
def embedded() -> pag.EmbeddedEngine:
    """The embedded engine with the iteration that every engine has."""
    return pag.EmbeddedEngine(solver="pseudo-transient")


@pytest.fixture
def no_julia(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without Julia."""
    for name in ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    from juliapkg.state import STATE

    monkeypatch.setitem(STATE, "meta", str(tmp_path / "meta.json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run file, its data, and an older result that must not be touched."""
    (tmp_path / "run.toml").write_text(RUN_FILE)
    save(observations(), tmp_path / "observations.nc")
    save(fields(), tmp_path / "fields.nc")
    (tmp_path / "result.nc").write_bytes(b"an older result")
    return tmp_path


SEEN_BY_USERS = (UserWarning, RuntimeWarning, FutureWarning, SyntaxWarning)


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs a command that must be refused: exit code 2, one line on stderr in which every one of
    `patterns` is found, and not a byte changed in the folder."""

    # A compilation that takes long on a busy machine would have a line of its own.
    monkeypatch.setattr(progress, "UNSEEN", float("inf"))

    def check(arguments: list[str], *patterns: str) -> None:
        monkeypatch.chdir(folder)
        before = everything(folder)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            code = main(arguments)
        printed, line = capsys.readouterr()
        assert line.startswith("pyadjoint-gpu: error: "), (code, printed, line)
        assert line.count("\n") == 1, line
        assert line.endswith("\n")
        for pattern in patterns:
            assert re.search(pattern, line), f"{pattern!r} is not in: {line}"
        assert len(line) < 400, f"too long to read: {line}"
        assert "np." not in line, f"numpy's repr: {line}"
        assert code == 2
        assert printed == ""
        assert everything(folder) == before
        assert [str(w.message) for w in caught if issubclass(w.category, SEEN_BY_USERS)] == []

    return check
