"""The Gaussian of least Fisher divergence."""

from __future__ import annotations

import numpy as np
import pytest

from pyadjoint_gpu.statistics.fisher import fisher_covariance


@pytest.mark.parametrize("n", [1, 4, 30])
def test_exact_for_a_gaussian_whatever_the_rows(n):
    generator = np.random.default_rng(n)
    root = np.eye(n) + 0.3 * generator.standard_normal((n, n)) / np.sqrt(n)
    precision = root @ root.T
    x = 3.0 + 0.2 * generator.standard_normal((4 * n + 4, n))
    covariance = np.linalg.inv(precision)
    found = fisher_covariance(x, x @ precision, generator.uniform(0.5, 2.0, len(x)))
    np.testing.assert_allclose(found, covariance, atol=1e-6 * np.max(covariance))


@pytest.mark.parametrize("distinct", [2, 5, 29])
def test_rows_that_span_fewer_dimensions(distinct):
    """As of chains that hardly moved: still a covariance."""
    scale = np.geomspace(1.0, 3000.0, 30)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        x = (generator.standard_normal((distinct, 30)) / np.sqrt(scale))[
            generator.integers(0, distinct, 120)
        ]
        assert np.linalg.eigvalsh(fisher_covariance(x, x * scale))[0] > 0.0
