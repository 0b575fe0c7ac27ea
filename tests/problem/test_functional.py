"""`pag.solve_fields`: solves that JAX differentiates, compiles and maps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import doublet, grid_of, ice_cap, inland_ice, power_law_box, uneven

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, ConvergenceError, DataError
from pyadjoint_gpu.models import AcousticWave, Ice, ShallowWater, Transient

pytestmark = pytest.mark.filterwarnings("ignore::pyadjoint_gpu.core.errors.ConvergenceWarning")
GRID = grid_of((6, 8))
RANDOM = np.random.default_rng(0)
ROUGH = np.exp(0.3 * RANDOM.standard_normal(GRID.shape))
SIDES = {"x_min": 1.0, "x_max": 0.0}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def darcy():
    return doublet(GRID), {"permeability": ROUGH}, "permeability"


def diffusion():
    model = power_law_box((5, 6))
    return model, uneven(model), "diffusivity"


def ice():
    model = Ice(ice_cap((6, 7)).grid)
    return model, inland_ice(model), "rate_factor"


def in_time():
    model = Transient(doublet(GRID, fixed_pressure=SIDES), 0.05, 4, every=2)
    return model, {"permeability": ROUGH, "initial_pressure": 0.3}, "permeability"


def water():
    grid = pag.Grid((6, 8), (1.0, 1.2))
    model = ShallowWater(grid, 0.03, 12, every=4, source=[(0.4, 0.5)], absorbing=("x_max",))
    start = np.exp(-((grid.centers[0][:, None] - 0.5) ** 2) - grid.centers[1] ** 2)
    m = {"depth": 0.3 * ROUGH, "initial_elevation": start, "source": 0.1}
    return model, m, "depth"


CASES = {"darcy": darcy, "diffusion": diffusion, "ice": ice, "in time": in_time, "water": water}
OPTIONS = {"tolerance": 1e-11}


def weights(model):
    return jnp.asarray(np.random.default_rng(1).standard_normal(model.shape))


def objective(make, **options):
    """J of ln of one parameter, by hand and as a `Problem`; and where."""
    model, m, name = make()
    u, w = model.unknowns[0].name, weights(model)
    size = float(np.max(np.abs(pag.solve(model, m, **OPTIONS)[u].values)))

    def misfit(state):
        return jnp.sum(w * (state[u] / size) ** 2)

    def value(theta):
        return misfit(pag.solve_fields(model, m | {name: jnp.exp(theta)}, **OPTIONS | options))

    control = pag.Control(name, m[name], transform="log")
    known = {k: v for k, v in m.items() if k != name}
    problem = pag.Problem(model, control, misfit, parameters=known, **OPTIONS)
    return value, problem, jnp.asarray(problem.initial).reshape(problem.controls[0].shape)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_derivatives_agree_with_the_problem_and_with_differences(case):
    value, problem, theta = objective(CASES[case])
    expected, gradient = problem.value_and_gradient()
    gradient = next(iter(gradient.data_vars.values())).values
    found, slope = jax.value_and_grad(value)(theta)
    assert found == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(slope, gradient, atol=1e-6 * np.max(np.abs(gradient)), rtol=0)
    direction = jnp.asarray(np.random.default_rng(2).standard_normal(theta.shape))
    _, along = jax.jvp(value, (theta,), (direction,))
    assert float(along) == pytest.approx(float(jnp.vdot(slope, direction)), rel=1e-6)
    # Taylor: remainders fall as h^2.
    steps = [1e-2, 5e-3]
    left = [abs(float(value(theta + h * direction) - found - h * along)) for h in steps]
    assert np.log2(left[0] / left[1]) == pytest.approx(2.0, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["darcy", "in time", "water"])
def test_compiled_and_mapped(case):
    value, _, theta = objective(CASES[case])
    thetas = jnp.stack([theta, theta + 0.1])
    one = [jax.grad(value)(t) for t in thetas]
    size = np.max(np.abs(one[0]))
    for name, found in {
        "jit": [jax.jit(jax.grad(value))(t) for t in thetas],
        "vmap": jax.jit(jax.vmap(jax.grad(value)))(thetas),
    }.items():
        np.testing.assert_allclose(found, one, atol=1e-9 * size, rtol=0, err_msg=name)


@pytest.mark.slow
def test_second_derivatives():
    value, _, theta = objective(darcy)
    direction = jnp.asarray(np.random.default_rng(2).standard_normal(theta.shape))
    slope = jax.jit(jax.grad(value))
    _, product = jax.jvp(slope, (theta,), (direction,))
    h = 1e-4
    central = (slope(theta + h * direction) - slope(theta - h * direction)) / (2 * h)
    np.testing.assert_allclose(product, central, atol=1e-6 * np.max(np.abs(product)), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_fields_are_those_of_solve(case):
    model, m, _ = CASES[case]()
    found = pag.solve_fields(model, m, **OPTIONS)
    state = pag.solve(model, m, **OPTIONS)
    assert set(found) == {v.name for v in model.unknowns} | {
        v.name for v, _ in model.output_variables if v.name in state
    }
    for name, field in found.items():
        size = np.max(np.abs(state[name].values))
        np.testing.assert_allclose(field, state[name], atol=1e-7 * size, rtol=0)
        assert field.dtype == jnp.float64


def test_in_jaxs_default_precision():
    model, m, name = darcy()
    expected = pag.solve(model, m)["pressure"]
    with jax.enable_x64(False):

        def value(k):
            return jnp.sum(pag.solve_fields(model, {name: k})["pressure"] ** 2)

        found = pag.solve_fields(model, m)["pressure"]
        slope = jax.jit(jax.grad(value))(jnp.asarray(m[name], jnp.float32))
        assert found.dtype == slope.dtype == jnp.float32
        assert jnp.all(jnp.isfinite(slope))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


class Elsewhere(pag.Engine):
    """An engine that is not JAX's: solves and adjoints only."""

    name = "elsewhere"

    def __init__(self):
        self._right = pag.EmbeddedEngine()

    def solve(self, *args, **options):
        return self._right.solve(*args, **options)

    def adjoint(self, *args, **options):
        return self._right.adjoint(*args, **options)

    def info(self):
        return self._right.info()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["darcy", "in time"])
def test_another_engine_has_gradients_only(case):
    here, _, theta = objective(CASES[case])
    value, *_ = objective(CASES[case], engine=Elsewhere())
    slope = jax.grad(here)(theta)
    size = np.max(np.abs(slope))
    np.testing.assert_allclose(jax.grad(value)(theta), slope, atol=1e-7 * size, rtol=0)
    for mapped, at in ((jax.jit(jax.grad(value)), theta), (jax.vmap(value), theta[None])):
        with pytest.raises(ConfigError, match="'elsewhere', which solves outside of JAX"):
            mapped(at)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(value, (theta,), (theta,))


def test_refusals():
    model, m, name = darcy()
    with pytest.raises(ConfigError, match=r"'permeabilty'.*did you mean"):
        pag.solve_fields(model, {"permeabilty": 1.0})
    with pytest.raises(ConfigError, match=r"m: found \[1.0\], expected a mapping"):
        pag.solve_fields(model, [1.0])  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"permeability.*not positive"):
        pag.solve_fields(model, {name: -jnp.ones(GRID.shape)})
    with pytest.raises(DataError, match=r"permeability: found shape \(3,\), expected \(6, 8\)"):
        jax.grad(lambda k: jnp.sum(pag.solve_fields(model, {name: k})["pressure"]))(jnp.ones(3))
    with pytest.raises(DataError, match=r"permeability.*not positive"):
        jax.grad(lambda k: jnp.sum(pag.solve_fields(model, {name: k})["pressure"]))(-1.0)
    with pytest.raises(ConvergenceError, match="max_iterations"):
        pag.solve_fields(model, m, max_iterations=1)
    sound = AcousticWave(GRID, 1e-3, 4)
    speed = jnp.asarray(1e9)
    with pytest.raises(DataError, match="step"):
        pag.solve_fields(sound, {"wave_speed": speed})
    pressure = jax.jit(lambda c: pag.solve_fields(sound, {"wave_speed": c})["pressure"])
    assert jnp.all(jnp.isnan(pressure(speed)))
    assert jnp.all(pressure(jnp.asarray(1.0)) == 0.0)
