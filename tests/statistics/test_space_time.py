"""Separable and conditional densities against dense matrices, and one prior in all its uses."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

import pyadjoint_gpu as pag
from pyadjoint_gpu.lti import LinearInversion, ToeplitzMap
from pyadjoint_gpu.lti.priors import fitting
from pyadjoint_gpu.placement import place_sensors
from pyadjoint_gpu.sampling import LinearSMC, Settings
from pyadjoint_gpu.statistics import Dense, Independent, Matern, Prior, SpaceTime
from pyadjoint_gpu.statistics.conditional import Conditional
from pyadjoint_gpu.statistics.densities import BoundPrior
from pyadjoint_gpu.statistics.separable import Separable
from pyadjoint_gpu.statistics.stored import arrays, restored

RNG = np.random.default_rng(0)
STEPS, SITES = 4, 6
ROOT = RNG.normal(size=(SITES, SITES))
SPD = ROOT @ ROOT.T / SITES + 0.3 * np.eye(SITES)
SD = np.linspace(0.5, 2.0, SITES)
COLUMN = 0.7 ** np.arange(STEPS)
GRID = pag.Grid((2, 3), (2.0, 3.0))
FIELD = Matern(SD.reshape(2, 3), 1.5)
IN_SPACE = {
    "independent": (Independent(SD), (SITES,)),
    "dense": (Dense(SPD), (SITES,)),
    "matern": (FIELD, (2, 3)),
}
MEAN = RNG.normal(size=(STEPS, SITES))


def matrix(of: Callable[[np.ndarray], jax.Array], shape: tuple[int, ...]) -> np.ndarray:
    n = int(np.prod(shape))
    return np.asarray(of(np.eye(n).reshape(n, *shape))).reshape(n, n).T


def water(source: object = "cells", steps: int = STEPS) -> pag.models.ShallowWater:
    return pag.models.ShallowWater(GRID, 0.05, 2 * steps, every=2, source=source)


def made(kind: str, correlated: bool) -> tuple[Separable, np.ndarray]:
    """A density, and its covariance in space by its own root."""
    prior, sites = IN_SPACE[kind]
    if kind == "matern":
        space = water().space("source")
        duration = -0.1 / np.log(0.7) if correlated else None
        bound = SpaceTime(prior, duration, mean=MEAN.reshape(-1, *sites)).on(space)
        spatial = prior.on(GRID)
    else:
        column = COLUMN if correlated else None
        bound = SpaceTime(prior, correlation=column, mean=MEAN).on((STEPS, SITES))
        spatial = prior.on(SITES)
    assert isinstance(bound, Separable)
    return bound, matrix(spatial.covariance, spatial.shape)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("kind", IN_SPACE)
def test_separable_densities_are_kronecker_products(kind: str, correlated: bool):
    prior, spatial = made(kind, correlated)
    times = scipy.linalg.toeplitz(COLUMN) if correlated else np.eye(STEPS)
    c, shape = np.kron(times, spatial), prior.shape
    root = matrix(prior.root, shape)
    np.testing.assert_allclose(root @ root.T, c, atol=1e-13)
    np.testing.assert_allclose(matrix(prior.root_transposed, shape), root.T, atol=1e-14)
    np.testing.assert_allclose(matrix(prior.inverse_root, shape) @ root, np.eye(len(c)), atol=1e-11)
    back = matrix(prior.inverse_root_transposed, shape)
    np.testing.assert_allclose(back @ root.T, np.eye(len(c)), atol=1e-11)
    np.testing.assert_allclose(matrix(prior.covariance, shape), c, atol=1e-13)
    np.testing.assert_allclose(matrix(prior.precision, shape) @ c, np.eye(len(c)), atol=1e-10)
    np.testing.assert_allclose(np.ravel(prior.variance), np.diag(c), rtol=1e-12)
    theta = RNG.normal(size=(3, *shape))
    exact = scipy.stats.multivariate_normal(MEAN.ravel(), c).logpdf(theta.reshape(3, -1))
    np.testing.assert_allclose(prior.log_density(theta), exact, rtol=1e-11)


@pytest.mark.parametrize("kind", IN_SPACE)
def test_draws_have_the_mean_and_covariance(kind: str):
    prior, spatial = made(kind, True)
    draws = prior.draw(20_000, seed=3).reshape(20_000, -1)
    c = np.kron(scipy.linalg.toeplitz(COLUMN), spatial)
    sd = np.sqrt(np.diag(c))
    assert np.max(np.abs(draws.mean(axis=0) - MEAN.ravel()) / sd) < 5.0 / np.sqrt(20_000)
    assert np.max(np.abs(np.cov(draws.T) - c) / np.outer(sd, sd)) < 6.0 / np.sqrt(20_000)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("kind", IN_SPACE)
def test_conditional_densities(kind: str, correlated: bool):
    """By the formula of conditional Gaussians, at sites that are known at all times."""
    before, spatial = made(kind, correlated)
    known = np.arange(SITES) % 3 == 1
    found = before.given(known.reshape(before.sites))
    times = scipy.linalg.toeplitz(COLUMN) if correlated else np.eye(STEPS)
    c, at = np.kron(times, spatial), np.tile(known, STEPS)
    gain = c[:, at] @ np.linalg.inv(c[np.ix_(at, at)])
    exact, mean = c - gain @ c[at], MEAN.ravel() - gain @ MEAN.ravel()[at]
    root = matrix(found.root, found.shape)
    np.testing.assert_allclose(root @ root.T, exact, atol=1e-12)
    np.testing.assert_allclose(matrix(found.root_transposed, found.shape), root.T, atol=1e-12)
    np.testing.assert_allclose(matrix(found.covariance, found.shape), exact, atol=1e-12)
    np.testing.assert_allclose(np.ravel(found.variance), np.diag(exact), atol=1e-12)
    np.testing.assert_allclose(np.ravel(found.mean), mean, atol=1e-12)
    assert np.max(np.abs(found.draw(2).reshape(2, -1)[:, at])) < 1e-12
    theta = np.where(at, 0.0, RNG.normal(size=at.size))
    white = np.asarray(found.inverse_root(theta.reshape(found.shape))).ravel()
    np.testing.assert_allclose(root @ white, theta, atol=1e-11)
    rest = ~at
    others = scipy.stats.multivariate_normal(mean[rest], exact[np.ix_(rest, rest)])
    density = found.log_density(theta.reshape(found.shape))
    np.testing.assert_allclose(density, others.logpdf(theta[rest]), rtol=1e-10)


def test_what_is_known_may_be_more_than_is_computed_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pyadjoint_gpu.statistics.conditional.TOGETHER", 4)
    grid = pag.Grid((3, 5), (3.0, 5.0))
    prior, known = Matern(1.0, 2.0).on(grid), np.arange(15).reshape(3, 5) % 3 < 2
    c, at = matrix(prior.covariance, prior.shape), known.ravel()
    exact = c - c[:, at] @ np.linalg.solve(c[np.ix_(at, at)], c[at])
    found = matrix(Conditional.of(prior, known).covariance, prior.shape)
    np.testing.assert_allclose(found, exact, atol=1e-11)


@pytest.mark.parametrize("kind", IN_SPACE)
def test_densities_as_arrays(kind: str):
    one, other = made(kind, True)[0], made(kind, False)[0]
    for prior in (one, other.given(SD.reshape(other.sites) > 1.0)):
        again = restored(arrays(prior))
        assert jax.tree.structure(again) == jax.tree.structure(prior)
        np.testing.assert_array_equal(again.draw(2), prior.draw(2))


def test_a_single_precision_map_stays_in_it():
    blocks = RNG.normal(size=(STEPS, 3, SITES))
    data = RNG.normal(size=(STEPS, 3))
    prior = SpaceTime(Dense(SPD), correlation=COLUMN)
    single = LinearInversion(ToeplitzMap.of(blocks, "float32"), prior, 0.5).infer(data)
    double = LinearInversion(ToeplitzMap.of(blocks), prior, 0.5).infer(data)
    assert single["mean"].dtype == "float32"
    np.testing.assert_allclose(single["mean"], double["mean"], atol=1e-5)


# One prior, many uses


@pytest.mark.parametrize(
    "source", ["cells", {"low": [0, 0], "high": [2, 2]}, np.eye(2, 3) > 0, [[0.5, 0.5], [1.5, 2.5]]]
)
def test_a_map_knows_the_space_of_its_forcing(source: object, tmp_path):
    model = water(source)
    of = ToeplitzMap.of(pag.block_column(model, {"depth": 1.0}, [[1.0, 1.0]], engine="embedded"))
    of.save(tmp_path / "map.nc")
    space = model.space("source")
    for one in (of, ToeplitzMap.read(tmp_path / "map.nc"), of.select([0])):
        assert one.space is not None and one.space.shape == space.shape
        np.testing.assert_array_equal(one.space.sites.indices, space.sites.indices)
        assert (one.space.grid, one.space.interval) == (space.grid, pytest.approx(space.interval))
    spec = Independent(0.5) if isinstance(source, list) else Matern(0.5, 1.2)
    prior = SpaceTime(spec, 0.3)
    found, expected = fitting(of, prior), prior.on(space)
    np.testing.assert_allclose(found.draw(2), expected.draw(2), rtol=1e-12)
    assert fitting(of, expected) is expected
    bare = ToeplitzMap.of(of.column.values)
    np.testing.assert_array_equal(fitting(bare, expected).draw(1), expected.draw(1))


def test_a_prior_in_space_has_independent_times():
    of = ToeplitzMap.of(RNG.normal(size=(STEPS, 2, 2, 3)))
    expected = SpaceTime(FIELD).on(water().space("source"))
    whole = (STEPS, 2, 3)
    for given in (FIELD.on(GRID), FIELD.on(water().space("source"))):
        np.testing.assert_allclose(fitting(of, given).draw(1), expected.draw(1), rtol=1e-13)
    assert fitting(of, Independent(2.0).on(whole)).independent
    rising = Independent(np.arange(1.0, 25.0).reshape(whole)).on(whole)
    with pytest.raises(pag.ConfigError, match="not separable in space and time"):
        fitting(of, rising)


USES: dict[str, tuple[Prior | BoundPrior, np.ndarray]] = {
    "independent": (Independent(0.7, mean=0.4), np.eye(8) * 0.49),
    "space-time": (
        SpaceTime(Independent(0.7, mean=0.4), correlation=[1.0, 0.5]).on((2, 4)),
        np.kron([[1.0, 0.5], [0.5, 1.0]], np.eye(4)) * 0.49,
    ),
}


@pytest.mark.parametrize("kind", USES)
def test_one_prior_in_inversion_placement_and_sampler(kind: str):
    """An inversion, an experiment's design and a sampler of d = F m + e, beside the closed form."""
    prior, c = USES[kind]
    of = ToeplitzMap.of(RNG.normal(size=(2, 3, 4)))
    g, noise = of.dense(), 0.6
    data = g @ np.full(8, 0.4) + RNG.normal(size=6)
    k = g @ c @ g.T + noise**2 * np.eye(6)
    gain = c @ g.T @ np.linalg.inv(k)
    mean, left = 0.4 + gain @ (data - g @ np.full(8, 0.4)), c - gain @ g @ c

    inverse = LinearInversion(of, prior, noise, of)
    found = inverse.infer(data.reshape(2, 3))
    np.testing.assert_allclose(found["mean"].values.ravel(), mean, atol=1e-12)
    np.testing.assert_allclose(found["forecast"].values.ravel(), g @ mean, atol=1e-12)
    np.testing.assert_allclose(inverse.variance.ravel(), np.diag(left), atol=1e-12)
    stream = inverse.stream()
    stream.update(data[:3])
    np.testing.assert_allclose(stream.update(data[3:])["mean"].values.ravel(), mean, atol=1e-12)
    draws = inverse.draws(data.reshape(2, 3), 20_000, seed=1).reshape(20_000, -1)
    sd = np.sqrt(np.diag(left))
    assert np.max(np.abs(draws.mean(axis=0) - mean) / sd) < 5.0 / np.sqrt(20_000)

    design = place_sensors(of, prior, noise, 3, random=0)
    information = 0.5 * np.linalg.slogdet(k / noise**2)[1]
    np.testing.assert_allclose(design["information"][-1], information, rtol=1e-10)

    sampled = LinearSMC(g, data, noise, prior, settings=Settings(2000)).run(seed=2)
    assert np.max(np.abs(sampled["slip_mean"].values - mean) / sd) < 0.25
    np.testing.assert_allclose(sampled["slip_sd"], sd, rtol=0.15)
    exact = scipy.stats.multivariate_normal(g @ np.full(8, 0.4), k).logpdf(data)
    assert sampled.attrs["log_evidence"] == pytest.approx(exact, abs=0.3)
