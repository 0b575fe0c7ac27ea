"""Hessian products: Taylor tests to third order, symmetry, and the dense Hessian by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import doublet, grid_of, problem
from every_model import EVERY, TIGHT, data_of, sound, steps

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.engines.base import Engine
from pyadjoint_gpu.problem.hessian import Hessian

pytestmark = pytest.mark.filterwarnings("ignore::pyadjoint_gpu.core.errors.ConvergenceWarning")

QUICK = ("darcy",)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in EVERY]
)
def test_taylor_symmetry_and_many_directions(name):
    """On every model; products of many directions are those of one after another."""
    tested = EVERY[name]()
    report = pag.taylor_test(tested, hessian=True, step=1e-2 if name == "ice" else 0.1)
    assert report.passed, report
    assert report.asymmetry < 1e-9
    theta = tested.initial
    v = np.random.default_rng(1).standard_normal((3, tested.size)) * np.maximum(1e-3, abs(theta))
    evaluation = tested.evaluate(theta)
    for gauss_newton in (False, True):
        linear = tested.hessian(theta, evaluation, gauss_newton=gauss_newton)
        one = np.array([linear.product(row).vector for row in v])
        np.testing.assert_allclose(linear.products(v), one, rtol=1e-9, atol=1e-9 * np.ptp(one))
        gram = v @ one.T
        assert np.max(np.abs(gram - gram.T)) < 1e-9 * np.max(np.abs(gram))
        if gauss_newton:
            assert np.linalg.eigvalsh(gram)[0] >= -1e-12 * np.max(np.abs(gram))


@pytest.mark.slow
def test_every_model_is_tested():
    tested = {type(make().model) for make in EVERY.values()}
    assert tested >= set(pag.models.CATALOGUE.values())


def small(misfit=None, penalty=(), **options):
    grid = pag.Grid((4, 5), (1.0, 2.0), (0.0, -1.0))
    model = doublet(grid, fixed_pressure={"x_min": 0.5})
    data = data_of(model, {"permeability": 1.3}, 6)
    return pag.Problem(
        model,
        pag.Control("permeability", lambda y, x: 1.0 + 0.3 * x * y, transform="log"),
        misfit or pag.LeastSquares(data),
        penalty,
        **TIGHT | options,
    )


def fluxes(state):
    return jnp.sum(state["flux_x"][:, 2] ** 2) + jnp.sum(state["pressure"] ** 4)


def rough(fields):
    return jnp.sum(jnp.cosh(fields["permeability"]))


@pytest.mark.slow
@double
def test_against_the_dense_hessian():
    """Of J by JAX through the solves, with a user's misfit of the outputs, and a user's penalty."""
    tested = small(fluxes, [pag.Smoothness("permeability", 0.5, 0.3), rough])

    def reduced(theta):
        u = pag.solve_fields(tested.model, tested.objective.parameters(theta), **TIGHT)
        own = {v.name: u[v.name] for v in tested.model.unknowns}
        return tested.objective(own, theta)[0]

    theta = jnp.asarray(tested.initial)
    dense = np.asarray(jax.hessian(reduced)(theta))
    linear = tested.hessian(tested.initial)
    found = linear.products(np.eye(tested.size))
    np.testing.assert_allclose(found, dense, atol=1e-9 * np.max(np.abs(dense)))

    def state(theta):
        u = pag.solve_fields(tested.model, tested.objective.parameters(theta), **TIGHT)
        return {k: u[k] for k in ("pressure", "flux_x")}

    s = {k: np.asarray(v) for k, v in jax.jacfwd(state)(theta).items()}
    at = {k: np.asarray(v) for k, v in state(theta).items()}
    curved = np.einsum("yxi,yx,yxj->ij", s["pressure"], 12 * at["pressure"] ** 2, s["pressure"])
    curved += 2.0 * np.einsum("yi,yj->ij", s["flux_x"][:, 2], s["flux_x"][:, 2])
    curved += np.asarray(jax.hessian(tested.objective.penalty)(theta))
    linear = tested.hessian(tested.initial, gauss_newton=True)
    found = linear.products(np.eye(tested.size))
    np.testing.assert_allclose(found, curved, atol=1e-9 * np.max(np.abs(curved)))


def test_gauss_newton_is_the_hessian_where_data_are_fitted_exactly():
    model = doublet(grid_of((5, 8)), fixed_pressure={"x_min": 0.5})
    data = data_of(model, {"permeability": 1.0})
    tested = pag.Problem(
        model,
        pag.Control("permeability", 1.0, transform="log"),
        pag.LeastSquares(data.assign(pressure=pag.synthetic.observe(
            model, {"permeability": 1.0}, np.stack([data["y"], data["x"]], axis=1), noise=0.0
        )["pressure"]), sigma=0.1),
        tolerance=1e-13,
    )  # fmt: skip
    theta = tested.initial
    v = np.random.default_rng(0).standard_normal(tested.size)
    evaluation = tested.evaluate(theta)
    both = [tested.hessian(theta, evaluation, gauss_newton=g).product(v).vector for g in (0, 1)]
    np.testing.assert_allclose(both[0], both[1], atol=1e-8 * np.max(np.abs(both[1])))
    away = theta + 0.3
    evaluation = tested.evaluate(away)
    both = [tested.hessian(away, evaluation, gauss_newton=g).product(v).vector for g in (0, 1)]
    assert np.max(np.abs(both[0] - both[1])) > 1e-3 * np.max(np.abs(both[1]))


class Counting(Engine):
    """The embedded engine, with the number of calls of each solve."""

    name, has_tangents = "counting", True

    def __init__(self):
        self.right, self.calls = pag.EmbeddedEngine(), {}

    def info(self):
        return self.right.info()

    def _call(self, name, args, options):
        assert isinstance(args[0].name, str) and "as compiled" not in repr(args[0])
        self.calls[name] = self.calls.get(name, 0) + 1
        return getattr(self.right, name)(*args, **options)

    def solve(self, *args, **options):
        return self._call("solve", args, options)

    def adjoint(self, *args, **options):
        return self._call("adjoint", args, options)

    def tangent(self, *args, **options):
        return self._call("tangent", args, options)

    def linearise(self, *args, **options):
        return self.right.linearise(*args, **options)


@pytest.mark.parametrize("gauss_newton", [False, True])
@pytest.mark.parametrize("timed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_product_is_one_tangent_and_one_adjoint(timed, gauss_newton):
    """Time steps: of each, once the states between checkpoints have been solved for again."""
    tested = steps() if timed else small()
    each = 6 if timed else 1
    tested.engine = engine = Counting()
    theta = tested.initial
    evaluation = tested.evaluate(theta)
    linear = tested.hessian(theta, evaluation, gauss_newton=gauss_newton)
    before = dict(engine.calls)
    for _ in range(2):
        linear.product(np.ones(tested.size))
    assert engine.calls.pop("tangent") == 2 * each
    assert engine.calls["adjoint"] - before["adjoint"] == 2 * each
    assert engine.calls["solve"] == before["solve"]


@pytest.mark.slow
@pytest.mark.parametrize("make", [steps, sound])
def test_products_do_not_depend_on_checkpoints(make):
    found = []
    for checkpoints in (1, 2, 6):
        tested = make(checkpoints=checkpoints)
        theta = tested.initial
        linear = tested.hessian(theta)
        found.append(linear.product(np.ones(tested.size)).vector)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-10, atol=1e-12 * np.ptp(found[0]))


@pytest.mark.slow
def test_a_member_of_many_does_not_depend_on_the_others():
    tested = problem(tolerance=1e-10)
    theta = tested.initial
    linear = tested.hessian(theta)
    v = np.random.default_rng(0).standard_normal((4, tested.size))
    others = np.stack([v[0], *1e3 * v[1:] ** 3])
    np.testing.assert_array_equal(linear.products(v)[0], linear.products(others)[0])


def test_an_engine_without_tangents_takes_those_of_the_embedded_one():
    class Plain(Counting):
        name, has_tangents = "plain", False

        def tangent(self, *args, **options):
            raise AssertionError

        def linearise(self, model, parameters, solution, adjoint, source, **limits):
            return solution, adjoint

    for gauss_newton in (False, True):
        expected = small().hessian_product(
            {"permeability": np.ones((4, 5))}, gauss_newton=gauss_newton
        )
        found = small(engine=Plain()).hessian_product(
            {"permeability": np.ones((4, 5))}, gauss_newton=gauss_newton
        )
        np.testing.assert_allclose(found["permeability"], expected["permeability"], rtol=1e-9)
        tested = small(engine=Plain())
        many = tested.hessian(tested.initial, gauss_newton=gauss_newton).products(np.ones((2, 20)))
        np.testing.assert_allclose(many[1], np.ravel(expected["permeability"]), rtol=1e-9)


@pytest.mark.slow
def test_single_precision():
    double, single = (small(engine=pag.EmbeddedEngine(dtype=t)) for t in ("float64", "float32"))
    single.tolerance = single.adjoint_tolerance = 1e-6
    ones = {"permeability": np.ones((4, 5))}
    expected = double.hessian_product(ones)["permeability"]
    found = single.hessian_product(ones)["permeability"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.max(np.abs(expected))))


def test_a_wrong_hessian_fails(monkeypatch):
    """By a thousandth, by its sign, and by a part that is not symmetric, which no remainder along
    one direction sees."""
    right, tested = Hessian.product, small()

    def skew(v):
        return np.roll(v, 1) - np.roll(v, -1)

    for change in (lambda h, v: 1.001 * h, lambda h, v: -h, lambda h, v: h + 1e-3 * skew(v)):

        def wrong(self, v, change=change):
            found = right(self, v)
            return found._replace(vector=change(found.vector, v))

        monkeypatch.setattr(Hessian, "product", wrong)
        report = pag.taylor_test(tested, hessian=True)
        assert not report.passed, report
        assert "FAILED" in repr(report)
    assert "symmetric" in report.message
    monkeypatch.undo()
    report = pag.taylor_test(tested, hessian=True)
    assert report.passed, report
    assert "d.Hd" in repr(report)


def test_a_quadratic_objective_passes():
    tested = small(
        lambda state: 0.0 * jnp.sum(state["pressure"]), pag.Smoothness("permeability", 1.0, 0.1)
    )
    report = pag.taylor_test(tested, hessian=True)
    assert report.passed, report
    assert "quadratic" in report.message


def test_directions_and_products_are_datasets():
    tested = small()
    gradient = tested.value_and_gradient()[1]
    product = tested.hessian_product(gradient)
    assert product["permeability"].dims == gradient["permeability"].dims
    assert product.attrs["kind"] == "hessian product"
    turned = tested.hessian_product({"permeability": gradient["permeability"].T})
    np.testing.assert_array_equal(turned["permeability"], product["permeability"])
    elsewhere = tested.hessian_product(gradient, {"permeability": 2.0})
    assert not np.allclose(elsewhere["permeability"], product["permeability"])
    assert np.all(tested.hessian_product({})["permeability"] == 0.0)


@pytest.mark.parametrize(
    ("direction", "error", "message"),
    [
        ({"permeabilty": 1.0}, ConfigError, "direction: 'permeabilty'.*'permeability'"),
        ({"permeability": np.ones((5, 4))}, DataError, r"direction.permeability: found shape \(5"),
        ({"permeability": np.full((4, 5), np.nan)}, DataError, "direction.permeability: 20"),
        (np.ones(20), ConfigError, "direction"),
    ],
)
def test_bad_directions(direction, error, message):
    with pytest.raises(error, match=message):
        small().hessian_product(direction)
