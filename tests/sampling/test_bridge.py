"""Bridge sampling: Gaussians of known integrals, and the error that it states."""

import numpy as np
import pytest
from scipy.stats import chi2

pytest.importorskip("arviz_stats")

from pyadjoint_gpu.sampling.bridge import bridge


def ratios(sd, seed, chain=0.0, draws=500):
    """Of p = exp(-|x|^2 / 2 sd^2) in three dimensions to a normal q, at samples of p in four
    chains, of an autocorrelation, and at samples of q."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((2, 4, draws, 3))
    for k in range(1, draws):
        x[0, :, k] = chain * x[0, :, k - 1] + np.sqrt(1 - chain**2) * x[0, :, k]
    x[0] *= sd
    squares = np.asarray(np.sum(x**2, axis=3))
    found = 0.5 * squares * (1.0 - 1.0 / sd**2) + 1.5 * np.log(2 * np.pi)
    return found[0], found[1]


def exact(sd):
    return 1.5 * np.log(2 * np.pi * sd**2)


@pytest.mark.parametrize(("sd", "chain"), [(0.6, 0.0), (1.0, 0.0), (1.8, 0.0), (1.3, 0.8)])
def test_the_stated_error_in_repeats(sd, chain):
    """Also where q has so light tails, 1.8, that the weights p / q have no variance."""
    found = np.array([bridge(*ratios(sd, seed, chain)) for seed in range(20)], float)
    if sd == 1.0:
        np.testing.assert_allclose(found[:, 0], exact(sd), rtol=1e-12)
        return
    low, high = chi2.ppf([1e-3, 1 - 1e-3], 20)
    assert low < np.sum(((found[:, 0] - exact(sd)) / found[:, 1]) ** 2) < high
    assert np.max(found[:, 1]) < 0.15


def test_proposals_without_density():
    of_samples, of_proposals = ratios(1.2, 0)
    outside = np.where(np.arange(of_proposals.size).reshape(of_proposals.shape) % 2, -np.inf, 0.0)
    log_z, error = bridge(of_samples, of_proposals + outside)
    assert np.isfinite(error) and abs(log_z - exact(1.2) + np.log(2.0)) < 0.3
