"""Markov chains on any density: closed forms, resumption, failures, and the doors."""

import os
import signal
import subprocess
import sys
import warnings
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from jax.scipy.special import logsumexp

import pyadjoint_gpu as pag
from pyadjoint_gpu.core import extras
from pyadjoint_gpu.core.errors import ConfigError, ConvergenceError, DataError, EngineError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.sampling import MCMC, LinearSMC, SamplingWarning
from pyadjoint_gpu.sampling.diagnostics import diagnostics
from pyadjoint_gpu.sampling.reference import Reference
from pyadjoint_gpu.sampling.replay import Known, place
from pyadjoint_gpu.sampling.target import Points
from pyadjoint_gpu.sampling.targets import target_of
from pyadjoint_gpu.sampling.windows import gaussian, window_ends

A = np.random.default_rng(0).standard_normal((4, 4))
COVARIANCE = A @ A.T / 4 + 0.05 * np.eye(4)
PRECISION = np.linalg.inv(COVARIANCE)
MEAN = np.array([1.0, -2.0, 0.5, 3.0])
NAMES = ("a", "b", "c", "d")
START = MEAN + 3.0 * np.random.default_rng(1).standard_normal((4, 4))


def log_gaussian(theta):
    return -0.5 * (theta - MEAN) @ PRECISION @ (theta - MEAN)


def returned(theta):
    return float(log_gaussian(theta)), -PRECISION @ (theta - MEAN)


GAUSSIAN = pag.LogDensity(log_gaussian, NAMES, start=START)
RETURNED = pag.LogDensity(returned, NAMES, start=START, gradient="returned")


def values(result, names=NAMES):
    return np.stack([result[n].values for n in names], axis=-1)


def quietly(target, method="nuts", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        return pag.sample(target, method=method, progress=False, **options)


# Densities in closed form


@pytest.mark.parametrize("method", ["nuts", "hmc", "mala"])
def test_a_gaussian(method):
    found = pag.sample(GAUSSIAN, method=method, draws=1500, warmup=400, progress=False)
    x = values(found)
    sd, attrs = np.sqrt(np.diag(COVARIANCE)), found.attrs
    error = 4.0 / np.sqrt(attrs["ess_bulk"])
    assert attrs["r_hat"] < 1.02 and attrs["ess_bulk"] > 400
    assert np.max(np.abs(x.mean((0, 1)) - MEAN) / sd) < error
    np.testing.assert_allclose(x.std((0, 1)), sd, rtol=error)
    np.testing.assert_allclose(found["log_density"], log_density_of(x), rtol=1e-9, atol=1e-9)
    assert (attrs["method"], attrs["status"], attrs["failures"]) == (method, "finished", 0)
    wanted = {"nuts": 0.8, "hmc": 0.65, "mala": 0.574}[method]
    assert wanted - 0.12 < float(found["acceptance"].mean()) <= 1.0
    # As ArviZ has them.
    both = diagnostics(x)
    assert both.r_hat == pytest.approx(attrs["r_hat"], abs=1e-4)
    arviz = pytest.importorskip("arviz")
    each = [arviz.rhat(x[..., k]) for k in range(4)]
    assert both.r_hat == pytest.approx(max(each), abs=1e-9)
    assert both.ess_bulk == pytest.approx(min(arviz.ess(x[..., k]) for k in range(4)), rel=1e-9)
    tails = [arviz.ess(x[..., k], method="tail") for k in range(4)]
    assert both.ess_tail == pytest.approx(min(tails), rel=1e-6)
    assert found["ess_bulk"].dims == ("chain",)


def log_density_of(x):
    return -0.5 * np.einsum("...i,ij,...j", x - MEAN, PRECISION, x - MEAN)


@pytest.mark.parametrize("method", ["nuts", "hmc"])
def test_gradients_from_the_host_give_the_same_chains(method):
    options = {"method": method, "draws": 60, "warmup": 60, "leapfrogs": 5}
    jax_made, own = quietly(GAUSSIAN, **options), quietly(RETURNED, **options)
    np.testing.assert_allclose(values(own)[:, :3], values(jax_made)[:, :3], atol=0.5)
    assert own.attrs["gradients"] == pytest.approx(jax_made.attrs["gradients"], rel=0.2)


def test_the_prior_is_in_the_density_and_bounds_hold():
    prior = {"rate": st.gamma(2.0), "share": st.uniform(0.2, 0.6)}
    density = pag.LogDensity(lambda x: -x[0] * 3.0, ("rate", "share"), prior)
    found = pag.sample(density, method="nuts", draws=1500, progress=False, seed=2)
    # Gamma(2) exp(-3 rate) is Gamma(2, rate 4).
    ess = found.attrs["ess_bulk"]
    assert found["rate"].mean() == pytest.approx(0.5, abs=4 * 0.35 / np.sqrt(ess))
    assert found["share"].mean() == pytest.approx(0.5, abs=4 * 0.17 / np.sqrt(ess))
    assert found["share"].min() > 0.2 and found["share"].max() < 0.8
    assert found["share"].attrs["valid_max"] == pytest.approx(0.8)
    rate, share = found["rate"].values, found["share"].values
    exact = -3.0 * rate + st.gamma(2.0).logpdf(rate) + st.uniform(0.2, 0.6).logpdf(share)
    np.testing.assert_allclose(found["log_density"], exact, rtol=1e-9)


def test_the_gaussian_of_a_window_is_exact_for_a_gaussian_however_chains_have_mixed():
    generator = np.random.default_rng(3)
    x = MEAN + 0.1 * generator.standard_normal((40, 4)) * [1.0, 10.0, 0.1, 3.0]
    slope = (x - MEAN) @ PRECISION
    points = Points(x, np.zeros(40), slope - x, 0.5 * np.sum(x**2, 1), x)
    found = gaussian(points)
    np.testing.assert_allclose(found.root(found.root(np.eye(4))), COVARIANCE, rtol=2e-3, atol=1e-4)


def test_the_gaussian_of_chains_that_hardly_moved():
    """Few different draws, often repeated, tell nothing of most directions: it is the prior."""
    x = np.random.default_rng(0).standard_normal((5, 30))[np.arange(200) % 5]
    found = gaussian(Points(x, np.zeros(200), 0.0 * x, 0.5 * np.sum(x**2, 1), x))
    np.testing.assert_allclose(found.root(np.eye(30)), np.eye(30))


def test_windows_cover_the_warm_up():
    for warmup in (0, 1, 25, 80, 333, 1000):
        ends = window_ends(warmup)
        assert ends[-1] == warmup and np.all(np.diff(ends) > 0)
    assert window_ends(500).tolist() == [25, 50, 100, 200, 450, 500]


def test_far_out_there_is_no_density_but_always_a_number():
    """A first step may lead anywhere."""
    x = np.concatenate([[-(10.0**k), 10.0**k] for k in (0, 1, 2, 3, 10, 160)])[:, None]
    for prior in (st.uniform(0, 1), st.norm(), st.gamma(2.0), st.lognorm(0.5), st.beta(2, 3)):
        target = target_of(pag.LogDensity(lambda x: -jnp.sum(x**2), ("a",), {"a": prior}), 32)
        energy, slope = double(jax.vmap(jax.value_and_grad(target.energy)))(x)
        found = target.evaluate(x)
        np.testing.assert_allclose(found.value + found.prior, energy, rtol=1e-12)
        some = np.isfinite(energy)
        both = found.slope + found.prior_slope
        np.testing.assert_allclose(both[some], slope[some], rtol=1e-9)
        assert np.all(np.isfinite(both)) and np.all(np.isfinite(slope))
        assert np.all(some[:4]) and not np.any(np.isnan(energy))


# Gradients


@pytest.mark.parametrize(("method", "leapfrogs"), [("mala", 1), ("hmc", 3), ("nuts", 1)])
def test_value_and_gradient_are_computed_once(method, leapfrogs):
    asked = []

    def counted(theta):
        asked.append(theta.tobytes())
        return returned(theta)

    density = pag.LogDensity(counted, NAMES, start=START, gradient="returned")
    found = quietly(density, method, draws=20, warmup=30, leapfrogs=leapfrogs)
    # Beside the two points that the fingerprint of a journal would need: there is none.
    assert len(asked) == len(set(asked)) == found.attrs["gradients"]
    if method != "nuts":
        assert len(asked) == 4 * (1 + 50 * leapfrogs)
    assert int(found["gradients"].sum()) == np.sum(found["gradients"].values)


@pytest.mark.parametrize("method", ["nuts", "mala", "smc"])
def test_a_density_is_compiled_once(method):
    traced = []

    def function(theta):
        traced.append(theta)
        return log_gaussian(theta)

    options = {"particles": 20} if method == "smc" else {"draws": 25, "warmup": 25}
    density = pag.LogDensity(function, NAMES, start=START)
    quietly(density, method, **options)
    before = len(traced)
    quietly(density, method, **options, seed=1)
    assert len(traced) == before > 0


def test_points_without_a_density_are_refused_and_counted():
    def half(theta):
        return jnp.where(theta[0] > 1.0, log_gaussian(theta), jnp.nan)

    density = pag.LogDensity(half, NAMES, start=1.0 + np.abs(START))
    with pytest.warns(SamplingWarning, match="of 2000 proposals have no density") as told:
        found = pag.sample(density, method="hmc", draws=500, progress=False)
    assert {warning.filename for warning in told} == {__file__}
    assert found["a"].min() > 1.0 and found.attrs["failures"] > 20


@pytest.mark.parametrize("method", ["nuts", "hmc", "mala"])
@pytest.mark.parametrize("gradient", ["jax", "returned"])
def test_a_gradient_that_is_no_number_is_an_error_that_names_it(method, gradient):
    def bad(theta):
        wrong = jnp.sqrt(theta[1] - theta[1])
        return log_gaussian(theta) + jnp.where(theta[0] > 1.0, wrong, 0.0)

    def bad_returned(theta):
        value, slope = returned(theta)
        return value, np.where([False, theta[0] > 1.0, False, False], np.nan, slope)

    function = {"jax": bad, "returned": bad_returned}[gradient]
    start = np.array([[-1.0, -2.0, 0.5, 3.0]])
    density = pag.LogDensity(function, NAMES, start=start, gradient=gradient)
    with pytest.raises(DataError, match=r"gradient is not finite by b at a = .*log density is -"):
        quietly(density, method, draws=500, warmup=300, chains=1, leapfrogs=4)


def test_a_trajectory_beyond_all_numbers_ends():
    """Its position is no number, which equals none that is known: it was asked for again and
    again."""

    def steep(theta):
        return -1.0, np.where(np.abs(theta) > 1.0, -1e308 * np.sign(theta), 0.0)

    density = pag.LogDensity(steep, ("a",), prior=pag.Independent(100.0), gradient="returned")
    found = quietly(density, "hmc", draws=4, warmup=0, chains=2, leapfrogs=4)
    assert found.attrs["failures"] > 0
    assert np.all(np.isfinite(found["a"]))


@pytest.mark.parametrize("same", [0, 9])
def test_gradients_from_the_host_are_found_by_all_components(same):
    """Also where the first do not move."""
    known = Known.none(1, 4, 10)
    z = np.random.default_rng(0).standard_normal((3, 10))
    z[:, :same] = 0.5
    known.z[0, :3] = z
    one = Known(*(a[0] for a in known))
    for k, row in enumerate(z):
        assert [int(a) for a in place(one, row)] == [k, True]
    for row in (z[0] + np.eye(10)[9], np.full(10, np.nan)):
        assert not place(one, row)[1]


def test_errors_of_the_users_function_come_through():
    def breaks(theta):
        raise KeyError("mine")

    density = pag.LogDensity(breaks, NAMES, start=START, gradient="returned")
    with pytest.raises(KeyError, match="mine"):
        quietly(density)


# Going on


@cache
def journalled():
    return quietly(GAUSSIAN, draws=80, warmup=60)


def test_the_journal_goes_on_where_it_was(tmp_path, monkeypatch):
    from pyadjoint_gpu.sampling.chains import ChainsJournal

    put, calls = ChainsJournal.put, []

    def dies(self, **rows):
        calls.append(1)
        if len(calls) % 3 == 0:
            raise KeyboardInterrupt
        put(self, **rows)

    monkeypatch.setattr(ChainsJournal, "put", dies)
    for _ in range(20):
        try:
            found = quietly(GAUSSIAN, draws=80, warmup=60, journal=tmp_path / "run.h5")
        except KeyboardInterrupt:
            continue
        break
    assert len(calls) > 6
    for name in journalled().data_vars:
        np.testing.assert_array_equal(found[name], journalled()[name], err_msg=name)
    again = quietly(GAUSSIAN, draws=80, warmup=60, journal=tmp_path / "run.h5")
    np.testing.assert_array_equal(again["a"], found["a"])
    with pytest.raises(DataError, match="made with other inputs than now: other draws, warmup;"):
        quietly(GAUSSIAN, draws=90, warmup=50, journal=tmp_path / "run.h5")


CHILD = """
import os, signal, sys, threading
sys.path.insert(0, {tests!r})
from pyadjoint_gpu.core.journal import Journal
from test_mcmc import RUNS

put, calls = Journal.put, []

def dies():
    os.kill(os.getpid(), signal.SIGKILL)

def counted(self, **rows):
    calls.append(1)
    if len(calls) == {after}:
        # While it is written, or while the next ones are computed.
        threading.Timer({delay}, dies).start()
    put(self, **rows)

Journal.put = counted
RUNS[{name!r}](journal={journal!r})
"""
BOX = pag.LogDensity(log_gaussian, NAMES, pag.Independent(3.0))
RUNS = {
    "nuts": partial(quietly, BOX, "nuts", draws=400, warmup=200),
    "mala": partial(quietly, BOX, "mala", draws=400, warmup=200),
    "flow": partial(quietly, BOX, "flow", chains=8, draws=150, particles=256),
    "smc": partial(quietly, BOX, "smc", particles=256),
    "linear": partial(
        LinearSMC(A[:3], [20.0, -9.0, 4.0], 0.5, np.ones(4), (-9.0, np.inf)).run,
        repeats=2,
        progress=False,
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyadjoint_gpu.sampling.SamplingWarning")
@pytest.mark.parametrize("name", list(RUNS))
def test_killed_anywhere_it_gives_the_same_bits(tmp_path, name):
    """SIGKILL, four times; that of flows also while they are trained."""
    journal, here = str(tmp_path / "run.h5"), os.path.dirname(__file__)
    for after, delay in ((2, 0.0), (3, 0.004), (4, 0.02), (5, 0.3)):
        code = CHILD.format(tests=here, name=name, journal=journal, after=after, delay=delay)
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True)
        if delay < 0.1:  # later, it may have finished
            assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-500:]
    found, whole = RUNS[name](journal=journal), RUNS[name]()
    for variable in whole.data_vars:
        np.testing.assert_array_equal(found[variable], whole[variable], err_msg=variable)


@pytest.mark.parametrize("until", [{"ess": 300}, {"r_hat": 1.02}, {"ess": 200, "r_hat": 1.05}])
def test_chains_stop_when_there_is_enough(until):
    found = pag.sample(GAUSSIAN, method="nuts", draws=5000, until=until, progress=False)
    attrs = found.attrs
    assert attrs["status"] == "converged" and found.sizes["draw"] < 1000
    assert min(attrs["ess_bulk"], attrs["ess_tail"]) >= until.get("ess", 0)
    assert attrs["r_hat"] <= until.get("r_hat", np.inf)
    short = quietly(GAUSSIAN, draws=50, until={"ess": 1e6})
    assert short.attrs["status"] == "max_draws" and short.sizes["draw"] == 50


def test_chains_that_disagree_are_said():
    def two(theta):
        return logsumexp(-0.5 * jnp.array([jnp.sum((theta - 9) ** 2), jnp.sum((theta + 9) ** 2)]))

    density = pag.LogDensity(two, ("x", "y"), start=[[9.0, 9.0], [-9.0, -9.0]])
    with pytest.warns(SamplingWarning, match='chains disagree: R-hat is .*method="smc"'):
        pag.sample(density, method="nuts", chains=2, draws=100, warmup=50, progress=False)


def test_starts():
    prior = pag.Independent(1.0)
    density = pag.LogDensity(lambda t: -0.5 * 99.0 * jnp.sum((t - 2.0) ** 2), ("x", "y"), prior)
    target = target_of(density, 4)
    np.testing.assert_allclose(target.thetas(target.mode()), 2.0 * 0.99, atol=1e-5)
    found = quietly(density, draws=100, warmup=30, start="map")
    assert found["x"].mean() == pytest.approx(1.98, abs=0.05)
    given = quietly(density, draws=4, warmup=0, chains=2, start=[[2.0, 2.0], [1.9, 1.9]])
    assert given.sizes == {"chain": 2, "draw": 4}
    nowhere = pag.LogDensity(lambda t: t[0] * jnp.nan, ("x",), prior)
    with pytest.raises(ConvergenceError, match="start: there is no density where 4 of 4 chains"):
        quietly(nowhere)


# Problems


@pytest.mark.slow
def test_a_problem_by_every_method():
    from test_problem_smc import one_number

    problem = one_number()
    smc = quietly(problem, "smc", particles=200, batch=200, repeats=2)
    mean, sd = float(smc["ln_permeability_mean"]), float(smc["ln_permeability_sd"])
    for method in ("nuts", "hmc", "mala"):
        found = quietly(problem, method, draws=300, warmup=100, leapfrogs=4)
        assert float(found["ln_permeability_mean"]) == pytest.approx(mean, abs=0.4 * sd)
        assert float(found["ln_permeability_sd"]) == pytest.approx(sd, rel=0.25)
        theta = found["ln_permeability_coefficients"]
        np.testing.assert_allclose(np.exp(theta), found["permeability"][..., 0])
        assert found["misfit"].dims == ("chain", "draw")


# Doors

DENSITY = pag.LogDensity(log_gaussian, NAMES, pag.Independent(1.0))
BAD = [
    (lambda: pag.sample(3), ConfigError, "target: found int, expected a Problem, or a LogDensity"),
    (lambda: pag.sample(DENSITY, method="nut"), ConfigError, "method: found 'nut', expected one"),
    (
        lambda: pag.sample(DENSITY, method="nuts", particles=3),
        ConfigError,
        "particles: no option of method 'nuts'; expected one of",
    ),
    (
        lambda: pag.sample(DENSITY, method="smc", particle=3),
        ConfigError,
        "particle: no option of method 'smc'; did you mean 'particles'",
    ),
    (lambda: MCMC(DENSITY, draws=3), ConfigError, "draws: found 3, expected 4 or more"),
    (lambda: MCMC(DENSITY, chains=0), ConfigError, "chains: found 0"),
    (lambda: MCMC(DENSITY, until={"ESS": 3}), ConfigError, "until.ESS: unknown key"),
    (lambda: MCMC(DENSITY, until={"ess": -3}), ConfigError, "until.ess: found -3"),
    (lambda: MCMC(DENSITY, start="here"), ConfigError, "start: found 'here', expected one of"),
    (lambda: MCMC(DENSITY, start=[[1.0, 2.0]]), DataError, "start: found shape"),
    (lambda: MCMC(GAUSSIAN, start="prior"), ConfigError, "start: found 'prior', but the density"),
    *(
        (lambda m=m: pag.sample(DENSITY, method=m, seed=-1), ConfigError, "seed: found -1")
        for m in ("smc", "flow", "nuts", "hmc", "mala")
    ),
    (lambda: pag.sample(DENSITY, method="flow", chains=0), ConfigError, "chains: found 0"),
    (lambda: pag.sample(DENSITY, repeats=0), ConfigError, "repeats: found 0"),
    (lambda: pag.LogDensity(3, NAMES), ConfigError, "function: found int"),
    (lambda: pag.LogDensity(log_gaussian, "abcd"), ConfigError, "names: found 'abcd'"),
    (lambda: pag.LogDensity(log_gaussian, ["aabc"]), ConfigError, "start: missing"),
    (lambda: pag.LogDensity(log_gaussian, list("aabc")), ConfigError, "names: 'a' occurs twice"),
    (lambda: pag.LogDensity(log_gaussian, ("draw", "b")), ConfigError, "names.draw: the name is"),
    (lambda: pag.LogDensity(log_gaussian, NAMES), ConfigError, "start: missing; without a prior"),
    (
        lambda: pag.LogDensity(log_gaussian, NAMES, start=[1.0]),
        DataError,
        r"start: found shape \(1,\), expected \(chains, 4\)",
    ),
    (
        lambda: pag.LogDensity(log_gaussian, NAMES, {"a": st.norm()}),
        ConfigError,
        "prior.b is missing",
    ),
    (
        lambda: pag.LogDensity(log_gaussian, ("a",), {"A": st.norm()}),
        ConfigError,
        "prior.A: not one of names",
    ),
    (lambda: pag.LogDensity(log_gaussian, NAMES, 3.0), ConfigError, "prior: found float"),
    (lambda: pag.LogDensity(log_gaussian, NAMES, pag.Uniform()), ConfigError, "prior: a Uniform"),
    (
        lambda: pag.LogDensity(lambda t: np.exp(float(t[0])), ("a",), pag.Independent(1.0)),
        ConfigError,
        'function: JAX cannot follow it.*gradient="returned"',
    ),
    (
        lambda: pag.LogDensity(lambda t: t, ("a", "b"), pag.Independent(1.0)),
        ConfigError,
        r"function: found float64 of shape \(2,\), expected one real number",
    ),
    (
        lambda: pag.sample(pag.LogDensity(log_gaussian, NAMES, start=START[:1]), method="smc"),
        ConfigError,
        "start: tempering without a prior",
    ),
]


@pytest.mark.parametrize(("call", "error", "match"), BAD, ids=[r[2][:30] for r in BAD])
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (3.0, "function: found 3.0, expected a pair of a number and its gradient"),
        ((1.0, [1.0]), r"function: found a gradient of shape \(1,\), expected \(4,\)"),
    ],
)
def test_what_a_function_returns(found, match):
    density = pag.LogDensity(lambda t: found, NAMES, start=START, gradient="returned")
    with pytest.raises(DataError, match=match):
        quietly(density)


def test_without_blackjax(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(EngineError, match=r"blackjax is missing: pip install 'pyadjoint_gpu\[sam"):
        quietly(GAUSSIAN)


def test_a_reference_turns_back():
    about = Reference(MEAN, np.linalg.eigh(COVARIANCE)[1], np.array([0.5, 1.0, 2.0, 3.0]))
    z = np.random.default_rng(0).standard_normal((5, 4))
    np.testing.assert_allclose(about.whiten(about.mean + about.root(z)), z, atol=1e-12)
    np.testing.assert_allclose(about.inverse_root(about.root(z)), z, atol=1e-12)
