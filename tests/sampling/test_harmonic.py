"""The learned harmonic mean, against evidences that are known exactly, from exact samples."""

import jax
import numpy as np
import pytest
from exact_densities import (
    LN_2PI,
    DualMoon,
    NormalGamma,
    Rosenbrock,
    TenRosenbrock,
    correlated,
    samples,
    slip,
)
from scipy.signal import lfilter
from scipy.stats import chi2, norm

pytest.importorskip("flowjax")

from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.sampling import harmonic
from pyadjoint_gpu.sampling.flow.architecture import Architecture
from pyadjoint_gpu.sampling.flow.model import Flow, network
from pyadjoint_gpu.sampling.flow.training import fit
from pyadjoint_gpu.sampling.harmonic import harmonic_mean, learned_harmonic_mean


def estimate(target, chains, draws, *, seed=0, **options):
    return learned_harmonic_mean(*samples(target, chains, draws, seed), seed=seed, **options)


def standard_normal(n):
    """The flow whose map is the identity."""
    architecture = Architecture(n)
    parameters = network().initial(architecture, jax.random.key(0))
    return Flow(np.zeros(n), np.eye(n), np.asarray(parameters), architecture)


def test_published_evidences_of_the_normal_gamma():
    """The convention: -156.75211 to -152.15192 for tau0 = 1e-4 to 1."""
    published = [-156.75211, -155.60082, -154.44958, -153.29873, -152.15192]
    found = [NormalGamma(10.0**k).exact for k in range(-4, 1)]
    np.testing.assert_allclose(found, published, atol=1e-5)


@pytest.mark.parametrize("chains", [1, 40, pytest.param(4, marks=pytest.mark.slow)])
def test_two_components(chains):
    found = estimate(NormalGamma(1e-2), chains, 6000 // chains)
    assert found.reason == "" and found.effective_chains >= 16
    assert 0.6 <= found.temperature <= 1.0 and found.error < 0.02
    assert abs(found.log_evidence - NormalGamma(1e-2).exact) < 4 * found.error
    assert found.lower < 0.0 < found.upper
    assert found.error == pytest.approx(0.5 * (found.upper - found.lower))


@pytest.mark.parametrize("t", [0.6, 1.0])
def test_the_density_is_normalised(t, monkeypatch):
    """phi = q_T / P in a ball of a standard normal, whose share of q_T is known."""
    monkeypatch.setattr(harmonic, "DRAWN", harmonic.TOGETHER)
    generator, n = np.random.default_rng(0), 3
    core = harmonic._core(standard_normal(n), 0)
    level = -0.5 * (chi2.ppf(0.8, n) + n * LN_2PI)
    assert core.level == pytest.approx(level, abs=0.05)
    radius = -2.0 * core.level - n * LN_2PI
    share = harmonic._share(core, t, 0)
    assert share == pytest.approx(chi2.cdf(radius / t**2, n), abs=0.015)
    z = generator.standard_normal((20, 500, n))
    log_p = -0.5 * (np.sum(z**2, axis=2) + n * LN_2PI)
    given = harmonic.Given(z, log_p, np.ones(z.shape[:2]))
    ln = core.log_ratio(given, t)
    assert np.mean(np.isfinite(ln)) == pytest.approx(0.8, abs=0.02)
    means = harmonic._estimated(core, given, t)
    assert abs(means.log_rho - np.log(share)) < 5 * means.error + 0.01


def test_the_formulas_of_the_mean():
    generator = np.random.default_rng(1)
    ln, w = generator.standard_normal((3, 50)), generator.random((3, 50))
    w[0, :10] = 0.0
    ends = np.array([10, 30])
    found = harmonic._means(ln + 1000.0, w, ends)
    pairs = zip(np.split(w, ends, axis=1), np.split(w * np.exp(ln), ends, axis=1), strict=True)
    sums = [(a[c].sum(), b[c].sum()) for a, b in pairs for c in range(3)][1:]
    n, total = np.array(sums).T
    rho_j = total / n
    rho = np.sum(n * rho_j) / n.sum()
    s2 = np.sum(n * (rho_j - rho) ** 2) / n.sum()
    count = n.sum() ** 2 / np.sum(n**2)
    kurtosis = np.sum(n * (rho_j - rho) ** 4) / n.sum() / s2**2
    ratio = np.sqrt((kurtosis - 1 + 2 / (count - 1)) / count) / np.sqrt(2 / (count - 1))
    expected = np.log(rho) + 1000.0, np.sqrt(s2 / (count - 1)) / rho, kurtosis, ratio, count
    np.testing.assert_allclose(found, expected)


def test_the_mean_of_ln_z_is_right_to_second_order():
    """Over rho that is normal about 1 / Z, here 1: with the opposite sign it is 0.06 off."""
    sigma, quantiles = 0.2, norm.ppf((np.arange(2000) + 0.5) / 2000)
    rho = 1.0 + sigma * quantiles
    means = [harmonic.Means(np.log(r), sigma / r, 3.0, 1.0, 40.0) for r in rho]
    found = [harmonic._judged(m._replace(error=min(m.error, 0.5)), 0.8) for m in means]
    assert abs(np.mean([one.log_evidence for one in found])) < 0.005


def test_weights_count():
    """Chains that stay in one of two modes, as runs of SMC of few particles may, in equal numbers;
    the one mode has two thirds of Z."""
    generator = np.random.default_rng(0)
    side = np.arange(40) // 10 % 2
    centre = np.where(side, 4.0, -4.0)[:, None, None]
    x = centre + generator.standard_normal((40, 150, 2))
    modes = [-0.5 * np.sum((x - m) ** 2, axis=2) for m in (-4.0, 4.0)]
    log_p = np.logaddexp(modes[0], np.log(2.0) + modes[1]) - np.log(3.0) - LN_2PI
    weights = np.broadcast_to(np.where(side, 4.0, 2.0)[:, None], log_p.shape)
    found = learned_harmonic_mean(x, log_p, weights)
    assert found.reason == "" and found.error < 0.1
    assert abs(found.log_evidence) < 3.5 * found.error
    assert learned_harmonic_mean(x, log_p).log_evidence < -0.08


def test_an_estimate_that_few_samples_dominate_is_refused():
    target = correlated(2)
    x = target.draw(np.random.default_rng(0), 40 * 150).reshape(40, 150, 2)
    logs = target.log_density(x.reshape(-1, 2)).reshape(40, 150)
    logs[0, 0] -= 8.0
    found = learned_harmonic_mean(x, logs)
    assert found.reason.startswith("kurtosis: found")
    assert np.isnan(found.log_evidence) and np.isnan(found.error) and found.kurtosis > 7.4


def test_a_variance_that_is_not_known_is_refused():
    means = harmonic.Means(0.0, 0.1, 5.0, 2.1, 40.0)
    assert harmonic._judged(means, 0.8).reason.startswith("variance of the variance: found 2.1")
    assert harmonic._judged(means._replace(variance_ratio=1.1), 0.8).reason == ""
    assert harmonic._judged(means._replace(variance_ratio=1.1, error=0.6), 0.8).reason.startswith(
        "error: found 0.6"
    )


def test_samples_of_something_else_are_refused():
    x = 50.0 + np.random.default_rng(0).standard_normal((20, 30, 2))
    found = harmonic_mean(standard_normal(2), x, np.zeros((20, 30)))
    assert found.reason.startswith("samples: none lies where the flow has most of its mass")
    assert np.isnan(found.log_evidence)


def test_too_few_effective_chains_are_refused():
    """A chain of two autocorrelation times is no more than one block."""
    generator = np.random.default_rng(0)
    x = np.cumsum(generator.standard_normal((2, 3000, 2)), axis=1) / 50.0
    found = learned_harmonic_mean(x, -0.5 * np.sum(x**2, axis=2))
    assert found.reason.startswith("effective chains: found 2, expected 16")
    assert np.isnan(found.log_evidence)


def test_blocks_are_longer_than_the_autocorrelation():
    """An autoregressive chain of the autocorrelation time 19."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((4, 1600, 1))
    for k in range(1, x.shape[1]):
        x[:, k] = 0.9 * x[:, k - 1] + np.sqrt(0.19) * x[:, k]
    ends = harmonic._ends(x)
    assert 0.7 * 190 < ends[0] < 400 and np.ptp(np.diff(ends)) <= 1
    assert len(harmonic._ends(np.repeat(x, 5, axis=0))) == 0


def test_what_is_wrong_is_refused():
    x, logs = np.random.default_rng(0).standard_normal((4, 50, 2)), np.zeros((4, 50))
    for bad, match in (
        ((x[0], logs), r"x: found an array of shape \(50, 2\), expected \(chains, draws, n\)"),
        ((x, logs.T), r"log_density: found an array of shape \(50, 4\)"),
        ((x, np.full((4, 50), -np.inf)), "log_density: 200 values are not finite"),
        ((x * [1.0, 0.0], logs), "x: its covariance is singular"),
        ((x, logs, np.ones(4)), r"weights: found an array of shape \(4,\), expected \(4, 50\)"),
    ):
        with pytest.raises(DataError, match=match):
            learned_harmonic_mean(*bad)
    with pytest.raises(ConfigError, match=r"temperature: found 1\.5"):
        learned_harmonic_mean(x, logs, temperature=1.5)


def check_repeats(found, exact):
    """20 estimates of the errors they state, and of no bias."""
    assert not any(one.reason for one in found)
    off = np.array([(one.log_evidence - exact) / one.error for one in found])
    low, high = chi2.ppf([1e-3, 1 - 1e-3], len(off))
    assert low < np.sum(off**2) < high
    assert abs(np.sum(off)) / np.sqrt(len(off)) < 3.3


@pytest.mark.slow
@pytest.mark.parametrize("target", [Rosenbrock, lambda: NormalGamma(1e-4)])
def test_the_stated_error_in_repeats(target):
    target = target()
    check_repeats([estimate(target, 40, 100, seed=k) for k in range(20)], target.exact)


@pytest.mark.slow
@pytest.mark.parametrize("k", [-3, -2, -1])
def test_exact_evidences(k):
    found = estimate(NormalGamma(10.0**k), 40, 250)
    assert found.reason == "" and found.error < 0.01
    assert abs(found.log_evidence - NormalGamma(10.0**k).exact) < 3 * found.error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "chains", "draws", "most"),
    [
        (lambda: correlated(20), 40, 500, 0.02),
        (DualMoon, 64, 300, 0.02),
        (TenRosenbrock, 40, 500, 0.02),
        (slip, 40, 500, 0.02),
        (lambda: NormalGamma(1.0), 40, 250, 0.01),
    ],
)
def test_the_stated_error_of_one_flow_in_repeats(target, chains, draws, most, monkeypatch):
    """Training takes most of the time; and the bias of one flow, of what it has where no samples
    are, is seen better."""
    flows = []
    monkeypatch.setattr(harmonic, "fit", lambda *a, **k: flows.append(fit(*a, **k)) or flows[-1])
    target = target()
    found = estimate(target, chains, draws)
    assert found.reason == "" and found.error < most
    assert abs(found.log_evidence - target.exact) < 3 * found.error
    monkeypatch.setattr(harmonic, "DRAWN", harmonic.TOGETHER)
    each = (harmonic_mean(flows[0], *samples(target, 40, 200, k), seed=k) for k in range(1, 21))
    check_repeats(list(each), target.exact)


@pytest.mark.slow
@pytest.mark.parametrize("chains", [1, 4, 24])
def test_the_stated_error_of_correlated_chains_in_repeats(chains, monkeypatch):
    """Autoregressive chains, of the autocorrelation time 9, of a standard normal."""
    monkeypatch.setattr(harmonic, "DRAWN", harmonic.TOGETHER)
    flow, found = standard_normal(2), []
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal((chains, 12_000 // chains, 2))
        x[:, 1:] *= 0.6
        x = lfilter([1.0], [1.0, -0.8], x, axis=1)
        found.append(harmonic_mean(flow, x, -0.5 * np.sum(x**2, axis=2), seed=seed))
    check_repeats(found, LN_2PI)
