"""What the compiler made is there for the next process, unless someone said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from pyadjoint_gpu.core import compilation

CODE = """
import jax
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.split("/")[-1]))
{before}
import pyadjoint_gpu as pag
assert jax.config.jax_compilation_cache_dir == {before_dir}
pag.solve(pag.models.Darcy(pag.Grid((8,), (1.0,)), [pag.Well((0.2,), 1.0), pag.Well((0.8,), -1.0)]),
          {{"permeability": 1.0}})
print(jax.config.jax_compilation_cache_dir, hits.count("cache_hits"))
"""


def solved(before: str = "", before_dir: str = "None", **variables: str) -> tuple[str, int]:
    """Where a process that solves something keeps what it compiles, and how much it found there."""
    clean = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE.format(before=before, before_dir=before_dir)],
        env=clean | {"JAX_PLATFORMS": "cpu", "PYADJOINT_GPU_ENGINE": "embedded"} | variables,
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    place, hits = ended.stdout.split()
    return place, int(hits)


@pytest.mark.slow
def test_a_second_process_finds_it(tmp_path: Path):
    place, hits = solved(XDG_CACHE_HOME=str(tmp_path))
    assert Path(place).parent == tmp_path / "pyadjoint_gpu" / "jax"
    assert hits == 0
    kept = sorted(Path(place).iterdir())
    assert kept
    assert Path(place).stat().st_mode & 0o077 == 0
    again, hits = solved(XDG_CACHE_HOME=str(tmp_path))
    assert again == place
    assert hits > 0
    assert {p for p in Path(place).iterdir() if p.suffix != ".lock"} >= set(kept)


@pytest.mark.slow
def test_the_users_own_folder_is_kept(tmp_path: Path):
    own = str(tmp_path / "own")
    before = f"jax.config.update('jax_compilation_cache_dir', {own!r})"
    assert solved(before, repr(own), XDG_CACHE_HOME=str(tmp_path))[0] == own
    assert not (tmp_path / "pyadjoint_gpu").exists()


# In this process


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """JAX's settings as they are where nobody chose any; they are put back afterwards."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
             "jax_enable_compilation_cache")  # fmt: skip
    before = {k: getattr(jax.config, k) for k in names}
    for name, value in zip(names, (None, 1.0, True), strict=True):
        jax.config.update(name, value)
    monkeypatch.delenv(compilation.CACHE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def place() -> str | None:
    compilation.keep_compiled.__wrapped__()
    return jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]


def test_off(unset: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(compilation.CACHE, "off")
    assert place() is None
    assert list(unset.iterdir()) == []


def test_another_folder(unset: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(compilation.CACHE, str(unset / "elsewhere"))
    found = place()
    assert found is not None
    assert Path(found).parent == unset / "elsewhere"


def test_home(unset: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(unset / "home"))
    for value in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        found = compilation.folder()
        assert found is not None
        assert found.parent == unset / "home" / ".cache" / "pyadjoint_gpu" / "jax"


def test_a_folder_that_cannot_be_made(unset: Path, monkeypatch: pytest.MonkeyPatch):
    (unset / "file").write_text("")
    monkeypatch.setenv(compilation.CACHE, str(unset / "file" / "below"))
    assert place() is None


def test_jax_told_to_keep_nothing(unset: Path):
    jax.config.update("jax_enable_compilation_cache", False)
    assert place() is None


def test_thresholds_of_the_user_stay(unset: Path):
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 3.0)
    assert place() is not None
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 3.0  # type: ignore
