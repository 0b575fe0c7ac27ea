"""Files from which runs go on, damaged on disk: the same numbers, or one line that names them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr
from cases import observations, problem

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import DataError, JournalWarning
from pyadjoint_gpu.lti import ToeplitzMap
from pyadjoint_gpu.lti.rows import followed
from pyadjoint_gpu.lti.store import CovarianceFile
from pyadjoint_gpu.placement.selection import select
from pyadjoint_gpu.results.dataset import save
from pyadjoint_gpu.runfiles.files import open_dataset
from pyadjoint_gpu.sampling import journal as samplers
from pyadjoint_gpu.statistics import Independent
from pyadjoint_gpu.statistics.covariance import DenseCovariance

FLIPS = 30
SENSORS, STEPS, PLACES = 4, 5, 3
MAP = ToeplitzMap.of(np.random.default_rng(0).standard_normal((STEPS, SENSORS, PLACES)))
PRIOR = Independent(1.0)


class Points(NamedTuple):
    x: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class State:
    gamma: float
    move: int
    log_evidence: float
    points: Points

    @property
    def ended(self) -> bool:
        return self.gamma >= 1.0


def sampled(path: Path) -> Any:
    """Samples of a sampler with two stages."""

    def moved(now: State, k: int) -> State:
        x = np.random.default_rng([k, now.move]).standard_normal((4, 3))
        return State(min(1.0, now.gamma + 0.5), 1, float(x[0, 0]), Points(x, x[0]))

    first = State(0.0, 1, 0.0, Points(np.ones((4, 3)), np.ones(3)))
    states = samplers.followed(
        State, path, lambda: {"seed": 1}, lambda _: first, moved,
        repeats=2, overwrite=False, progress=False,
    )  # fmt: skip
    return [(s.gamma, s.log_evidence, s.points.x.tolist()) for s in states]


def rows(path: Path) -> Any:
    def compute(which: np.ndarray) -> Any:
        return (np.random.default_rng(int(k)).standard_normal((5, 7)) for k in which)

    return {k: row.tolist() for k, row in followed(path, (6, 5, 7), lambda: {"a": 1}, compute)}


def stored(path: Path) -> Any:
    covariance = CovarianceFile.make(path, MAP, PRIOR)
    every = slice(0, SENSORS)
    return [covariance.row(j, every).tolist() for j in range(SENSORS)], covariance.diagonal(
        every
    ).tolist()


def chosen(path: Path) -> Any:
    generator = np.random.default_rng(3)
    root = generator.standard_normal((12, 12))
    covariance = DenseCovariance((root @ root.T).reshape(4, 3, 4, 3))
    return select(covariance, 0.5, 3, journal=path, progress=False).gains.tolist()


def inverted(path: Path) -> Any:
    made = problem((9, 17), data=observations((9, 17)))
    result = pag.invert(made, max_iterations=3, journal=path, progress=False)
    return [result[k].values.tobytes() for k in ("permeability", "objective", "evaluations")]


def resumed(path: Path) -> Any:
    result = pag.resume(path, max_iterations=5, progress=False)
    return [result[k].values.tobytes() for k in ("permeability", "objective", "evaluations")]


def kept(path: Path) -> Any:
    """A result that others start from."""
    if not path.exists():
        save(xr.Dataset({"k": ("x", np.arange(20.0), {"units": "m"})}, attrs={"a": "b"}), path)
    found = open_dataset(path, "controls.k.initial")["k"]
    return found.values.tolist(), found.attrs


def column(path: Path) -> Any:
    if not path.exists():
        MAP.save(path)
    return ToeplitzMap.read(path).blocks.tolist()


KINDS = [sampled, rows, stored, chosen, inverted, kept, column]


def flipped(path: Path, whole: bytes, bit: int) -> None:
    raw = bytearray(whole)
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)


@pytest.mark.slow
@pytest.mark.parametrize("run", KINDS)
def test_one_bit(run: Callable[[Path], Any], tmp_path: Path):
    """Anywhere: in numbers, in HDF5's structures, in names."""
    path = tmp_path / "kept.h5"
    expected = run(path)
    whole = path.read_bytes()
    assert run(path) == expected
    found = outcomes(run, path, whole, expected)
    assert "refused" in found or "mended" in found


def outcomes(run: Callable[[Path], Any], path: Path, whole: bytes, expected: Any) -> list[str]:
    """What comes of flips, half of them where the file is not empty."""
    generator = np.random.default_rng(5)
    places = generator.integers(0, 8 * len(whole), FLIPS)
    filled = np.flatnonzero(np.frombuffer(whole, "u1"))
    places[::2] = 8 * generator.choice(filled, FLIPS // 2) + places[::2] % 8
    found = []
    for bit in places.tolist():
        flipped(path, whole, bit)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", JournalWarning)
                assert run(path) == expected, f"other numbers: bit {bit} of {len(whole)} bytes"
            found.append("mended" if caught else "same")
        except DataError as error:
            assert path.name in str(error) and "\n" not in str(error), f"bit {bit}"
            found.append("refused")
    return found


@pytest.mark.slow
def test_one_bit_of_a_journal_that_goes_on(tmp_path: Path):
    path = tmp_path / "kept.h5"
    inverted(path)
    whole = path.read_bytes()
    expected = resumed(path)
    assert "refused" in outcomes(resumed, path, whole, expected)


def test_every_row_of_a_store(tmp_path: Path):
    """What is not damaged can still be had, and what is damaged is named."""
    path = tmp_path / "k.h5"
    stored(path)
    whole = path.read_bytes()
    value = np.float64(CovarianceFile(path).row(1, slice(2, 3))[0, 0, 0]).tobytes()
    flipped(path, whole, 8 * whole.index(value) + 3)
    store = CovarianceFile(path)
    store.row(1, slice(0, 2))
    with pytest.raises(DataError, match=r"k\.h5: damaged, the covariance of candidates 1 and 2"):
        store.row(1, slice(0, 4))
    assert CovarianceFile.make(path, MAP, PRIOR, overwrite=True).row(1, slice(2, 3)).any()


def test_a_row_that_was_damaged_is_computed_again(tmp_path: Path):
    path = tmp_path / "rows.h5"
    expected = rows(path)
    whole = path.read_bytes()
    flipped(path, whole, 8 * whole.index(np.float64(expected[3][0][0]).tobytes()))
    with pytest.warns(JournalWarning, match=r"rows\.h5: row 3 of 6 is damaged; it is computed"):
        assert rows(path) == expected
    assert path.read_bytes() == whole


def test_an_evaluation_that_was_damaged(tmp_path: Path):
    """It says how many before it are whole."""
    path = tmp_path / "run.h5"
    inverted(path)
    whole = path.read_bytes()
    import h5py

    with h5py.File(path) as file:
        record = file["evaluations"][2]
    flipped(path, whole, 8 * whole.index(record[:64].tobytes()))
    with pytest.raises(DataError, match=r"evaluation 2 of \d+ is not .* the 2 before it are whole"):
        inverted(path)


def test_a_seal_goes_where_others_write(tmp_path: Path):
    """Such as an attribute by a tool of the user's."""
    import h5py

    path = tmp_path / "result.nc"
    kept(path)
    with h5py.File(path, "r+") as file:
        file.attrs["comment"] = "checked"
    assert open_dataset(path, "here").attrs["comment"] == "checked"
