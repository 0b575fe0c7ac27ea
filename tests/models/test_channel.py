"""Flow down a channel: analytic solutions, balance, symmetry, both solvers, gradients."""

from pathlib import Path

import jax
import numpy as np
import pytest
from cases import section, varied

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.models import Channel, build
from pyadjoint_gpu.runfiles.inversion import Inversion
from pyadjoint_gpu.solvers.base import parameter_gradient

SOLVERS = ["multigrid", "pseudo-transient"]
LAWS = [1 / 3, 1.0, 3.0]


def slab(n, cells, side="y_min"):
    """v over the distance from the bed, for k = 2 and f = 1.5, and its error."""
    shape, extent = ((cells, 3), (1.0, 0.5)) if side[0] == "y" else ((3, cells), (0.5, 1.0))
    model = Channel(pag.Grid(shape, extent), side, smallest=1e-5)
    m = {"prefactor": 2.0, "driving_force": 1.5, "exponent": n}
    found = pag.solve(model, m, solver="multigrid", tolerance=1e-10)["velocity"].values
    found = found if side[0] == "y" else found.T
    found = found if side.endswith("min") else found[::-1]
    y = (np.arange(cells) + 0.5) / cells
    exact = (1.5 / 2.0) ** (1 / n) * (1 - (1 - y) ** (1 + 1 / n)) / (1 + 1 / n)
    return found, np.abs(found - exact[:, None])


@pytest.mark.slow
@pytest.mark.parametrize("n", LAWS)
def test_a_slab_on_a_slope(n):
    """Between the bed and halfway up to second order; with n = 3 dv/dy has a cube root at the
    surface, where the error falls as h^(4/3)."""
    errors = [slab(n, cells)[1] for cells in (16, 32, 64)]
    below = [np.max(e[: len(e) // 2]) for e in errors]
    assert below[0] / below[1] > 3.8 and below[1] / below[2] > 3.8, below
    everywhere = [np.max(e) for e in errors]
    least = 2.4 if n == 3.0 else 3.8
    assert everywhere[0] / everywhere[1] > least and everywhere[1] / everywhere[2] > least
    assert everywhere[-1] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("side", ["y_max", "x_min", "x_max"])
def test_sides_are_alike(side):
    np.testing.assert_allclose(slab(1 / 3, 16, side)[0], slab(1 / 3, 16)[0], rtol=1e-9)


@pytest.mark.slow
def test_a_newtonian_duct():
    """n = 1 between walls at x = 0, x = 2 and y = 0, and a free surface at y = 1: half of a duct
    2 x 2, whose series is in White, Viscous Fluid Flow (1991), section 3-3.3."""
    errors = []
    for cells in (12, 24, 48):
        grid = pag.Grid((cells, 2 * cells), (1.0, 2.0))
        model = Channel(grid, ("y_min", "x_min", "x_max"), smallest=1e-6)
        m = {"prefactor": 0.5, "driving_force": 2.0, "exponent": 1.0}
        found = pag.solve(model, m, solver="pseudo-transient")["velocity"].values
        y, x = np.meshgrid(grid.centers[0] - 1.0, grid.centers[1] - 1.0, indexing="ij")
        exact = np.zeros(grid.shape)
        for i in range(1, 200, 2):
            # cosh over cosh, without overflow
            ratio = np.exp(0.5 * i * np.pi * (np.abs(x) - 1.0)) * (
                (1 + np.exp(-i * np.pi * np.abs(x))) / (1 + np.exp(-i * np.pi))
            )
            sign = (-1) ** ((i - 1) // 2)
            exact += sign * (1 - ratio) * np.cos(0.5 * i * np.pi * y) / i**3
        exact *= 16 / np.pi**3 * 2.0 / 0.5
        errors.append(np.max(np.abs(found - exact)))
    assert errors[0] / errors[1] > 3.7 and errors[1] / errors[2] > 3.7, errors


@pytest.mark.slow
@pytest.mark.parametrize(("width", "factor"), [(1, 0.558), (2, 0.789)])
def test_ice_in_a_rectangular_channel(width, factor):
    """The shape factors of Nye (1965, J. Glaciol. 5, 661), for half the width over the depth: the
    cube root of the velocity at the middle of the surface over that of a slab."""
    model = Channel(pag.Grid((32, 32 * width), (1.0, float(width))), smallest=1e-4)
    state = pag.solve(model, {"prefactor": 1.0, "driving_force": 1.0}, solver="multigrid")
    slab = 0.25
    found = np.cbrt(float(state["velocity"][-1, -1]) / slab)
    assert found == pytest.approx(factor, rel=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1 / 3, 3.0])
def test_second_order_on_a_manufactured_solution(n):
    """v = sin(pi y / 2) sin(pi x / 4), zero on two sides and level on the others, k = 1 + x y / 4;
    f by differences of the exact stress."""

    def stress(y, x, axis):
        a, b = 0.5 * np.pi, 0.25 * np.pi
        slopes = a * np.cos(a * y) * np.sin(b * x), b * np.sin(a * y) * np.cos(b * x)
        rate = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + 0.3**2)
        return slopes[axis] / (rate ** (1 - n) / (1 + 0.25 * x * y) + 1 / 5.0)

    def force(y, x):
        e = 1e-5
        total = stress(y + e, x, 0) - stress(y - e, x, 0)
        return -(total + stress(y, x + e, 1) - stress(y, x - e, 1)) / (2 * e)

    errors = []
    for cells in (16, 32):
        model = section((cells, cells + 2), smallest=0.3, viscosity_limit=5.0)
        m = {"prefactor": lambda y, x: 1 + 0.25 * x * y, "driving_force": force, "exponent": n}
        y, x = np.meshgrid(*model.grid.centers, indexing="ij")
        exact = np.sin(0.5 * np.pi * y) * np.sin(0.25 * np.pi * x)
        found = pag.solve(model, m, solver="pseudo-transient")["velocity"].values
        errors.append(np.max(np.abs(found - exact)))
    assert errors[0] / errors[1] > 3.5, errors


@double
def jacobian(model, m, v):
    """dR/dv, dense."""
    c = model.prepare(model.fields(m))
    size = model.grid.size
    return np.asarray(
        jax.jacfwd(lambda v: model.residual({"velocity": v}, c)["velocity"])(v)
    ).reshape(size, size)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1 / 3, 3.0])
@pytest.mark.parametrize("no_slip", [("y_min", "x_min"), ("x_max",), ("y_min", "x_min", "x_max")])
def test_the_jacobian_is_symmetric_and_negative_definite(no_slip, n):
    """Anywhere, not only at solutions."""
    model = section((6, 7), no_slip=no_slip)
    j = jacobian(model, varied(model, n), np.random.default_rng(1).standard_normal((6, 7)))
    assert np.max(np.abs(j - j.T)) < 1e-13 * np.max(np.abs(j))
    assert np.max(np.linalg.eigvalsh(j)) < 0


@pytest.mark.slow
@pytest.mark.parametrize("n", [1 / 3, 3.0])
def test_solvers_agree_and_drag_balances_the_weight(n):
    model = section()
    m = varied(model, n)
    found = [pag.solve(model, m, solver=s, tolerance=1e-11) for s in SOLVERS]
    assert [f.attrs["solver"] for f in found] == ["newton", "pseudo-transient"]
    np.testing.assert_allclose(found[0]["velocity"], found[1]["velocity"], rtol=1e-8)
    state, (hy, hx) = found[0], model.grid.spacing
    drag = hx * state["stress_y"].isel(y_face=0).sum() + hy * state["stress_x"].isel(x_face=0).sum()
    assert float(drag) == pytest.approx(np.sum(m["driving_force"]) * hx * hy, rel=1e-8)
    assert np.all(state["stress_y"].isel(y_face=-1) == 0)
    assert np.all(state["stress_x"].isel(x_face=-1) == 0)
    assert state["viscosity"].min() > 0 and state["viscosity"].max() < 20.0


@pytest.mark.slow
def test_what_flows_backwards():
    """R is odd in v and f together."""
    model = section()
    m = varied(model)
    there = pag.solve(model, m, tolerance=1e-11)["velocity"]
    back = pag.solve(model, m | {"driving_force": -m["driving_force"]}, tolerance=1e-11)["velocity"]
    np.testing.assert_allclose(back, -there, rtol=1e-8)
    at_rest = pag.solve(model, m | {"driving_force": 0.0})
    assert np.all(at_rest["velocity"] == 0)


def surface(model, count=6):
    """Places along the top."""
    return [(1.0, x) for x in np.linspace(0.05, 1.95, count)]


@pytest.mark.slow
@pytest.mark.parametrize("n", [1 / 3, 3.0])
def test_gradients(n):
    model = section()
    start = varied(model, n)
    data = pag.synthetic.observe(model, varied(model, n, seed=1), surface(model))
    controls = [
        pag.Control("prefactor", start["prefactor"], transform="log"),
        pag.Control("exponent", start["exponent"], transform="log"),
        pag.Control("driving_force", start["driving_force"]),
    ]
    problem = pag.Problem(model, controls, pag.LeastSquares(data), tolerance=1e-12)
    report = pag.taylor_test(problem)
    assert report.passed, report
    assert report.slope == pytest.approx(2.0, abs=0.1)
    tested = pag.adjoint_test(model, start)
    assert tested.passed, tested


@pytest.mark.slow
@double
def test_the_outer_cells_belong_to_the_adjoint():
    """Surface data act in the outer cells, and walls hold there. An adjoint that keeps these at
    zero never sees the data; and even the right one, zeroed there, is a third off or more."""
    model = section()
    m = model.fields(varied(model))
    engine = pag.EmbeddedEngine()
    options = {"tolerance": 1e-10, "max_iterations": 1000}
    state = engine.solve(model, m, **options)
    source = np.zeros(model.grid.shape)
    source[-1] = 1.0
    adjoint = engine.adjoint(model, m, state, {"velocity": source}, **options)
    multiplier = np.asarray(adjoint.multiplier["velocity"])

    def gradient(multiplier):
        found = parameter_gradient(model, m, state.fields, {"velocity": multiplier})
        return np.asarray(found["prefactor"])

    whole = gradient(multiplier)
    np.testing.assert_allclose(whole, adjoint.gradient["prefactor"], rtol=1e-12)
    clamped = gradient(np.pad(multiplier[1:-1, 1:-1], 1))
    assert np.linalg.norm(clamped - whole) > 0.3 * np.linalg.norm(whole)


def test_run_file_specification_builds_the_same_model():
    for options in ({}, {"viscosity_limit": None, "no_slip": ("x_max",)}):
        model = section(**options)
        assert build(model.grid, model.specification(), None) == model


def model_table(table):
    """In a run file that is good but for it."""
    tables = {"grid": {"shape": [2], "extent": [1.0]}, "controls": {}, "model": table}
    Inversion.checked(tables | {"misfit": {"observations": "a.nc"}}, Path("run.toml"))


def test_bad_input():
    grid = pag.Grid((8, 9), (1.0, 1.0))
    for options, message in (
        ({"no_slip": ()}, "no_slip: found no side, expected one at least"),
        ({"no_slip": "bed"}, "side 'bed': expected one of y_min"),
        ({"no_slip": ("y_min", "y_min")}, "one is named twice"),
        ({"no_slip": {"y_min": 1.0}}, "no_slip: found {'y_min': 1.0}, expected names of sides"),
        ({"smallest": 0.0}, "smallest: found 0.0, expected a positive number"),
        ({"smallest": "a"}, "smallest: found 'a', expected a positive number"),
        ({"viscosity_limit": -1.0}, "viscosity_limit: found -1.0, expected a positive number"),
    ):
        with pytest.raises(ConfigError, match=message):
            Channel(grid, **{"smallest": 1e-3} | options)
    for shape in ((8,), (4, 5, 6)):
        with pytest.raises(ConfigError, match=r"grid: found axes .*x, expected y, x"):
            Channel(pag.Grid(shape, (1.0,) * len(shape)), "x_min", smallest=1e-3)
    with pytest.raises(ConfigError, match=r"model\.smallest is missing"):
        model_table({"name": "channel"})
    with pytest.raises(ConfigError, match=r"model\.smalest: unknown key.*smallest"):
        model_table({"name": "channel", "smalest": 1.0})
    model = section()
    good = {"prefactor": 1.0, "driving_force": 1.0}
    for name in ("prefactor", "exponent"):
        with pytest.raises(DataError, match=f"{name}: 140 of 140 values are not positive"):
            pag.solve(model, good | {name: 0.0})
    with pytest.raises(ConfigError, match="parameter 'driving_force' of model 'channel' is not"):
        pag.solve(model, {"prefactor": 1.0})
