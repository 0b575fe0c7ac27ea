"""Independent distributions of scipy.stats in JAX: densities, maps to the line, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from pyadjoint_gpu.core.errors import ConfigError
from pyadjoint_gpu.statistics.marginals import KNOWN, Marginals

EACH = {
    "beta": st.beta(2.0, 3.0, loc=-1.0, scale=4.0),
    "cauchy": st.cauchy(1.0, 2.0),
    "chi2": st.chi2(3.0, scale=0.5),
    "expon": st.expon(scale=2.0),
    "gamma": st.gamma(2.5, loc=1.0, scale=3.0),
    "gumbel_l": st.gumbel_l(0.5, 2.0),
    "gumbel_r": st.gumbel_r(0.5, 2.0),
    "halfcauchy": st.halfcauchy(0.0, 5.0),
    "halfnorm": st.halfnorm(loc=1.0, scale=2.0),
    "invgamma": st.invgamma(3.0, scale=2.0),
    "laplace": st.laplace(1.0, 0.3),
    "logistic": st.logistic(0.2, 0.7),
    "lognorm": st.lognorm(0.5, scale=3.0),
    "loguniform": st.loguniform(1e-3, 10.0),
    "norm": st.norm(3.0, 0.1),
    "pareto": st.pareto(2.0, scale=2.0),
    "reciprocal": st.reciprocal(0.1, 2.0),
    "t": st.t(4.0, loc=1.0, scale=2.0),
    "truncnorm": st.truncnorm(-1.0, 2.0, loc=1.0, scale=0.5),
    "uniform": st.uniform(-3.0, 8.0),
    "weibull_min": st.weibull_min(1.5, scale=2.0),
}


def test_every_known_distribution_is_tested():
    assert set(EACH) == set(KNOWN)


def test_densities_and_maps():
    prior = Marginals(EACH)
    theta = prior.draw(np.random.default_rng(0), 200)
    exact = sum(d.logpdf(theta[:, k]) for k, d in enumerate(EACH.values()))
    np.testing.assert_allclose(prior.log_density(theta), exact, rtol=1e-10)
    x = np.asarray(prior.white(theta))
    np.testing.assert_allclose(prior.of_white(x), theta, rtol=1e-9)
    # Roughly standard normal, so that samplers start from a sensible scale.
    assert np.all(np.abs(np.median(x, axis=0)) < 0.7)
    spread = np.subtract(*np.quantile(x, [0.8413, 0.1587], axis=0)) / 2
    np.testing.assert_allclose(spread, 1.0, atol=0.25)


@pytest.mark.parametrize("name", KNOWN)
def test_the_density_of_x_is_that_of_theta_by_change_of_variables(name):
    prior = Marginals({"a": EACH[name]})
    with jax.enable_x64(True):
        x = jnp.linspace(-2.0, 2.0, 9)[:, None]
        slope = jax.vmap(jax.grad(lambda x: prior.of_white(x[None])[0]))(x[:, 0])
        # Supports bounded above only would have a map that falls.
        changed = prior.log_density(prior.of_white(x)) + jnp.log(jnp.abs(slope))
        np.testing.assert_allclose(prior.potential(x), -changed, rtol=1e-9, atol=1e-9)
        gradient = jax.vmap(jax.grad(lambda x: prior.potential(x[None])))(x[:, 0])
        assert np.all(np.isfinite(gradient))


def test_the_far_ends_of_a_box_stay_finite():
    prior = Marginals({"a": EACH["uniform"], "b": EACH["expon"]})
    x = np.array([[40.0, -40.0], [-400.0, 5.0]])
    with jax.enable_x64(True):
        gradient = jax.vmap(jax.grad(lambda x: prior.potential(x)))(jnp.asarray(x))
    assert np.all(np.isfinite(prior.potential(x))) and np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3.0, "prior.a: found 3.0, expected a distribution of scipy.stats"),
        (st.norm, "prior.a: found .*expected a distribution of scipy.stats"),
        (st.poisson(3.0), "prior.a: found .*expected a distribution"),
        (st.skewnorm(3.0), "prior.a: the density of 'skewnorm' has no gradient here, expected one"),
        (st.norm([0.0, 1.0]), "prior.a: found a distribution of arrays"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(ConfigError, match=message):
        Marginals({"a": given})
