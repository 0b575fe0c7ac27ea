"""The unknown scale of the noise, inverted for, approximated and sampled: closed forms, quadrature,
and however it is run."""

from __future__ import annotations

from functools import cache

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError
from pyadjoint_gpu.results.samples import weights_of

GRID = pag.Grid((4, 4), (1.0, 1.5))
MODEL = pag.models.Darcy(GRID, fixed_pressure={"x_min": 0.0, "x_max": 0.0, "y_min": 0.0})
K = np.exp(0.5 * np.random.default_rng(0).standard_normal(GRID.shape))
POINTS = np.random.default_rng(1).uniform([0.0, 0.0], [1.0, 1.5], (30, 2))
STATED, SD, MEAN = 0.1, 0.6, 0.2
TIMES = 3.0
"""Size of the noise in the data, in units of the one that is stated."""


@cache
def linear() -> pag.Problem:
    """Pressures on three sides from those inside: linear in what is unknown but the scale."""
    generator = np.random.default_rng(2)
    known = {"permeability": K}
    truth = pag.Matern(0.7, 0.5).on(MODEL.space("boundary_pressure")).draw(seed=3)[0]
    data = pag.synthetic.observe(MODEL, known | {"boundary_pressure": truth}, POINTS, noise=0.0)
    data["pressure"] = data["pressure"] + STATED * TIMES * generator.standard_normal(30)
    noise = pag.Noise(STATED, scale=pag.Independent(SD, mean=MEAN))
    return pag.Problem(
        MODEL,
        pag.Control("boundary_pressure", 0.2, prior=pag.Matern(0.7, 0.5)),
        pag.LeastSquares(data[["pressure"]], noise=noise),
        parameters=known,
        engine="embedded",
        tolerance=1e-12,
    )


class Dense:
    """The linear problem as matrices: d = a + G x + s e, x whitened."""

    def __init__(self, of: pag.Problem):
        n = of.size - 1
        thetas = of.prior.theta(np.vstack([np.zeros(n + 1), np.eye(n + 1)[:n]]))

        def whitened(theta: np.ndarray) -> np.ndarray:
            m = of.parameters(theta)
            state = of.engine.solve(MODEL, m, tolerance=1e-14, max_iterations=10000).fields
            with jax.enable_x64(True):
                return np.asarray(of.misfit.predict(state)) / of.misfit.sigma

        columns = np.stack([whitened(theta) for theta in thetas])
        self.g = (columns[1:] - columns[0]).T
        self.off = of.misfit.observed / of.misfit.sigma - columns[0]
        self.jacobian = len(self.off) * np.log(STATED)

    def x(self, t: float) -> np.ndarray:
        """The most probable x at ln s = t."""
        h = np.eye(self.g.shape[1]) + self.g.T @ self.g * np.exp(-2 * t)
        return np.linalg.solve(h, self.g.T @ self.off * np.exp(-2 * t))

    def profile(self, t: float) -> float:
        """J at its smallest over x."""
        x, n = self.x(t), len(self.off)
        w = self.off - self.g @ x
        return 0.5 * (w @ w * np.exp(-2 * t) + x @ x + ((t - MEAN) / SD) ** 2) + n * t

    def log_joint(self, t: float) -> float:
        """ln p(d, t), x integrated out."""
        n = len(self.off)
        covariance = self.g @ self.g.T + np.exp(2 * t) * np.eye(n)
        of_data = scipy.stats.multivariate_normal(np.zeros(n), covariance).logpdf(self.off)
        return of_data - self.jacobian + scipy.stats.norm(MEAN, SD).logpdf(t)


@cache
def dense() -> Dense:
    return Dense(linear())


@cache
def inverted():
    return pag.invert(linear(), tolerance=1e-10, max_iterations=300, progress=False)


def test_the_joint_minimum_by_hand():
    found = scipy.optimize.minimize_scalar(
        dense().profile, bounds=(-2.0, 3.0), method="bounded", options={"xatol": 1e-9}
    )
    result = inverted()
    assert result.attrs["status"] in ("converged", "stalled")
    assert np.log(float(result["noise_scale"])) == pytest.approx(found.x, abs=1e-6)
    assert float(result["objective"][-1]) == pytest.approx(found.fun, rel=1e-9)
    theta = linear().prior.theta(np.append(dense().x(found.x), 0.0))
    np.testing.assert_allclose(result["boundary_pressure"], theta[:-1], atol=1e-6)
    # s^2 is |w|^2 / n but for the pull of the prior.
    w = dense().off - dense().g @ dense().x(found.x)
    pull = (found.x - MEAN) / SD**2
    s2 = w @ w / (30 + pull)
    assert float(result["noise_scale"]) ** 2 == pytest.approx(s2, rel=1e-5)
    assert s2 < TIMES**2


def test_what_a_result_has_of_it():
    result = inverted()
    s = float(result["noise_scale"])
    assert float(result["noise_scale_initial"]) == pytest.approx(np.exp(MEAN))
    assert abs(float(result["noise_scale_gradient"])) < 1e-6
    np.testing.assert_allclose(result["sigma"], STATED * s)
    white = result["residual"].values / (STATED * s)
    np.testing.assert_allclose(result["residual_whitened"], white, rtol=1e-12)
    assert result.attrs["chi2"] == pytest.approx(np.mean(white**2), rel=1e-9)
    misfit = 15 * np.mean(white**2) + 30 * np.log(s)
    assert float(result["misfit"][-1]) == pytest.approx(misfit, rel=1e-9)
    pulled = 1 + (np.log(s) - MEAN) / (30 * SD**2)
    assert result.attrs["chi2"] == pytest.approx(pulled, rel=1e-6)
    assert 0.05 < result.attrs["chi2_p"] < 0.95
    assert result["noise_scale"].dims == () and result["noise_scale"].attrs["units"] == "1"


def test_a_misfit_below_zero_is_drawn():
    for offset, scale in ((0.0, "log"), (-1e6, "linear")):
        figure = inverted().assign(misfit=inverted()["misfit"] + offset).pag.plot()
        axes = [ax for ax in figure.axes if ax.get_xlabel() == "iteration"]
        assert [ax.get_yscale() for ax in axes] == [scale]


@pytest.mark.slow
def test_laplace_has_the_fisher_information():
    post = pag.laplace(linear(), inverted(), rank=30, draws=300, progress=False)
    t = np.log(float(inverted()["noise_scale"]))
    assert float(post["noise_scale_sd"]) == pytest.approx((2 * 30 + SD**-2) ** -0.5, rel=1e-9)
    assert float(post["noise_scale_prior_sd"]) == pytest.approx(SD)
    assert np.std(np.log(post["noise_scale_draw"])) == pytest.approx(0.125, rel=0.2)
    precision = np.eye(linear().size - 1) + dense().g.T @ dense().g * np.exp(-2 * t)
    root = linear().prior.root(np.eye(linear().size))[:-1, :-1].T
    sd = np.sqrt(np.diag(root @ np.linalg.solve(precision, root.T)))
    np.testing.assert_allclose(post["boundary_pressure_sd"], sd, rtol=1e-8)
    # ln Z of that Gaussian, with all constants.
    of_x = 0.5 * np.linalg.slogdet(precision)[1]
    of_t = 0.5 * np.log(1 + 2 * 30 * SD**2)
    constant = -dense().jacobian - 15 * np.log(2 * np.pi)
    expected = constant - dense().profile(t) - of_x - of_t
    assert post.attrs["log_evidence"] == pytest.approx(expected, abs=1e-7)
    assert post.attrs["log_evidence_error"] == 0.0
    at = np.linspace(-1.0, 3.0, 2001)
    exact = np.log(np.trapezoid([np.exp(dense().log_joint(t)) for t in at], at))
    assert post.attrs["log_evidence"] == pytest.approx(exact, abs=0.5)


@pytest.mark.slow
def test_a_large_noise_is_found():
    """A plane of ln K from many pressures, whose noise is three times what is stated."""
    grid = pag.Grid((4, 6), (1.0, 2.0))
    model = pag.models.Darcy(grid, [pag.Well((0.5, 0.6), 1.0)], fixed_pressure={"x_max": 0.0})
    points = np.random.default_rng(0).uniform((0.1, 0.1), (0.9, 1.9), (80, 2))
    data = pag.synthetic.observe(model, {"permeability": 2.0}, points, noise=0.0)
    z = np.random.default_rng(1).standard_normal(80)
    data["pressure"] = data["pressure"] + 0.03 * z / np.sqrt(np.mean(z**2))
    prior = pag.Independent(0.7)
    tested = pag.Problem(
        model,
        pag.Control("permeability", 1.0, transform="log", basis="plane", prior=prior),
        pag.LeastSquares(data[["pressure"]], noise=pag.Noise(0.01, scale=pag.Independent(1.0))),
        engine="embedded",
        tolerance=1e-10,
    )
    result = pag.invert(tested, max_iterations=100, progress=False)
    post = pag.laplace(tested, result, progress=False)
    off = np.log(float(result["noise_scale"]) / 3.0) / float(post["noise_scale_sd"])
    assert abs(off) < 1.0 and float(post["noise_scale_sd"]) < 0.08


@pytest.mark.parametrize("method", ["L-BFGS-B", pytest.param("newton-cg", marks=pytest.mark.slow)])
def test_a_journal_goes_on_to_the_same_bits(tmp_path, method):
    options = {"method": method, "progress": False, "tolerance": 1e-7}
    whole = pag.invert(linear(), max_iterations=8, **options)
    path = tmp_path / "run.journal"
    pag.invert(linear(), max_iterations=3, journal=path, **options)
    for result in (
        pag.resume(path, max_iterations=8, progress=False),
        pag.invert(linear(), max_iterations=8, journal=path, **options),
    ):
        for name in ("noise_scale", "boundary_pressure", "objective", "residual_whitened"):
            np.testing.assert_array_equal(result[name], whole[name])
    assert whole["objective"][-1] < whole["objective"][3]
    other = pag.LeastSquares(
        linear().misfit.dataset()[["pressure"]],
        noise=pag.Noise(STATED, scale=pag.Independent(SD, mean=0.3)),
    )
    control = linear().controls[0].control
    known = {"permeability": K}
    changed = pag.Problem(
        MODEL, control, other, parameters=known, engine="embedded", tolerance=1e-12
    )
    with pytest.raises(Exception, match="misfit"):
        pag.invert(changed, max_iterations=8, journal=path, **options)


def test_the_discrepancy_principle_needs_a_known_noise():
    with pytest.raises(ConfigError, match=r"discrepancy.*the scale of the noise is unknown"):
        pag.invert(linear(), discrepancy=True)


@pytest.mark.slow
def test_sampled_as_by_quadrature():
    at = np.linspace(-1.0, 3.0, 2001)
    log_joint = np.array([dense().log_joint(t) for t in at])
    weights = np.exp(log_joint - np.max(log_joint))
    exact = np.log(np.trapezoid(weights, at)) + np.max(log_joint)
    weights /= np.sum(weights)
    mean = weights @ at
    sd = np.sqrt(weights @ (at - mean) ** 2)
    samples = pag.sample(linear(), particles=128, batch=128, repeats=4, progress=False)
    error = samples.attrs["log_evidence_error"]
    assert abs(samples.attrs["log_evidence"] - exact) < 4 * error + 0.05 and error < 0.3
    t, of = np.log(samples["noise_scale"].values).ravel(), weights_of(samples).ravel()
    assert samples["noise_scale"].dims == ("chain", "draw")
    assert of @ t == pytest.approx(mean, abs=0.25 * sd)
    assert np.sqrt(of @ (t - of @ t) ** 2) == pytest.approx(sd, rel=0.15)
    assert float(samples["ln_noise_scale_mean"]) == pytest.approx(of @ t)
    # Its distribution is that of the quadrature, by draws that are nearly independent.
    order = np.argsort(t)
    below = np.interp(t[order], at, np.cumsum(weights))
    assert np.max(np.abs(below - np.cumsum(of[order]))) < 0.12
    # The joint minimum is at a smaller scale, as its documentation says.
    assert np.log(float(inverted()["noise_scale"])) < mean


def test_a_scale_that_only_its_prior_holds_is_said():
    """A field that can fit all data, so that the joint minimum has next to no noise."""
    grid = pag.Grid((4, 6), (1.0, 2.0))
    model = pag.models.Darcy(grid, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
    data = pag.synthetic.observe(model, {"permeability": 2.0}, [(0.4, 0.5), (0.6, 1.2)], noise=0.01)
    tested = pag.Problem(
        model,
        pag.Control("permeability", 1.0, transform="log", prior=pag.Matern(1.0, 0.4)),
        pag.LeastSquares(data, noise=pag.Noise(0.01, scale=pag.Independent(1.5))),
    )
    said = pag.invert(tested, max_iterations=60, progress=False).attrs["message"]
    assert "standard deviations below its prior: the controls can fit the data" in said
    assert "standard deviations below" not in inverted().attrs["message"]
