"""Maps by Fourier transforms, priors and inversions of linear systems, against dense matrices."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from linear_systems import (
    CORRELATIONS,
    NOISES,
    PLACES,
    POINTS,
    SENSORS,
    STEPS,
    Dense,
    decaying,
    noise_matrix,
    prior,
    spd,
)
from scipy.special import k1

import pyadjoint_gpu as pag
from pyadjoint_gpu.lti import LinearInversion, ToeplitzMap
from pyadjoint_gpu.lti.covariance import covariance
from pyadjoint_gpu.statistics import Dense as DensePrior
from pyadjoint_gpu.statistics import Independent, Matern, SpaceTime

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(STEPS, SENSORS))
GRID = pag.Grid((6, 8), (6.0, 8.0))
SOURCES = {
    "cells": "cells",
    "box": {"low": [1, 1], "high": [4, 5]},
    "mask": np.add.outer(np.arange(6), np.arange(8)) < 7,
    "points": [[1.0, 1.0], [3.0, 3.0]],
}


def water(source: object = "cells") -> pag.models.ShallowWater:
    return pag.models.ShallowWater(GRID, 0.05, 20, every=2, source=SOURCES[str(source)])


def inversion(correlation: str = "independent", noise: str = "isotropic") -> LinearInversion:
    return LinearInversion(
        decaying(SENSORS, 1), prior(correlation), NOISES[noise], decaying(POINTS, 2)
    )


# The map


@pytest.mark.parametrize("steps", [1, 2, 7, 32])
def test_products_are_those_of_the_dense_matrix(steps: int):
    of = ToeplitzMap.of(RNG.normal(size=(steps, 3, 2, 5)))
    m, d = RNG.normal(size=(2, steps, 2, 5)), RNG.normal(size=(2, steps, 3))
    dense = of.dense()
    np.testing.assert_allclose(of.matvec(m).reshape(2, -1), m.reshape(2, -1) @ dense.T, atol=1e-12)
    np.testing.assert_allclose(of.rmatvec(d).reshape(2, -1), d.reshape(2, -1) @ dense, atol=1e-12)
    np.testing.assert_array_equal(of.matvec(m[0]), of.matvec(m[:1])[0])


@pytest.mark.parametrize(("dtype", "within"), [("float64", 1e-12), ("float32", 1e-5)])
def test_adjoint(dtype: str, within: float):
    of = ToeplitzMap.of(RNG.normal(size=(50, 6, 30)), dtype)
    m, d = RNG.normal(size=(50, 30)), RNG.normal(size=(50, 6))
    seen, back = of.matvec(m), of.rmatvec(d)
    assert seen.dtype == back.dtype == dtype
    size = np.linalg.norm(seen) * np.linalg.norm(d)
    assert abs(np.vdot(seen, d) - np.vdot(m, back)) < within * size


def test_the_map_of_a_model(tmp_path: Path):
    """Against a solve; and written and read again."""
    model = water("box")
    depth = {"depth": lambda y, x: 1.0 + 0.1 * x}
    column = pag.block_column(model, depth, [[4.0, 6.5], [2.5, 2.0]])
    of = ToeplitzMap.of(column)
    m = RNG.normal(size=(of.steps, *of.sites))
    state = pag.solve(model, depth | {"source": m}, engine="embedded")
    seen = (
        state["elevation"]
        .isel(time=slice(1, None))
        .interp(y=("sensor", [4.0, 2.5]), x=("sensor", [6.5, 2.0]))
    )
    np.testing.assert_allclose(of.matvec(m), seen, atol=1e-12)
    assert of.interval == pytest.approx(0.1)
    of.save(tmp_path / "map.nc")
    again = ToeplitzMap.read(tmp_path / "map.nc")
    assert again.column.identical(of.column)
    np.testing.assert_array_equal(of.select([1]).matvec(m), of.matvec(m)[:, 1:])


def test_a_block_column_of_plain_hdf5(tmp_path: Path):
    blocks = RNG.normal(size=(5, 2, 3, 4))
    with h5py.File(tmp_path / "blocks.h5", "w") as file:
        file["response"] = blocks
    of = ToeplitzMap.read(tmp_path / "blocks.h5")
    np.testing.assert_array_equal(of.blocks, blocks.reshape(5, 2, 12))
    assert of.sites == (3, 4)
    assert of.interval == 1.0


# Priors


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("duration", [None, 0.3])
def test_a_prior_of_a_forcing(source: str, duration: float | None):
    """Its root is one, its variance the one asked for, its times correlate as said."""
    space = water(source).space("source")
    before = Independent(2.0) if source == "points" else Matern(2.0, 1.5)
    found = SpaceTime(before, duration).on(space)
    size = int(np.prod(found.shape))
    unit = np.eye(size).reshape(-1, *found.shape)
    matrix, root = (np.asarray(f(unit)).reshape(size, -1) for f in (found.covariance, found.root))
    np.testing.assert_allclose(root.T @ root, matrix, atol=1e-12)
    np.testing.assert_allclose(np.diag(matrix), 4.0, rtol=1e-12)
    np.testing.assert_allclose(found.variance, 4.0, rtol=1e-12)
    per_time = matrix.reshape(space.count, size // space.count, space.count, -1)
    rate = 0.0 if duration is None else np.exp(-0.1 / 0.3)
    np.testing.assert_allclose(per_time[3, :, 1], rate**2 * per_time[3, :, 3], atol=1e-12)
    np.testing.assert_allclose(per_time[3, :, 2], rate * per_time[3, :, 3], atol=1e-12)


def test_a_prior_correlates_as_matern():
    """(r/l) K_1(r/l) far from walls; the same in a box of cells as in all of them."""
    grid = pag.Grid((60, 60), (60.0, 60.0))
    whole = pag.models.ShallowWater(grid, 0.1, 1, source="cells").space("source")
    middle = np.zeros((1, 60, 60))
    middle[0, 30, 30] = 1.0
    found = np.asarray(Matern(1.0, 4.0).on(whole).covariance(middle))[0, 30]
    distance = np.array([3.0, 4.0, 8.0, 12.0]) / 4.0
    np.testing.assert_allclose(found[[33, 34, 38, 42]], distance * k1(distance), atol=0.03)
    part = {"low": [5, 5], "high": [55, 55]}
    box = pag.models.ShallowWater(grid, 0.1, 1, source=part).space("source")
    inner = Matern(1.0, 4.0).on(box)
    row = inner.covariance(middle[:, 5:55, 5:55].reshape(1, -1)).reshape(50, 50)[25]
    np.testing.assert_allclose(row[15:40], found[20:45], atol=2e-3)


def test_draws_have_the_covariance():
    before = prior("exponential")
    found = before.draw(20_000, seed=3).reshape(20_000, -1)
    expected = np.kron(before.times, spd(PLACES, 5))
    error = np.abs(found.T @ found / 20_000 - expected)
    sizes = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.max(error / sizes) < 5.0 / np.sqrt(20_000)


def test_what_is_known():
    matrix = spd(PLACES, 5)
    known = np.arange(PLACES) < 3
    unit = np.eye(PLACES)[:, None].repeat(STEPS, axis=1)
    rest = np.asarray(prior().given(known).covariance(unit))[:, 0]
    np.testing.assert_allclose(rest[:3], 0.0, atol=1e-13)
    np.testing.assert_allclose(
        np.linalg.inv(rest[3:, 3:]), np.linalg.inv(matrix)[3:, 3:], atol=1e-11
    )


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_a_product_and_sums_down_diagonals(correlation: str):
    one, other, before = decaying(3, 4), decaying(2, 5), prior(correlation)
    matrix = np.kron(before.times, spd(PLACES, 5))
    expected = one.dense() @ matrix @ other.dense().T
    found = covariance(one, before, other).transpose(1, 0, 3, 2).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-13 * np.max(np.abs(expected)))


# Inversions


# One value; a sensor that fails after the first interval; an interval of which nothing arrives.
GAPS = {"none": (), "one": (2,), "sensor": tuple(range(5, 4 * 6, 4)), "interval": (0, 1, 2, 3)}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize(
    ("until", "gaps"),
    [
        (1, "none"),
        (4, "none"),
        (STEPS, "none"),
        *((4, g) for g in GAPS if g != "none"),
        (STEPS, "sensor"),
        (1, "one"),
    ],
)
def test_against_the_normal_equations(correlation: str, noise: str, until: int, gaps: str):
    dense = Dense(correlation, noise, until, GAPS[gaps])
    found = inversion(correlation, noise)
    data = DATA.copy()
    data[until:] = np.nan
    data.ravel()[list(GAPS[gaps])] = np.nan
    answer = found.infer(data, until)
    assert answer.attrs["observed_used"] == len(dense.rows)
    assert answer.attrs["observed_missing"] == until * SENSORS - len(dense.rows)
    mean = dense.mean(DATA)
    np.testing.assert_allclose(answer["mean"].values.ravel(), mean, atol=1e-10)
    total = np.tile(np.eye(PLACES), STEPS)
    np.testing.assert_allclose(answer["integral"], total @ mean, atol=1e-10)
    spread = np.sqrt(np.diag(total @ dense.covariance @ total.T))
    np.testing.assert_allclose(answer["integral_sd"], spread, atol=1e-10)
    np.testing.assert_allclose(answer["forecast"].values.ravel(), dense.points @ mean, atol=1e-10)
    ahead = dense.points @ dense.covariance @ dense.points.T
    np.testing.assert_allclose(
        answer["forecast_sd"].values.ravel() ** 2, np.diag(ahead), atol=1e-10
    )
    if gaps != "none":
        return
    of_all = found.forecast_covariance(until).reshape(ahead.shape)
    np.testing.assert_allclose(of_all, ahead, atol=1e-10)
    if until == STEPS:
        np.testing.assert_allclose(found.variance.ravel(), np.diag(dense.covariance), atol=1e-10)


@pytest.mark.parametrize("gaps", ["none", "sensor"])
@pytest.mark.parametrize("noise", NOISES)
def test_samples_of_the_posterior(noise: str, gaps: str):
    dense, count = Dense("exponential", noise, 4, GAPS[gaps]), 20_000
    data = DATA.copy()
    data.ravel()[list(GAPS[gaps])] = np.nan
    found = inversion("exponential", noise).draws(data, count, seed=1, until=4).reshape(count, -1)
    sd = np.sqrt(np.diag(dense.covariance))
    assert np.max(np.abs(found.mean(axis=0) - dense.mean(DATA)) / sd) < 5.0 / np.sqrt(count)
    error = np.abs(np.cov(found.T) - dense.covariance) / np.outer(sd, sd)
    assert np.max(error) < 6.0 / np.sqrt(count)


@pytest.mark.parametrize("noise", ["isotropic", "full"])
def test_noise_has_its_covariance(noise: str):
    draws = inversion(noise=noise).noise.draw(np.random.default_rng(0), 20_000).reshape(20_000, -1)
    expected = noise_matrix(noise)
    sizes = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.max(np.abs(draws.T @ draws / 20_000 - expected) / sizes) < 6.0 / np.sqrt(20_000)


def test_data_that_arrive_bit_by_bit():
    found = inversion("exponential", "full")
    stream = found.stream()
    data = DATA.copy()
    data[2, 1] = data[4, 3] = np.nan
    for first, last in ((0, 1), (1, 4), (4, STEPS)):
        answer = stream.update(np.ma.masked_invalid(data[first:last]))
        expected = found.infer(data, last)
        assert answer.attrs["known"] == last == stream.known
        for name in expected:
            np.testing.assert_allclose(answer[name], expected[name], atol=1e-12, err_msg=str(name))
    with pytest.raises(pag.DataError, match=r"shape \(1, 4\)"):
        stream.update(DATA[0])


def test_saved_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = inversion("exponential", "blocks")
    found.save(tmp_path / "inversion.h5")
    expected = found.infer(DATA, 3)
    # Nothing is computed again.
    monkeypatch.setattr("scipy.linalg.cholesky", None)
    monkeypatch.setattr("pyadjoint_gpu.lti.inversion.variance", None)
    again = LinearInversion.load(tmp_path / "inversion.h5")
    assert again.infer(DATA, 3).identical(expected)
    np.testing.assert_array_equal(again.variance, found.variance)
    np.testing.assert_array_equal(again.draws(DATA, 2), found.draws(DATA, 2))


@pytest.mark.slow
def test_an_inversion_on_all_cells_is_loaded(tmp_path: Path):
    space = water().space("source")
    before = Matern(1.0, 2.0).on(space)
    of = ToeplitzMap.of(RNG.normal(size=(space.count, 2, *GRID.shape)))
    found = LinearInversion(of, before, 0.1)
    found.save(tmp_path / "inversion.h5")
    data = RNG.normal(size=(space.count, 2))
    assert LinearInversion.load(tmp_path / "inversion.h5").infer(data).identical(found.infer(data))


# Bad input


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((3, 2)), r"shape \(3, 2\)"),
        (np.full((3, 2, 2), np.nan), "12 NaN"),
        ("blocks", "no numbers"),
        (pag.Grid, "no numbers"),
    ],
)
def test_what_is_no_block_column(given: object, message: str):
    with pytest.raises(pag.DataError, match=message):
        ToeplitzMap.of(given)


def test_wrong_shapes_are_named():
    of = decaying(SENSORS, 1)
    with pytest.raises(pag.DataError, match=r"m: found shape \(2, 2\)"):
        of.matvec(np.ones((2, 2)))
    with pytest.raises(pag.DataError, match=r"d: found shape"):
        of.rmatvec(np.ones((STEPS, SENSORS + 1)))
    with pytest.raises(pag.ConfigError, match="dtype: found 'half'"):
        ToeplitzMap.of(np.ones((2, 2, 2)), "half")
    for wrong in ([4], [-1], [0.5], [], "all"):
        with pytest.raises(pag.ConfigError, match="sensors: found"):
            of.select(wrong)
    with pytest.raises(pag.DataError, match="6 times and places"):
        LinearInversion(of.select([0]), Independent(np.ones(3)).on((STEPS, 3)), 1.0)
    found = inversion()
    with pytest.raises(pag.DataError, match="data: found shape"):
        found.infer(DATA.T)
    with pytest.raises(pag.DataError, match="data: none of 4 values is observed"):
        found.infer(np.where(np.arange(24).reshape(6, 4) < 4, np.nan, DATA), 1)
    with pytest.raises(pag.DataError, match="data: 1 values are not finite"):
        found.infer(np.where(np.arange(24).reshape(6, 4) == 5, np.inf, DATA))
    for wrong in (0, 7, 2.5):
        with pytest.raises(pag.ConfigError, match="until: found"):
            found.infer(DATA, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (0.0, "expected values > 0"),
        (np.ones(3), r"found shape \(3,\)"),
        (np.ones((SENSORS, STEPS)), r"found shape \(4, 6\)"),
        (-np.array([np.eye(STEPS)] * SENSORS), "not positive definite"),
        (np.nan, "not finite"),
        ("loud", "expected real numbers"),
    ],
)
def test_noise_that_cannot_be(noise: object, message: str):
    with pytest.raises(pag.DataError, match=message):
        LinearInversion(decaying(SENSORS, 1), prior(), noise)


def test_priors_that_cannot_be():
    space, of = water("box").space("source"), decaying(SENSORS, 1)
    with pytest.raises(pag.DataError, match="sd: found -1"):
        Matern(-1.0, 1.0).on(space)
    with pytest.raises(pag.ConfigError, match=r"sd: found \[1.0, 1.0\], expected .*shape \(12,\)"):
        Matern([1.0, 1.0], 1.0).on(space)
    with pytest.raises(pag.ConfigError, match="length: found 0"):
        Matern(1.0, 0).on(space)
    with pytest.raises(pag.ConfigError, match="length: found None"):
        Matern(1.0, None).on(space)
    with pytest.raises(pag.ConfigError, match="length: points have no neighbours"):
        Matern(1.0, 1.0).on(water("points").space("source"))
    with pytest.raises(pag.ConfigError, match="duration: found -1"):
        SpaceTime(Matern(1.0, 1.0), -1)
    with pytest.raises(pag.ConfigError, match="duration: the unknowns have no times"):
        SpaceTime(Matern(1.0, 1.0), 1.0).on(water().space("depth"))
    with pytest.raises(pag.ConfigError, match=r"space, found values of shape \(7,\); bind it"):
        LinearInversion(of, SpaceTime(Matern(1.0, 1.0)), 1.0)
    with pytest.raises(pag.ConfigError, match="Uniform"):
        LinearInversion(of, pag.statistics.Uniform(0.0, 1.0), 1.0)
    with pytest.raises(pag.ConfigError, match="not separable in space and time"):
        LinearInversion(of, DensePrior(np.eye(STEPS * PLACES)).on((STEPS, PLACES)), 1.0)
    with pytest.raises(pag.ConfigError, match=r"prior\.space: found SpaceTime"):
        SpaceTime(SpaceTime(Matern(1.0, 1.0)))
    with pytest.raises(pag.ConfigError, match="both duration and correlation"):
        SpaceTime(Matern(1.0, 1.0), 1.0, np.ones(3))
    for wrong, match in (
        (DensePrior(-np.eye(PLACES)), "not positive definite"),
        (DensePrior(np.triu(np.ones((PLACES, PLACES)))), "not symmetric"),
        (SpaceTime(Independent(1.0), correlation=[0.5, 0.1]), "correlation: found shape"),
        (SpaceTime(Independent(1.0), correlation=np.ones(STEPS)), "not positive definite"),
    ):
        with pytest.raises(pag.DataError, match=match):
            LinearInversion(of, wrong, 1.0)
    with pytest.raises(pag.DataError, match="places"):
        prior().given(np.zeros(PLACES, bool))


@pytest.mark.parametrize("kind", ["missing", "truncated", "foreign", "text"])
@pytest.mark.parametrize("read", [ToeplitzMap.read, LinearInversion.load])
def test_files_that_cannot_be_read(tmp_path: Path, kind: str, read: object):
    path = tmp_path / "given.h5"
    if kind == "truncated":
        (inversion().save if read == LinearInversion.load else decaying(4, 1).save)(path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "foreign":
        with h5py.File(path, "w") as file:
            file["other"] = np.ones(3)
    elif kind == "text":
        path.write_text("no HDF5")
    with pytest.raises(pag.DataError, match=str(path)) as caught:
        read(path)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
