"""Noise of unknown scale: J and its derivatives, whatever is refused, tables and run files."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from linear_systems import spd

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.problem.specification import build_problem, specification
from pyadjoint_gpu.runfiles.schema import read
from pyadjoint_gpu.sampling import LinearSMC
from pyadjoint_gpu.statistics.noise import Layout
from pyadjoint_gpu.statistics.sensor_noise import SensorNoise

GRID = pag.Grid((4, 5), (1.0, 2.0), (0.0, -1.0), units="m")
MODEL = pag.models.Darcy(GRID, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
POINTS = np.random.default_rng(0).uniform((0.1, -0.9), (0.9, 0.9), (7, 2))
DATA = pag.synthetic.observe(MODEL, {"permeability": lambda y, x: np.exp(x * y)}, POINTS)
SIGMA = 1e-3 * spd(7, 3)
SCALE = pag.Independent(sd=0.5, mean=0.3)
AT = {"permeability": lambda y, x: np.exp(0.3 * np.sin(3 * x + y)), "noise_scale": 1.7}


def problem(noise: Any, prior: pag.Prior | None = None, **options: Any) -> pag.Problem:
    control = pag.Control("permeability", 1.0, transform="log", prior=prior)
    misfit = pag.LeastSquares(options.pop("data", DATA), noise=noise)
    return pag.Problem(MODEL, control, misfit, tolerance=1e-12, engine="embedded", **options)


def residual(of: pag.Problem, controls: Any) -> np.ndarray:
    evaluation = of.evaluate(of.theta(controls), gradient=False)
    with jax.enable_x64(True):
        return of.misfit.observed - np.asarray(of.misfit.predict(evaluation.solution.fields))


def test_j_has_the_density_of_scaled_noise_and_its_prior():
    tested = problem(pag.Noise(covariance=SIGMA, scale=SCALE))
    known = problem(pag.Noise(covariance=SIGMA))
    r, t, n = residual(tested, AT), np.log(1.7), 7
    squares = r @ np.linalg.solve(SIGMA, r)
    found = tested.evaluate(tested.theta(AT))
    assert found.misfit == pytest.approx(squares / (2 * 1.7**2) + n * t, rel=1e-9)
    assert found.penalty == pytest.approx(0.5 * ((t - 0.3) / 0.5) ** 2, rel=1e-12)
    slope = -squares / 1.7**2 + n + (t - 0.3) / 0.25
    assert found.gradient[-1] == pytest.approx(slope, rel=1e-9)
    log_density = scipy.stats.multivariate_normal(np.zeros(7), 1.7**2 * SIGMA).logpdf(r)
    assert tested.log_normaliser - found.misfit == pytest.approx(log_density, rel=1e-9)
    assert tested.log_normaliser == known.log_normaliser
    assert tested.chi2(found.misfit, tested.theta(AT)) == pytest.approx(squares / 1.7**2 / n)
    gradient = tested.value_and_gradient(AT)[1]
    assert float(gradient["noise_scale"]) == found.gradient[-1]
    np.testing.assert_array_equal(gradient["permeability"].values.ravel(), found.gradient[:-1])


def test_the_model_does_not_see_it():
    tested = problem(pag.Noise(0.1, scale=SCALE))
    assert [p.name for p in tested.parts] == ["permeability", "noise_scale"]
    assert [c.name for c in tested.controls] == ["permeability"] and tested.size == 21
    assert set(tested.parameters(tested.initial)) == {"permeability", "boundary_pressure"}
    assert tested.physical(tested.initial)["noise_scale"] == pytest.approx(np.exp(0.3))
    assert "times s, ln s of prior Independent(mean=0.3, sd=0.5)" in repr(tested)
    assert repr(pag.Noise(0.1, scale=SCALE)) == "Noise(sd=0.1, scale=Independent(mean=0.3, sd=0.5))"


@pytest.mark.parametrize("hessian", [False, True])
def test_taylor(hessian: bool):
    tested = problem(pag.Noise(covariance=SIGMA, scale=SCALE), pag.Matern(0.6, 0.5))
    report = pag.taylor_test(tested, AT, hessian=hessian)
    assert report.passed, report


def predicted(of: pag.Problem, theta: Any) -> Any:
    m = of.objective.parameters(theta)
    state = pag.solve_fields(MODEL, m, tolerance=1e-12, engine="embedded")
    return of.misfit.predict(state)


@pytest.mark.slow
@double
def test_gauss_newton_has_the_fisher_information():
    tested = problem(pag.Noise(covariance=SIGMA, scale=SCALE)).likelihood
    theta, n, every = jnp.asarray(tested.theta(AT)), 7, np.eye(tested.size)
    s = np.asarray(jax.jacfwd(lambda theta: predicted(tested, theta))(theta))
    fisher = s.T @ np.linalg.solve(1.7**2 * SIGMA, s)
    fisher[-1, -1] += 2 * n
    of = tested.hessian(np.asarray(theta), gauss_newton=True)
    np.testing.assert_allclose(of.products(every), fisher, atol=1e-9 * np.max(np.abs(fisher)))
    np.testing.assert_allclose(of.product(every[-1]).vector, fisher[-1], atol=1e-10)
    assert np.linalg.eigvalsh(fisher)[0] > -1e-9


@pytest.mark.slow
@double
def test_against_the_dense_hessian():
    """Of J by JAX, which is not positive here."""
    tested = problem(pag.Noise(covariance=SIGMA, scale=SCALE)).likelihood
    theta, n = jnp.asarray(tested.theta(AT)), 7

    def reduced(theta: Any) -> Any:
        w = tested.misfit.noise.whiten(tested.misfit.observed - predicted(tested, theta))
        return 0.5 * jnp.sum(w**2) * jnp.exp(-2.0 * theta[-1]) + n * theta[-1]

    dense = np.asarray(jax.hessian(reduced)(theta))
    found = tested.hessian(np.asarray(theta)).products(np.eye(tested.size))
    np.testing.assert_allclose(found, dense, atol=1e-8 * np.max(np.abs(dense)))
    assert np.linalg.eigvalsh(dense)[0] < -1.0


def test_products_of_directions_by_name():
    tested = problem(pag.Noise(0.1, scale=SCALE))
    v = {"noise_scale": 2.0}
    for gauss_newton, of_t in ((True, 2 * 7 + 4.0), (False, None)):
        found = tested.hessian_product(v, AT, gauss_newton=gauss_newton)
        if of_t is None:
            of_t = 2.0 * np.sum((residual(tested, AT) / 0.17) ** 2) + 4.0
        assert float(found["noise_scale"]) == pytest.approx(2.0 * of_t, rel=1e-9)
        assert np.any(found["permeability"]) != gauss_newton


def test_a_sum_and_blocks_have_a_scale_of_the_whole():
    a, b = pag.Noise(0.1), pag.Noise(covariance=SIGMA)
    first, rest = pag.Noise(0.1), pag.Noise(covariance=SIGMA[4:, 4:])
    blocks = 0.01 * np.eye(7)
    blocks[4:, 4:] = SIGMA[4:, 4:]
    for noise, covariance in (
        (a + b, 0.01 * np.eye(7) + SIGMA),
        (pag.Noise.blocks((first, 4), (rest, 3)), blocks),
    ):
        found = problem(pag.Noise(noise, scale=SCALE))
        expected = problem(pag.Noise(covariance=covariance, scale=SCALE))
        j = [p.evaluate(p.theta(AT), gradient=False).objective for p in (found, expected)]
        assert j[0] == pytest.approx(j[1], rel=1e-12)


def test_a_map_of_data():
    at = {"y": ("y", [0.3, 0.6]), "x": ("x", [-0.5, 0.0, 0.5])}
    sd = np.arange(1.0, 7.0).reshape(2, 3)
    data = xr.Dataset({"pressure": (("y", "x"), np.zeros((2, 3)))}, at)
    for noise in (pag.Noise(sd, scale=SCALE), pag.Noise(pag.Noise(sd), scale=SCALE)):
        misfit = problem(noise, data=data).misfit
        np.testing.assert_array_equal(misfit.sigma, sd.ravel())
        np.testing.assert_allclose(misfit.at({"noise_scale": 0.7}).sigma, np.exp(0.7) * sd.ravel())
        assert misfit.scale is SCALE


WRONG = [
    (lambda: pag.Noise(1.0, scale=0.5), ConfigError, "noise.scale: found float, expected a Ind"),
    (lambda: pag.Noise(1.0, scale=pag.Matern(1.0, 0.2)), ConfigError, "noise.scale: found Matern"),
    (lambda: pag.Noise(1.0, scale=pag.Uniform()), ConfigError, "noise.scale: found Uniform"),
    (lambda: pag.Noise(1.0, scale=pag.Independent), ConfigError, "noise.scale: found the class"),
    (
        lambda: pag.Noise(1.0, scale=pag.Independent(np.nan)),
        DataError,
        "noise.scale.sd: found nan, expected finite values > 0",
    ),
    (lambda: pag.Noise(1.0, scale=pag.Independent(0.0)), DataError, "noise.scale.sd: found 0"),
    (lambda: pag.Noise(1.0, scale=pag.Independent([1, 2])), ConfigError, "noise.scale.sd: found"),
    (
        lambda: pag.Noise(1.0, scale=pag.Independent(1.0, mean=np.nan)),
        DataError,
        "noise.scale.mean: 1 values are not finite",
    ),
    (lambda: pag.Noise(scale=SCALE), ConfigError, "noise: found neither of sd and covariance"),
    (lambda: pag.Noise(1.0, scale=SCALE) + pag.Noise(1.0), ConfigError, "scale.*a part of a sum"),
    (lambda: pag.Noise(1.0) + pag.Noise(1.0, scale=SCALE), ConfigError, "scale.*a part of a sum"),
    (
        lambda: pag.Noise.blocks((pag.Noise(1.0, scale=SCALE), 3)),
        ConfigError,
        r"noise.scale: found Independent.* in a block, expected one scale, of the whole",
    ),
    (lambda: pag.Noise(pag.Noise(1.0, scale=SCALE), scale=SCALE), ConfigError, "given another"),
    (lambda: pag.Noise(pag.Noise(1.0), duration=1.0), ConfigError, "noise.duration: found beside"),
    (lambda: problem(pag.Noise(1.0, scale=SCALE)).theta({"noise_scale": -1.0}), DataError, "> 0"),
    (lambda: problem(pag.Noise(1.0, scale=SCALE)).theta({"noise_scale": [1]}), DataError, "one n"),
    (lambda: problem(pag.Noise(1.0)).theta({"noise_scale": 1.0}), ConfigError, "noise_scale"),
]


@pytest.mark.parametrize(("make", "error", "match"), WRONG)
def test_what_is_wrong(make: Any, error: type[Exception], match: str):
    with pytest.raises(error, match=match):
        make()


INFERRED_NOWHERE = "scale: found Independent.*, expected none: an unknown scale is inferred by a P"


@pytest.mark.parametrize("duration", [None, 2.0])
def test_doors_that_cannot_infer_it(duration: float | None):
    noise = pag.Noise(1.0, duration=duration, scale=SCALE)
    layout = Layout(4, times=np.arange(4.0))
    doors = (
        lambda: noise.on(layout),
        lambda: SensorNoise(noise, 2, 2),
        lambda: LinearSMC(np.eye(4), np.ones(4), noise, np.ones(4)),
    )
    for door in doors[: 2 if duration else 3]:
        with pytest.raises(ConfigError, match=INFERRED_NOWHERE):
            door()


def test_a_model_with_a_field_of_its_name_is_refused():
    class Other(type(MODEL)):
        @property
        def parameters(self) -> Any:
            return (*super().parameters, pag.models.Parameter("noise_scale", default=1.0))

    model = Other(GRID, fixed_pressure={"x_min": 1.0})
    with pytest.raises(ConfigError, match="a variable 'noise_scale' of its own"):
        pag.Problem(
            model,
            pag.Control("permeability", 1.0, transform="log"),
            pag.LeastSquares(DATA, noise=pag.Noise(1.0, scale=SCALE)),
        )


@pytest.mark.parametrize("noise", [{"sd": 0.1}, {"covariance": SIGMA}])
def test_tables_and_pickles_make_the_same_problem(noise: Any):
    tested = problem(pag.Noise(**noise, scale=SCALE))
    tables = specification(tested)
    assert tables is not None
    expected = tested.evaluate(tested.theta(AT))
    for other in (build_problem(tables), pickle.loads(pickle.dumps(tested))):
        found = other.evaluate(other.theta(AT))
        assert found.objective == expected.objective
        np.testing.assert_array_equal(found.gradient, expected.gradient)
        assert other.size == tested.size
    assert specification(build_problem(tables))["misfit"].keys() == tables["misfit"].keys()


FILE = """
[grid]
shape = [4, 5]
extent = [1.0, 2.0]
origin = [0.0, -1.0]
units = "m"
[model]
name = "darcy"
fixed_pressure = { x_min = 1.0, x_max = 0.0 }
[controls.permeability]
initial = 1.0
transform = "log"
[misfit]
observations = "data.nc"
[misfit.noise]
sd = 0.1
[misfit.noise.scale]
kind = "independent"
sd = 0.5
mean = 0.3
[solver]
tolerance = 1e-12
"""


def test_a_run_file_makes_the_same_problem(tmp_path):
    DATA.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    (tmp_path / "run.toml").write_text(FILE)
    found = read(tmp_path / "run.toml", ["engine='embedded'"]).build()
    expected = problem(pag.Noise(0.1, scale=SCALE))
    j = [p.evaluate(p.theta(AT)) for p in (found, expected)]
    assert j[0].objective == j[1].objective
    np.testing.assert_array_equal(j[0].gradient, j[1].gradient)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("scale=0.5", r"misfit\.noise\.scale: found 0.5, expected a table"),
        ("scale.kind='matern'", r"noise\.scale\.kind: found 'matern'; expected one of independent"),
        ("scale.sd=nan", r"misfit\.noise\.scale\.sd: found nan, expected finite values > 0"),
        ("scale.sd='x'", r"misfit\.noise\.scale\.sd"),
        ("scale.length=1", r"misfit\.noise\.scale\.length: unknown key"),
    ],
)
def test_what_is_wrong_in_a_run_file(tmp_path, change: str, match: str):
    DATA.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    (tmp_path / "run.toml").write_text(FILE)
    with pytest.raises((ConfigError, DataError), match=match):
        read(tmp_path / "run.toml", [f"misfit.noise.{change}"]).build()


def test_a_run_file_without_the_sd_of_the_scale(tmp_path):
    DATA.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    (tmp_path / "run.toml").write_text(FILE.replace("sd = 0.5\n", ""))
    with pytest.raises(ConfigError, match=r"misfit\.noise\.scale\.sd is missing"):
        read(tmp_path / "run.toml").build()
