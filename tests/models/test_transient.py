"""Time steps: trajectories, gradients through all of them, checkpoints, data in time."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from cases import doublet, grid_of, habitat, permeability

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.engines.embedded import EmbeddedEngine
from pyadjoint_gpu.engines.implicit_time import ImplicitTimeStepper
from pyadjoint_gpu.models import Diffusion, Transient

TIGHT = {"tolerance": 1e-13, "max_iterations": 100_000}


def bump(y, x):
    return 1.0 + 0.5 * np.exp(-((y - 0.4) ** 2 + (x - 0.5) ** 2) / 0.05)


def plume(shape=(10, 12), steps=12, **options):
    grid = pag.Grid(shape, (1.0, 1.25))
    inner = Diffusion(grid, {"x_min": 1.0, "x_max": 0.8})
    return Transient(inner, 0.01, steps, **options)


M = {"diffusivity": 1.0, "exponent": 2.0, "source": 0.3, "initial_height": bump}


@pytest.mark.slow
@double
def test_every_step_is_solved():
    model = plume()
    m = {k: jnp.asarray(v) for k, v in model.fields(M).items()}
    state = pag.solve(model, M, tolerance=1e-12)
    u = {"height": jnp.asarray(state["height"].values)}
    assert state["height"].dims == ("time", "y", "x")
    np.testing.assert_allclose(state["time"], 0.01 * np.arange(13))
    np.testing.assert_allclose(state["height"][0], m["initial_height"])
    assert jnp.max(jnp.abs(model.residual(u, m)["height"])) < 1e-8
    assert state["flux_x"].dims == ("time", "y", "x_face")
    # Balance of the last step: what came in through the sides is what there is more of.
    change = float((state["height"][-1] - state["height"][-2]).sum()) * model.grid.cell_volume
    flux = state["flux_x"][-1]
    into = float((flux.isel(x_face=0) - flux.isel(x_face=-1)).sum()) * model.grid.spacing[0]
    produced = 0.3 * model.grid.volume
    assert change == pytest.approx(0.01 * (into + produced), rel=1e-8)


@pytest.mark.slow
def test_first_order_in_time_on_a_decaying_mode():
    """n = 0 with H = 0 at the ends: sin(pi x) decays by exp(-pi^2 t)."""
    errors = []
    for steps in (10, 20):
        inner = Diffusion(pag.Grid((400,), (1.0,)), {"x_min": 0.0, "x_max": 0.0})
        model = Transient(inner, 0.1 / steps, steps, every=steps)
        m = {"diffusivity": 1.0, "initial_height": lambda x: np.sin(np.pi * x)}
        found = pag.solve(model, m)["height"].values[-1]
        exact = np.exp(-0.1 * np.pi**2) * np.sin(np.pi * model.grid.centers[0])
        errors.append(np.max(np.abs(found - exact)))
    assert 1.8 < errors[0] / errors[1] < 2.2


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["multigrid", "pseudo-transient"])
def test_a_closed_box_comes_to_its_steady_state(solver):
    """Linear, and without a null space in a step: the mean is that of the start."""
    inner = doublet(grid_of((15, 31)))
    model = Transient(inner, 0.5, 8, every=8)
    m = {"permeability": permeability(inner.grid, "white")}
    state = pag.solve(model, m | {"initial_pressure": 2.0}, solver=solver)
    means = state["pressure"].mean(("y", "x"))
    np.testing.assert_allclose(means, 2.0, rtol=1e-6)
    steady = pag.solve(inner, m)["pressure"]
    end = state["pressure"][-1] - 2.0
    np.testing.assert_allclose(end, steady, atol=1e-2 * float(abs(steady).max()))
    assert pag.adjoint_test(model, m | {"initial_pressure": 2.0}).passed


def observed(model, m, seed=0):
    generator = np.random.default_rng(seed)
    low = [0.0, *model.grid.origin]
    high = [model.times[-1], *(o + e for o, e in zip(low[1:], model.grid.extent, strict=True))]
    points = generator.uniform(low, high, (20, len(low)))
    return pag.synthetic.observe(model, m, points, noise=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["multigrid", "pseudo-transient"])
def test_taylor_over_a_hundred_steps(solver):
    model = plume((5, 6), 100, every=5)
    data = observed(model, M | {"exponent": 1.5})
    controls = [
        pag.Control("diffusivity", 1.1, transform="log"),
        pag.Control("exponent", 2.0),
        pag.Control("source", 0.3),
        pag.Control("initial_height", bump),
        pag.Control("boundary_height"),
    ]
    problem = pag.Problem(model, controls, pag.LeastSquares(data), solver=solver, tolerance=1e-12)
    report = pag.taylor_test(problem)
    assert report.passed, report
    assert report.slope == pytest.approx(2.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4])
def test_adjoint_is_the_transpose(every):
    report = pag.adjoint_test(plume(every=every), M)
    assert report.passed, report


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [1, 3, 5, 12])
def test_gradients_do_not_depend_on_checkpoints(checkpoints):
    found = []
    for kept in (4, checkpoints):
        model = plume(checkpoints=kept)
        problem = pag.Problem(
            model,
            pag.Control("initial_height", bump),
            pag.LeastSquares(observed(plume(), M)),
            parameters={k: v for k, v in M.items() if k != "initial_height"},
        )
        found.append(problem.evaluate(problem.initial))
    np.testing.assert_array_equal(found[0].gradient, found[1].gradient)


@pytest.mark.slow
def test_memory_grows_as_the_root_of_the_steps():
    """States alive at once, counted as the engine hands them out."""
    most = {}
    for steps in (25, 100):
        model = plume((4, 5), steps, every=steps)
        engine = Counting()
        m = model.fields(M)
        marching = ImplicitTimeStepper(engine)
        solution = marching.solve(model, m, tolerance=1e-10, max_iterations=1000)
        assert len(solution.cache) <= np.sqrt(steps) + 1
        source = {"height": np.ones(model.shape)}
        marching.adjoint(model, m, solution, source, tolerance=1e-10, max_iterations=1000)
        # Forward once, then again but for the checkpoints.
        assert engine.solves <= 2 * steps
        most[steps] = engine.segment
    assert most[100] <= 2 * most[25] + 2


class Counting(EmbeddedEngine):
    """It counts solves, and the longest run of them between adjoints."""

    def __init__(self):
        super().__init__()
        self.solves = self.run = self.segment = 0
        self.back = False

    def solve(self, *args, **options):
        self.solves += 1
        self.run += 1
        return super().solve(*args, **options)

    def adjoint(self, *args, **options):
        if self.back:
            self.segment = max(self.segment, self.run)
        self.back, self.run = True, 0
        return super().adjoint(*args, **options)


@pytest.mark.slow
def test_recovers_the_initial_state_and_resumes(tmp_path):
    model = plume((12, 15), 10, every=2)
    data = observed(model, M)

    def problem():
        return pag.Problem(
            model,
            pag.Control("initial_height", 1.0),
            pag.LeastSquares(data),
            pag.Smoothness("initial_height", weight=1.0, length=0.3),
            parameters={k: v for k, v in M.items() if k != "initial_height"},
        )

    whole = pag.invert(problem(), max_iterations=12, progress=False)
    assert whole["misfit"][-1] < 0.02 * whole["misfit"][0]
    assert whole["height"].dims == ("time", "y", "x")
    assert {"observation_time", "observation_x"} <= set(whole.coords)
    pag.invert(problem(), max_iterations=5, progress=False, journal=tmp_path / "run.h5")
    rest = pag.resume(tmp_path / "run.h5", max_iterations=12)
    np.testing.assert_array_equal(rest["objective"], whole["objective"])
    np.testing.assert_array_equal(rest["initial_height"], whole["initial_height"])
    whole.pag.plot(tmp_path / "run.png")


def test_specification_builds_the_same_model():
    model = plume(every=3)
    table = model.specification()
    assert pag.models.build(model.grid, table, None) == model


def test_bad_input():
    inner = Diffusion(pag.Grid((8, 9), (1.0, 1.0)), {"x_min": 1.0})
    for args, message in (
        ((inner, 0.0, 5), "step: found 0.0, expected a positive number"),
        ((inner, 0.1, 0), "steps: found 0, expected a positive whole number"),
        ((inner, 0.1, 2.5), "steps: found 2.5, expected a positive whole number"),
        ((plume(), 0.1, 5), "model: found Transient, expected a steady Model"),
    ):
        with pytest.raises(ConfigError, match=message):
            Transient(*args)
    with pytest.raises(ConfigError, match="every: found 3, expected a divisor of steps, 10"):
        Transient(inner, 0.1, 10, every=3)
    model = plume()
    data = observed(model, M)
    late = data.assign_coords(time=data["time"] + 1.0)
    control, start = pag.Control("diffusivity", 1.0, transform="log"), {"initial_height": 1.0}
    with pytest.raises(DataError, match=r"lies outside the times of the state, 0 to 0\.12"):
        pag.Problem(model, control, pag.LeastSquares(late), parameters=start)
    with pytest.raises(DataError, match="no coordinate 'time'"):
        pag.Problem(model, control, pag.LeastSquares(data.drop_vars("time")), parameters=start)
    with pytest.raises(ConfigError, match="'adaptive' needs a model that declares"):
        pag.Problem(model, control, pag.LeastSquares(data), parameters=start, tolerance="adaptive")
    assert isinstance(pag.solve(model, M), xr.Dataset)


@pytest.mark.slow
@double
def test_a_model_of_ones_own_marches():
    """A population spreads: its steps, and the gradient through them."""
    own, m = habitat((7, 8))
    model = Transient(own, 0.05, 4)
    m = m | {"initial_density": lambda y, x: np.exp(-(y**2 + x**2) / 0.1)}
    state = pag.solve(model, m, tolerance=1e-12)["density"].values
    r = own.residual({"density": jnp.asarray(state[-1])}, m)["density"]
    np.testing.assert_allclose((state[-1] - state[-2]) / 0.05, r, rtol=0, atol=1e-8)
    assert pag.adjoint_test(model, m).passed
    data = pag.synthetic.observe(model, m, [(0.1, 0.3, 0.4), (0.2, 0.8, 0.9)], noise=0.01)
    tested = pag.Problem(
        model,
        [pag.Control("growth", 2.0), pag.Control("initial_density", 0.5, transform="log")],
        pag.LeastSquares(data),
        parameters={k: m[k] for k in ("diffusivity", "arrivals")},
        tolerance=1e-12,
    )
    report = pag.taylor_test(tested)
    assert report.passed, report


RUN = """
engine = "embedded"
[grid]
shape = [8, 9]
extent = [1.0, 1.25]
[model]
name = "transient"
step = 0.01
steps = 4
every = 2
[model.model]
name = "diffusion"
fixed_height = {x_min = 1.0, x_max = 0.8}
[parameters]
diffusivity = 1.0
exponent = 2.0
[controls.initial_height]
initial = 1.0
transform = "log"
[misfit]
observations = "observations.nc"
[penalty.initial_height]
weight = 1.0
length = 0.2
[inversion]
max_iterations = 2
[output]
path = "out.nc"
"""


@pytest.mark.slow
def test_a_run_file(tmp_path, capsys):
    model = plume((8, 9), 4, every=2)
    data = observed(model, M | {"source": 0.0})
    data.to_netcdf(tmp_path / "observations.nc", engine="h5netcdf")
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    assert main(["run", str(path)]) == 1
    assert "max_iterations: 2 iterations done" in capsys.readouterr().out
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as result:
        assert result["height"].dims == ("time", "y", "x")
        assert result["misfit"].values[-1] < result["misfit"].values[0]
    for setting, message in (
        ("model.model.fixed_hight=3", "model.model.fixed_hight: unknown key; did you mean"),
        ("model.every=3", "every: found 3, expected a divisor of steps, 4"),
        ('model.model.name="difusion"', "model.model.name: found 'difusion'; did you mean"),
        ("model.model=3", "model.model: found 3"),
    ):
        assert main(["run", str(path), "--set", setting]) == 2
        assert message in capsys.readouterr().err
    path.write_text(RUN.replace("fixed_height", "# "))
    assert main(["run", str(path)]) == 2
    assert "model.model.fixed_height is missing" in capsys.readouterr().err
