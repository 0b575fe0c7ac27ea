"""Waves: analytic solutions, energy, absorbing sides, exact transposes, the block column."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, ConvergenceWarning, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.engines.choose import running
from pyadjoint_gpu.engines.explicit_time import segments
from pyadjoint_gpu.models import AcousticWave, ShallowWater
from pyadjoint_gpu.problem.specification import build_problem, specification

ANY = {"tolerance": 1e-8, "max_iterations": 1}


def sound(shape=(9, 12), steps=24, **options):
    """c about 1 in a box with cells of 0.1."""
    extent = tuple(0.1 * n for n in shape)
    options = {"source": "cells", "every": 4, "density": 1.3, **options}
    return AcousticWave(pag.Grid(shape, extent), 0.04, steps, **options)


def water(shape=(9, 12), steps=24, **options):
    extent = tuple(0.1 * n for n in shape)
    options = {"source": "cells", "every": 4, "gravity": 1.0, **options}
    return ShallowWater(pag.Grid(shape, extent), 0.04, steps, **options)


def uneven(model, seed=0):
    """Parameters without symmetry."""
    generator = np.random.default_rng(seed)
    out = {}
    for p in model.parameters:
        noise = generator.standard_normal(model.space(p.name).shape)
        out[p.name] = 0.7 + 0.2 * np.tanh(noise) if p.positive else noise
    return out


SIDES = {
    "walls": {},
    "absorbing": {"absorbing": ("x_min", "x_max")},
    "sponge": {"absorbing": "x_max", "sponge": 4},
}


# Solutions


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AcousticWave, ShallowWater])
@pytest.mark.parametrize("ndim", [1, 2])
def test_second_order_on_a_standing_wave(kind, ndim):
    """cos(2 pi x / L) (cos(pi y / L)) between walls, at a time when all of it moves; c = 2."""
    errors = []
    for n in (20, 40, 80):
        grid = pag.Grid((n, n)[:ndim], (1.5, 1.5)[:ndim])
        waves = (1, 2)[-ndim:]
        frequency = 2.0 * np.pi / 1.5 * np.linalg.norm(waves)
        time = 2.3 / frequency
        steps = round(time / (0.3 / n))
        model = kind(grid, time / steps, steps, every=steps)
        name = model.unknowns[0].name

        def mode(*x, waves=waves):
            return np.prod([np.cos(k * np.pi * p / 1.5) for k, p in zip(waves, x, strict=True)], 0)

        medium = {"wave_speed": 2.0} if kind is AcousticWave else {"depth": 4.0 / 9.81}
        state = pag.solve(model, medium | {f"initial_{name}": mode})
        assert state.attrs["status"] == "converged"
        assert state.attrs["iterations"] == steps
        exact = mode(*np.meshgrid(*grid.centers, indexing="ij")) * np.cos(frequency * time)
        errors.append(np.max(np.abs(state[name].values[-1] - exact)))
    assert 3.6 < errors[0] / errors[1] < 4.4 and 3.6 < errors[1] / errors[2] < 4.4, errors
    assert errors[-1] < 2e-3


@pytest.mark.slow
@double
@pytest.mark.parametrize("make", [sound, water])
def test_energy_is_conserved_to_round_off(make):
    """1/2 sum a p^2 + 1/2 sum q_before q_after / b over a thousand steps."""
    model = make((14, 17), 1000, source=None)
    m = {k: jnp.asarray(v) for k, v in uneven(model).items()}
    inverse, b, _ = model.medium(m)
    h, c, x = model.grid.spacing, model.coefficients(m), model.start(m)
    advance = jax.jit(lambda x: model.advance(x, c, None))

    def energy(x, after):
        total = jnp.sum(jnp.square(x["p"]) / inverse)
        for axis in range(2):
            inner = tuple(slice(0, n - (a == axis)) for a, n in enumerate(model.grid.shape))
            flows = (h[axis] * y[f"q_{axis}"][inner] for y in (x, after))
            total = total + jnp.sum(next(flows) * next(flows) / b[axis])
        return 0.5 * float(total)

    found = []
    for _ in range(1000):
        after = advance(x)
        found.append(energy(x, after))
        x = after
    assert np.ptp(found) < 1e-12 * found[0]


def reflected(sponge, *, absorbing="x_max", angle=0.0):
    """Reflection of a pulse 40 cells from a side, at an angle, relative to that of a wall."""
    offset = round(80 * np.tan(np.radians(angle)))

    def seen(cells, **options):
        grid = pag.Grid((300, cells), (300.0, float(cells)))
        steps = 2 * int((np.hypot(80, offset) + 24.0) / 1.2)
        model = AcousticWave(grid, 0.6, steps, every=2, **options)

        def pulse(y, x):
            square = ((y - 100) ** 2 + (x - 80) ** 2) / 16.0
            return (1 - square) * np.exp(-square)

        state = pag.solve(model, {"wave_speed": 1.0, "initial_pressure": pulse})
        return state["pressure"].values[:, 100 + offset, 79]

    free = seen(240)
    wall = seen(120) - free
    return np.max(np.abs(seen(120 + sponge, absorbing=absorbing, sponge=sponge) - free)) / np.max(
        np.abs(wall)
    )


@pytest.mark.slow
def test_absorbing_sides():
    """Pulses of about 15 cells."""
    assert reflected(0) < 0.03
    assert reflected(0, angle=45.0) < 0.2
    assert reflected(20) < 0.002
    assert reflected(20, angle=45.0) < 0.02
    assert reflected(30, angle=45.0) < 0.005


@pytest.mark.parametrize("side", ["x_min", "x_max"])
def test_a_wave_leaves_through_either_side(side):
    """In one dimension, with steps of the largest length, to round-off."""
    grid = pag.Grid((200,), (200.0,))
    model = AcousticWave(grid, 1.0, 220, every=220, absorbing=("x_min", "x_max"))
    place = 50.0 if side == "x_min" else 150.0
    start = {"initial_pressure": lambda x: np.exp(-(((x - place) / 5.0) ** 2))}
    state = pag.solve(model, {"wave_speed": 1.0} | start)
    assert np.max(np.abs(state["pressure"].values[-1])) < 1e-13


def test_long_waves_travel_at_the_root_of_g_h():
    """Over 4000 m and then 1000 m of water."""
    grid = pag.Grid((1000,), (400e3,))
    model = ShallowWater(grid, 1.8, 2000, every=5, absorbing=("x_min", "x_max"))
    hump = {"initial_elevation": lambda x: np.exp(-(((x - 50e3) / 8e3) ** 2))}
    state = pag.solve(model, hump | {"depth": lambda x: np.where(x < 200e3, 4000.0, 1000.0)})
    for x, expected in (
        (150e3, 100e3 / np.sqrt(9.81 * 4000)),
        (300e3, 150e3 / np.sqrt(9.81 * 4000) + 100e3 / np.sqrt(9.81 * 1000)),
    ):
        gauge = state["elevation"].sel(x=x, method="nearest")
        assert float(state["time"][int(np.argmax(gauge.values))]) == pytest.approx(
            expected, rel=0.01
        )


# Derivatives


@pytest.mark.slow
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("shape", [(20,), (9, 12), (5, 6, 7)], ids=["1d", "2d", "3d"])
@pytest.mark.parametrize("make", [sound, water])
def test_adjoint_is_the_transpose(make, shape, sides):
    if make is water and len(shape) == 3:
        pytest.skip("shallow water has two axes at most")
    model = make(shape, **SIDES[sides])
    report = pag.adjoint_test(model, uneven(model), bound=1e-12)
    assert report.passed, report


@pytest.mark.parametrize("make", [sound, water])
@pytest.mark.parametrize("places", ["mask", "box", "points"])
def test_adjoint_of_some_sources(make, places):
    mask = np.zeros((9, 12), dtype=bool)
    mask[2:5, 3:9:2] = True
    source = {
        "mask": mask,
        "box": {"low": [0.0, 0.3], "high": [0.4, 0.8]},
        "points": [[0.31, 0.55], [0.33, 0.57], [0.85, 0.1]],
    }[places]
    model = make(source=source)
    count = {"mask": 9, "box": 20, "points": 3}[places]
    assert model.space("source").shape == (6, count)
    report = pag.adjoint_test(model, uneven(model), bound=1e-12)
    assert report.passed, report


@pytest.mark.slow
@double
@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5, 7, 11, 24])
def test_gradients_do_not_depend_on_checkpoints(checkpoints):
    """They are those that JAX finds for all steps at once."""
    model = water(checkpoints=checkpoints, absorbing="y_min", sponge=2)
    ours = [segment.intervals * segment.steps for segment, _, _ in segments(model)]
    assert sum(ours) == 24 and max(ours) <= -(-24 // checkpoints)
    m = {k: jnp.asarray(v) for k, v in uneven(model).items()}
    weights = np.random.default_rng(1).standard_normal(model.shape)

    expected = jax.grad(lambda m: jnp.sum(weights * model.trajectory(m)["elevation"]))(m)
    engine = running(pag.EmbeddedEngine(), model)
    solution = engine.solve(model, m, **ANY)
    assert len(solution.cache) == len(ours)
    adjoint = engine.adjoint(model, m, solution, {"elevation": weights}, **ANY)
    for name, value in expected.items():
        np.testing.assert_allclose(adjoint.gradient[name], value, rtol=1e-10, atol=1e-12)
    r = model.residual(solution.fields, m)["elevation"]
    assert float(jnp.max(jnp.abs(r))) < 1e-13
    linear = engine.adjoint(
        model, m, solution, {"elevation": weights}, wanted=("source", "initial_elevation"), **ANY
    )
    assert set(linear.gradient) == {"source", "initial_elevation"}
    for name, value in linear.gradient.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-12)


def observed(model, m):
    generator = np.random.default_rng(2)
    high = [model.times[-1], *model.grid.extent]
    points = generator.uniform(0.0, 1.0, (30, len(high))) * high
    return pag.synthetic.observe(model, m, points, noise=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("make", [sound, water])
def test_taylor(make):
    model = make(steps=20, every=5, absorbing=("x_max", "y_min"), sponge=3)
    medium, start = (p.name for p in model.parameters[:2])
    m = uneven(model)
    data = observed(model, uneven(model, 1) | {"source": m["source"]})
    for controls in (
        [pag.Control(medium, m[medium], transform="log")],
        [pag.Control("source", m["source"]), pag.Control(start, m[start])],
    ):
        known = {k: v for k, v in m.items() if k not in [c.name for c in controls]}
        problem = pag.Problem(model, controls, pag.LeastSquares(data), parameters=known)
        report = pag.taylor_test(problem)
        assert report.passed, report
        assert report.slope == pytest.approx(2.0, abs=0.1)


# The map from a forcing to sensors


@pytest.mark.slow
@pytest.mark.parametrize("make", [sound, water])
@pytest.mark.parametrize("source", ["cells", "points"])
def test_block_column_is_the_forward_map(make, source):
    source = source if source == "cells" else [[0.25, 0.35], [0.65, 0.95]]
    model = make((7, 10), 40, every=4, source=source, absorbing=("x_min", "x_max"))
    medium = model.parameters[0].name
    m = {medium: uneven(model)[medium]}
    sensors = np.array([[0.21, 0.33], [0.6, 0.97], [0.02, 0.5]])
    found = pag.block_column(model, m, sensors)
    blocks = found["response"].values.reshape(10, 3, -1)
    forcing = np.random.default_rng(0).standard_normal(model.space("source").shape)
    products = [sum(blocks[j] @ forcing[k - j].ravel() for j in range(k + 1)) for k in range(10)]
    exact = at_sensors(model, m | {"source": forcing}, sensors)
    np.testing.assert_allclose(products, exact, rtol=0, atol=1e-12 * np.max(np.abs(exact)))
    assert found["response"].dims[:2] == ("lag", "sensor")
    np.testing.assert_allclose(found["lag"], 0.16 * np.arange(10))
    np.testing.assert_allclose(found["sensor_x"], sensors[:, 1])


def at_sensors(model, m, sensors):
    """At the ends of the intervals, as a misfit interpolates them."""
    times = np.repeat(model.times[1:], len(sensors))
    points = np.column_stack([times, np.tile(sensors, (model.intervals, 1))])
    return pag.synthetic.observe(model, m, points, noise=0.0)[
        model.unknowns[0].name
    ].values.reshape(model.intervals, len(sensors))


@pytest.mark.slow
def test_block_column_is_the_dense_map_column_by_column():
    model = sound((4, 5), 12, every=3, absorbing="y_max")
    m = {"wave_speed": 0.8}
    sensors = np.array([[0.1, 0.2], [0.3, 0.4]])
    blocks = pag.block_column(model, m, sensors, progress=True)["response"].values
    for cell in np.ndindex(4, 5):
        source = np.zeros((4, 4, 5))
        source[(0, *cell)] = 1.0
        column = at_sensors(model, m | {"source": source}, sensors)
        np.testing.assert_allclose(column, blocks[(..., *cell)], rtol=0, atol=1e-15)


# Use


@pytest.mark.slow
def test_recovers_where_and_when_the_floor_rose(tmp_path):
    """And goes on from a journal; the source is written, plotted and read again."""
    where = [[0.3, 0.4], [0.6, 0.9]]
    model = water((9, 12), 60, every=6, source=where, absorbing=("x_min", "x_max"), sponge=2)

    def pulse(t, y, x):
        return 0.01 * np.exp(-(((t - 0.8) / 0.4) ** 2)) * (1.0 + y)

    times = np.repeat(model.times[1:], 3)
    points = np.column_stack([times, np.tile([[0.2, 0.6], [0.7, 0.5], [0.5, 1.0]], (10, 1))])
    data = pag.synthetic.observe(model, {"depth": 0.8, "source": pulse}, points, noise=0.01)

    def problem():
        return pag.Problem(
            model,
            pag.Control("source", 0.0, truth=pulse),
            pag.LeastSquares(data),
            pag.Smoothness("source", weight=1e-3, length=0.1),
            parameters={"depth": 0.8},
        )

    whole = pag.invert(problem(), max_iterations=12, progress=False)
    assert whole["misfit"][-1] < 0.01 * whole["misfit"][0]
    assert whole["source"].dims == ("interval", "source")
    np.testing.assert_allclose(whole["source_x"], [0.4, 0.9])
    error = whole["source"] - whole["source_true"]
    assert float(abs(error).max()) < 0.3 * float(whole["source_true"].max())
    pag.invert(problem(), max_iterations=5, progress=False, journal=tmp_path / "run.h5")
    rest = pag.resume(tmp_path / "run.h5", max_iterations=12)
    np.testing.assert_array_equal(rest["objective"], whole["objective"])
    np.testing.assert_array_equal(rest["source"], whole["source"])
    whole.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", decode_times=False) as read:
        np.testing.assert_array_equal(read["source"], whole["source"])
    assert whole.pag.plot(tmp_path / "run.png").axes


def test_a_forcing_in_all_cells():
    model = water((6, 8), 12, every=4)
    space = model.space("source")
    assert space.dims == ("interval", "y", "x")
    np.testing.assert_allclose(space.times, 0.16 * np.array([0.5, 1.5, 2.5]))
    field = space.fill(lambda t, y, x: t + 10 * y + 100 * x, "source")
    np.testing.assert_allclose(field[1, 2, 3], 0.24 + 2.5 + 35.0)
    # Of a plane: its slope squared times the volume between the outermost centres.
    volumes = 3 * (0.6 * 0.8) * np.array([10.0**2 * 5 / 6, 100.0**2 * 7 / 8])
    assert float(space.dirichlet(field)) == pytest.approx(volumes.sum(), rel=1e-6)
    data = observed(model, {"depth": 0.5, "source": 1.0})
    control = pag.Control("source", 0.0, truth=1.0)
    problem = pag.Problem(model, control, pag.LeastSquares(data), parameters={"depth": 0.5})
    result = pag.invert(problem, max_iterations=1, progress=False)
    assert result["source_gradient"].dims == ("interval", "y", "x")
    titles = [a.get_title() for a in result.pag.plot().axes]
    assert "recovered source, over all time" in titles


MASK = np.arange(108).reshape(9, 12) % 5 == 0


@pytest.mark.parametrize(
    "source", [None, "cells", MASK, {"low": [0.0, 0.2], "high": [0.3, 0.6]}, [[0.3, 0.4]]]
)
@pytest.mark.parametrize("make", [sound, water])
def test_specification_builds_the_same_model(make, source):
    model = make(source=source, absorbing=("x_min",), sponge=3, checkpoints=4)
    assert pag.models.build(model.grid, model.specification(), None) == model
    data = observed(model, uneven(model))
    medium = model.parameters[0].name
    control = pag.Control(medium, 0.5, transform="log")
    problem = pag.Problem(model, control, pag.LeastSquares(data))
    again = build_problem(specification(problem))
    assert again.model == model and hash(again.model) == hash(model)
    assert again.evaluate(again.initial).objective == problem.evaluate(problem.initial).objective


@pytest.mark.parametrize("kind", [AcousticWave, ShallowWater])
def test_bad_options(kind):
    grid = pag.Grid((9, 12), (0.9, 1.2))
    for options, message in (
        ({"step": 0.0}, "step: found 0.0, expected a positive number"),
        ({"steps": 2.5}, "steps: found 2.5, expected a positive whole number"),
        ({"every": 5}, "every: found 5, expected a divisor of steps, 12"),
        ({"checkpoints": 0}, "checkpoints: found 0, expected a positive whole number"),
        ({"time_units": 3}, "time_units: found 3, expected a text"),
        ({"absorbing": "top"}, "absorbing: side 'top': expected one of y_min, y_max, x_min"),
        ({"absorbing": ["x_min", "x_min"]}, "absorbing: sides .* one is named twice"),
        ({"absorbing": 3}, "absorbing: found 3, expected names of sides"),
        ({"sponge": -1}, "sponge: found -1, expected a whole number >= 0"),
        ({"sponge": 2}, "sponge: found 2, but no side is absorbing"),
        (
            {"sponge": 6, "absorbing": ["x_min", "x_max"]},
            "sponge: found 6 cells, but 12 along 'x' leave none without",
        ),
        ({"source": "everywhere"}, "source: found 'everywhere', expected 'cells'"),
        ({"source": 3.0}, "source: found 3.0, expected 'cells', a mask"),
        ({"source": [[1.0, 2.0, 3.0]]}, r"source: found shape \(1, 3\), expected 'cells'"),
        ({"source": [[1.0], [2.0, 3.0]]}, "source: found .*, expected 'cells'"),
        ({"source": [[5.0, 0.1]]}, r"position \(5.0, 0.1\): lies outside the grid"),
        ({"source": np.ones((3, 3), bool)}, r"mask of shape \(3, 3\), expected \(9, 12\)"),
        ({"source": np.zeros((9, 12), bool)}, "source: found no cell, expected one at least"),
        ({"source": {"low": [0, 0]}}, "source.high: found None, expected numbers"),
        ({"source": {"low": [0], "high": [1, 1]}}, "source.low: found 1 numbers, expected 2"),
        ({"source": {"lo": 0}}, "source.lo: unknown key; did you mean 'low'"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            kind(**{"grid": grid, "step": 0.01, "steps": 12} | options)
        assert "\n" not in str(caught.value)
    own = {AcousticWave: "density", ShallowWater: "gravity"}[kind]
    with pytest.raises(ConfigError, match=f"{own}: found -1, expected a positive number"):
        kind(grid, 0.01, 12, **{own: -1})


def test_bad_parameters():
    model = sound(source=None)
    with pytest.raises(DataError, match=r"step: found 0\.04, expected at most 0\.0353553 s for"):
        pag.solve(model, {"wave_speed": 2.0})
    with pytest.raises(DataError, match=r"step: found 0\.04, expected at most"):
        deep = pag.Control("wave_speed", 2.0, transform="log")
        data = observed(model, {"wave_speed": 1.0})
        pag.Problem(model, deep, pag.LeastSquares(data))
    with pytest.raises(DataError, match="wave_speed: 108 of 108 values are not positive"):
        pag.solve(model, {"wave_speed": -1.0})
    with pytest.raises(ConfigError, match="'source' is not a parameter of model 'acoustic-wave'"):
        pag.solve(model, {"wave_speed": 1.0, "source": 1.0})
    with pytest.raises(DataError, match=r"source: found shape \(6, 3\), expected \(6, 9, 12\)"):
        pag.solve(water(), {"depth": 0.5, "source": np.ones((6, 3))})
    with pytest.raises(ConfigError, match="shallow water has one or two"):
        ShallowWater(pag.Grid((4, 4, 4), (1.0, 1.0, 1.0)), 0.01, 1)


def test_a_trial_step_that_would_be_unstable_is_shortened(tmp_path):
    """With a warning, and the same after a resumption."""
    model = sound(source=None)
    start = {"initial_pressure": lambda y, x: np.exp(-20 * ((y - 0.4) ** 2 + (x - 0.5) ** 2))}
    data = observed(model, {"wave_speed": 1.4} | start)
    control = pag.Control("wave_speed", 1.2, transform="log")
    problem = pag.Problem(model, control, pag.LeastSquares(data, sigma=1e-4), parameters=start)
    path = tmp_path / "run.h5"
    with pytest.warns(ConvergenceWarning, match=r"shorter one is tried: step: found 0\.04"):
        result = pag.invert(problem, max_iterations=12, progress=False)
    assert result.attrs["status"] == "max_iterations"
    assert result["misfit"].values[-1] < 0.5 * result["misfit"].values[0]
    assert np.all(np.diff(result["objective"].values) < 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pag.invert(problem, max_iterations=4, progress=False, journal=path)
        again = pag.resume(path, max_iterations=12, progress=False)
    np.testing.assert_array_equal(again["wave_speed"], result["wave_speed"])


def test_bad_sensors():
    model = sound()
    medium = {"wave_speed": 1.0}
    for sensors, parameter, message in (
        ([[0.1, 5.0]], "source", "sensor 0 .* lies outside the grid"),
        ([0.1, 0.2], "source", r"sensors: found shape \(2,\), expected \(n, 2\)"),
        ([[0.1, 0.2]], "wave_speed", "parameter: found 'wave_speed'; expected one of source"),
        (
            [[0.1, 0.2]],
            "initial_pressure",
            "parameter: found 'initial_pressure'; expected one of source",
        ),
        ([[0.1, 0.2]], "sauce", "'sauce' is not a parameter of model 'acoustic-wave'"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            pag.block_column(model, medium, sensors, parameter=parameter)
    steady = pag.models.Diffusion(pag.Grid((5,), (1.0,)), {"x_min": 1.0})
    with pytest.raises(ConfigError, match="model: found Diffusion, expected one of explicit steps"):
        pag.block_column(steady, {}, [[0.5]])


def test_single_precision():
    model = sound()
    m = uneven(model)
    states = [
        pag.solve(model, m, engine=pag.EmbeddedEngine(dtype=d))["pressure"].values
        for d in ("float64", "float32")
    ]
    assert states[1].dtype == np.float32
    np.testing.assert_allclose(states[1], states[0], atol=1e-5 * np.max(np.abs(states[0])))
