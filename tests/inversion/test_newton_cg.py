"""Newton's method: the trust-region problem, its Krylov spaces, and hard functions."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der, rosen_hess_prod

import pyadjoint_gpu as pag
from pyadjoint_gpu.inversion import newton as module
from pyadjoint_gpu.inversion.newton import _Krylov, newton
from pyadjoint_gpu.problem.specification import build_problem
from pyadjoint_gpu.runfiles.schema import read

SHIPPED = Path(__file__).parents[2] / "examples"
METHODS = ("L-BFGS-B", "newton-cg")


class Done(Exception):
    pass


def minimised(value, gradient, product, start, tolerance=1e-10):
    """The end, and the number of evaluations, products and steps."""
    counts = np.zeros(3, dtype=int)
    first = np.linalg.norm(gradient(start))

    def objective(x):
        counts[0] += 1
        return value(x), gradient(x)

    def multiplied(x, v):
        counts[1] += 1
        return product(x, v)

    end = [start]

    def accept(x):
        counts[2] += 1
        assert value(x) < value(end[0]) + 1e-11 * abs(value(end[0]))
        end[0] = x
        if np.linalg.norm(gradient(x)) <= tolerance * first:
            raise Done

    with pytest.raises(Done):
        newton(objective, multiplied, start, accept)
    return end[0], counts


@pytest.mark.parametrize("n", [2, 10, 40])
def test_rosenbrock(n):
    """A curved valley: in far fewer evaluations than steps of a fixed length would take."""
    x, (evaluations, _products, steps) = minimised(
        rosen, rosen_der, rosen_hess_prod, np.full(n, -1.2)
    )
    np.testing.assert_allclose(rosen_der(x), 0.0, atol=1e-6)
    assert steps < 40 + 4 * n
    assert evaluations < 3 * steps + 10


def test_a_quadratic_in_few_products():
    """Identity and five eigenvalues: six products a space, and one space once the radius allows."""
    rng = np.random.default_rng(0)
    v = np.linalg.qr(rng.standard_normal((50, 5)))[0]
    w = np.array([1e4, 3e3, 100.0, 30.0, 5.0])
    b = rng.standard_normal(50)

    def product(_, p):
        return p + v @ (w * (v.T @ p))

    x, (_, products, _) = minimised(
        lambda x: 0.5 * x @ product(x, x) - b @ x,
        lambda x: product(x, x) - b,
        product,
        np.zeros(50),
    )
    np.testing.assert_allclose(product(x, x), b, atol=1e-8)
    assert products < 25


@pytest.mark.parametrize("radius", [1e-3, 0.3, 1e3])
@pytest.mark.parametrize("lowest", [1.0, -2.0])
def test_trust_region_problem(radius, lowest):
    """Its conditions: (H + shift) s = -g, shift >= 0 and H + shift >= 0, shift = 0 inside."""
    rng = np.random.default_rng(1)
    q = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    H = q @ np.diag(np.r_[lowest, np.linspace(1.5, 90.0, 11)]) @ q.T
    g = rng.standard_normal(12)
    space = _Krylov(g, lambda v: H @ v)
    space.grow(radius, 1e-12)
    while space.size < 12:
        space._extend()
    found = space.minimum(radius)
    s, shift = found.step, found.shift
    np.testing.assert_allclose(H @ s + shift * s, -g, atol=1e-7)
    assert np.linalg.eigvalsh(H)[0] + shift > -1e-9
    assert found.inside == (lowest > 0 and radius == 1e3)
    if not found.inside:
        np.testing.assert_allclose(np.linalg.norm(s), radius, rtol=1e-8)
    np.testing.assert_allclose(found.decrease, -(g @ s + 0.5 * s @ H @ s), rtol=1e-9)


def test_residual_of_a_small_space():
    rng = np.random.default_rng(2)
    H = np.diag(np.linspace(1.0, 50.0, 30))
    g = rng.standard_normal(30)
    space = _Krylov(g, lambda v: H @ v)
    for _ in range(6):
        space._extend()
    found = space.minimum(1e3)
    np.testing.assert_allclose(np.linalg.norm(H @ found.step + g), found.residual, rtol=1e-9)


def test_refused_steps_take_no_products():
    """A function whose model is right only nearby: many radii, few products."""

    def value(x):
        return float(np.sum(np.cosh(30.0 * x) - 1.0) + np.sum(x))

    def gradient(x):
        return 30.0 * np.sinh(30.0 * x) + 1.0

    x, (_evaluations, products, steps) = minimised(
        value, gradient, lambda x, v: 900.0 * np.cosh(30.0 * x) * v, np.full(3, -0.4)
    )
    np.testing.assert_allclose(gradient(x), 0.0, atol=1e-4)
    assert products <= 2 * steps


def test_corrections_pay_in_a_curved_valley(monkeypatch):
    """Accurate data that depend on the square of what they leave open: without corrections the
    valley takes more evaluations and products."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((4, 30)) / 5, rng.standard_normal((4, 30, 30)) / 60
    b, far, noise = b + b.transpose(0, 2, 1), 3.0 * rng.standard_normal(30), 1e-3

    def data(x):
        return a @ x + 0.5 * (b @ x) @ x

    def value(x):
        return 0.5 * np.sum((data(x) / noise) ** 2) + 0.5 * np.sum((x - far) ** 2)

    def gradient(x):
        return (a + b @ x).T @ data(x) / noise**2 + x - far

    def product(x, v):
        slopes = a + b @ x
        return (slopes.T @ (slopes @ v) + np.tensordot(data(x), b, 1) @ v) / noise**2 + v

    def spent():
        _, counts = minimised(value, gradient, product, far / 10, 1e-8)
        return counts[0] + counts[1]

    corrected = spent()
    monkeypatch.setattr(module, "WORST", -np.inf)
    assert corrected < 0.8 * spent()


def test_no_step_lowers_j():
    """A gradient of the wrong sign is said to be so, not searched for ever."""
    calls = []

    def objective(x):
        calls.append(x)
        return float(x @ x), -2.0 * x

    text = newton(objective, lambda x, v: 2.0 * v, np.ones(3), lambda x: None)
    assert "no step" in text
    assert len(calls) <= 2 * module.TRIALS + 1


def test_zero_gradient():
    text = newton(lambda x: (0.0, np.zeros(3)), lambda x, v: v, np.ones(3), lambda x: None)
    assert text == "the gradient is zero"


@pytest.mark.slow
def test_half_the_solves_of_lbfgs():
    """Wolfcamp's transmissivity: solves until J is within 0.01 nats of the minimum, and all until
    the gradient is 1e-6 of the first."""
    made = read(SHIPPED / "wolfcamp" / "wolfcamp.toml", []).tables()
    options = {"max_iterations": 400, "tolerance": 1e-6, "progress": False}
    found = {m: pag.invert(build_problem(made), method=m, **options) for m in METHODS}
    lowest = min(r["objective"].values.min() for r in found.values())
    solves = {}
    for method, result in found.items():
        all_of_them = 2 * (result["evaluations"] + result["products"]).values
        near = result["objective"].values <= lowest + 0.01
        solves[method] = all_of_them[np.argmax(near)], all_of_them[-1]
        assert near.any()
    assert found["newton-cg"].attrs["status"] == "converged"
    half = np.array(solves["L-BFGS-B"]) / 2
    assert np.all(solves["newton-cg"] <= half), solves
