"""The Gaussian at the minimum: closed forms, dense matrices, and one problem for all questions."""

import jax
import numpy as np
import pytest
import scipy.stats
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, ConvergenceWarning, DataError
from pyadjoint_gpu.problem.hessian import Hessian
from pyadjoint_gpu.statistics.low_rank import LowRank

GRID = pag.Grid((6, 8), (1.0, 1.5))
SIDES = pag.models.Darcy(GRID, fixed_pressure={"x_min": 0.0, "x_max": 0.0, "y_min": 0.0})
K = np.exp(0.5 * np.random.default_rng(0).standard_normal(GRID.shape))
POINTS = np.random.default_rng(1).uniform([0.0, 0.0], [1.0, 1.5], (12, 2))
AHEAD = [(0.5, 0.5), (0.2, 1.2)]
PRIORS = {
    "matern": {"prior": pag.Matern(0.7, 0.2)},
    "dense": {"prior": pag.Dense(0.5 * np.eye(20) + 0.1)},
    "smoothness": {"penalty": pag.Smoothness("boundary_pressure", 20.0, 0.3)},
}


def linear(prior=None, penalty=()):
    """Pressures on three sides from those inside: linear in what is unknown."""
    truth = np.random.default_rng(2).standard_normal(20)
    known = {"permeability": K}
    data = pag.synthetic.observe(SIDES, known | {"boundary_pressure": truth}, POINTS, noise=0.1)
    control = pag.Control("boundary_pressure", initial=0.2, prior=prior)
    return pag.Problem(
        SIDES,
        control,
        pag.LeastSquares(data),
        penalty,
        parameters=known,
        engine="embedded",
        tolerance=1e-12,
    )


def closed_form(problem, predicted=AHEAD):
    """Posterior mean and covariance, ln Z, and the mean and sd of predictions."""
    n, prior, misfit = problem.size, problem.prior, problem.misfit

    def state(theta):
        m = problem.parameters(theta)
        found = problem.engine.solve(SIDES, m, tolerance=1e-14, max_iterations=10000)
        return {k: np.asarray(v) for k, v in found.fields.items()}

    ahead = pag.Observation.at(SIDES, "pressure", predicted)
    mu = prior.theta(np.zeros(n))
    with jax.enable_x64(True):
        both = [
            np.stack([np.asarray(h(state(t))) for t in (mu, *(mu + np.eye(n)))])
            for h in (misfit.predict, ahead)
        ]
    (g, q), (d, ahead) = ((b[1:] - b[0]).T for b in both), (b[0] for b in both)
    root = prior.root(np.eye(n)).T
    c = root @ root.T
    k = g @ c @ g.T + np.diag(misfit.sigma**2)
    gain = c @ g.T @ np.linalg.inv(k)
    off = misfit.observed - d
    covariance = c - gain @ g @ c
    log_evidence = scipy.stats.multivariate_normal(np.zeros(len(d)), k).logpdf(off)
    mean = mu + gain @ off
    ahead_sd = np.sqrt(np.diag(q @ covariance @ q.T))
    return mean, covariance, log_evidence, ahead + q @ (mean - mu), ahead_sd


def test_the_mean_in_a_region_in_closed_form():
    problem = linear(**PRIORS["dense"])
    dims = "observation", "bounds"
    region = xr.Dataset(
        {
            "x_bounds": (dims, [(0.2, 0.9), (0.0, 1.5)]),
            "y_bounds": (dims, [(0.1, 0.5), (0.0, 1.0)]),
            "x": ("observation", [0.5, 0.75], {"bounds": "x_bounds"}),
            "y": ("observation", [0.3, 0.5], {"bounds": "y_bounds"}),
        },
        attrs={"cell_methods": "area: sum"},
    )
    mean, *_, ahead, ahead_sd = closed_form(problem, region)
    result = {"boundary_pressure": problem.physical(mean)["boundary_pressure"]}
    post = pag.laplace(problem, result, rank=20, predict=region, progress=False)
    np.testing.assert_allclose(post["predicted"], ahead, atol=1e-6 * np.max(ahead_sd))
    np.testing.assert_allclose(post["predicted_sd"], ahead_sd, rtol=1e-6)
    assert post["predicted"].attrs["units"] == post["predicted_sd"].attrs["units"] == "Pa m2"
    assert post["prediction_x"].attrs["bounds"] in post.coords
    own = pag.Observation.at(SIDES, "pressure", region)
    again = pag.laplace(problem, result, rank=20, predict=own, progress=False)
    np.testing.assert_array_equal(again["predicted_sd"], post["predicted_sd"])


@pytest.mark.parametrize("name", PRIORS)
def test_a_linear_problem_in_closed_form(name):
    problem = linear(**PRIORS[name])
    mean, covariance, log_evidence, ahead, ahead_sd = closed_form(problem)
    sd = np.sqrt(np.diag(covariance))
    result = pag.invert(problem, tolerance=1e-9, max_iterations=200, progress=False)
    post = pag.laplace(problem, result, rank=20, draws=400, predict=AHEAD, progress=False)
    assert np.max(np.abs(post["boundary_pressure"].values - mean) / sd) < 1e-6
    np.testing.assert_allclose(post["boundary_pressure_sd"], sd, rtol=1e-9)
    assert post.attrs["log_evidence"] == pytest.approx(log_evidence, abs=1e-8)
    assert post.attrs["log_evidence_error"] == 0.0
    np.testing.assert_allclose(post["predicted"], ahead, atol=1e-6 * np.max(ahead_sd))
    np.testing.assert_allclose(post["predicted_sd"], ahead_sd, rtol=1e-6)
    off = (post["boundary_pressure_draw"].values - mean) / sd
    scatter = np.cov(off.T) - covariance / np.outer(sd, sd)
    assert np.max(np.abs(np.mean(off, axis=0))) < 0.25 and np.max(np.abs(scatter)) < 0.3
    gain = 0.5 * np.sum(np.log1p(post["eigenvalue"].values))
    assert post.attrs["information_gain"] == pytest.approx(gain)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["matern", "smoothness"])
def test_one_problem_is_inverted_sampled_and_asked_how_sure_it_is(name):
    problem = linear(**PRIORS[name])
    mean, covariance, log_evidence, *_ = closed_form(problem)
    sd = np.sqrt(np.diag(covariance))
    samples = pag.sample(problem, particles=96, batch=96, ess=0.4, repeats=4, progress=False)
    error = samples.attrs["log_evidence_error"]
    assert abs(samples.attrs["log_evidence"] - log_evidence) < 4 * error + 0.05 and error < 0.3
    assert np.max(np.abs(samples["boundary_pressure_mean"].values - mean) / sd) < 0.4
    np.testing.assert_allclose(samples["boundary_pressure_sd"], sd, rtol=0.3)


def bar(prior, **options):
    """ln K of a bar from five pressures in it."""
    grid = pag.Grid((8,), (1.0,))
    model = pag.models.Darcy(grid, [pag.Well(0.7, 1.0)], fixed_pressure={"x_min": 0.0})
    points = np.linspace(0.1, 0.9, 5)[:, None]
    data = pag.synthetic.observe(model, {"permeability": 2.0}, points, noise=0.02)
    control = pag.Control("permeability", 1.0, basis="constant", prior=prior, **options)
    return pag.Problem(model, control, pag.LeastSquares(data), engine="embedded", tolerance=1e-12)


BETWEEN = {
    "logistic": lambda: bar(pag.Independent(1.5), bounds=(0.2, 9.0), transform="logistic"),
    "uniform": lambda: bar(pag.Uniform(0.2, 9.0)),
    "log": lambda: bar(pag.Independent(1.0), transform="log"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BETWEEN)
def test_between_bounds_by_quadrature(name):
    """ln Z and moments of one number, by all three, with all constants."""
    problem = BETWEEN[name]()
    at = np.linspace(-7.0, 7.0, 1401)[:, None]
    likelihood = problem.log_normaliser - problem.evaluate_many(at, batch=200).misfit
    prior = problem.prior.log_normaliser - problem.prior.potential(at)[0]
    weights = np.exp(likelihood + prior - np.max(likelihood + prior))
    step = at[1, 0] - at[0, 0]
    exact = np.log(np.sum(weights) * step) + np.max(likelihood + prior)
    weights /= np.sum(weights)
    mean = weights @ at[:, 0]
    sd = np.sqrt(weights @ (at[:, 0] - mean) ** 2)
    assert np.sum(np.exp(prior)) * step == pytest.approx(1.0, abs=2e-3)
    result = pag.invert(problem, tolerance=1e-8, progress=False)
    peak = problem.theta({"permeability": result["permeability"]})
    assert peak[0] == pytest.approx(at[np.argmax(weights), 0], abs=step)
    post = pag.laplace(problem, result, progress=False)
    assert post.attrs["log_evidence"] == pytest.approx(exact, abs=0.05)
    assert float(post["permeability_sd"]) == pytest.approx(sd, rel=0.1)
    samples = pag.sample(problem, particles=200, batch=200, repeats=3, progress=False)
    error = samples.attrs["log_evidence_error"]
    assert samples.attrs["log_evidence"] == pytest.approx(exact, abs=4 * error + 0.05)
    inner = {"logistic": "logit", "uniform": "logit", "log": "ln"}[name]
    assert float(samples[f"{inner}_permeability_mean"]) == pytest.approx(mean, abs=0.3 * sd)
    assert float(samples[f"{inner}_permeability_sd"]) == pytest.approx(sd, rel=0.25)


@pytest.mark.slow
def test_against_dense_matrices_and_what_a_small_rank_leaves_out():
    """300 unknowns, nonlinear."""
    grid = pag.Grid((15, 20), (1.0, 1.5))
    model = pag.models.Darcy(grid, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
    prior = pag.Matern(1.0, 0.3)
    truth = np.exp(prior.on(grid).draw(seed=5)[0])
    points = [(y, x) for y in np.linspace(0.1, 0.9, 4) for x in np.linspace(0.1, 1.4, 6)]
    data = pag.synthetic.observe(model, {"permeability": truth}, points, noise=0.02)
    control = pag.Control("permeability", 1.0, transform="log", prior=prior)
    problem = pag.Problem(
        model, control, pag.LeastSquares(data), engine="embedded", tolerance=1e-12
    )
    result = pag.invert(problem, max_iterations=200, tolerance=1e-7, progress=False)
    theta = problem.theta({"permeability": result["permeability"]})
    h = problem.likelihood.hessian(theta, gauss_newton=True).products(np.eye(problem.size))
    root = problem.prior.root(np.eye(problem.size)).T
    a = root.T @ (0.5 * (h + h.T)) @ root
    covariance = root @ np.linalg.inv(np.eye(len(a)) + a) @ root.T
    sd = np.sqrt(np.diag(covariance)).reshape(grid.shape)
    values = np.linalg.eigvalsh(a)[::-1]
    whole = pag.laplace(problem, result, rank=30, progress=False)
    np.testing.assert_allclose(whole["permeability_sd"], sd, rtol=1e-6)
    np.testing.assert_allclose(whole["eigenvalue"][:10], values[:10], rtol=1e-6)
    gain = 0.5 * np.linalg.slogdet(np.eye(len(a)) + a)[1]
    assert whole.attrs["information_gain"] == pytest.approx(gain, rel=1e-6)
    some = pag.laplace(problem, result, rank=6, progress=False)
    assert some.attrs["solves"] == 2 * (6 + 10)
    over = some["permeability_sd"].values - sd
    assert np.all(over > -1e-6 * sd) and np.max(over) > 1e-3
    assert np.all(over <= 1.05 * some["permeability_sd_error"].values + 1e-9)
    off = some.attrs["log_evidence"] - whole.attrs["log_evidence"]
    assert 0.0 < off <= 1.05 * some.attrs["log_evidence_error"]


def test_eigenvalues_from_products():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    values = np.r_[10.0 ** (2.0 - 0.5 * np.arange(12.0)), np.zeros(48)]
    a = (basis * values) @ basis.T
    probes, _ = np.linalg.qr(rng.standard_normal((60, 20)))
    found = LowRank.of_products(probes, a @ probes, 10)
    np.testing.assert_allclose(found.values, values[:10], rtol=1e-6)
    covariance = np.linalg.inv(np.eye(60) + (basis[:, :10] * values[:10]) @ basis[:, :10].T)
    root = found.root(np.eye(60))
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-8)
    rows = rng.standard_normal((3, 60))
    before = np.sum(rows**2, axis=1)
    after = np.einsum("ij,jk,ik->i", rows, covariance, rows)
    np.testing.assert_allclose(before - found.reduction(rows), after, rtol=1e-7)


def test_the_journal_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    problem, path = linear(**PRIORS["matern"]), tmp_path / "run.h5"
    result = pag.invert(problem, progress=False)
    whole = pag.laplace(problem, result, rank=11, progress=False)
    products, calls = Hessian.products, []

    def dies(self, rows):
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return products(self, rows)

    monkeypatch.setattr(Hessian, "products", dies)
    with pytest.raises(KeyboardInterrupt):
        pag.laplace(problem, result, rank=11, journal=path, progress=False)
    found = pag.laplace(problem, result, rank=11, journal=path, progress=False)
    assert calls == [16, 4, 4]
    again = pag.laplace(problem, result, rank=11, draws=2, journal=path, progress=False)
    assert calls == [16, 4, 4]
    for name in whole.data_vars:
        np.testing.assert_array_equal(found[name], whole[name])
        np.testing.assert_array_equal(again[name], whole[name])
    with pytest.raises(DataError, match="other result"):
        pag.laplace(problem, {"boundary_pressure": 0.0}, rank=11, journal=path, progress=False)


def test_a_prediction_whose_solve_fails_is_an_error(monkeypatch):
    problem = linear(**PRIORS["matern"])
    best = pag.invert(problem, progress=False)
    adjoints = pag.EmbeddedEngine.adjoints
    calls = []

    def fails(self, *args, **options):
        many = adjoints(self, *args, **options)
        calls.append(len(many.usable))
        # Products come first, 14 of them; predictions last.
        return many if calls == [14] else many._replace(usable=np.zeros(calls[-1], bool))

    monkeypatch.setattr(pag.EmbeddedEngine, "adjoints", fails)
    with pytest.raises(pag.ConvergenceError, match="2 of 2 adjoint solves did not converge"):
        pag.laplace(problem, best, rank=5, predict=AHEAD, progress=False)


def test_what_is_wrong_is_refused_by_name():
    problem = linear(**PRIORS["matern"])
    start = {"boundary_pressure": 0.0}
    bounded = pag.Control("boundary_pressure", 0.2, bounds=(-1.0, 1.0), prior=pag.Independent(1.0))
    with pytest.raises(ConfigError, match="rank: found 0"):
        pag.laplace(problem, start, rank=0)
    with pytest.raises(ConfigError, match="problem: found dict, expected a Problem"):
        pag.laplace({}, start)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="result: found no 'boundary_pressure'"):
        pag.laplace(problem, {})
    with pytest.raises(ConfigError, match="prior is missing"):
        pag.laplace(linear(), start)
    with pytest.raises(DataError, match=r"prediction 0 .*lies outside"):
        pag.laplace(problem, start, predict=[(5.0, 5.0)])
    with pytest.raises(ConfigError, match="bounds: no density is known between"):
        given = {"parameters": {"permeability": K}}
        pag.laplace(pag.Problem(SIDES, bounded, problem.misfit, **given), start)
    with pytest.warns(ConvergenceWarning, match="not a minimum: a Newton step would lower J by"):
        pag.laplace(problem, start, rank=2, progress=False)
