"""Sampling the posterior of a problem: closed forms, quadrature, and however it is run."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, ConvergenceError, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.sampling import SMC, SamplingWarning, checks

GRID = pag.Grid((6, 8), (1.0, 1.5))
SIDES = {"x_min": 0.0, "x_max": 0.0, "y_min": 0.0}
MODEL = pag.models.Darcy(GRID, fixed_pressure=SIDES)
K = np.exp(0.5 * np.random.default_rng(0).standard_normal(GRID.shape))
POINTS = np.random.default_rng(1).uniform([0.0, 0.0], [1.0, 1.5], (12, 2))


@cache
def linear(prior=None):
    """Pressures on three sides from those inside: as good as linear in what is unknown."""
    truth = np.random.default_rng(2).standard_normal(20)
    data = pag.synthetic.observe(
        MODEL, {"permeability": K, "boundary_pressure": truth}, POINTS, noise=0.1
    )
    control = pag.Control("boundary_pressure", initial=0.2, prior=prior)
    return pag.Problem(MODEL, control, pag.LeastSquares(data), parameters={"permeability": K})


def one_number(**options):
    """ln K of a bar from five pressures in it."""
    cells = options.pop("cells", 8)
    grid = pag.Grid((cells,), (1.0,))
    well = pag.Well(0.7, 1.0)
    model = pag.models.Darcy(grid, [well], fixed_pressure={"x_min": 0.0})
    points = np.linspace(0.1, 0.9, 5)[:, None]
    data = pag.synthetic.observe(model, {"permeability": 2.0}, points, noise=0.1, engine="embedded")
    prior = options.pop("prior", pag.Independent(1.0))
    control = pag.Control("permeability", 1.0, transform="log", basis="constant", prior=prior)
    return pag.Problem(
        model,
        control,
        options.pop("misfit", pag.LeastSquares(data)),
        engine="embedded",
        **options,
    )


def matrix(problem):
    """R with the prior's covariance R R^T."""
    return problem.prior.root(np.eye(problem.size)).T


# Priors


@double
def test_the_prior_of_boundary_values_is_that_of_an_elliptic_operator():
    """theta - theta_0 = D (1 / length^2 + K)^-1 x, with K of the space's own Dirichlet integral and
    D such that the standard deviation is as given."""
    model = pag.models.Darcy(GRID, fixed_pressure=dict.fromkeys(("x_min", "y_max"), 0.0))
    control = pag.Control("boundary_pressure", 0.0, prior=pag.Matern(0.5, length=0.4))
    problem = pag.Problem(model, control, lambda state: 0.0, parameters={"permeability": K})
    space = problem.controls[0].space
    stiffness = jax.hessian(lambda x: 0.5 * space.dirichlet(x))(jnp.zeros(space.size))
    root = np.linalg.inv(0.4**-2 * np.eye(space.size) + stiffness / space.measure)
    covariance = root @ root.T
    scale = 0.5 / np.sqrt(np.diag(covariance))
    s = matrix(problem)
    np.testing.assert_allclose(s @ s.T, scale[:, None] * covariance * scale, rtol=1e-9, atol=1e-12)


@double
def test_the_ends_of_a_line_are_independent():
    model = pag.models.Darcy(pag.Grid((8,), (1.0,)), fixed_pressure={"x_min": 0.0, "x_max": 1.0})
    problem = pag.Problem(
        model,
        pag.Control("boundary_pressure", prior=pag.Matern(sd=2.0, length=0.3)),
        lambda state: 0.0,
        parameters={"permeability": 1.0},
    )
    s = matrix(problem)
    np.testing.assert_allclose(s @ s.T, 4.0 * np.eye(2), atol=1e-12)


# Many evaluations


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6, 8), (4, 5, 6)])
@pytest.mark.parametrize("fixed", [False, True])
def test_many_evaluations_are_those_one_by_one(shape, fixed):
    grid = pag.Grid(shape, tuple(0.1 * n for n in shape))
    low, high = (tuple(f * 0.1 * n for n in shape) for f in (0.3, 0.7))
    wells = [pag.Well(low, 1.0), pag.Well(high, -1.0)]
    model = pag.models.Darcy(grid, wells, fixed_pressure={"x_min": 1.0} if fixed else {})
    control = pag.Control("permeability", 1.0, transform="log")
    data = pag.synthetic.observe(model, {"permeability": 2.0}, [low, high], engine="embedded")
    problem = pag.Problem(
        model, control, pag.LeastSquares(data), engine="embedded", tolerance=1e-10
    )
    thetas = np.random.default_rng(0).standard_normal((5, problem.size))
    assert problem.engine.side_by_side(model)
    many = problem.evaluate_many(thetas, batch=3)
    for k, theta in enumerate(thetas):
        one = problem.evaluate(theta)
        assert many.objective[k] == pytest.approx(one.objective, rel=1e-8)
        assert many.misfit[k] == many.objective[k] and many.penalty[k] == 0.0
        scale = np.max(np.abs(one.gradient))
        np.testing.assert_allclose(many.gradient[k], one.gradient, atol=1e-8 * scale)
    again = problem.evaluate_many(thetas[[1, 4, 0]], batch=3)
    np.testing.assert_array_equal(again.gradient, many.gradient[[1, 4, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["multigrid", "pseudo-transient"])
def test_where_nothing_can_be_solved_j_is_infinite(solver):
    problem = one_number(cells=400, max_iterations=1, solver=solver)
    found = problem.evaluate_many(np.zeros((2, 1)))
    assert problem.engine.side_by_side(problem.model) == (solver == "multigrid")
    assert np.all(np.isinf(found.objective)) and np.all(found.gradient == 0.0)
    with pytest.raises(ConvergenceError, match="could be solved for no particle of the prior"):
        SMC(problem, particles=4).run(progress=False)


# Posteriors


@pytest.mark.slow
@pytest.mark.parametrize(("leapfrogs", "moves"), [(4, 2), (1, 6)])
def test_a_gaussian_posterior_in_closed_form(leapfrogs, moves):
    problem = linear(pag.Matern(sd=0.7, length=0.2))
    smc = SMC(problem, particles=96, leapfrogs=leapfrogs, moves=moves, batch=96, ess=0.4)
    s, at = matrix(problem), problem.initial
    sigma = problem.misfit.sigma

    def predicted(theta):
        state = pag.solve(MODEL, {"permeability": K, "boundary_pressure": theta}, engine="embedded")
        return np.asarray(problem.misfit.predict({"pressure": state["pressure"].values}))

    with jax.enable_x64(True):
        start = predicted(at)
        g = np.stack([predicted(at + column) - start for column in s.T], axis=1)
    d = problem.misfit.observed - start
    c = g @ g.T + np.diag(sigma**2)
    exact = scipy.stats.multivariate_normal(np.zeros(len(d)), c).logpdf(d)
    gain = np.linalg.solve(c, g).T
    mean = at + s @ gain @ d
    sd = np.sqrt(np.diag(s @ (np.eye(len(at)) - gain @ g) @ s.T))
    found = smc.run(repeats=4, seed=1, progress=False)
    error = found.attrs["log_evidence_error"]
    assert abs(found.attrs["log_evidence"] - exact) < 4 * error + 0.05 and error < 0.3
    off = (found["boundary_pressure_mean"].values - mean) / sd
    assert np.max(np.abs(off)) < 0.35
    np.testing.assert_allclose(found["boundary_pressure_sd"], sd, rtol=0.25)
    assert found["boundary_pressure"].shape == (4, 96, 20)
    rate = found["acceptance"].values
    assert np.nanmin(rate) > (0.9 if leapfrogs > 1 else 0.4)


@pytest.mark.slow
def test_a_nonlinear_posterior_by_quadrature():
    problem = one_number()
    smc = SMC(problem, particles=200, batch=200)
    at = np.linspace(-4.0, 4.0, 401)
    logs = -problem.evaluate_many(at[:, None], batch=200).misfit - 0.5 * at**2
    constant = -np.sum(np.log(problem.misfit.sigma)) - 2.5 * np.log(2 * np.pi)
    w = np.exp(logs - logs.max())
    exact = np.log(np.sum(w) * 0.02 / np.sqrt(2 * np.pi)) + logs.max() + constant
    w /= np.sum(w)
    mean, found = w @ at, smc.run(repeats=3, progress=False)
    sd = np.sqrt(w @ (at - mean) ** 2)
    assert found.attrs["log_evidence"] == pytest.approx(exact, abs=0.25)
    assert float(found["ln_permeability_mean"]) == pytest.approx(mean, abs=0.25 * sd)
    assert float(found["ln_permeability_sd"]) == pytest.approx(sd, rel=0.2)
    assert found["ln_permeability_mean"].attrs["long_name"] == "mean of ln permeability"
    assert found["permeability"].dims == ("chain", "draw", "x")
    theta = np.log(found["permeability"].values[..., 0])
    np.testing.assert_allclose(
        np.average(theta.mean(axis=1), weights=found["weight"]), found["ln_permeability_mean"]
    )


# However it is run


@pytest.fixture(scope="module")
def usual():
    return small().run(progress=False)


def small(**options):
    given = {"particles": 16, "leapfrogs": 2, "batch": 16}
    return SMC(one_number(), **(given | options))


def test_nothing_is_computed_twice(usual):
    smc, asked = small(), []
    evaluate = smc._target.host._likelihood.evaluate_many
    smc._target.host._likelihood.evaluate_many = lambda rows, batch: (
        asked.extend(rows) or evaluate(rows, batch=batch)
    )
    found = smc.run(progress=False)
    assert found.attrs["gradients"] == len(asked) == 16 * (1 + found.sizes["stage"] * 2 * 2)
    assert len(np.unique(asked)) == len(asked)
    np.testing.assert_array_equal(found["permeability"], usual["permeability"])


@pytest.mark.slow
def test_the_journal_goes_on_where_it_was(tmp_path, usual):
    class Killed(Exception):
        pass

    smc, calls = small(), []
    evaluate = smc._target.host._likelihood.evaluate_many

    def dies(rows, batch):
        calls.append(1)
        if len(calls) % 6 == 0:
            raise Killed
        return evaluate(rows, batch=batch)

    smc._target.host._likelihood.evaluate_many = dies
    for _ in range(40):
        try:
            found = smc.run(journal=tmp_path / "run.h5", progress=False)
        except Killed:
            continue
        break
    assert len(calls) > 12
    for name in usual.data_vars:
        np.testing.assert_array_equal(found[name], usual[name], err_msg=name)
    smc._target.host._likelihood.evaluate_many = evaluate
    with pytest.raises(DataError, match="made with other inputs than now: other moves;"):
        small(moves=3).run(journal=tmp_path / "run.h5", progress=False)


@pytest.mark.slow
def test_engines_that_solve_one_by_one(usual):
    problem = one_number(solver="pseudo-transient", tolerance=1e-10)
    smc = SMC(problem, particles=16, leapfrogs=2, batch=16)
    found = smc.run(progress=False)
    np.testing.assert_allclose(found["permeability"], usual["permeability"], rtol=1e-5)


def rough(controls):
    return jnp.sum(controls["permeability"])


SMOOTH = pag.Smoothness("permeability", weight=1.0, length=0.1)
WRONG = [
    (lambda: small(particles=1), ConfigError, "particles: found 1, expected 2 or more"),
    (lambda: small(moves=0), ConfigError, "moves: found 0"),
    (lambda: small(leapfrogs=1.5), ConfigError, "leapfrogs: found 1.5"),
    (lambda: small(ess=1.0), ConfigError, "ess: found 1.0"),
    (lambda: SMC(3), ConfigError, "target: found int"),  # type: ignore[arg-type]
    (
        lambda: SMC(one_number(penalty=SMOOTH)),
        ConfigError,
        "permeability.prior: found a prior and a penalty",
    ),
    (
        lambda: SMC(one_number(penalty=rough)),
        ConfigError,
        "penalty: 'rough' is a function, which has no known normaliser",
    ),
    (
        lambda: SMC(one_number(prior=None, penalty=replace(SMOOTH, weight=0.0))),
        ConfigError,
        "penalty.permeability.weight: found 0, expected > 0",
    ),
    (lambda: SMC(one_number(prior=None)), ConfigError, "permeability.prior is missing"),
    (
        lambda: one_number(prior=pag.Matern(sd=1.0, length=1.0)),
        ConfigError,
        "controls.permeability.prior: Matern is of a field, found basis 'constant'",
    ),
    (lambda: one_number(prior=pag.Independent(-1.0)), DataError, "sd: found -1"),
    (lambda: one_number(prior=pag.Independent("wide")), DataError, "sd: found 'wide'"),
    (lambda: one_number(prior=pag.Independent(np.ones(3))), ConfigError, "sd: found ndarray"),
    (lambda: linear(pag.Matern(1.0, None)), ConfigError, "length: found None, expected a number"),
    (lambda: linear(pag.Matern(1.0, -0.1)), ConfigError, "length: found -0.1"),
    (lambda: linear(pag.Matern(1.0, [0.1])), ConfigError, "length: found 1 numbers"),
    (lambda: linear(pag.Matern(1.0, [0.1, 0.2])), ConfigError, "expected one number for"),
    (lambda: linear(pag.Dense(np.eye(3))), DataError, r"covariance: found shape \(3, 3\)"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "error", "match"), WRONG)
def test_what_is_wrong_is_refused_by_name(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_bounds_are_refused():
    control = pag.Control("boundary_pressure", initial=0.2, bounds=(-1.0, 1.0))
    problem = pag.Problem(MODEL, control, lambda state: 0.0, parameters={"permeability": K})
    with pytest.raises(ConfigError, match="bounds: no density is known"):
        SMC(problem)


@pytest.mark.slow
def test_warnings_that_matter():
    with pytest.warns(SamplingWarning, match="turn by 0.1 only"):
        checks.check_turns(0.1)
    with pytest.warns(SamplingWarning, match=r"ESS fell to 2.0% of the particles"):
        checks.check_collapse(np.array([0.5, 0.02, np.nan]), 0.5)
    with pytest.warns(SamplingWarning, match="5% of the particles are distinct"):
        checks.check_diversity(np.repeat(np.eye(3), 20, axis=0))
    with pytest.warns(SamplingWarning, match="40% of trajectories were accepted"):
        checks.check_trajectories(0.4, 1.75, 1.75)
    # Most of the prior's particles cannot be solved for.
    tight = one_number(
        prior=pag.Independent(3.0),
        misfit=lambda state: jnp.where(state["pressure"][-1] > 0.02, jnp.inf, 0.0),
    )
    smc = SMC(tight, particles=32, leapfrogs=1, moves=1)
    with pytest.warns(SamplingWarning, match="ESS fell"):
        smc.run(progress=False)
