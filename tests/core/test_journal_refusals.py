"""One format for all that goes on: files that are none, or of another kind, are refused."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.core.files import sealed
from pyadjoint_gpu.core.journal import FORMAT, Journal, Rows
from pyadjoint_gpu.core.packing import pack, unpack
from pyadjoint_gpu.inversion.journal import Evaluations
from pyadjoint_gpu.lti.rows import BlockRows
from pyadjoint_gpu.lti.store import Store
from pyadjoint_gpu.placement.record import Choices
from pyadjoint_gpu.sampling.journal import States

KINDS = [Evaluations, States, BlockRows, Store, Choices]
OLD = ["journal 3", "sampler 2", "rows 2", "selection 2"]


def begun(kind: type[Journal], path: Path, overwrite: bool = False) -> Journal:
    rows = None if kind.records else Rows((3, 4))
    return kind.start(path, lambda: {"seed": 1}, rows=rows, overwrite=overwrite)


def refused(call: Callable[[], Journal], path: Path, *told: str) -> None:
    before = path.read_bytes()
    with pytest.raises(DataError) as caught:
        call()
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    for text in told:
        assert re.search(text, line), line
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("old", OLD)
def test_earlier_versions_are_refused_by_name(kind: type[Journal], old: str, tmp_path: Path):
    path = tmp_path / "kept.h5"
    with sealed(path) as beside, h5py.File(beside, "w") as file:
        file.attrs["format"] = f"pyadjoint_gpu {old}"
    told = f"another version; .*'pyadjoint_gpu {old}', expected '{FORMAT}'"
    refused(lambda: begun(kind, path), path, told)
    begun(kind, path, overwrite=True).close()


@pytest.mark.parametrize("kind", KINDS)
def test_of_another_kind(kind: type[Journal], tmp_path: Path):
    path = tmp_path / "kept.h5"
    begun(kind, path).close()
    for other in KINDS:
        if other is not kind:
            refused(lambda o=other: begun(o, path), path, f"{kind.kind}, not {other.kind}; the")


@pytest.mark.parametrize("kind", KINDS)
def test_in_use(kind: type[Journal], tmp_path: Path):
    """Also where it is to be started anew."""
    path = tmp_path / "kept.h5"
    begun(kind, path).close()
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for overwrite in (False, True):
            refused(lambda o=overwrite: begun(kind, path, o), path, "in use by another process")
    begun(kind, path).close()


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_files(kind: type[Journal], tmp_path: Path):
    path = tmp_path / "kept.h5"
    begun(kind, path).close()
    path.write_bytes(path.read_bytes()[:-100])
    refused(lambda: begun(kind, path), path, f"not {kind.kind}, or truncated or damaged")
    path.write_text("text")
    refused(lambda: begun(kind, path, overwrite=True), path, f"not {kind.kind}, or truncated")
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "pyadjoint_gpu linear inversion 1"
    refused(lambda: begun(kind, path, overwrite=True), path, f"not {kind.kind}; give another path")


def test_a_new_one_without_a_row_goes_with_an_error(tmp_path: Path):
    for overwrite in (False, True):
        with pytest.raises(KeyError), begun(Choices, tmp_path / "kept.h5", overwrite):
            raise KeyError
        assert not list(tmp_path.iterdir())
        begun(Choices, tmp_path / "kept.h5").close()
    with pytest.raises(KeyError), begun(Choices, tmp_path / "kept.h5"):
        raise KeyError
    assert (tmp_path / "kept.h5").is_file()


def test_of_a_slot_the_last_whole_one_counts(tmp_path: Path):
    path = tmp_path / "kept.h5"
    with begun(States, path) as book:
        for k in range(5):
            book.put(now=(k, np.full(3000 * (k + 1), k)))  # grows
    with h5py.File(path, "r+") as file:
        file["now"][0, 500] ^= 1
    with begun(States, path) as book:
        k, found = book.last("now") or (None, None)
        assert k == 3 and np.array_equal(found, np.full(12000, 3))
    with h5py.File(path, "r+") as file:
        file["now"][1, 500] ^= 1
    with begun(States, path) as book, pytest.raises(DataError, match="damaged, its last record"):
        book.last("now")


def test_packing():
    tree = {"a": np.zeros((2, 0)), "b": [1, 2.5, None, "é", -np.inf], "c": np.array([True])}
    found = unpack(pack(tree | {"d": np.float32(0.1), "e": np.array(0.1)}))
    assert found["a"].shape == (2, 0) and found["b"] == tree["b"] and found["c"][0]
    assert found["d"] == np.float32(0.1) and found["e"].tobytes() == np.array(0.1).tobytes()
