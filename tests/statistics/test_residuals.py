"""Statistics of whitened residuals against counts, closed forms and draws."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, groupby

import numpy as np
import pytest
import scipy.stats

from pyadjoint_gpu.inversion.optimisers import CHANCE
from pyadjoint_gpu.statistics.residuals import (
    BAND,
    chi2_p,
    data_sets,
    normal_quantiles,
    runs_test,
    series_order,
)

DRAWS, N = 2000, 300
KS = 1.63 / np.sqrt(DRAWS)  # of Kolmogorov and Smirnov, at the level 0.01


@pytest.mark.parametrize(("positive", "size"), [(1, 2), (1, 6), (3, 7), (4, 8), (7, 8)])
def test_runs_are_as_many_as_counted_over_all_orders(positive: int, size: int):
    orders = []
    for chosen in combinations(range(size), positive):
        w = np.full(size, -1.0)
        w[list(chosen)] = 1.0
        orders.append(w)
    runs = [len(list(groupby(w))) for w in orders]
    counts = Counter(runs)
    for w, r in zip(orders, runs, strict=True):
        fewer = sum(n for k, n in counts.items() if k <= r)
        assert runs_test(w) == pytest.approx(fewer / len(orders), rel=1e-12)


def test_runs_of_tiny_series():
    assert runs_test(np.array([1.0, 2.0, -1.0, -3.0])) == pytest.approx(1 / 3)
    assert runs_test(np.array([1.0, -1.0, 1.0, -1.0])) == pytest.approx(1.0)
    assert runs_test(np.array([1.0, 2.0, 0.0, -1.0, 0.0, -3.0])) == pytest.approx(1 / 3)
    for of_one_sign in (np.ones(5), -np.ones(5), np.zeros(3), np.ones(1)):
        assert runs_test(of_one_sign) == 1.0


def test_many_runs_are_normally_distributed():
    w = np.random.default_rng(1).standard_normal(100_001)
    n, more = w.size, np.count_nonzero(w > 0)
    pairs = 2.0 * more * (n - more)
    mean, variance = pairs / n + 1.0, pairs * (pairs - n) / (n**2 * (n - 1.0))
    runs = 1 + np.count_nonzero(np.diff(w > 0))
    expected = scipy.stats.norm.cdf((runs + 0.5 - mean) / np.sqrt(variance))
    assert runs_test(w) == pytest.approx(expected, abs=1e-4)


def test_probabilities_of_noise_are_uniform():
    """Those of runs, which are whole numbers, up to the largest probability of one number."""
    draws = np.random.default_rng(2).standard_normal((DRAWS, N))
    chi2 = [chi2_p(float(np.mean(w**2)), N) for w in draws]
    assert scipy.stats.kstest(chi2, "uniform").statistic < KS
    runs = np.array([runs_test(w) for w in draws])
    levels = np.linspace(0.0, 1.0, 101)
    below = np.mean(runs[:, None] <= levels, axis=0)
    step = 2.0 / np.sqrt(2.0 * np.pi * N)
    assert np.all(below < levels + KS)
    assert np.all(below > levels - step - KS)


def test_chi2_of_two_data_is_exponential():
    for chi2 in (0.01, 1.0, 7.0):
        assert chi2_p(chi2, 2) == pytest.approx(np.exp(-chi2))


def test_correlated_residuals_are_seen():
    generator = np.random.default_rng(3)
    w = np.convolve(generator.standard_normal(120), np.ones(6), "valid")
    assert runs_test(w) < 1e-6
    assert runs_test(w * (-1.0) ** np.arange(w.size)) > 1.0 - 1e-6


def test_a_fit_under_its_own_prior_raises_no_false_alarm():
    """Whitened residuals (1 + C)^-1 d of the most probable series of covariance C."""
    generator, x = np.random.default_rng(4), np.arange(60)
    covariance = np.exp(-np.abs(x[:, None] - x) / 8.0)
    data = scipy.stats.multivariate_normal(cov=covariance + np.eye(60)).rvs(
        DRAWS, random_state=generator
    )
    white = np.linalg.solve(np.eye(60) + covariance, data.T).T
    assert 0.5 < np.mean(white**2) < 0.9
    assert np.mean([runs_test(w) < CHANCE for w in white]) < CHANCE


def test_quantiles_of_one_and_of_two():
    half = scipy.stats.norm.ppf(0.5 * (1.0 + BAND))
    np.testing.assert_allclose(normal_quantiles(1)[:, 0], [0.0, -half, half], atol=1e-12)
    ends = np.sqrt([0.5, 0.5 * (1.0 - BAND), 0.5 * (1.0 + BAND)])  # F^2 is that of the larger
    np.testing.assert_allclose(normal_quantiles(2)[:, 1], scipy.stats.norm.ppf(ends), rtol=1e-10)


@pytest.mark.parametrize("size", [5, 40])
def test_intervals_of_sorted_noise_have_their_probability(size: int):
    sorted_noise = np.sort(np.random.default_rng(5).standard_normal((4000, size)), axis=1)
    middle, low, high = normal_quantiles(size)
    inside = np.mean((low < sorted_noise) & (sorted_noise < high), axis=0)
    np.testing.assert_allclose(inside, BAND, atol=4.0 * np.sqrt(BAND * (1.0 - BAND) / 4000))
    np.testing.assert_allclose(np.mean(sorted_noise < middle, axis=0), 0.5, atol=0.035)
    np.testing.assert_allclose(middle, -middle[::-1], atol=1e-12)


def test_series_are_in_order_of_place_and_time():
    places = np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0], [0.0, 5.0], [1.0, 1.0]])
    times = np.array([3.0, 2.0, 1.0, 0.5, 9.0])
    assert series_order(places, times).tolist() == [3, 1, 4, 2, 0]
    assert series_order(places, None).tolist() == [0, 1, 2, 3, 4]


def test_labels_that_repeat_divide_the_data():
    station = np.array(["a", "a", "b", "b", "c"])
    network = np.array(["N", "N", "N", "N", "M"])
    assert data_sets({"station": station, "network": network}) == "network"
    assert data_sets({"well": np.array(["a", "b", "c"])}) is None
    assert data_sets({"survey": np.array(["a", "a", "a"])}) is None
    assert data_sets({}) is None
