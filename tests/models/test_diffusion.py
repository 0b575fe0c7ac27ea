"""Nonlinear diffusion: analytic and manufactured solutions, balances, both solvers, gradients."""

import numpy as np
import pytest
from cases import power_law_box, uneven

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.models import Diffusion

SOLVERS = ["multigrid", "pseudo-transient"]


def published(points=101, **sides):
    """Length 20, ends 1 and 0.5."""
    return Diffusion(pag.Grid((points,), (20.0,)), {"x_min": 1.0, "x_max": 0.5} | sides)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n", [0.0, 0.5, 1.0, 3.0])
def test_steady_profile(n, solver):
    """H^(n+1) is linear between the ends."""
    errors = []
    for points in (51, 101, 201):
        model = published(points)
        x = model.grid.centers[0] / 20.0
        exact = (1 - (1 - 0.5 ** (n + 1)) * x) ** (1 / (n + 1))
        state = pag.solve(model, {"diffusivity": 1.0, "exponent": n}, solver=solver)
        errors.append(np.max(np.abs(state["height"].values - exact)))
        flux = (1 - 0.5 ** (n + 1)) / (n + 1) / 20.0
        np.testing.assert_allclose(state["flux_x"], flux, rtol=1e-2)
    if n == 0.0:
        assert max(errors) < 1e-6
    else:
        assert errors[0] / errors[1] > 3.5 and errors[1] / errors[2] > 3.5
        assert errors[-1] < 1e-4


@pytest.mark.slow
def test_second_order_on_a_manufactured_solution():
    """H = 1 + sin(pi y) sin(pi x) / 2 on the unit square, k = 1 + x y, n = 2; Q by differences of
    the exact flux."""

    def height(y, x):
        return 1.0 + 0.5 * np.sin(np.pi * y) * np.sin(np.pi * x)

    def flux(y, x, axis):
        along, across = (y, x) if axis == 0 else (x, y)
        slope = 0.5 * np.pi * np.cos(np.pi * along) * np.sin(np.pi * across)
        return (1.0 + x * y) * height(y, x) ** 2 * slope

    def source(y, x):
        e = 1e-5
        return -(flux(y + e, x, 0) - flux(y - e, x, 0) + flux(y, x + e, 1) - flux(y, x - e, 1)) / (
            2 * e
        )

    errors = []
    for n in (12, 24):
        sides = dict.fromkeys(("x_min", "x_max", "y_min", "y_max"), 1.0)
        model = Diffusion(pag.Grid((n, n + 2), (1.0, 1.0)), sides)
        m = {"diffusivity": lambda y, x: 1 + x * y, "exponent": 2.0, "source": source}
        found = pag.solve(model, m)["height"].values
        errors.append(
            np.max(np.abs(found - height(*np.meshgrid(*model.grid.centers, indexing="ij"))))
        )
    assert errors[0] / errors[1] > 3.5


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(12, 15), (5, 7, 8)], ids=["2d", "3d"])
def test_solvers_agree_and_flows_balance(shape):
    model = power_law_box(shape)
    m = uneven(model)
    found = [pag.solve(model, m, solver=s, tolerance=1e-11) for s in SOLVERS]
    assert [f.attrs["solver"] for f in found] == ["newton", "pseudo-transient"]
    np.testing.assert_allclose(found[0]["height"], found[1]["height"], rtol=1e-8)
    state, h = found[0], model.grid.spacing
    inflow = 0.0
    for axis, d in enumerate(model.grid.dims):
        flux = state[f"flux_{d}"]
        ends = flux.isel({f"{d}_face": 0}).sum() - flux.isel({f"{d}_face": -1}).sum()
        inflow += float(ends) * model.grid.cell_volume / h[axis]
    produced = float(state["source"].sum()) * model.grid.cell_volume
    assert inflow == pytest.approx(-produced, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(15,), (12, 15), (5, 7, 8)], ids=["1d", "2d", "3d"])
def test_gradients(shape):
    model = published(15) if len(shape) == 1 else power_law_box(shape)
    truth, start = uneven(model, 1), uneven(model)
    ends = [np.linspace(0.2, 0.8, 3) * e for e in model.grid.extent]
    places = np.stack([p.ravel() for p in np.meshgrid(*ends, indexing="ij")], axis=1)
    data = pag.synthetic.observe(model, truth, places, noise=0.01)
    controls = [
        pag.Control("diffusivity", start["diffusivity"], transform="log"),
        pag.Control("exponent", start["exponent"]),
        pag.Control("source", start["source"]),
        pag.Control("boundary_height"),
    ]
    if len(shape) > 1:
        controls.append(pag.Control("boundary_inflow"))
    problem = pag.Problem(model, controls, pag.LeastSquares(data), tolerance=1e-12)
    report = pag.taylor_test(problem)
    assert report.passed, report
    assert report.slope == pytest.approx(2.0, abs=0.1)
    assert pag.adjoint_test(model, start).passed


@pytest.mark.slow
def test_the_published_case():
    """n = 3 from a start at 1; profiles of 101 points."""
    model = published()
    grid = model.grid
    truth = {"diffusivity": 1.0, "exponent": 3.0}
    data = pag.synthetic.observe(model, truth, grid.centers[0][:, None], noise=0.0)
    problem = pag.Problem(
        model,
        pag.Control("exponent", 1.0, basis="constant"),
        pag.LeastSquares(data, sigma=0.01),
        parameters={"diffusivity": 1.0},
        tolerance=1e-10,
    )
    result = pag.invert(problem, max_iterations=30, tolerance=1e-12, progress=False)
    assert abs(float(result["exponent"].mean()) - 3.0) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(15,), (12, 15)], ids=["1d", "2d"])
def test_plots(shape, tmp_path):
    """Plots of fields along a line, and of two boundary controls with different sides."""
    model = power_law_box(shape)
    middle = [[0.5 * e for e in model.grid.extent]]
    data = pag.synthetic.observe(model, uneven(model, 1), middle)
    names = [p.name for p in model.parameters if p.name.startswith("boundary")]
    controls = [pag.Control("diffusivity", 1.0, transform="log"), *map(pag.Control, names)]
    known = {k: v for k, v in uneven(model).items() if k != "diffusivity"}
    problem = pag.Problem(model, controls, pag.LeastSquares(data), parameters=known)
    result = pag.invert(problem, max_iterations=1, progress=False)
    figure = result.pag.plot(tmp_path / "p.png")
    titles = [a.get_title() for a in figure.axes]
    for name in ("diffusivity", *names):
        assert f"recovered {name.replace('_', ' ')}" in titles


def test_run_file_specification_builds_the_same_model():
    model = power_law_box((12, 15))
    table = model.specification()
    assert table.pop("name") == "diffusion"
    again = Diffusion.from_specification(model.grid, table, None)
    assert again == model
    assert again.fields({"diffusivity": 1.0}).keys() == model.fields({"diffusivity": 1.0}).keys()


def test_bad_input():
    grid = pag.Grid((8, 9), (1.0, 1.0))
    for options, message in (
        ({"fixed_height": ()}, "fixed_height: found no side, expected one at least"),
        ({"fixed_height": "top"}, "side 'top': expected one of y_min"),
        ({"fixed_height": "x_min", "inflow": "x_min"}, "inflow: side 'x_min' has a fixed height"),
        ({"fixed_height": "x_min", "smallest": 0.0}, "smallest: found 0.0, expected a positive"),
        ({"fixed_height": "x_min", "smallest": "a"}, "smallest: found 'a', expected a positive"),
    ):
        with pytest.raises(ConfigError, match=message):
            Diffusion(grid, **options)
    model = Diffusion(grid, {"x_min": 1.0})
    with pytest.raises(DataError, match="diffusivity: 72 of 72 values are not positive"):
        pag.solve(model, {"diffusivity": 0.0})
    with pytest.raises(ConfigError, match="parameter 'diffusivity' of model 'diffusion' is not"):
        pag.solve(model, {})
