"""What all samplers give alike: chains and draws, densities with all constants, runs by their Z."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import scipy.stats

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.results.samples import weights_of_runs
from pyadjoint_gpu.sampling import SMC, HierarchicalSMC, LinearSMC, Settings
from pyadjoint_gpu.sampling.estimates import Estimates
from pyadjoint_gpu.sampling.pseudo_marginal import State
from pyadjoint_gpu.sampling.runs import pooled
from pyadjoint_gpu.statistics import Dense, Independent, Uniform

quiet = pytest.mark.filterwarnings("ignore::pyadjoint_gpu.sampling.SamplingWarning")
SMALL = Settings(particles=16, moves=1, leapfrogs=5)
G = np.random.default_rng(0).standard_normal((5, 3))
D = np.random.default_rng(1).standard_normal(5)
SIGMA = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
SPREAD = Independent(1.5)
PRIOR = {"a": scipy.stats.norm(1.0, 0.3), "b": scipy.stats.uniform(0.0, 2.0)}


def scaled(theta):
    return G * theta["a"] + theta["b"]


def one_number(prior, transform):
    """The permeability of a bar from five pressures in it."""
    model = pag.models.Darcy(
        pag.Grid((8,), (1.0,)), [pag.Well(0.7, 1.0)], fixed_pressure={"x_min": 0.0}
    )
    points = np.linspace(0.1, 0.9, 5)[:, None]
    data = pag.synthetic.observe(model, {"permeability": 2.0}, points, noise=0.1)
    control = pag.Control("permeability", 1.0, transform=transform, basis="constant", prior=prior)
    return pag.Problem(model, control, pag.LeastSquares(data), tolerance=1e-11)


def problem_smc(prior=SPREAD, transform="log"):
    return SMC(one_number(prior, transform), particles=8, moves=1, leapfrogs=2, batch=8)


def hierarchical(**options):
    given = {"particles": 6, "moves": 1, "batch": 8, "inner": SMALL}
    return HierarchicalSMC(scaled, D, SIGMA, np.ones(3), PRIOR, **(given | options))


def linear(**options):
    return LinearSMC(G, D, SIGMA, np.ones(3), settings=SMALL, **options)


# Dimensions


@quiet
@pytest.mark.parametrize(
    ("new", "unknowns"),
    [
        (problem_smc, {"permeability": ("x",)}),
        (hierarchical, {"a": (), "b": (), "slip": ("slip_draw", "component")}),
        (linear, {"slip": ("component",)}),
    ],
)
def test_samples_are_named_alike(new, unknowns):
    sampler = new()
    draws = SMALL.particles if new is linear else sampler.particles
    found = sampler.run(repeats=2, progress=False)
    for name, dims in unknowns.items():
        assert found[name].dims == ("chain", "draw", *dims)
    assert found["log_density"].dims == ("chain", "draw")
    assert found["log_evidence"].dims == found["weight"].dims == ("chain",)
    for name in {"gamma", "ess", "acceptance", "turn", "length"} & set(found):
        assert found[name].dims == ("chain", "stage")
    np.testing.assert_array_equal(found["chain"], [0, 1])
    np.testing.assert_array_equal(found["draw"], range(draws))
    assert found["chain"].dtype.kind == found["draw"].dtype.kind == "i"
    assert found.attrs["method"] == "smc"
    z = np.exp(found["log_evidence"] - found.attrs["log_evidence"])
    np.testing.assert_allclose(found["weight"], z, rtol=1e-9)
    alone = sampler.run(progress=False)
    assert "weight" not in alone and alone.sizes["chain"] == 1
    for name in unknowns:
        np.testing.assert_array_equal(alone[name], found.isel(chain=[0])[name])
    known = {"chain", "draw", "slip_draw", "stage", "component", "x", "x_face"}
    assert set(found.dims) <= known and set(found.coords) <= known


# Densities


@quiet
@pytest.mark.parametrize(
    ("prior", "transform", "theta", "log_prior"),
    [
        (SPREAD, "log", np.log, scipy.stats.norm(0.0, 1.5).logpdf),
        (
            Uniform(0.5, 4.0),
            "identity",
            lambda k: np.log((k - 0.5) / (4.0 - k)),
            scipy.stats.logistic.logpdf,
        ),
    ],
)
def test_the_density_of_controls(prior, transform, theta, log_prior):
    """ln p(d | theta) + ln p(theta), of theta and not of K; pressures are as 1 / K."""
    smc = problem_smc(prior, transform)
    found = smc.run(progress=False)
    misfit, k = smc.target.misfit, found["permeability"].values[..., 0]
    with jax.enable_x64(True):
        state = pag.solve(smc.target.model, {"permeability": 1.0}, tolerance=1e-12)
        unit = np.asarray(misfit.predict({"pressure": state["pressure"].values}))
    errors = scipy.stats.norm(unit / k[..., None], misfit.sigma)
    log_likelihood = np.sum(errors.logpdf(misfit.observed), axis=-1)
    expected = log_likelihood + log_prior(theta(k))
    np.testing.assert_allclose(found["log_density"], expected, rtol=1e-6)
    constant = smc.target.log_normaliser
    np.testing.assert_allclose(constant - found["misfit"], log_likelihood, rtol=1e-6)


@quiet
def test_the_density_of_theta():
    found = hierarchical().run(progress=False)
    log_prior = PRIOR["a"].logpdf(found["a"]) + PRIOR["b"].logpdf(found["b"])
    assert np.all(np.isfinite(log_prior)) and np.ptp(log_prior) > 0
    np.testing.assert_allclose(found["log_density"] - found["log_likelihood"], log_prior)


@quiet
@pytest.mark.parametrize("correlated", [False, True])
def test_the_density_of_slip(correlated):
    covariance = np.array([[1.0, 0.4, 0.0], [0.4, 0.5, 0.1], [0.0, 0.1, 2.0]])
    noise = np.diag(SIGMA**2) + 0.1 * correlated
    prior, mean = Dense(covariance, mean=[0.1, -0.2, 0.3]), [0.1, -0.2, 0.3]
    found = LinearSMC(G, D, noise, prior, settings=SMALL).run(repeats=2)
    normal = scipy.stats.multivariate_normal
    expected = [
        [normal(G @ s, noise).logpdf(D) + normal(mean, covariance).logpdf(s) for s in run]
        for run in found["slip"].values
    ]
    np.testing.assert_allclose(found["log_density"], expected, rtol=1e-6)


@quiet
def test_a_density_with_an_unknown_normaliser_is_not_given():
    assert "log_density" not in linear(bounds=(0.0, np.inf)).run()


# Runs together


def test_runs_weigh_as_their_evidence():
    weights = weights_of_runs(np.array([-1000.0, -1000.0 + np.log(3.0)]))
    np.testing.assert_allclose(weights, [0.5, 1.5], rtol=1e-12)
    x = np.random.default_rng(0).standard_normal((3, 50, 2)) + np.arange(3.0)[:, None, None]
    log_z = np.log([1.0, 2.0, 5.0]) - 300.0
    mean, variance = pooled(x, weights_of_runs(log_z))
    w = np.repeat([1.0, 2.0, 5.0], 50)
    np.testing.assert_allclose(mean, np.average(x.reshape(150, 2), axis=0, weights=w))
    np.testing.assert_allclose(variance, np.diag(np.cov(x.reshape(150, 2).T, aweights=w, ddof=0)))


@pytest.mark.filterwarnings("ignore:ln Z of runs scatters")
def test_the_heavier_run_tells_the_moments_of_controls():
    smc = problem_smc()
    states = [smc._first((0, k), smc._target.evaluate) for k in range(2)]
    alone = smc._dataset(states[1:], 0)
    states = [replace(s, log_evidence=z) for s, z in zip(states, (-80.0, -20.0), strict=True)]
    found = smc._dataset(states, 0)
    np.testing.assert_allclose(found["weight"], [0.0, 2.0], atol=1e-20)
    for name in ("ln_permeability_mean", "ln_permeability_sd"):
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-12)
    light = smc._dataset(states[:1], 0)
    assert abs(light["ln_permeability_mean"] - alone["ln_permeability_mean"]) > 0.01


@pytest.mark.filterwarnings("ignore:ln Z of runs scatters")
@double
def test_the_heavier_run_tells_the_moments_of_slip():
    """Their mean is theta's; their variance is that within and that between values of theta."""
    generator, smc = np.random.default_rng(0), hierarchical()

    def state(log_evidence):
        found = Estimates(
            np.zeros(6),
            generator.standard_normal((6, 3)),
            1.0 + generator.random((6, 3)),
            generator.standard_normal((6, 4, 3)),
            *np.ones((4, 6)),
        )
        theta = np.column_stack([p.rvs(6, random_state=generator) for p in PRIOR.values()])
        return State(
            move=1,
            log_evidence=log_evidence,
            path=np.ones((2, 3)),
            theta=theta,
            log_prior=np.zeros(6),
            estimates=found,
            spread=np.eye(2),
            length=1.0,
            ancestor=np.arange(6),
            worst=np.ones(3),
            impossible=0,
        )

    light, heavy = state(-90.0), state(-10.0)
    found = smc._dataset([light, heavy], 0, 0.1)
    of = heavy.estimates
    np.testing.assert_allclose(found["slip_mean"], of.mean.mean(axis=0), rtol=1e-12)
    variance = np.mean(of.sd**2, axis=0) + np.var(of.mean, axis=0)
    np.testing.assert_allclose(found["slip_sd"], np.sqrt(variance), rtol=1e-12)
    np.testing.assert_array_equal(found["slip"][1], of.draws)
    np.testing.assert_array_equal(found["b"], [light.theta[:, 1], heavy.theta[:, 1]])
