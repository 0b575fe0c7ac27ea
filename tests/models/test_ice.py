"""Shallow ice: domes and margins, the similarity solution, gradients, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ice_cap, inland_ice, snowy

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.models import Ice, Transient


@pytest.fixture(scope="module")
def cap():
    """The benchmark: a glacier on two ridges, 250 x 200 km."""
    model = ice_cap((40, 50))
    return model, pag.solve(model, snowy(model), tolerance=1e-10)


def test_ice_where_it_can_be(cap):
    """H >= 0; where there is none, no more comes in than melts."""
    model, state = cap
    thickness = state["thickness"].values
    ice = thickness > 1e-3
    assert 0.05 < ice.mean() < 0.5
    assert 250 < thickness.max() < 450
    assert thickness.min() >= -1e-9
    rate = change(model, state)
    assert np.max(np.abs(rate[ice])) < 1e-8
    assert np.max(rate[~ice]) < 1e-8 and np.min(rate[~ice]) < -0.1


@double
def change(model, state):
    """dH/dt, in m/year."""
    m = model.fields({p.name: state[p.name].values for p in model.parameters})
    u = {"thickness": jnp.maximum(jnp.asarray(state["thickness"].values), 0.0)}
    return np.asarray(model.residual(u, model.prepare(m))["thickness"])


def test_flux_through_the_margin_is_the_balance(cap):
    model, state = cap
    ice = state["thickness"].values > 0
    area = model.grid.cell_volume
    out = 0.0
    for axis, d in enumerate(model.grid.dims):
        flux = np.moveaxis(state[f"flux_{d}"].values, axis, 0)[1:-1]
        inside = np.moveaxis(ice, axis, 0)
        width = area / model.grid.spacing[axis]
        out += width * np.sum(flux * (inside[:-1].astype(float) - inside[1:]))
    gained = area * state["mass_balance"].values[ice].sum()
    turnover = area * np.abs(state["mass_balance"].values[ice]).sum()
    assert abs(out - gained) < 1e-8 * turnover
    assert out > 1e-3 * turnover  # some of it melts beyond the margin


def test_symmetric_where_the_data_are(cap):
    model, state = cap
    m = snowy(model) | {"balance_lapse": 0.01}
    thickness = pag.solve(model, m, tolerance=1e-10)["thickness"].values
    np.testing.assert_allclose(thickness, thickness[:, ::-1], atol=1e-5)
    assert np.max(np.abs(state["thickness"].values - state["thickness"].values[:, ::-1])) > 1.0


@pytest.mark.slow
def test_ice_does_not_come_out_of_bare_rock():
    """A peak above its glacier, and nothing but melt on it."""
    grid = pag.Grid((40,), (40e3,))
    bed = lambda x: 3000.0 * np.exp(-(((x - 10e3) / 4e3) ** 2))  # noqa: E731
    balance = np.where(grid.centers[0] > 15e3, 0.5, -5.0)
    balance[30:] = -5.0
    model = Ice(grid)
    state = pag.solve(model, {"bed": bed, "rate_factor": 3e-5, "balance": balance}, tolerance=1e-9)
    peak = slice(5, 13)
    assert np.all(np.abs(state["thickness"].values[peak]) < 1e-6)
    assert np.all(np.abs(state["flux_x"].values[5:13]) < 1e-6)
    assert state["thickness"].max() > 50


def halfar(t, r, ndim, n=3.0, a1=3e-5, height=1000.0, radius=100e3):
    """The similarity solution of a dome without balance that spreads on a flat bed, and the time
    at which it has that height and radius (Halfar 1981, J. Geophys. Res. 86, 11065; 1983)."""
    beta = 1.0 / (ndim * (2 * n + 1) + n + 1)
    alpha = ndim * beta
    power = (2 * n + 1) / (n + 1)
    start = beta / a1 * power**n * radius ** (n + 1) / height ** (2 * n + 1)
    s = (t + start) / start
    inner = 1.0 - (np.abs(r) / (radius * s**beta)) ** ((n + 1) / n)
    return height * s**-alpha * np.maximum(inner, 0.0) ** (n / (2 * n + 1))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(60,), (20, 20)], ids=["1d", "2d"])
def test_the_similarity_solution(shape):
    """Mean error over the dome: first order in space and time together."""
    errors, volumes = [], []
    for k in (1, 2):
        fine = tuple(k * n for n in shape)
        grid = pag.Grid(fine, (400e3,) * len(shape), (-200e3,) * len(shape))
        radius = np.sqrt(sum(c**2 for c in np.meshgrid(*grid.centers, indexing="ij")))
        model = Transient(Ice(grid), 2000.0 / (5 * k), 5 * k, every=5 * k, time_units="year")
        m = {"bed": 0.0, "rate_factor": 3e-5}
        first = halfar(0.0, radius, len(shape))
        state = pag.solve(model, m | {"initial_thickness": first})
        found = state["thickness"].values[-1]
        exact = halfar(2000.0, radius, len(shape))
        errors.append(np.mean(np.abs(found - exact)) / np.mean(exact))
        volumes.append(found.sum() / first.sum())
        assert first.max() - exact.max() > 50
    np.testing.assert_allclose(volumes, 1.0, rtol=1e-6)
    assert errors[1] < (0.02 if len(shape) == 1 else 0.07)
    assert 1.4 < errors[0] / errors[1] < 3.0


CONTROLS = {
    "rate_factor": "log",
    "sliding": "log",
    "balance_lapse": "log",
    "equilibrium_line": "identity",
    "balance": "identity",
    "balance_cap": "identity",
    "bed": "identity",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_gradients(name):
    model = ice_cap((12, 15))
    m = inland_ice(model)
    places = [(y, x) for y in (-3e4, 0.0, 2e4) for x in (-2e4, 0.0, 3e4)]
    data = pag.synthetic.observe(model, m | {"rate_factor": 5e-5}, places, noise=0.05)
    problem = pag.Problem(
        model,
        pag.Control(name, m[name], transform=CONTROLS[name]),
        pag.LeastSquares(data),
        parameters={k: v for k, v in m.items() if k != name},
        tolerance=1e-13,
    )
    report = pag.taylor_test(problem, step=1e-4)
    assert report.passed, report
    assert report.slope == pytest.approx(2.0, abs=0.1)


@pytest.mark.slow
def test_adjoint_is_the_transpose(cap):
    model, _ = cap
    report = pag.adjoint_test(model, snowy(model))
    assert report.passed, report


@pytest.mark.slow
def test_nothing_outside_the_ice_matters_to_it(cap):
    """The gradient of the volume: zero where there is no ice, and no neighbour has any."""
    model, state = cap
    ice = np.pad(state["thickness"].values > 0, 1)
    near = sum(
        ice[1 + i : ice.shape[0] - 1 + i, 1 + j : ice.shape[1] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    )
    m = model.fields(snowy(model))
    engine = pag.EmbeddedEngine()
    options = {"tolerance": 1e-10, "max_iterations": 100_000}
    solution = engine.solve(model, m, **options)
    found = engine.adjoint(model, m, solution, {"thickness": np.ones((40, 50))}, **options)
    for name in ("balance", "rate_factor", "equilibrium_line"):
        gradient = np.asarray(found.gradient[name])
        assert np.all(gradient[near == 0] == 0)
        assert np.any(gradient[near > 0] != 0)
    assert np.all(np.asarray(found.gradient["balance"])[~ice[1:-1, 1:-1]] == 0)


@pytest.mark.slow
def test_transient_gradients_and_steady_state(cap):
    model = ice_cap((12, 15))
    m = inland_ice(model)
    steady = pag.solve(model, m)["thickness"].values
    run = Transient(model, 5.0, 20, every=20, time_units="year")
    again = pag.solve(run, m | {"initial_thickness": np.maximum(steady, 0.0)})
    np.testing.assert_allclose(again["thickness"].values[-1], steady, atol=1e-3)
    places = [(100.0, y, x) for y in (-2e4, 1e4) for x in (-2e4, 0.0, 3e4)]
    data = pag.synthetic.observe(run, m | {"initial_thickness": 0.8 * steady}, places, noise=0.05)
    problem = pag.Problem(
        run,
        [
            pag.Control("initial_thickness", np.maximum(steady, 0.0)),
            pag.Control("equilibrium_line", m["equilibrium_line"]),
        ],
        pag.LeastSquares(data),
        parameters={k: v for k, v in m.items() if k != "equilibrium_line"},
        tolerance=1e-12,
    )
    report = pag.taylor_test(problem, step=1e-4)
    assert report.passed, report


@pytest.mark.slow
def test_the_sea_takes_ice_and_floats_it():
    """An island: no ice in water, and its surface is that of the sea."""
    grid = pag.Grid((60,), (300e3,), (-150e3,))
    x = grid.centers[0]
    bed = 300.0 - 700.0 * (x / 150e3) ** 2
    m = {"bed": bed, "rate_factor": 3e-5, "balance": 0.3}
    state = pag.solve(Ice(grid, sea_level=0.0), m)
    water = bed < 0
    assert np.all(np.abs(state["thickness"].values[water]) < 1e-6)
    np.testing.assert_allclose(state["surface"].values[water], 0.0, atol=1e-6)
    assert np.all(state["thickness"].values[~water] > 100)
    # All snow ends in the sea.
    lost = np.diff(state["flux_x"].values)[water].sum()
    assert -lost == pytest.approx(0.3 * (~water).sum() * grid.spacing[0], rel=1e-6)
    held = m | {"reference_thickness": np.where(np.abs(x) < 110e3, 1500.0, 0.0)}
    marine = pag.solve(Ice(grid, sea_level=0.0), held)
    grounded = water & (np.abs(x) < 110e3)
    assert np.all(marine["thickness"].values[grounded] > 10)


@pytest.mark.slow
@double
def test_bounds_make_a_complementarity_problem():
    """Zeros of what is solved are those of min(H, -R); its derivatives those of R on the ice."""
    model = ice_cap((12, 15))
    m = {k: jnp.asarray(v) for k, v in model.fields(snowy(model)).items()}
    c = model.prepare(m)
    generator = np.random.default_rng(0)
    h = jnp.asarray(np.maximum(100 * generator.standard_normal((12, 15)), 0.0))
    r = model.residual({"thickness": h}, c)["thickness"]
    found = model.equations({"thickness": h}, c)["thickness"]
    np.testing.assert_allclose(found, jnp.maximum(r, -h))
    below = model.equations({"thickness": h - 1.0}, c)["thickness"]
    assert np.all(np.asarray(below)[np.asarray(h) == 0] >= 1.0)
    direction = {"thickness": jnp.where(h > 0, 1.0, 0.0)}
    _, along = jax.jvp(lambda u: model.equations(u, c), ({"thickness": h},), (direction,))
    _, ours = jax.jvp(lambda u: model.residual(u, c), ({"thickness": h},), (direction,))
    on = np.asarray((h > 0) & (r > -h))
    np.testing.assert_allclose(along["thickness"][on], ours["thickness"][on])


def test_run_file_specification_builds_the_same_model():
    model = Ice(pag.Grid((5, 6), (1e4, 1e4)), exponent=2.5, sea_level=-10.0)
    table = model.specification()
    assert table.pop("name") == "ice"
    assert Ice.from_specification(model.grid, table, None) == model


def test_bad_input():
    with pytest.raises(ConfigError, match="grid: found 3 axes, expected 1 or 2"):
        Ice(pag.Grid((4, 4, 4), (1.0, 1.0, 1.0)))
    grid = pag.Grid((5, 6), (1e4, 1e4))
    for options, message in (
        ({"exponent": 0.5}, "exponent: found 0.5, expected 1 or more"),
        ({"exponent": "three"}, "exponent: found 'three', expected a number"),
        ({"sea_level": np.nan}, "sea_level: found nan, expected a number"),
    ):
        with pytest.raises(ConfigError, match=message):
            Ice(grid, **options)
    with pytest.raises(ConfigError, match="parameter 'bed' of model 'ice' is not given"):
        pag.solve(Ice(grid), {"rate_factor": 1e-5})
    with pytest.raises(DataError, match="rate_factor: 30 of 30 values are not positive"):
        pag.solve(Ice(grid), {"bed": 0.0, "rate_factor": 0.0})
