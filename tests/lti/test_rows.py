"""The journal of a block column: interrupted it goes on, to the same bits."""

import h5py
import numpy as np
import pytest

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.core.journal import Rows
from pyadjoint_gpu.lti.rows import BlockRows
from pyadjoint_gpu.models import AcousticWave, ShallowWater

SENSORS = np.array([[0.21, 0.33], [0.6, 0.97], [0.02, 0.5], [0.4, 0.4], [0.5, 1.1]])


def water(steps=24, kind=ShallowWater, **options):
    grid = pag.Grid((7, 12), (0.7, 1.2))
    return kind(grid, 0.04, steps, **{"source": "cells", "every": 4} | options)


def column(path=None, model=None, depth=0.07, sensors=SENSORS, **options):
    return pag.block_column(model or water(), {"depth": depth}, sensors, journal=path, **options)


class Counted(pag.EmbeddedEngine):
    """Counts solves and adjoints; is interrupted in the adjoint of that number."""

    solves = adjoints = 0
    interrupted = -1

    @classmethod
    def reset(cls, interrupted=-1):
        cls.solves, cls.adjoints, cls.interrupted = 0, 0, interrupted
        return cls()


@pytest.fixture
def counted(monkeypatch):
    from pyadjoint_gpu.engines.explicit_time import ExplicitTimeStepper

    solve, adjoint = ExplicitTimeStepper.solve, ExplicitTimeStepper.adjoint

    def counted_solve(self, *arguments, **options):
        Counted.solves += 1
        return solve(self, *arguments, **options)

    def counted_adjoint(self, *arguments, **options):
        if Counted.adjoints == Counted.interrupted:
            raise KeyboardInterrupt
        Counted.adjoints += 1
        return adjoint(self, *arguments, **options)

    monkeypatch.setattr(ExplicitTimeStepper, "solve", counted_solve)
    monkeypatch.setattr(ExplicitTimeStepper, "adjoint", counted_adjoint)


def test_an_interrupted_run_goes_on_to_the_same_bits(counted, tmp_path):
    path = tmp_path / "rows.h5"
    whole = column(engine=Counted.reset())
    assert (Counted.solves, Counted.adjoints) == (1, 5)
    for stop in (2, 1):
        with pytest.raises(KeyboardInterrupt):
            column(path, engine=Counted.reset(interrupted=stop))
    for missing in (2, 0):
        again = column(path, engine=Counted.reset())
        assert (Counted.solves, Counted.adjoints) == (missing > 0, missing)
        assert again["response"].values.tobytes() == whole["response"].values.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["rows.h5"]


def test_a_row_counts_only_once_it_is_on_disk(monkeypatch, tmp_path):
    """What was written before the flag is there when the flag is."""
    order = []

    def sync(file):
        order.append(int(file["rows.marks"][1].any()))

    with BlockRows.start(tmp_path / "rows.h5", dict, rows=Rows((3, 2))) as kept:
        monkeypatch.setattr("pyadjoint_gpu.core.journal.sync", sync)
        kept.put(rows=(1, np.ones(2)))
    assert order == [0, 1]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"depth": 0.06}, "parameters"),
        ({"model": water(28)}, "model"),
        ({"model": water(absorbing="x_min")}, "model"),
        ({"model": water(gravity=9.0)}, "model"),
        ({"model": water(source=[[0.2, 0.3]])}, "model"),
        ({"sensors": SENSORS + 1e-12}, "sensors"),
        ({"sensors": SENSORS[:4]}, "sensors"),
        ({"engine": pag.EmbeddedEngine(dtype="float32")}, "engine"),
    ],
    ids=["depth", "steps", "sides", "gravity", "places", "moved", "fewer", "dtype"],
)
def test_a_journal_of_something_else_is_refused(other, named, made):
    before = made.read_bytes()
    told = rf"rows\.h5: a journal made with other inputs than now: other {named}; .*overwrite=True"
    with pytest.raises(DataError, match=told):
        column(made, **other)
    assert made.read_bytes() == before


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "rows.h5"
    column(path)
    return path


def test_the_forcing_itself_does_not_matter(made):
    m = {"depth": np.full((7, 12), 0.07), "source": 3.0, "initial_elevation": 0.1}
    pag.block_column(water(), m, SENSORS, journal=made)


def test_another_physics_is_refused(made):
    sound = water(kind=AcousticWave)
    with pytest.raises(DataError, match="a journal made with other inputs"):
        pag.block_column(sound, {"wave_speed": 0.07}, SENSORS, journal=made)


def test_files_that_cannot_be_used(made, tmp_path):
    path = tmp_path / "rows.h5"
    whole = made.read_bytes()
    for bad in (*(whole[: int(part * len(whole))] for part in (0.95, 0.5, 0.1)), b"hello"):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"rows\.h5: not a journal of rows, or truncated"):
            column(path)
    with h5py.File(path, "w") as file:
        file["a"] = 1
    with pytest.raises(DataError, match=r"rows\.h5: not a journal of rows; give another path"):
        column(path)
    with pytest.raises(DataError, match=r"no such directory '.*none'"):
        column(tmp_path / "none" / "rows.h5")
