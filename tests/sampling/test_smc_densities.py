"""SMC and flow-enhanced chains on densities with known integrals, and the error that they state."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.progress import progress_bar
from pyadjoint_gpu.results.samples import evidence
from pyadjoint_gpu.sampling import SMC, SamplingWarning
from pyadjoint_gpu.sampling.chains import ChainSettings
from pyadjoint_gpu.sampling.checks import check_scatter
from pyadjoint_gpu.sampling.flow_run import FlowJournal, FlowRun, Followed
from pyadjoint_gpu.sampling.journal import follow
from pyadjoint_gpu.sampling.kernels import Block, Moved

ROSENBROCK = pag.LogDensity(
    lambda x: -jnp.sum(10.0 * (x[::2] ** 2 - x[1::2]) ** 2 + (x[::2] - 1.0) ** 2),
    [f"x{k}" for k in range(10)],
    pag.Independent(3.0),
)
EXACT = -21.402087


def two(x):
    """Weights 0.1 and 0.9 at +3 and -3 in four dimensions, sd 0.5."""
    means = jnp.array([[3.0] * 4, [-3.0] * 4])
    logs = jnp.log(jnp.array([0.1, 0.9])) - 2.0 * jnp.sum((x - means) ** 2, axis=1)
    return logsumexp(logs) - 2.0 * jnp.log(2.0 * jnp.pi * 0.25)


TWO = pag.LogDensity(two, tuple("abcd"), pag.Uniform(-10.0, 10.0))
EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(theta):
    return jnp.sum(norm.logpdf(EFFECTS, theta[0] + theta[1] * theta[2:], ERRORS))


SCHOOLS = {"mu": st.norm(0.0, 5.0), "tau": st.halfcauchy(0.0, 5.0)}
SCHOOLS |= {f"eta{k}": st.norm() for k in range(8)}


def run(target, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pag.sample(target, progress=False, **({"method": "smc"} | options))


def mean_of(result, name):
    return float(result[name].weighted(result["weight"]).mean())


def test_eight_schools():
    """mu, tau and ln Z by quadrature."""
    density = pag.LogDensity(schools, list(SCHOOLS), SCHOOLS)
    found = run(density, repeats=4)
    error = found.attrs["log_evidence_error"]
    assert abs(found.attrs["log_evidence"] + 31.311) < 3.5 * error and error < 0.05
    assert mean_of(found, "mu") == pytest.approx(4.397, abs=0.25)
    assert mean_of(found, "tau") == pytest.approx(3.598, abs=0.3)


def test_two_modes_by_their_weights():
    found = run(TWO, repeats=6, particles=2000)
    error = found.attrs["log_evidence_error"]
    assert abs(found.attrs["log_evidence"] + 4.0 * np.log(20.0)) < 3.5 * error < 0.15
    light = float((found["a"] > 0).mean("draw").weighted(found["weight"]).mean())
    assert light == pytest.approx(0.1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("moves", [1, 2, 6])
def test_a_run_states_its_own_error(moves):
    """By chi2 of 40 runs, however well they mix: more where few moves leave particles alike."""
    found = run(ROSENBROCK, repeats=40, particles=400, moves=moves, ess=0.6, leapfrogs=4)
    off = found["log_evidence"].values - EXACT
    within = found.attrs["log_evidence_error_within"] * np.sqrt(40.0)
    assert 0.5 < np.std(off, ddof=1) / within < 1.35
    assert abs(np.mean(np.exp(off)) - 1.0) < 4.0 * np.std(np.exp(off)) / np.sqrt(40.0)


def test_errors_of_one_run_and_of_several():
    one = evidence(np.array([-3.0]), np.array([0.04]))
    assert one["log_evidence_error"] == pytest.approx(0.2)
    assert one["log_evidence_error_between"] is None
    runs = np.array([-3.0, -3.2, -2.9, -3.1])
    found = evidence(runs, np.full(4, 0.04))
    square = np.var(runs, ddof=1)
    assert found["log_evidence_error_between"] == pytest.approx(np.sqrt(square / 4))
    both = (10 * 0.04 + 3 * square) / 13
    assert found["log_evidence_error"] == pytest.approx(np.sqrt(both / 4))


def test_runs_that_scatter_are_said():
    with pytest.warns(SamplingWarning, match="ln Z of runs scatters by 1, expected 0.1"):
        check_scatter(np.array([-3.0, -5.0, -4.0]), np.full(3, 0.01))
    with pytest.warns(SamplingWarning, match="ln Z of a run is known to 1.5 only"):
        check_scatter(np.array([-3.0]), np.array([2.25]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_scatter(np.array([-3.0, -3.1, -2.9]), np.full(3, 0.01))


def test_a_density_without_a_prior_is_relative_to_its_start():
    start = np.array([2.0, -1.0]) + np.random.default_rng(0).standard_normal((30, 2))
    density = pag.LogDensity(lambda x: -2.0 * jnp.sum((x - 1.0) ** 2), ("x", "y"), start=start)
    found = run(density, repeats=3)
    exact = np.log(2.0 * np.pi / 4.0)
    assert abs(found.attrs["log_evidence"] - exact) < 3.5 * found.attrs["log_evidence_error"]
    x, y = found["x"].values, found["y"].values
    np.testing.assert_allclose(
        found["log_density"], -2.0 * ((x - 1) ** 2 + (y - 1) ** 2), atol=1e-9
    )


def test_refused_or_short_moves_are_repeated():
    """A stage goes on until its moves come to two at the acceptance intended."""
    easy = run(pag.LogDensity(lambda x: -(x[0] ** 2), ("x", "y"), pag.Independent(1.0)))
    assert easy.attrs["gradients"] == 1024 * (1 + 5 * 2 * easy.sizes["stage"])
    found = run(ROSENBROCK, particles=64, leapfrogs=1)
    assert found.attrs["gradients"] > 64 * (1 + 2 * 1.2 * found.sizes["stage"])


# Flows


def followed(likelihood):
    """A run of two unknowns whose particles have arrived."""
    smc = SMC(pag.LogDensity(likelihood, ("a", "b"), pag.Independent(1.0)), particles=64)
    settings = ChainSettings("flow", "hmc", 4, 4, 22, 5, 1, {})
    of = FlowRun(settings, smc._target, smc, (2, 20), 0, None)
    with progress_bar(shown=False, desc="SMC") as bar:
        (of._particles,) = follow(Followed, None, bar, *of._steps(), 1)
    return of


def test_what_trains_a_flow_has_a_density():
    """Of draws of the prior, the first stage's, half have none here, and no gradient."""

    def half(x):
        return jnp.where(x[0] > 0.0, -2.0 * jnp.sum((x - 1.0) ** 2), -jnp.inf)

    last = followed(half)._particles
    assert last.wider.x.shape == (64 * len(last.exponents), 2) and last.exponents[0] == 0.0
    assert np.all(np.isfinite(last.wider.value)) and np.all(last.wider.x[:, 0] > 0.0)


def test_where_a_chain_stays_a_flow_learns_once():
    """A draw is one row of the weight of its stay: as two, of which one is held out, it would be
    learnt by heart."""
    of = followed(lambda x: -2.0 * jnp.sum((x - 1.0) ** 2))
    before = of._rows()
    x = np.random.default_rng(0).standard_normal((4, 22, 2))
    x[0], x[1, 10:] = x[0, 0], x[1, 10]
    none = np.zeros((4, 22))
    of.blocks.append(Block(x, 2.0 * x, Moved(*(none,) * len(Moved._fields))))
    rows = of._rows()
    assert rows.x.shape == before.x.shape
    # 1 draw of the first chain, 11 of the second, 22 of each other one.
    np.testing.assert_array_equal(rows.x[:-56], before.x[:-56])
    new, weights = rows.x[-56:], rows.weights[-56:]
    assert len(np.unique(new, axis=0)) == 56
    np.testing.assert_allclose(weights[(new == x[0, 0]).all(axis=1)], 22 * 56 / 88)
    np.testing.assert_allclose(np.sort(weights)[:-2], 56 / 88)
    np.testing.assert_array_equal(rows.slopes[-56:], -2.0 * new)


@pytest.fixture(scope="module")
def flows():
    return run(TWO, method="flow", chains=32, draws=300, particles=256)


@pytest.mark.slow
def test_flow_enhanced_chains_go_between_modes(flows):
    attrs = flows.attrs
    assert attrs["r_hat"] < 1.05 and attrs["method"] == "flow"
    assert attrs["global_acceptance"] > 0.8
    share = float((flows["a"] > 0).mean())
    assert share == pytest.approx(0.1, abs=4 * 0.3 / np.sqrt(attrs["ess_bulk"]))
    exact = -4.0 * np.log(20.0)
    assert abs(attrs["log_evidence"] - exact) < 4.0 * attrs["log_evidence_error"] < 0.02
    assert abs(attrs["log_evidence_smc"] - exact) < 4.0 * attrs["log_evidence_smc_error"]
    found = pag.evidence(flows, method="all")
    assert found["method"].values.tolist() == ["harmonic", "smc", "nested", "laplace", "bridge"]
    # By the same particles.
    assert found.attrs["method"] == "bridge" and found.attrs["status"] == "alone"
    # The first moves are the particles', then two trajectories and twenty proposals a round.
    assert int(flows["gradients"].sum()) < 32 * 300 * (2 * 5 + 20) / 22 * 1.1


@pytest.mark.slow
def test_ten_dimensions_within_60_000_gradients():
    """ln Z to 0.1 was asked for; by repeats, of chains that mix."""
    found = [
        run(ROSENBROCK, method="flow", particles=160, chains=32, draws=220, seed=k).attrs
        for k in range(2)
    ]
    off = np.array([one["log_evidence"] for one in found]) - EXACT
    assert np.max(np.abs(off)) < 0.05
    assert max(one["gradients"] for one in found) < 60_000
    assert min(one["global_acceptance"] for one in found) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 9, 12])
def test_the_journal_of_flows_goes_on(tmp_path, monkeypatch, after, flows):
    put, calls = FlowJournal.put, []

    def dies(self, **rows):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        put(self, **rows)

    options = {"method": "flow", "chains": 32, "draws": 300, "particles": 256}
    options["journal"] = tmp_path / "run.h5"
    monkeypatch.setattr(FlowJournal, "put", dies)
    with pytest.raises(KeyboardInterrupt):
        run(TWO, **options)
    found = run(TWO, **options)
    for name in flows.data_vars:
        np.testing.assert_array_equal(found[name], flows[name], err_msg=name)
    with pytest.raises(DataError, match="other inputs than now: other chains;"):
        run(TWO, **(options | {"chains": 33}))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rounds": 0}, "rounds: found 0"),
        ({"proposals": 0}, "proposals: found 0"),
        ({"particles": 3}, "particles: found 3, expected 64 or more"),
        ({"warmup": 3}, "warmup: no option of method 'flow'"),
        ({"until": {"acceptance": 1}}, "until.acceptance: unknown key"),
    ],
)
def test_bad_options_of_flows(options, match):
    with pytest.raises(ConfigError, match=match):
        run(TWO, method="flow", **options)


def test_flows_of_many_unknowns_are_for_gaussian_priors():
    prior = {f"x{k}": st.uniform() for k in range(65)}
    many = pag.LogDensity(lambda x: -jnp.sum(x**2), list(prior), prior)
    with pytest.raises(ConfigError, match="'flow': found 65 unknowns, expected at most 64 where"):
        run(many, method="flow")


@pytest.mark.slow
def test_many_unknowns_of_which_few_are_informed():
    """Four numbers of 200 unknowns: the flow of four is exact, and so is ln Z."""
    generator = np.random.default_rng(0)
    design = generator.standard_normal((4, 200)) / 5.0
    data = 2.0 * generator.standard_normal(4)

    def likelihood(x):
        return -0.5 * jnp.sum((design @ x - data) ** 2) - 2.0 * jnp.log(2.0 * jnp.pi)

    many = pag.LogDensity(likelihood, [f"x{k}" for k in range(200)], pag.Independent(1.0))
    found = run(many, method="flow", chains=8, draws=66, rounds=1, particles=130)
    exact = st.multivariate_normal(cov=np.eye(4) + design @ design.T).logpdf(data)
    assert found.attrs["log_evidence"] == pytest.approx(exact, abs=1e-3)
    assert found.attrs["global_acceptance"] > 0.99
