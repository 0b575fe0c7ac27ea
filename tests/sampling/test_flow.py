"""Flows: normalised densities that are exactly sampled, and what training makes of samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import trapezoid

pytest.importorskip("flowjax")

from flowjax.distributions import Normal

from pyadjoint_gpu.core import extras
from pyadjoint_gpu.core.errors import ConfigError, DataError, EngineError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.sampling.flow import model, network, training
from pyadjoint_gpu.sampling.flow.architecture import Architecture
from pyadjoint_gpu.sampling.flow.model import Flow
from pyadjoint_gpu.sampling.flow.training import fit


def two_modes(n, count, seed=0):
    """Six standard deviations apart, along the diagonal."""
    generator = np.random.default_rng(seed)
    side = np.where(generator.random((count, 1)) < 0.5, -1.0, 1.0)
    return 3.0 / np.sqrt(n) * side + generator.standard_normal((count, n))


def log_two_modes(x):
    n = x.shape[1]
    a, b = (-0.5 * np.sum((x - s * 3.0 / np.sqrt(n)) ** 2, axis=1) for s in (-1, 1))
    return np.logaddexp(a, b) - np.log(2.0) - 0.5 * n * np.log(2 * np.pi)


def rosenbrock(count, seed=0):
    generator = np.random.default_rng(seed)
    x = 1.0 + np.sqrt(0.5) * generator.standard_normal(count)
    return np.stack([x, x**2 + np.sqrt(1 / 200) * generator.standard_normal(count)], axis=1)


def log_rosenbrock(x):
    x, y = x.T
    return -((1 - x) ** 2) - 100 * (y - x**2) ** 2 - np.log(np.pi / 10)


@double
def arbitrary(n, kind="spline", seed=0):
    """A flow that nobody trained, far from the identity."""
    architecture = Architecture(n, kind, layers=4, width=8)
    first = np.asarray(network.initial(architecture, jax.random.key(seed)))
    generator = np.random.default_rng(seed)
    parameters = first + 0.3 * generator.standard_normal(first.shape)
    factor = np.tril(generator.standard_normal((n, n)), -1) + np.diag(np.arange(1.0, n + 1))
    return Flow(np.arange(float(n)), factor, parameters, architecture)


@pytest.fixture(scope="module")
def trained():
    return fit(two_modes(2, 1000), layers=4, width=16, epochs=20)


@pytest.mark.parametrize(("n", "kind"), [(1, "spline"), (2, "spline"), (3, "affine")])
def test_draws_have_the_density_that_is_said(n, kind):
    flow = arbitrary(n, kind)
    x, log_q = flow.draw(jax.random.key(1), 500)
    assert x.shape == (500, n) and x.dtype == np.float64
    z, again = flow.base(x)
    np.testing.assert_allclose(again, log_q, rtol=0, atol=1e-9)
    expected = double(jax.random.normal)(jax.random.key(1), (500, n))
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(flow.log_density(x), again)


def test_the_density_is_the_determinant_of_the_map():
    """ln q = ln N(z) + ln |det dz/dx| by differentiation, not by the layers' own sums."""
    flow = arbitrary(3)
    x = np.asarray(flow.draw(jax.random.key(0), 20)[0])
    jacobian = double(jax.vmap(jax.jacfwd(lambda row: flow.base(row[None])[0][0])))(x)
    z, log_q = (np.asarray(a) for a in flow.base(x))
    normal = -0.5 * np.sum(z**2, axis=1) - 1.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(
        log_q, normal + np.linalg.slogdet(np.asarray(jacobian))[1], atol=1e-9
    )


def test_one_component_integrates_to_one():
    x = np.linspace(-40.0, 40.0, 80001)
    density = np.exp(np.asarray(arbitrary(1).log_density(x[:, None])))
    assert trapezoid(density, x) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("kind", ["spline", "affine"])
def test_finite_far_outside(kind):
    flow = arbitrary(2, kind)
    far = 10.0 ** np.arange(9)[:, None] * np.array([[1.0, -1.0]])
    logs = np.asarray(flow.log_density(far))
    assert np.all(np.isfinite(logs)) and np.all(np.diff(logs[3:]) < 0.0)


def test_inside_of_compiled_code(trained):
    x = two_modes(2, 10)
    inside = double(jax.jit(lambda flow, x: jnp.sum(flow.log_density(x))))
    expected = np.sum(np.asarray(trained.log_density(x)))
    assert float(inside(trained, x)) == pytest.approx(expected, rel=1e-12)
    found = double(jax.jit(lambda flow, x: flow.base(x)[1]))(trained, x)
    np.testing.assert_allclose(found, trained.log_density(x), rtol=1e-12)


def test_arrays_and_back(trained):
    arrays = trained.arrays()
    assert all(isinstance(a, np.ndarray) for a in arrays.values())
    back = Flow.of_arrays(arrays)
    assert back.architecture == trained.architecture
    x = two_modes(2, 100, seed=1)
    np.testing.assert_array_equal(back.log_density(x), trained.log_density(x))
    with pytest.raises(DataError, match=r"flow: found parameters of shape"):
        Flow.of_arrays(arrays | {"parameters": arrays["parameters"][1:]})


def test_bit_for_bit_and_compiled_once(trained, monkeypatch):
    traced = []
    original = training.base_of_whitened
    monkeypatch.setattr(training, "base_of_whitened", lambda *a: traced.append(1) or original(*a))
    sizes = {"layers": 4, "width": 16, "epochs": 20}
    again = fit(two_modes(2, 1000), **sizes)
    np.testing.assert_array_equal(again.parameters, trained.parameters)
    other = fit(two_modes(2, 1000), seed=1, rate=1e-3, start=again, epochs=3)
    assert np.any(other.parameters != trained.parameters)
    assert not traced


def test_weights_are_as_repetitions():
    """Of the moments; and what has no weight is as if it were not there."""
    x = two_modes(3, 500)
    w = np.where(x[:, 0] > 0.0, 3.0, 1.0)
    flow = fit(x, weights=w, layers=2, width=8, epochs=1)
    repeated = np.repeat(x, w.astype(int), axis=0)
    np.testing.assert_allclose(flow.mean, repeated.mean(axis=0))
    covariance = flow.factor @ flow.factor.T
    np.testing.assert_allclose(covariance, np.cov(repeated.T, ddof=0))
    assert flow.factor[0, 1] == 0.0


def test_the_first_parameters_are_a_gaussian():
    """Whitening alone; training never makes it worse on the data held out."""
    x = np.random.default_rng(0).standard_normal((500, 3))
    flow = fit(x, layers=2, width=8, epochs=1, rate=1e-300)
    z = np.linalg.solve(flow.factor, (x - flow.mean).T)
    expected = -0.5 * np.sum(z**2, axis=0) - np.sum(np.log(np.diag(flow.factor)))
    np.testing.assert_allclose(flow.log_density(x), expected - 1.5 * np.log(2 * np.pi))


def test_a_base_that_training_would_change_is_not_built(monkeypatch):
    """flowjax's `Normal` has trainable leaves; ln phi_T of the harmonic mean would be wrong."""
    assert network.trainable(Normal(jnp.zeros(2)))
    monkeypatch.setattr(network, "StandardNormal", lambda shape: Normal(jnp.zeros(shape)))
    with pytest.raises(AssertionError):
        network.initial(Architecture(2), jax.random.key(0))


def test_what_is_wrong_is_refused():
    x = two_modes(2, 50)
    for bad, match in (
        (x[:, 0], r"x: found an array of shape \(50,\)"),
        (x[:5], "x: found 5 rows, expected 6 or more"),
        (np.where(x > 2.0, np.nan, x), "x: .* not finite"),
        (x * [1.0, 0.0], "x: its covariance is singular"),
        (x[:, [0, 0]], "x: its covariance is singular"),
    ):
        with pytest.raises(DataError, match=match):
            fit(bad)
    for bad in (np.ones(49), -np.ones(50), np.zeros(50)):
        with pytest.raises(DataError, match="weights: found"):
            fit(x, weights=bad)
    with pytest.raises(DataError, match=r"slopes: found an array of shape \(50,\)"):
        fit(x, slopes=x[:, 0])
    for options, match in (
        ({"kind": "planar"}, "kind: found 'planar'"),
        ({"layers": 0}, "layers: found 0"),
        ({"epochs": 0}, "epochs: found 0"),
        ({"rate": -1.0}, "rate: found -1.0"),
        ({"seed": -1}, "seed: found -1"),
    ):
        with pytest.raises(ConfigError, match=match):
            fit(x, **options)
    with pytest.raises(DataError, match="x: found 1 components, expected the 2"):
        fit(x[:, :1], start=arbitrary(2))


def test_without_flowjax(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(EngineError, match=r"pip install 'pyadjoint_gpu\[sampling\]'"):
        model.network()


def slopes_of_rosenbrock(x):
    off = x[:, 1] - x[:, 0] ** 2
    return np.stack([2.0 * (1.0 - x[:, 0]) + 400.0 * off * x[:, 0], -200.0 * off], axis=1)


@pytest.mark.parametrize(
    ("n", "kind"),
    [
        (1, "spline"),
        (3, "affine"),
        pytest.param(2, "spline", marks=pytest.mark.slow),
        pytest.param(5, "spline", marks=pytest.mark.slow),
    ],
)
def test_scores_in_the_base(n, kind):
    """The gradient by z of ln p(w(z)) + ln |det dw/dz|, by differentiation of the draws' map."""
    flow = arbitrary(n, kind)
    architecture, parameters = flow.architecture, jnp.asarray(flow.parameters)

    def log_p(w):
        return -jnp.sum(w**4) + jnp.prod(jnp.sin(w))

    @double
    @jax.jit
    def both(w):
        f = network.bijection(architecture, parameters)
        log_q, scores, z = model.pulled_back(
            architecture, parameters, w, jax.vmap(jax.grad(log_p))(w)
        )

        def pulled(z):
            w, gain = f.transform_and_log_det(z)
            return log_p(w) + gain

        expected = jax.vmap(jax.grad(pulled))(z)
        return expected, scores, model.base_of_whitened(architecture, parameters, w), (z, log_q)

    w = np.random.default_rng(0).standard_normal((20, n))
    expected, scores, base, own = both(w)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9)
    for a, b in zip(base, own, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_gradients_tell_a_gaussian_exactly():
    """By few rows, of another density; the flow has nothing to add."""
    generator = np.random.default_rng(0)
    root = np.triu(np.ones((5, 5)))
    x = generator.uniform(-9.0, 9.0, (40, 5))
    slopes = -np.linalg.solve(root @ root.T, (x - 3.0).T).T
    samples = 3.0 + generator.standard_normal((40, 5)) @ root.T
    rows, w = np.concatenate([samples, x]), np.repeat([1.0, 0.0], 40)
    both = np.concatenate([-np.linalg.solve(root @ root.T, (samples - 3.0).T).T, slopes])
    flow = fit(
        rows,
        weights=w,
        slopes=both,
        slope_weights=1.0 - w,
        layers=2,
        width=8,
        epochs=1,
        rate=1e-300,
    )
    np.testing.assert_allclose(flow.mean, 3.0, rtol=1e-6)
    np.testing.assert_allclose(flow.factor @ flow.factor.T, root @ root.T, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_gradients_make_up_for_samples():
    """The divergence from a tenth of the samples of the test below."""
    x = rosenbrock(500)
    options = {"epochs": 150, "batch": 64, "rate": 5e-3, "patience": 150}
    by_samples, by_slopes = fit(x, **options), fit(x, slopes=slopes_of_rosenbrock(x), **options)

    def apart(flow):
        y = rosenbrock(20000, seed=1)
        return np.mean(log_rosenbrock(y) - np.asarray(flow.log_density(y)))

    assert apart(by_slopes) < 0.03 and apart(by_slopes) < 0.4 * apart(by_samples)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "kind", "most"),
    [(1, "spline", 0.02), (2, "spline", 0.03), (5, "spline", 0.1), (2, "affine", 0.06)],
)
def test_two_modes(n, kind, most):
    """Kullback-Leibler divergence of the density from the flow."""
    flow = fit(two_modes(n, 5000), kind=kind)
    x = two_modes(n, 20000, seed=1)
    assert np.mean(log_two_modes(x) - np.asarray(flow.log_density(x))) < most


@pytest.mark.slow
def test_a_narrow_and_curved_density():
    flow = fit(rosenbrock(5000))
    x = rosenbrock(20000, seed=1)
    assert np.mean(log_rosenbrock(x) - np.asarray(flow.log_density(x))) < 0.04
