"""Networks of sensors: the objective by dense matrices, the best by trying all, files of K."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from linear_systems import NOISES, PLACES, SENSORS, STEPS, decaying, noise_matrix, prior, spd
from thread_ranks import Rank, Ranks

import pyadjoint_gpu as pag
from pyadjoint_gpu.lti import CovarianceFile, LinearInversion
from pyadjoint_gpu.lti.covariance import covariance
from pyadjoint_gpu.placement import place_sensors
from pyadjoint_gpu.statistics import Independent, Matern

OF, QUANTITIES = decaying(SENSORS, 1), decaying(2, 2)
GOAL = np.arange(PLACES) < 2


def logdet(matrix: np.ndarray) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def rows(sensors: tuple[int, ...]) -> np.ndarray:
    """Rows of the data of these sensors, times before sensors."""
    return (np.arange(STEPS)[:, None] * SENSORS + np.array(sensors)).ravel()


def gain(
    sensors: tuple[int, ...], noise: str, weights: np.ndarray | None = None, goal: object = None
) -> float:
    """EIG in parameter space: by how much entropy falls, of m or of W m."""
    before = np.kron(prior("exponential").times, spd(PLACES, 5))
    if weights is not None:
        root = np.tile(np.sqrt(weights), STEPS)
        before = root[:, None] * before * root
    at = rows(sensors)
    forward = OF.dense()[at]
    weighed = np.linalg.solve(noise_matrix(noise)[np.ix_(at, at)], forward)
    after = before - before @ forward.T @ np.linalg.solve(
        np.eye(len(at)) + weighed @ before @ forward.T, weighed @ before
    )
    pick = np.eye(STEPS * PLACES)
    if goal == "places":
        pick = pick[np.tile(GOAL, STEPS)]
    elif goal == "quantities":
        pick = QUANTITIES.dense()
    return 0.5 * (logdet(pick @ before @ pick.T) - logdet(pick @ after @ pick.T))


GOALS = {None: None, "places": GOAL, "quantities": QUANTITIES}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("goal", GOALS)
def test_information_is_lost_entropy(noise: str, goal: str | None):
    found = place_sensors(
        OF, prior("exponential"), NOISES[noise], 4, goal=GOALS[goal], random=3, seed=1
    )
    order = tuple(found["order"].values)
    assert sorted(order) == [0, 1, 2, 3]
    for k in range(1, 5):
        assert found["information"][k - 1] == pytest.approx(gain(order[:k], noise, goal=goal))
        for others in range(3):
            at_random = tuple(found["random_order"].values[others, :k])
            expected = gain(at_random, noise, goal=goal)
            assert found["random_information"][others, k - 1] == pytest.approx(expected)
    first = [gain((j,), noise, goal=goal) for j in range(4)]
    assert order[0] == int(np.argmax(first))
    np.testing.assert_allclose(found["information"].diff("step"), found["gain"][1:])


@pytest.mark.parametrize("goal", GOALS)
def test_weights_are_of_the_prior(goal: str | None):
    weights = np.linspace(0.1, 2.0, PLACES)
    found = place_sensors(OF, prior("exponential"), 0.3, 2, weights=weights, goal=GOALS[goal])
    order = tuple(found["order"].values)
    assert found["information"][1] == pytest.approx(gain(order, "isotropic", weights, goal))


def test_sites_of_weight_zero_are_not_asked_for():
    """With little weight the goal is the same but for it."""
    goal, least = np.arange(PLACES) < 3, 1e-9
    zero = np.where(np.arange(PLACES) == 1, 0.0, 1.0)
    found = place_sensors(OF, prior("exponential"), 0.3, 2, weights=zero, goal=goal)
    rest = goal & (zero > 0)
    near = place_sensors(OF, prior("exponential"), 0.3, 2, weights=zero + least, goal=rest)
    np.testing.assert_allclose(found["information"], near["information"], rtol=1e-5)
    with pytest.raises(pag.DataError, match="places: expected"):
        place_sensors(OF, prior(), 0.3, 2, weights=zero, goal=np.arange(PLACES) == 1)


def test_a_mask_as_weights_overstates_what_the_goal_tells():
    before = prior("exponential")
    masked = place_sensors(OF, before, 0.3, 3, weights=GOAL.astype(float))
    honest = place_sensors(OF, before, 0.3, 3, goal=GOAL)
    assert np.all(masked["information"] > 1.05 * honest["information"])


@pytest.mark.parametrize("existing", [(), (1,)])
@pytest.mark.parametrize("size", [1, 2])
def test_no_network_exceeds_the_bound(size: int, existing: tuple[int, ...]):
    found = place_sensors(OF, prior("exponential"), NOISES["blocks"], size, existing=existing)
    free = [j for j in range(SENSORS) if j not in existing]
    best = max(gain((*existing, *s), "blocks") for s in combinations(free, size))
    before = gain(existing, "blocks") if existing else 0.0
    assert found.attrs["existing_information"] == pytest.approx(before)
    assert found["information"][-1] <= best + 1e-9 <= found["most_possible"][-1] + 2e-9
    assert found["information"][-1] - before >= found.attrs["guaranteed_fraction"] * (best - before)
    assert found.attrs["guaranteed_fraction"] == pytest.approx(1 - np.exp(-1))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"goal": GOAL}, "none: information on a goal"),
        ({"noise": NOISES["full"]}, "none: noise is correlated"),
        ({"costs": [1.0, 2.0, 1.0, 3.0]}, r"at least 0.316, \(1 - 1/e\) / 2"),
    ],
)
def test_where_the_bound_does_not_hold(options: dict[str, object], why: str):
    arguments: dict = {"noise": 0.3} | options
    found = place_sensors(OF, prior(), arguments.pop("noise"), 2, random=0, **arguments)
    assert "most_possible" not in found
    assert re.match(why, found.attrs["guarantee"])
    assert found.attrs["guaranteed_fraction"] < 0.32


def test_networks_within_a_budget():
    costs = np.array([1.0, 2.0, 1.5, 3.0])
    found = place_sensors(OF, prior(), 0.3, 3.0, costs=costs, forbidden=[0], random=30)
    assert 0 not in found["order"]
    assert costs[found["order"]].sum() <= 3.0
    networks = [[j for j in row if j >= 0] for row in found["random_order"].values]
    assert all(costs[n].sum() <= 3.0 and 0 not in n for n in networks)
    # None has money left for another.
    assert {tuple(sorted(n)) for n in networks} == {(1,), (2,), (3,)}
    assert np.all(np.isfinite(found["random_information"][:, 0]))


def test_deviations_are_those_of_the_inversion():
    """With sensors in place, at each addition."""
    noise = NOISES["full"]
    found = place_sensors(OF, prior("exponential"), noise, 2, existing=[2])
    network = [2]
    for k in range(3):
        if k:
            network.append(int(found["order"][k - 1]))
        chosen = np.array(network)
        inverse = LinearInversion(
            OF.select(chosen), prior("exponential"), noise[np.ix_(chosen, range(STEPS), chosen)]
        )
        answer = inverse.infer(np.zeros((STEPS, len(chosen))))
        np.testing.assert_allclose(found["integral_sd"][k], answer["integral_sd"], atol=1e-12)


# Not in memory


def test_blocks_formed_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    expected = place_sensors(OF, prior("exponential"), 0.3, 3, random=5)
    monkeypatch.setattr("pyadjoint_gpu.placement.covariances.LARGEST", 1)
    monkeypatch.setattr("pyadjoint_gpu.placement.covariances.DenseCovariance", None)
    found = place_sensors(OF, prior("exponential"), 0.3, 3, random=5)
    for name in ("order", "information", "random_information"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_a_file_in_place_of_memory(tmp_path: Path):
    expected = place_sensors(OF, prior("exponential"), 0.3, 3, goal=GOAL, random=5)
    path = tmp_path / "k.h5"
    found = place_sensors(OF, prior("exponential"), 0.3, 3, goal=GOAL, random=5, store=path)
    for name in ("order", "information", "random_information"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["rows"], covariance(OF, prior("exponential")), atol=1e-13)
        assert file["rows"].chunks == (1, STEPS, 1, STEPS)
        assert file["rows"].dtype == "f8"
    again = CovarianceFile(path)
    matrix = covariance(OF, prior("exponential"))
    np.testing.assert_allclose(again.row(2, slice(1, 3)), matrix[2, :, 1:3], atol=1e-13)
    blocks = np.stack([matrix[j, :, j] for j in (1, 2, 3)])
    np.testing.assert_allclose(again.diagonal(slice(1, 4)), blocks, atol=1e-13)


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_share_the_file_and_the_work(tmp_path: Path, size: int):
    expected = place_sensors(OF, prior("exponential"), 0.3, 3, random=5)

    def place(comm: Rank) -> xr.Dataset:
        path = tmp_path / "k.h5"
        return place_sensors(OF, prior("exponential"), 0.3, 3, random=5, store=path, comm=comm)

    for found in Ranks(size)(place):
        for name in ("order", "information", "random_order", "random_information"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


class Killed(BaseException):
    """As a signal would."""


def test_a_file_that_was_interrupted_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, made = tmp_path / "k.h5", []
    whole = CovarianceFile.make(tmp_path / "whole.h5", OF, prior())
    from pyadjoint_gpu.lti import store

    def slab(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if len(made) == 2:
            raise Killed
        made.append(1)
        return original(left, right)

    original = store.slab
    monkeypatch.setattr(store, "slab", slab)
    with pytest.raises(Killed):
        CovarianceFile.make(path, OF, prior())
    with pytest.raises(pag.DataError, match="2 of 4 candidates are missing"):
        CovarianceFile(path)
    made.clear()
    CovarianceFile.make(path, OF, prior())
    assert len(made) == 2
    every = slice(0, SENSORS)
    for j in range(SENSORS):
        np.testing.assert_array_equal(CovarianceFile(path).row(j, every), whole.row(j, every))
    with pytest.raises(pag.DataError, match=r"k\.h5: .*other inputs"):
        CovarianceFile.make(path, OF, prior("exponential"))


@pytest.mark.parametrize("kind", ["missing", "truncated", "foreign", "text", "journal"])
def test_files_that_are_no_covariance(tmp_path: Path, kind: str):
    path = tmp_path / "given.h5"
    if kind in ("truncated", "journal"):
        CovarianceFile.make(path, OF, prior())
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "journal":
        with h5py.File(path, "r+") as file:
            del file["rows"]
            file["rows"] = np.ones((SENSORS, 3))
    elif kind == "foreign":
        with h5py.File(path, "w") as file:
            file["other"] = np.ones(3)
    elif kind == "text":
        path.write_text("no HDF5")
    before = path.read_bytes() if path.exists() else b""
    with pytest.raises(pag.DataError, match=r"given\.h5") as caught:
        CovarianceFile(path)
    assert "\n" not in str(caught.value)
    if kind in ("truncated", "foreign", "text"):
        with pytest.raises(pag.DataError, match=r"given\.h5"):
            CovarianceFile.make(path, OF, prior())
        assert path.read_bytes() == before


# As users do


@pytest.mark.slow
def test_a_placement_by_the_wave_model():
    """From the block column on: units, coordinates, and the more sensors the less uncertain."""
    grid = pag.Grid((8, 10), (8.0, 10.0))
    source = {"low": [2, 2], "high": [6, 6]}
    model = pag.models.ShallowWater(grid, 0.05, 40, every=4, source=source)
    sensors = [[y, x] for y in (1.5, 4.0, 6.5) for x in (7.0, 9.0)]
    column = pag.block_column(model, {"depth": 1.0}, sensors)
    of = pag.lti.ToeplitzMap.of(column)
    before = Matern(0.5, 2.0)
    found = pag.placement.place_sensors(of, before, 0.01, 3)
    assert found["integral_sd"].attrs["units"] == "m"
    points = pag.block_column(model, {"depth": 1.0}, [[4.0, 0.5], [2.0, 9.5]])
    forecast = pag.lti.ToeplitzMap.of(points)
    answer = LinearInversion(of, before, 0.01, forecast).infer(np.zeros((10, 6)))
    units = {k: v.attrs["units"] for k, v in answer.data_vars.items()}
    assert units == dict(mean="m s-1", integral="m", integral_sd="m", forecast="m", forecast_sd="m")
    np.testing.assert_allclose(answer["time"], 0.2 * np.arange(1, 11))
    np.testing.assert_array_equal(answer["point_y"], [4.0, 2.0])
    np.testing.assert_array_equal(found["candidate_y"], np.array(sensors)[:, 0])
    assert found["candidate_y"].dims == ("candidate",)
    assert found["integral_sd"].dims == ("addition", "source")
    assert np.all(found["integral_sd"].diff("addition") < 0)
    assert np.all(found["gain"].diff("step") < 0)
    assert np.all(found["information"] >= np.median(found["random_information"], axis=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": np.zeros(PLACES, bool)}, "places: expected"),
        ({"goal": decaying(2, 3).select([0]).column[:3].values}, "places: expected"),
        ({"weights": np.ones(2)}, "weights: expected"),
        ({"random": -1}, "random: found -1"),
        ({"noise": -1.0}, "noise: found -1"),
        ({"budget": 9}, "budget: found 9"),
        ({"of": decaying(2, 1).select([0, 1]), "existing": [3]}, "existing: found 3"),
        ({"prior": Independent(1.0).on((STEPS, 3))}, "prior: found 6 times"),
    ],
)
def test_what_cannot_be(options: dict[str, object], message: str):
    arguments = {"of": OF, "prior": prior(), "noise": 0.3, "budget": 2} | options
    with pytest.raises((pag.ConfigError, pag.DataError), match=message):
        place_sensors(**arguments)  # type: ignore[arg-type]
