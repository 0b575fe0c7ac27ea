"""The evidence of samples by several methods, and its certificate."""

import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from jax.scipy.special import logsumexp

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.results.samples import samples_of, scalars
from pyadjoint_gpu.sampling.evidence import Estimate, verdict
from pyadjoint_gpu.sampling.line import on_line

N = 3
EXACT = -0.5 * N * np.log(5.0)
"""ln of the integral of N(x; 0, I) exp(-2 |x|^2)."""
GAUSSIAN = pag.LogDensity(
    lambda x: -2.0 * jnp.sum(x**2), [f"x{k}" for k in range(N)], pag.Independent(1.0)
)


def quietly(target, method, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pag.sample(target, method=method, progress=False, **options)


@pytest.fixture(scope="module")
def chains():
    return quietly(GAUSSIAN, "nuts", chains=20, draws=300, warmup=150)


def test_all_methods_of_a_gaussian(chains, tmp_path):
    found = pag.evidence(chains, GAUSSIAN, method="all")
    assert found["method"].values.tolist() == ["harmonic", "smc", "nested", "laplace"]
    off = (found["log_evidence"] - EXACT) / found["log_evidence_error"]
    assert np.nanmax(np.abs(off)) < 3.5 and np.isnan(off.values[3])
    assert float(found["log_evidence"][3]) == pytest.approx(EXACT, abs=1e-6)
    assert np.all(found["reason"] == "")
    assert found.attrs["certified"] == 1 and found.attrs["status"] == "certified"
    assert found.attrs["method"] == "harmonic"
    message = r"independent estimates agree: ln Z by harmonic -2\.4.. \+- 0\.0.., smc .* -2\.414"
    assert re.fullmatch(message, found.attrs["message"])
    assert found.attrs["log_evidence"] == pytest.approx(EXACT, abs=0.05)
    figure = found.pag.plot(tmp_path / "evidence.png")
    (axes,) = figure.axes
    assert axes.get_title() == "certified: independent estimates agree"
    assert [text.get_text() for text in axes.get_yticklabels()] == found["method"].values.tolist()


def test_what_is_drawn_are_the_unknowns(chains):
    assert scalars(samples_of(chains)) == list(GAUSSIAN.names)


def test_of_samples_alone(chains):
    found = pag.evidence(chains)
    assert found.attrs["log_evidence"] == pytest.approx(EXACT, abs=0.05)
    assert found.attrs["certified"] == 0 and found.attrs["status"] == "alone"
    assert found.attrs["message"].startswith("no independent estimate confirms it: ln Z")
    particles = quietly(GAUSSIAN, "smc", particles=400)
    same = pag.evidence(particles, method="smc")
    assert same.attrs["log_evidence"] == particles.attrs["log_evidence"]
    with pytest.raises(DataError, match="method 'bridge': it needs samples by method 'flow'"):
        pag.evidence(chains, method="bridge")
    with pytest.raises(DataError, match="method 'nested': it needs the target"):
        pag.evidence(chains, method="nested")


@pytest.mark.slow
def test_a_bounded_prior_is_taken_into_account():
    prior = {"a": st.uniform(-1.0, 4.0), "b": st.gamma(3.0)}
    density = pag.LogDensity(lambda x: -0.5 * x[0] ** 2 - 2.0 * x[1], ("a", "b"), prior)
    share = st.norm.cdf(3.0) - st.norm.cdf(-1.0)
    exact = np.log(share * np.sqrt(2 * np.pi) / 4.0) - 3.0 * np.log(3.0)
    samples = quietly(density, "nuts", chains=24, draws=400, warmup=150)
    found = pag.evidence(samples, density, method="all")
    off = (found["log_evidence"] - exact) / found["log_evidence_error"]
    assert np.nanmax(np.abs(off)) < 3.5, found
    x, log = on_line(samples)
    a, b = samples["a"].values, samples["b"].values
    np.testing.assert_allclose(x[..., 0], np.log((a + 1.0) / (3.0 - a)))
    jacobian = np.log((a + 1.0) * (3.0 - a) / 4.0) + np.log(b)
    np.testing.assert_allclose(log, samples["log_density"] + jacobian)


@pytest.mark.slow
def test_runs_of_smc_are_pooled_by_their_weights():
    """The particles of a run are correlated as a chain is: few of them are refused."""
    density = pag.LogDensity(
        lambda x: -((1 - x[0]) ** 2) - 100 * (x[1] - x[0] ** 2) ** 2,
        ("x", "y"),
        {"x": st.uniform(-10, 20), "y": st.uniform(-5, 20)},
    )
    samples = quietly(density, "smc", repeats=4)
    assert np.ptp(samples["weight"].values) > 0.01
    found = pag.evidence(samples).attrs
    assert abs(found["log_evidence"] + 1.157879 + np.log(400)) < 3.5 * found["log_evidence_error"]
    assert 0.005 < found["log_evidence_error"] < 0.03
    with pytest.raises(DataError, match=r"effective chains: found .* of SMC more repeats"):
        pag.evidence(samples.isel(chain=[0]))


@pytest.mark.slow
def test_a_first_order_phase_transition_is_not_certified():
    """Skilling's spike and slab, ln Z = ln 101: what chains and SMC have found is the slab."""
    n = 20

    def spike(x):
        def gaussian(sd):
            return -0.5 * jnp.sum(x**2) / sd**2 - n * jnp.log(sd) - 0.5 * n * jnp.log(2 * jnp.pi)

        return logsumexp(jnp.array([jnp.log(100.0) + gaussian(0.01), gaussian(0.1)]))

    density = pag.LogDensity(spike, [f"x{k}" for k in range(n)], pag.Uniform(-0.5, 0.5))
    samples = quietly(density, "nuts", chains=20, draws=400)
    found = pag.evidence(samples, density, method="all")
    by = {
        str(k): float(v) for k, v in zip(found["method"].values, found["log_evidence"], strict=True)
    }
    assert by["smc"] < 3.0 and by["harmonic"] < 3.0
    assert by["nested"] == pytest.approx(np.log(101.0), abs=1.5)
    assert found.attrs["certified"] == 0 and found.attrs["status"] == "disagree"
    assert np.isnan(found.attrs["log_evidence"]) and "method" not in found.attrs
    assert found.attrs["message"].startswith("estimates disagree, as where a mode was not sampled")


@pytest.mark.slow
@pytest.mark.parametrize("basis", ["constant", "field"])
def test_the_evidence_of_a_problem(basis):
    """One number by quadrature; a field of three cells by SMC, which knows it apart from that."""
    grid = pag.Grid((3,), (1.0,))
    model = pag.models.Darcy(grid, [pag.Well(0.7, 1.0)], fixed_pressure={"x_min": 0.0})
    points = np.linspace(0.1, 0.9, 5)[:, None]
    data = pag.synthetic.observe(model, {"permeability": 2.0}, points, noise=0.1)
    control = pag.Control(
        "permeability", 1.0, transform="log", basis=basis, prior=pag.Independent(1.0)
    )
    problem = pag.Problem(model, control, pag.LeastSquares(data), engine="embedded")
    samples = quietly(problem, "nuts", chains=40, draws=150, warmup=100)
    found = pag.evidence(samples, problem, method="all")
    assert found["reason"].values.tolist()[:2] == ["", ""], found["reason"].values
    assert found.attrs["status"] == "certified", found
    if basis == "constant":
        at = np.linspace(-5.0, 5.0, 801)
        logs = -problem.evaluate_many(at[:, None], batch=64).misfit - 0.5 * at**2
        exact = logsumexp(logs) + np.log(0.0125 / np.sqrt(2 * np.pi)) + problem.log_normaliser
        assert abs(found.attrs["log_evidence"] - exact) < 3.5 * found.attrs["log_evidence_error"]
    x, log = on_line(samples)
    assert x.shape == (40, 150, 1 if basis == "constant" else 3)
    np.testing.assert_array_equal(log, samples["log_density"])
    theta = np.log(samples["permeability"].values[..., : x.shape[2]])
    np.testing.assert_allclose(x, theta, rtol=1e-12, atol=1e-12)


def test_verdicts():
    near, far = Estimate(1.0, 0.1), Estimate(2.0, 0.1)
    vague, refused = Estimate(9.0, 5.0), Estimate(np.nan, np.nan, "no")
    assert verdict({"smc": near, "nested": near}, False) == "certified"
    assert verdict({"smc": near, "nested": far}, False) == "disagree"
    assert verdict({"smc": near, "nested": near, "harmonic": far}, False) == "disagree"
    assert verdict({"smc": near, "nested": vague}, False) == "alone"
    assert verdict({"smc": near, "nested": refused}, False) == "alone"
    assert verdict({"smc": near, "harmonic": near}, True) == "alone"
    assert verdict({"smc": near, "harmonic": near}, False) == "certified"
    both = {"smc": near, "harmonic": near}
    assert verdict(both | {"laplace": Estimate(1.5, np.nan)}, False) == "certified"
    assert verdict(both | {"laplace": Estimate(4.0, np.nan)}, False) == "disagree"
    assert verdict(both | {"laplace": Estimate(-4.0, np.nan)}, False) == "certified"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda s: pag.evidence(s, method="best"), ConfigError, "method: found 'best'"),
        (lambda s: pag.evidence(s, seed=-1), ConfigError, "seed: found -1"),
        (lambda s: pag.evidence(s, 3), ConfigError, "target: found int"),
        (lambda s: pag.evidence(s.drop_vars("x0")), DataError, "x0"),
        (lambda s: pag.evidence(s.drop_attrs()), DataError, "they do not say what their density"),
        (
            lambda s: pag.evidence(s.isel(draw=slice(2))),
            DataError,
            "method 'harmonic': found 40 samples, expected at least 60",
        ),
        (
            lambda s: pag.evidence(s.assign(weight=("chain", np.eye(20)[0])).isel(draw=slice(9))),
            DataError,
            "method 'harmonic': found 9 samples, expected at least 60",
        ),
    ],
)
def test_bad_input(call, error, match, chains):
    with pytest.raises(error, match=match):
        call(chains)
