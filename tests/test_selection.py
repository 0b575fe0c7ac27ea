"""Greedy choice of sensors: against exhaustive search, pivoted QR, and costlier forms of itself."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.linalg

from pyadjoint_gpu.placement.blocks import DenseCovariance
from pyadjoint_gpu.placement.information import information
from pyadjoint_gpu.placement.references import select_by_schur_complements, select_naively
from pyadjoint_gpu.placement.selection import select

C, T = 9, 4


def smooth(candidates=C, steps=T, *, length=2.0, size=1.0, seed=0):
    """A covariance of candidates in the plane: correlated in space and time."""
    generator = np.random.default_rng(seed)
    where = generator.uniform(0.0, 6.0, (candidates, 2))
    apart = np.linalg.norm(where[:, None] - where[None], axis=2)
    space = np.exp(-0.5 * (apart / length) ** 2)
    time = np.exp(-np.abs(np.subtract.outer(np.arange(steps), np.arange(steps))) / 3.0)
    strength = generator.uniform(0.5, 1.5, candidates) * size
    array = np.einsum("ab,ij,a,b->aibj", space, time, strength, strength)
    return DenseCovariance(array)


def blocks_of(array):
    return np.stack([array[j, :, j] for j in range(len(array))])


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
    x = DenseCovariance(np.einsum("ab,ij->aibj", np.eye(5), np.eye(3)))
    for lazy in (False, True):
        np.testing.assert_array_equal(
            select(x, 0.1, 4, forbidden=[1], lazy=lazy).order, [0, 2, 3, 4]
        )
