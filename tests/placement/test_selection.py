"""Greedy choice of sensors: against exhaustive search, pivoted QR, and costlier forms of itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import combinations
from threading import Event

import h5py
import numpy as np
import pytest
import scipy.linalg
from references import select_by_schur_complements, select_naively
from selections import C, T, blocks_of, smooth
from thread_ranks import Ranks

from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.placement import candidates, device
from pyadjoint_gpu.placement.information import information
from pyadjoint_gpu.placement.selection import select
from pyadjoint_gpu.statistics.covariance import DenseCovariance


@pytest.fixture(scope="module")
def noises():
    generator = np.random.default_rng(1)
    a = generator.standard_normal((C * T, C * T))
    full = (0.1 * np.eye(C * T) + 0.2 * a @ a.T / (C * T)).reshape(C, T, C, T)
    return {
        "number": 0.3,
        "deviations": np.linspace(0.2, 0.6, C),
        "blocks": blocks_of(full),
        "correlated": full,
    }


KINDS = ("number", "deviations", "blocks", "correlated")


def direct(covariance, noise, design, conditional=None):
    """EIG of a set of sensors, from the whole matrices."""
    if np.ndim(noise) == 4:
        full = noise
    else:
        full = np.zeros((C, T, C, T))
        for j in range(C):
            own = noise[j] if np.ndim(noise) else noise
            full[j, :, j] = own if np.ndim(own) else np.square(own) * np.eye(T)
    pick = np.ix_(design, range(T), design, range(T))
    n = len(design) * T

    def logdet(array):
        return np.linalg.slogdet(array[pick].reshape(n, n))[1]

    less = full if conditional is None else conditional.array + full
    return 0.5 * (logdet(covariance.array + full) - logdet(less))


@pytest.mark.parametrize("goal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_set_of_sensors_has_its_information(noises, kind, goal):
    x = smooth()
    conditional = DenseCovariance(0.3 * x.array) if goal else None
    designs = list(combinations(range(C), 3))
    found = information(x, noises[kind], designs, conditional=conditional)
    for design, values in zip(designs, found, strict=True):
        for k in range(3):
            wanted = direct(x, noises[kind], design[: k + 1], conditional)
            assert values[k] == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("goal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_step_adds_the_most(noises, kind, goal):
    """And all three forms agree."""
    x, noise = smooth(), noises[kind]
    given = {"conditional": DenseCovariance(0.3 * x.array) if goal else None}
    given |= {"existing": (4, 2), "forbidden": (0, 7)}
    found = select(x, noise, 4, **given)
    chosen = [4, 2]
    assert found.existing == pytest.approx(
        direct(x, noise, chosen, given["conditional"]), rel=1e-10
    )
    for p, gain, value in zip(found.order, found.gains, found.information, strict=True):
        left = [j for j in range(C) if j not in (*chosen, 0, 7)]
        values = [direct(x, noise, [*chosen, j], given["conditional"]) for j in left]
        assert p == left[int(np.argmax(values))]
        before = direct(x, noise, chosen, given["conditional"])
        assert gain == pytest.approx(max(values) - before, rel=1e-10)
        assert value == pytest.approx(max(values), rel=1e-10)
        chosen.append(int(p))
    for form in (select_by_schur_complements, select_naively):
        other = form(x, noise, 4, **given)
        np.testing.assert_array_equal(other.order, found.order)
        np.testing.assert_allclose(other.gains, found.gains, rtol=1e-10)
        assert other.existing == pytest.approx(found.existing, rel=1e-10)


def test_greedy_has_its_share_of_the_best(noises):
    x = smooth(length=1.0)
    designs = list(combinations(range(C), 3))
    best = information(x, 0.3, designs)[:, -1].max()
    found = select(x, 0.3, 3).information[-1]
    assert (1.0 - np.exp(-1.0)) * best <= found <= best * (1.0 + 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_single_times_are_pivoted_qr(seed):
    x = smooth(40, 1, seed=seed)
    values, vectors = np.linalg.eigh(x.array[:, 0, :, 0] + 0.01 * np.eye(40))
    root = vectors * np.sqrt(values) @ vectors.T
    r, pivots = scipy.linalg.qr(root, pivoting=True, mode="r")
    found = select(x, 0.1, 25)
    np.testing.assert_array_equal(found.order, pivots[:25])
    wanted = np.log(np.abs(r.diagonal())) - np.log(0.1)
    np.testing.assert_allclose(found.gains, wanted[:25], rtol=1e-10)


def test_equals_are_chosen_by_index():
    # Within round-off.
    near = np.diag(1.0 + 1e-13 * np.arange(5))
    x = DenseCovariance(np.einsum("ab,ij->aibj", near, np.eye(3)))
    for lazy in (False, True):
        np.testing.assert_array_equal(
            select(x, 0.1, 4, forbidden=[1], lazy=lazy).order, [0, 2, 3, 4]
        )


# Costs


def by_hand(covariance, noise, costs, budget, *, ratio):
    """The greedy rule, from the whole matrices."""
    order = []
    while True:
        spent = sum(costs[order])
        left = [j for j in range(C) if j not in order and spent + costs[j] <= budget]
        if not left:
            return order
        before = direct(covariance, noise, order) if order else 0.0
        gains = np.array([direct(covariance, noise, [*order, j]) - before for j in left])
        order.append(left[int(np.argmax(gains / costs[left] if ratio else gains))])


@pytest.mark.parametrize("seed", range(4))
def test_a_budget_is_spent_on_the_better_of_two_rules(seed):
    x, costs = smooth(length=1.0), np.random.default_rng(seed).uniform(1.0, 3.0, C)
    sets = [by_hand(x, 0.3, costs, 6.0, ratio=ratio) for ratio in (True, False)]
    values = [direct(x, 0.3, order) for order in sets]
    found = select(x, 0.3, 6.0, costs=costs)
    best = int(np.argmax(values))
    assert found.rule == ("gain per cost", "gain")[best]
    np.testing.assert_array_equal(found.order, sets[best])
    assert found.information[-1] == pytest.approx(max(values), rel=1e-10)
    assert costs[found.order].sum() <= 6.0


def test_gain_per_cost_alone_may_be_arbitrarily_bad():
    array = np.einsum("ab,ij->aibj", np.diag([1e-3, 9.0, *np.ones(C - 2)]), np.eye(T))
    costs = np.r_[1e-4, 2.0, np.full(C - 2, 5.0)]
    x = DenseCovariance(array)
    assert by_hand(x, 0.3, costs, 2.0, ratio=True) == [0]
    found = select(x, 0.3, 2.0, costs=costs)
    assert (found.rule, found.order.tolist()) == ("gain", [1])


def test_costs_that_add_up_to_the_budget_are_affordable():
    found = select(smooth(), 0.3, 0.3, costs=np.full(C, 0.1))
    assert len(found.order) == 3
    usual = select(smooth(), 0.3, 3)
    np.testing.assert_array_equal(found.order, usual.order)
    np.testing.assert_array_equal(found.gains, usual.gains)


# Single precision


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("noise", [1e-3, 1e-2, 1.0])
def test_single_precision_chooses_the_same(noise, lazy):
    """Where variances are up to 1e6 of those of noise, too."""
    for seed in range(2):
        x = smooth(30, 12, seed=seed, length=3.0)
        usual = select(x, noise, 10, lazy=False)
        found = select(x, noise, 10, dtype="float32", lazy=lazy)
        np.testing.assert_array_equal(found.order, usual.order)
        np.testing.assert_allclose(found.gains, usual.gains, rtol=1e-8)


def test_single_precision_tells_near_equals_apart():
    """Which differ by 1e-9, when it is good for 1e-7."""
    scale = np.sqrt(1.0 + 1e-9 * np.random.default_rng(0).permutation(12))
    array = smooth(1, 6).array * np.ones((12, 1, 12, 1))
    array = array * np.eye(12)[:, None, :, None] * scale[:, None, None, None] ** 2
    x = DenseCovariance(array)
    found = select(x, 0.01, 12, dtype="float32")
    np.testing.assert_array_equal(found.order, np.argsort(-scale))
    np.testing.assert_array_equal(found.order, select(x, 0.01, 12).order)
    single = array.astype(np.float32).reshape(12, 6, -1)
    assert len(np.unique(single.max((1, 2)))) < 5


def test_single_precision_with_two_matrices(noises):
    x = smooth()
    for given in ({"conditional": DenseCovariance(0.3 * x.array)}, {}):
        noise = noises["correlated" if not given else "blocks"]
        usual, found = (select(x, noise, 6, dtype=d, **given) for d in ("float64", "float32"))
        np.testing.assert_array_equal(found.order, usual.order)
        np.testing.assert_allclose(found.gains, usual.gains, rtol=1e-10)


# JAX


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lazy", [False, True])
def test_devices_of_jax_choose_the_same(monkeypatch, dtype, lazy):
    """More sensors than go into one product; round-off that is not positive definite."""
    x = smooth(24, 5)
    for noise in (0.3, 1e-3):
        usual = select(x, noise, 18, existing=[2], lazy=False)
        with monkeypatch.context() as patch:
            patch.setattr(candidates, "Panel", device.DevicePanel)
            found = select(x, noise, 18, existing=[2], dtype=dtype, lazy=lazy)
        np.testing.assert_array_equal(found.order, usual.order)
        np.testing.assert_allclose(found.gains, usual.gains, rtol=1e-8 if noise < 0.1 else 1e-11)


def test_devices_of_jax_refuse_what_is_not_positive_definite(monkeypatch):
    monkeypatch.setattr(candidates, "Panel", device.DevicePanel)
    with pytest.raises(DataError, match="covariance with noise: it is not positive definite"):
        select(DenseCovariance(-smooth().array), 0.3, 3)


# Lazy evaluation


@pytest.mark.parametrize(
    ("kind", "costs"), [("number", None), ("blocks", None), ("number", np.linspace(1.0, 3.0, 40))]
)
def test_lazy_evaluation_reads_less_and_chooses_the_same(kind, costs):
    x = smooth(40, 32, length=0.4)
    noise = 0.3 if kind == "number" else np.stack([0.09 * np.eye(32)] * 40)
    given = {"existing": (3,), "costs": costs}
    usual, found = (select(x, noise, 12, lazy=lazy, **given) for lazy in (False, True))
    np.testing.assert_array_equal(found.order, usual.order)
    np.testing.assert_allclose(found.gains, usual.gains, rtol=1e-12)
    assert found.blocks < 0.7 * usual.blocks
    if costs is None:
        # Each candidate's own, and with each sensor but the last.
        assert usual.blocks == 40 * 13
    assert select(x, noise, 12, **given).blocks == found.blocks


# Ranks


def same(found, wanted):
    np.testing.assert_array_equal(found.order, wanted.order)
    np.testing.assert_allclose(found.gains, wanted.gains, rtol=1e-11)
    np.testing.assert_allclose(found.information, wanted.information, rtol=1e-11)
    assert found.rule == wanted.rule


@pytest.mark.parametrize("size", [1, 2, 4, 11])
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_ranks_does_not_matter(noises, kind, size):
    x, given = smooth(), {"existing": (8,), "forbidden": (0,)}
    usual = select(x, noises[kind], 5, **given)
    for dtype in ("float64", "float32"):
        for found in Ranks(size)(
            lambda comm, d=dtype: select(x, noises[kind], 5, comm=comm, dtype=d, **given)
        ):
            same(found, usual)


def test_ranks_agree_on_equals():
    x = DenseCovariance(np.einsum("ab,ij->aibj", np.eye(7), np.eye(3)))
    for found in Ranks(3)(lambda comm: select(x, 0.1, 7, comm=comm)):
        assert found.order.tolist() == list(range(7))


class Fails(DenseCovariance):
    """Once a row of candidate 2 has been asked for."""

    def row(self, p, which):
        out = np.array(super().row(p, which))
        if p == 2 and which.start >= 5:
            out[:] = np.nan
        return out


def test_an_error_on_one_rank_is_raised_on_all():
    def run(comm):
        with pytest.raises(DataError, match="covariance with noise: values are not finite"):
            select(Fails(smooth().array), 0.3, 5, existing=[2], comm=comm)
        return True

    assert Ranks(3)(run) == [True] * 3


def test_mpi_ranks_choose_the_same(tmp_path):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    beside = shutil.which("mpiexec", path=os.path.dirname(sys.executable))
    launcher = beside or shutil.which("mpiexec")
    if launcher is None:
        pytest.skip("no mpiexec is on the path")
    program = tmp_path / "ranks.py"
    program.write_text(
        "from mpi4py import MPI\n"
        "from test_selection import smooth\n"
        "from pyadjoint_gpu.placement.selection import select\n"
        "comm = MPI.COMM_WORLD\n"
        "assert comm.Get_size() == 4\n"
        f"found = select(smooth(), 0.3, 6, comm=comm, journal={str(tmp_path / 'order.h5')!r})\n"
        f"open({str(tmp_path)!r} + f'/{{comm.Get_rank()}}', 'w').write(str(found.order.tolist()))\n"
    )
    paths = os.pathsep.join(sys.path)
    subprocess.run(
        [launcher, "-n", "4", sys.executable, program],
        env=os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        check=True,
        timeout=120,
    )
    wanted = str(select(smooth(), 0.3, 6).order.tolist())
    assert [(tmp_path / str(rank)).read_text() for rank in range(4)] == [wanted] * 4


# Journals


class Killed(Exception):
    pass


class Dies(DenseCovariance):
    """After so many reads."""

    def __init__(self, array, reads):
        super().__init__(array)
        self.left = reads

    def row(self, p, which):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().row(p, which)


@pytest.mark.parametrize(
    "given",
    [
        {"lazy": False},
        {"lazy": True},
        {"dtype": "float32"},
        {"conditional": DenseCovariance(0.3 * smooth(8).array)},
        {"costs": np.linspace(1.0, 2.0, 8)},
    ],
)
def test_a_killed_selection_goes_on(tmp_path, given, monkeypatch):
    """Killed at its first read, then at the next run's second, and so on."""
    monkeypatch.setattr(candidates, "COLUMNS", 20)
    x, path = smooth(8), tmp_path / "order.h5"
    usual = select(x, 0.3, 5, existing=[2], **given)
    files = set()
    for reads in range(1000):
        try:
            found = select(Dies(x.array, reads), 0.3, 5, existing=[2], journal=path, **given)
        except Killed:
            files.add(path.read_bytes() if path.exists() else b"")
            continue
        break
    assert len(files) >= 4
    np.testing.assert_array_equal(found.order, usual.order)
    # The same bits.
    np.testing.assert_array_equal(found.gains, usual.gains)
    np.testing.assert_array_equal(found.information, usual.information)
    assert found.rule == usual.rule


def test_a_finished_selection_is_read_again(tmp_path, monkeypatch):
    """Without scoring, whatever the precision and number of ranks."""
    path = tmp_path / "order.h5"
    usual = select(smooth(), 0.3, 6, journal=path)
    before = path.read_bytes()
    monkeypatch.setattr(candidates.Candidates, "best", lambda *_: pytest.fail("scored"))
    for found in Ranks(2)(
        lambda comm: select(smooth(), 0.3, 6, journal=path, comm=comm, dtype="float32")
    ):
        np.testing.assert_array_equal(found.gains, usual.gains)
    assert path.read_bytes() == before


def other(array):
    """A covariance with the same own covariances of candidates."""
    array = array.copy()
    for a in range(C):
        for b in range(C):
            if a != b:
                array[a, :, b] *= 0.9
    return DenseCovariance(array)


def test_journals_of_something_else_are_refused(tmp_path):
    path, x = tmp_path / "order.h5", smooth()
    select(x, 0.3, 3, journal=path)
    for args, given, named in (
        ((smooth(seed=1), 0.3, 3), {}, "covariance"),
        ((other(x.array), 0.3, 3), {}, "covariance"),
        ((x, 0.2, 3), {}, "noise"),
        ((x, 0.3, 4), {}, "budget"),
        ((x, 0.3, 3), {"existing": [1]}, "existing"),
        ((x, 0.3, 3), {"forbidden": [1]}, "forbidden"),
        ((x, 0.3, 3), {"costs": np.ones(C)}, "costs"),
        ((x, 0.3, 3), {"conditional": DenseCovariance(0.1 * x.array)}, "conditional"),
    ):
        with pytest.raises(DataError, match=f"other inputs than now: other {named}; "):
            select(*args, journal=path, **given)
    fewer = select(x, 0.3, 2, journal=path, overwrite=True)
    np.testing.assert_array_equal(fewer.order, select(x, 0.3, 2, journal=path).order)


def test_files_that_are_no_journals(tmp_path):
    path, x = tmp_path / "order.h5", smooth()
    select(x, 0.3, 3, journal=path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a journal of a selection"):
        select(x, 0.3, 3, journal=path)

    def on_all(comm):
        with pytest.raises(DataError, match="not a journal of a selection"):
            select(x, 0.3, 3, journal=path, comm=comm)

    Ranks(2)(on_all)
    with h5py.File(path, "w") as file:
        file["order"] = [1, 2]
    with pytest.raises(DataError, match="not a journal of a selection"):
        select(x, 0.3, 3, journal=path)
    with pytest.raises(DataError, match="no such directory"):
        select(x, 0.3, 3, journal=tmp_path / "no" / "order.h5")


# Reading ahead


class Meets(DenseCovariance):
    """Whose reads end when the work on the group before has begun."""

    def __init__(self, array):
        super().__init__(array)
        self.events, self.met = {}, []

    def event(self, *which):
        # In one step: of two threads that ask for a new event, either gets the same one.
        return self.events.setdefault(which, Event())

    def wait(self, *which):
        self.met.append(self.event(*which).wait(60.0))

    def row(self, p, which):
        self.event("read", p, which.start).set()
        if which.start > 0:
            self.wait("work", p, which.start - 3)
        return super().row(p, which)


def test_the_next_blocks_are_read_while_these_are_worked_on(monkeypatch):
    """Events decide, not the clock: work on a group ends when the next one's read has begun, and
    that read when the work has begun. One after the other, either would wait in vain."""
    monkeypatch.setattr(candidates, "COLUMNS", 12)
    x = Meets(smooth().array)
    extend = candidates.Group.extend

    def meets(group, *given):
        p = usual.order[group.level]
        x.event("work", p, group.which.start).set()
        extend(group, *given)
        if group.which.stop < C:
            x.wait("read", p, group.which.stop)

    usual = select(smooth(), 0.3, 4, lazy=False)
    monkeypatch.setattr(candidates.Group, "extend", meets)
    found = select(x, 0.3, 4, lazy=False)
    # Three sensors that others come after, and two groups of three that have a next.
    assert x.met == [True] * 12
    np.testing.assert_array_equal(found.order, usual.order)
