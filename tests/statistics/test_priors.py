"""Priors: what they say against dense matrices, closed forms and draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.special import kv

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.core.spaces import BoundarySpace, CellSpace

GRID = pag.Grid((5, 7), (1.0, 1.4))
RANDOM = np.random.default_rng(0)
SPD = (lambda a: a @ a.T + np.eye(6))(RANDOM.standard_normal((6, 6)))
FIELD = RANDOM.standard_normal(GRID.shape)
BOUND = {
    "independent": pag.Independent(0.5 + RANDOM.random(GRID.shape), mean=FIELD).on(GRID),
    "one number": pag.Independent(2.0, mean=1.0).on(()),
    "matern": pag.Matern(0.5 + RANDOM.random(GRID.shape), 0.3, mean=FIELD).on(GRID),
    "anisotropic": pag.Matern(1.5, {"x": 0.6, "y": 0.1}).on(GRID),
    "three axes": pag.Matern(1.5, (0.1, 0.2, 0.3)).on(pag.Grid((3, 2, 2), (1.0, 1.0, 1.0))),
    "boundary": pag.Matern(0.7, 0.3).on(BoundarySpace(GRID, ("x_min", "y_max"))),
    "dense": pag.Dense(SPD, mean=np.arange(6.0)).on(6),
    "dense, in two axes": pag.Dense(SPD).on((2, 3)),
    "smoothness": None,
}


def bound(name):
    if name != "smoothness":
        return BOUND[name]
    return smooth(pag.Smoothness("permeability", 3.0, 0.2)).prior.parts["permeability"]


def smooth(*penalty, **options):
    model = pag.models.Darcy(GRID, fixed_pressure={"x_min": 0.0})
    control = pag.Control("permeability", np.exp(FIELD), transform="log", **options)
    return pag.Problem(model, control, lambda state: 0.0, penalty)


def matrix(of, shape):
    """The columns of a linear map of arrays of a shape."""
    n = int(np.prod(shape))
    return np.asarray(of(np.eye(n).reshape(n, *shape))).reshape(n, -1).T


@pytest.mark.parametrize("name", BOUND)
def test_all_that_a_gaussian_says_is_that_of_its_matrix(name):
    p = bound(name)
    n, shape = int(np.prod(p.shape)), p.shape
    root, c = matrix(p.root, shape), matrix(p.covariance, shape)
    np.testing.assert_allclose(c, root @ root.T, atol=1e-12 * np.max(c))
    np.testing.assert_allclose(matrix(p.root_transposed, shape), root.T, atol=1e-12)
    np.testing.assert_allclose(matrix(p.inverse_root, shape) @ root, np.eye(n), atol=1e-9)
    np.testing.assert_allclose(
        matrix(p.inverse_root_transposed, shape) @ root.T, np.eye(n), atol=1e-9
    )
    np.testing.assert_allclose(matrix(p.precision, shape) @ c, np.eye(n), atol=1e-8)
    np.testing.assert_allclose(np.ravel(p.variance), np.diag(c), rtol=1e-10)
    rows = np.random.default_rng(1).standard_normal((3, *shape))
    exact = scipy.stats.multivariate_normal(np.ravel(p.mean), c).logpdf(rows.reshape(3, n))
    np.testing.assert_allclose(p.log_density(rows), exact, rtol=1e-9)


@pytest.mark.parametrize("name", BOUND)
def test_the_transpose_of_the_root_and_the_gradient(name):
    p, rng = bound(name), np.random.default_rng(2)
    x, y = rng.standard_normal((2, *p.shape))
    forward, backward = (
        np.sum(np.asarray(p.root(x)) * y),
        np.sum(x * np.asarray(p.root_transposed(y))),
    )
    assert forward == pytest.approx(backward, rel=1e-12)
    with jax.enable_x64(True):
        slope = jax.grad(lambda t: p.log_density(t))(jnp.asarray(x))
    np.testing.assert_allclose(slope, -p.precision(x - p.mean), rtol=1e-8, atol=1e-10)


def test_draws_have_the_mean_and_the_covariance():
    p = BOUND["dense, in two axes"]
    rows = p.draw(20000, seed=3).reshape(-1, 6)
    np.testing.assert_allclose(np.mean(rows, axis=0), 0.0, atol=0.1)
    np.testing.assert_allclose(np.cov(rows.T), SPD, atol=0.04 * np.max(SPD))
    np.testing.assert_array_equal(p.draw(2, seed=3), p.draw(2, seed=3))


# Matern


@pytest.mark.parametrize("cells", [2, 4, 12])
def test_matern_is_as_asked_at_any_resolution(cells):
    """`cells` a length; four lengths from the boundary and more."""
    length, sd, n = 0.5, 1.5, 12 * cells
    p = pag.Matern(sd, length).on(pag.Grid((n, n), (6.0, 6.0)))
    np.testing.assert_allclose(p.variance, sd**2, rtol=1e-12)
    at = np.zeros(p.shape)
    at[n // 2, n // 2] = 1.0
    row = np.asarray(p.covariance(at))[n // 2, n // 2 + 1 :]
    r = np.arange(1, 1 + len(row)) / cells
    near = r < 2.5
    np.testing.assert_allclose(row[near] / sd**2, r[near] * kv(1, r[near]), atol=0.01)
    # The distance where the correlation is K_1(1) is the length, to 3 %.
    found = np.interp(-kv(1, 1.0), -row / sd**2, r)
    assert found == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(
    ("axes", "correlation"), [(1, lambda r: (1 + r) * np.exp(-r)), (3, lambda r: np.exp(-r))]
)
def test_matern_in_one_and_three_dimensions(axes, correlation):
    n = 40 if axes == 3 else 160
    p = pag.Matern(1.0, n / 8).on(pag.Grid((n,) * axes, (float(n),) * axes))
    at = np.zeros(p.shape)
    at[(n // 2,) * axes] = 1.0
    row = np.asarray(p.covariance(at))[(n // 2,) * (axes - 1)][n // 2 :]
    r = np.arange(len(row)) / (n / 8)
    np.testing.assert_allclose(row[r < 2], correlation(r[r < 2]), atol=0.03)


def test_lengths_may_differ_between_axes():
    grid = pag.Grid((64, 64), (8.0, 8.0))
    p = pag.Matern(1.0, (0.5, 1.0)).on(grid)
    at = np.zeros(p.shape)
    at[32, 32] = 1.0
    c = np.asarray(p.covariance(at))
    for along, step in ((c[:, 32], 4), (c[32], 8)):
        assert along[32 + step] == pytest.approx(kv(1, 1.0), abs=0.005)
    by_name = pag.Matern(1.0, {"x": 1.0, "y": 0.5}).on(grid)
    np.testing.assert_array_equal(by_name.covariance(at), c)


def test_what_the_boundary_does():
    """As the docstring says: across to a point one and two lengths inside, and along."""
    n, cells = 160, 16
    p = pag.Matern(1.0, 1.0).on(pag.Grid((n, n), (n / cells, n / cells)))
    at = np.zeros(p.shape)
    at[0, n // 2] = 1.0
    c = np.asarray(p.covariance(at))
    assert c[cells, n // 2] == pytest.approx(0.75, abs=0.015)
    assert c[2 * cells, n // 2] == pytest.approx(0.38, abs=0.02)
    assert c[0, n // 2 + cells] == pytest.approx(kv(1, 1.0), abs=0.01)


# Of a control


@double
def test_smoothness_is_a_density():
    """exp(-penalty), normalised, for a field and for the numbers of other bases."""
    for basis in ("field", "plane", "constant"):
        penalty = pag.Smoothness("permeability", 3.0, 0.2), pag.Smoothness("permeability", 1.0, 0.0)
        model = pag.models.Darcy(GRID, fixed_pressure={"x_min": 0.0})
        start = np.exp(FIELD) if basis == "field" else 2.0
        control = pag.Control("permeability", start, transform="log", basis=basis)
        problem = pag.Problem(model, control, lambda state: 0.0, penalty)
        charge = lambda t: problem.objective.penalty(t)  # noqa: B023, E731
        start = problem.initial
        precision = np.asarray(jax.hessian(charge)(jnp.asarray(start)))
        exact = scipy.stats.multivariate_normal(start, np.linalg.inv(precision))
        rows = start + np.random.default_rng(0).standard_normal((3, problem.size))
        found = problem.prior.log_normaliser - problem.prior.potential(rows)[0]
        np.testing.assert_allclose(found, exact.logpdf(rows), rtol=1e-9)


def test_the_mean_is_physical_and_the_start_unless_given():
    of = smooth(prior=pag.Matern(1.0, 0.2)).prior.parts["permeability"]
    np.testing.assert_allclose(of.mean, FIELD, atol=1e-12)
    of = smooth(prior=pag.Matern(1.0, 0.2, mean=lambda y, x: np.exp(x))).prior.parts["permeability"]
    np.testing.assert_allclose(of.mean, CellSpace(GRID).positions()[1], rtol=1e-12)
    np.testing.assert_allclose(pag.Matern(1.0, 0.2, mean=2.5).on(GRID).mean, 2.5)


@double
def test_uniform_between_bounds():
    problem = smooth(prior=None)
    control = pag.Control("permeability", 1.0, prior=pag.Uniform(0.5, 2.5))
    assert (control.transform, control.bounds) == ("logistic", (0.5, 2.5))
    problem = pag.Problem(problem.model, control, lambda state: 0.0)
    prior = problem.prior
    m = 0.5 + 2.0 * jax.nn.sigmoid(prior.of_normal(RANDOM.standard_normal((2000, problem.size))))
    assert scipy.stats.kstest(np.ravel(m)[::7], scipy.stats.uniform(0.5, 2.0).cdf).pvalue > 0.01
    theta = RANDOM.standard_normal(problem.size)
    exact = np.sum(scipy.stats.logistic.logpdf(theta))
    assert prior.log_normaliser - prior.potential(theta)[0] == pytest.approx(exact, rel=1e-12)
    np.testing.assert_allclose(prior.variance, scipy.stats.logistic.var(), rtol=1e-12)
    assert pag.taylor_test(problem).passed
    near = prior.near(theta).parts["permeability"]
    precision = jax.hessian(lambda t: prior.parts["permeability"].potential(t.reshape(GRID.shape)))
    np.testing.assert_allclose(
        np.diag(precision(jnp.asarray(theta))), 1.0 / np.ravel(near.variance), rtol=1e-10
    )


WRONG = [
    (lambda: pag.Matern(1.0, 0.2).on((3, 4)), ConfigError, "prior: a Matern prior needs a "),
    (lambda: pag.Matern(0.0, 0.2).on(GRID), DataError, "prior.sd: found 0, expected finite"),
    (lambda: pag.Matern(1.0, {"x": 1.0}).on(GRID), ConfigError, "length: found x, expected"),
    (lambda: pag.Matern(1.0, "long").on(GRID), ConfigError, "length: found 'long', expected"),
    (lambda: pag.Dense(np.eye(3)).on(4), DataError, r"covariance: found shape \(3, 3\)"),
    (lambda: pag.Dense(-np.eye(3)).on(3), DataError, "covariance is not positive definite"),
    (lambda: pag.Dense(np.eye(3) + np.eye(3, k=1)).on(3), DataError, "is not symmetric"),
    (lambda: pag.Independent(1.0, mean=np.ones(2)).on(3), DataError, r"mean: found shape \(2,\)"),
    (lambda: pag.Independent(1.0, mean=np.nan).on(3), DataError, "mean: 1 values are not finite"),
    (lambda: pag.Uniform(mean=1.0), ConfigError, "mean: found 1.0, a uniform prior takes none"),
    (lambda: pag.Control("k", prior=pag.Uniform()), ConfigError, "bounds: transform 'logistic'"),
    (
        lambda: pag.Control("k", prior=pag.Uniform(0, 1), transform="log"),
        ConfigError,
        "controls.k.prior: Uniform needs transform 'logistic', found transform 'log'",
    ),
    (
        lambda: pag.Control("k", prior=pag.Uniform(0, 1), bounds=(0, 2)),
        ConfigError,
        r"controls.k.prior: found bounds \(0, 1\) beside the control's own, \(0, 2\)",
    ),
    (lambda: pag.Control("k", prior=1.0), ConfigError, "controls.k.prior: found float, expected"),
]


@pytest.mark.parametrize(("make", "error", "match"), WRONG)
def test_what_is_wrong_is_refused_by_name(make, error, match):
    with pytest.raises(error, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)
