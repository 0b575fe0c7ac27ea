"""Mixtures of flows: clusters that are apart, densities, draws, files."""

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

from pyadjoint_gpu.sampling.flow import mixture
from pyadjoint_gpu.sampling.flow.mixture import Mixture, Rows, clusters, fit_mixture, shared

GENERATOR = np.random.default_rng(0)
WEIGHTS = np.array([0.1, 0.15, 0.2, 0.25, 0.3])
CENTRES = GENERATOR.uniform(-4.0, 4.0, (5, 20))


def five(rows):
    """Five Gaussians in 20 dimensions, and which each is of."""
    which = GENERATOR.choice(5, rows, p=WEIGHTS)
    return CENTRES[which] + GENERATOR.standard_normal((rows, 20)), which


def log_five(x):
    squares = np.sum((x[:, None] - CENTRES) ** 2, axis=2)
    return logsumexp(np.log(WEIGHTS) - 0.5 * squares, axis=1) - 10.0 * np.log(2.0 * np.pi)


def slopes_of_five(x):
    apart = x[:, None] - CENTRES
    logs = np.log(WEIGHTS) - 0.5 * np.sum(apart**2, axis=2)
    return -np.sum(np.exp(logs - logsumexp(logs, axis=1, keepdims=True))[..., None] * apart, axis=1)


def banana(rows):
    x = 1.0 + np.sqrt(0.5) * GENERATOR.standard_normal(rows)
    return np.stack([x, x**2 + np.sqrt(0.005) * GENERATOR.standard_normal(rows)], axis=1)


def test_modes_that_are_apart_are_told():
    x, which = five(1000)
    shares = clusters(x)
    assert shares.shape == (1000, 5)
    found = np.argmax(shares, axis=1)
    for k in range(5):
        assert np.mean(found[which == k] == np.bincount(found[which == k]).argmax()) > 0.99


@pytest.mark.parametrize("name", ["gaussian", "few", "correlated", "banana", "heavy"])
def test_one_mode_is_one_cluster(name):
    x = {
        "gaussian": lambda: GENERATOR.standard_normal((1500, 6)),
        "few": lambda: GENERATOR.standard_normal((300, 20)),
        "correlated": lambda: GENERATOR.standard_normal((1500, 6)) @ np.triu(np.ones((6, 6))),
        "banana": lambda: banana(1500),
        "heavy": lambda: GENERATOR.standard_t(3.0, (1500, 3)),
    }[name]()
    assert clusters(x).shape[1] == 1


def test_wider_rows_belong_to_the_clusters_of_samples():
    x, which = five(500)
    wider = CENTRES[which] + 1.5 * (x - CENTRES[which])
    shares = shared(wider, x)
    assert shares.shape == (500, 5)
    np.testing.assert_array_equal(np.argmax(shares, axis=1), np.argmax(shared(x, x), axis=1))


@pytest.mark.slow
def test_the_density_of_five_modes(monkeypatch):
    monkeypatch.setattr(mixture, "FIRST", (700, 5e-3))
    monkeypatch.setattr(mixture, "FURTHER", (100, 3e-3))
    x, which = five(500)
    rows = Rows(x, slopes_of_five(x), np.ones(len(x)))
    found = fit_mixture(rows)
    assert len(found.flows) == 5
    y, log_q = found.draw(jax.random.key(0), 4000)
    np.testing.assert_allclose(log_q, found.log_density(y), rtol=1e-12)
    # KL(q || p), by q's own draws.
    assert np.mean(log_q - log_five(y)) < 0.1
    shares = np.sort(np.bincount(which) / len(x))
    np.testing.assert_allclose(np.sort(np.exp(found.log_weights)), shares, atol=0.01)
    again = Mixture.of_arrays(found.arrays())
    np.testing.assert_array_equal(again.log_density(y), found.log_density(y))
    further = fit_mixture(rows, start=found, seed=3)
    assert len(further.flows) == 5


@pytest.mark.parametrize("far", [3.0, 6.0, 10.0])
@pytest.mark.parametrize("copies", [9, 12, 20])
def test_copies_of_a_particle_are_no_cluster(copies, far):
    """As refused moves leave them."""
    x = np.random.default_rng(0).standard_normal((64 - copies, 4))
    assert clusters(np.concatenate([x, np.full((copies, 4), far)])).shape == (64, 1)
