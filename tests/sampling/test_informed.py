"""Flows of the directions that data inform, and the prior in all others."""

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal

pytest.importorskip("flowjax")

from pyadjoint_gpu.sampling.flow.informed import Informed, informed_directions
from pyadjoint_gpu.sampling.flow.mixture import Mixture
from pyadjoint_gpu.sampling.flow.training import fit


@pytest.fixture(scope="module")
def flow():
    """In 90 dimensions, of two: a Gaussian there."""
    generator = np.random.default_rng(0)
    directions, _ = np.linalg.qr(generator.standard_normal((90, 2)))
    y = generator.standard_normal((200, 2)) @ [[0.5, 0.0], [0.3, 0.2]] + 1.0
    one = fit(y, layers=2, width=8, epochs=1, rate=1e-300)
    return Informed(Mixture((one,), np.zeros(1)), directions)


def test_the_density_is_a_product(flow):
    one, v = flow.mixture.flows[0], flow.directions
    covariance = np.eye(90) - v @ v.T + v @ one.factor @ one.factor.T @ v.T
    exact = multivariate_normal(v @ one.mean, covariance)
    x, log_q = flow.draw(jax.random.key(1), 300)
    np.testing.assert_allclose(flow.log_density(x), log_q, rtol=1e-10)
    np.testing.assert_allclose(exact.logpdf(x), log_q, rtol=1e-8)
    own = (x - v @ one.mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    assert np.mean(own**2) == pytest.approx(1.0, abs=4 * np.sqrt(2.0 / own.size))


def test_few_directions_hold_what_gradients_tell():
    generator = np.random.default_rng(0)
    steep, _ = np.linalg.qr(generator.standard_normal((90, 3)))
    slopes = generator.standard_normal((50, 3)) * [10.0, 3.0, 1.0] @ steep.T
    slopes += 0.01 * generator.standard_normal((50, 90))
    v = informed_directions(slopes)
    assert v.shape == (90, 3)
    np.testing.assert_allclose(v.T @ v, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(v @ (v.T @ steep), steep, atol=0.01)
    assert informed_directions(slopes[:, :40]).shape == (40, 3)
    # All count, along the axes; no more than flows are for; all of few.
    steep = 10.0 * generator.standard_normal((200, 90))
    np.testing.assert_array_equal(informed_directions(steep[:, :30]), np.eye(30))
    assert informed_directions(steep).shape == (90, 64)
    np.testing.assert_array_equal(informed_directions(slopes[:, :16]), np.eye(16))
