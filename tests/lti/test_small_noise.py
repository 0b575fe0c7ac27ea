"""Noise far below what sensors see: right, or refused with the smallest that can be had."""

from __future__ import annotations

import re

import numpy as np
import pytest
from selections import smooth
from thread_ranks import Ranks

from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.lti import LinearInversion, ToeplitzMap
from pyadjoint_gpu.lti.covariance import covariance
from pyadjoint_gpu.placement import information, place_sensors, select
from pyadjoint_gpu.statistics import Dense, DenseCovariance, SpaceTime

STEPS, SENSORS = 6, 10
RATIOS = [10.0**-k for k in range(2, 10)]
"""Of noise to the largest signal."""


class System:
    """Sensors in a line that see a smooth source (fewer places than sensors: data are redundant),
    or a rough one."""

    def __init__(self, places: int, length: float):
        rng = np.random.default_rng(0)
        at, sensors = np.sort(rng.uniform(0, 6, places)), rng.uniform(0, 6, SENSORS)
        space = np.exp(-0.5 * ((sensors[:, None] - at) / length) ** 2)
        self.map = ToeplitzMap.of(space * np.exp(-0.3 * np.arange(STEPS))[:, None, None])
        matrix, times = np.exp(-np.abs(at[:, None] - at)), 0.7 ** np.arange(STEPS)
        self.prior = SpaceTime(Dense(matrix), correlation=times).on((STEPS, places))
        self.root = np.kron(np.linalg.cholesky(self.prior.times), np.linalg.cholesky(matrix))
        self.covariance = covariance(self.map, self.prior)
        self.signal = float(np.sqrt(np.einsum("itit->it", self.covariance).max()))
        self.data = self.map.matvec(self.prior.draw(1, 3)[0])

    def svd(self, sensors, sd):
        """Singular values of L^-1 F Gamma^(1/2), never squared."""
        return np.linalg.svd(self.map.select(sensors).dense() @ self.root / sd)

    def information(self, sensors, sd):
        return 0.5 * np.log1p(np.square(self.svd(sensors, sd)[1])).sum()

    def posterior(self, sd):
        """Mean of m, and standard deviation of its sum over time."""
        left, values, right = self.svd(np.arange(SENSORS), sd)
        k = len(values)
        white = (left.T @ self.data.ravel() / sd)[:k] * values / (1.0 + values**2)
        spread = np.ones(len(right))
        spread[:k] = 1.0 / (1.0 + values**2)
        total = np.tile(np.eye(self.map.sites[0]), STEPS) @ self.root @ right.T
        return self.root @ right[:k].T @ white, np.sqrt(np.square(total) @ spread)


SYSTEMS = {"redundant": System(7, 2.0), "smooth": System(30, 2.0), "rough": System(60, 0.3)}
LEAST = re.compile(
    r"noise: found (\S+), too small beside what sensors see for double precision,"
    r" expected (\S+) or more$"
)


def refused(call, sd) -> float:
    """The least noise that an error asks for; 0 where there is none."""
    try:
        call(sd)
    except DataError as error:
        found = LEAST.fullmatch(str(error))
        assert found, error
        assert float(found[1]) == pytest.approx(sd, rel=1e-5)
        assert float(found[2]) > sd
        return float(found[2])
    return 0.0


@pytest.mark.parametrize("name", SYSTEMS)
def test_information_is_right_or_refused(name):
    system = SYSTEMS[name]
    x = DenseCovariance(system.covariance)

    def check(sd):
        found = select(x, sd, 9)
        wanted = [system.information(found.order[: k + 1], sd) for k in range(9)]
        np.testing.assert_allclose(found.information, wanted, atol=3e-4)
        (again,) = information(x, sd, [found.order])
        np.testing.assert_allclose(again, wanted, atol=3e-4)

    for call in (check, lambda sd: information(x, sd, [[3, 1, 4, 0, 5, 9, 2, 6, 8]])):
        least = [refused(call, r * system.signal) for r in RATIOS]
        assert least[:4] == [0.0] * 4
        if name == "rough":  # nothing is redundant: all can be had
            assert not any(least)
        else:
            assert all(least[5:])
        for value in filter(None, least):
            assert value / system.signal < 1e-5
            call(value)


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_inversion_is_right_or_refused(name):
    system = SYSTEMS[name]

    def check(sd):
        answer = LinearInversion(system.map, system.prior, sd).infer(system.data)
        mean, spread = system.posterior(sd)
        within = 1e-4 * np.abs(mean).max()
        np.testing.assert_allclose(answer["mean"].values.ravel(), mean, atol=within)
        np.testing.assert_allclose(answer["integral_sd"], spread, rtol=1e-4)

    least = [refused(check, r * system.signal) for r in RATIOS]
    assert least[:4] == [0.0] * 4
    assert not any(least) if name == "rough" else all(least[5:])
    for value in filter(None, least):
        assert value / system.signal < 1e-5
        check(value)


SMALL = 1e-8 * SYSTEMS["smooth"].signal
KINDS = {
    "one": SMALL,
    "each": np.full(SENSORS, SMALL),
    "blocks": SMALL**2 * np.stack([np.eye(STEPS)] * SENSORS),
    "all": SMALL**2 * np.eye(SENSORS * STEPS).reshape((SENSORS, STEPS) * 2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"dtype": "float32"}, {"goal": np.arange(30) < 3}],
    ids=["float64", "float32", "goal"],
)
def test_whatever_the_noise_and_the_goal(kind, options):
    system, noise = SYSTEMS["smooth"], KINDS[kind]
    with pytest.raises(DataError, match=r"noise: .*too small beside what sensors see") as caught:
        place_sensors(system.map, system.prior, noise, 9, random=2, **options)
    times = re.search(
        r"expected standard deviations (\S+) times as large or more", str(caught.value)
    )
    if kind != "one":
        assert times
        factor = float(times[1])
        assert 10 < factor < 1e4
        larger = np.multiply(noise, factor if kind == "each" else factor**2)
        place_sensors(system.map, system.prior, larger, 9, random=2, **options)


def test_ranks_refuse_together():
    x = DenseCovariance(SYSTEMS["smooth"].covariance)

    def run(comm):
        with pytest.raises(DataError, match="too small beside what sensors see"):
            select(x, SMALL, 9, comm=comm)
        return True

    assert Ranks(3)(run) == [True] * 3


def test_what_is_not_positive_definite_is_told_from_round_off():
    for sd in (0.3, 1e-3):
        with pytest.raises(DataError, match="covariance with noise: it is not positive definite"):
            select(DenseCovariance(-smooth().array), sd, 3)


def test_noise_that_is_almost_singular():
    """Two sensors with the same errors, to one part in 1e13: no noise is too small."""
    noise = np.eye(6).reshape(3, 2, 3, 2).copy()
    for a, b in ((0, 1), (1, 0)):
        noise[a, :, b] = (1.0 - 1e-13) * np.eye(2)
    with pytest.raises(DataError, match="noise: it is too close to a singular one"):
        select(smooth(3, 2), noise, 2, existing=[0])
