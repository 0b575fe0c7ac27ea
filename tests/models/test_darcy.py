import numpy as np
import pytest
from cases import CASES, direct, doublet, grid_of, permeability

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConvergenceError, ConvergenceWarning

SIDES = {"x_min": 1.0, "y_max": -0.5}
SHAPES = [(31, 63), (6, 10, 14)]


@pytest.mark.slow
@pytest.mark.parametrize("face_mean", ["arithmetic", "harmonic"])
@pytest.mark.parametrize("sides", [None, SIDES], ids=["closed", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", ["multigrid", "pseudo-transient"])
def test_agrees_with_a_direct_solve(case, shape, sides, face_mean, solver):
    grid = grid_of(shape)
    k = permeability(grid, case)
    model = doublet(grid, face_mean=face_mean, fixed_pressure=sides or ())
    expected = direct(model, k, sides)
    for tolerance in (1e-8, 1e-11):
        state = pag.solve(model, {"permeability": k}, tolerance=tolerance, solver=solver)
        error = np.max(np.abs(state["pressure"].values - expected)) / np.max(np.abs(expected))
        assert error < 100 * tolerance
        assert state.attrs["status"] == "converged"
        assert state.attrs["residual"] <= tolerance
    if not sides:
        assert abs(float(state["pressure"].mean())) < 1e-12


@pytest.mark.slow
def test_second_order_in_space():
    """-div(K grad P) = Q with P = cos(pi y) cos(pi x), K = exp(x/2), pressure fixed at x = 0
    and x = 2 (P there), no flux at y = 0 and y = 1."""
    errors = []
    for n in (16, 32):
        grid = pag.Grid((n, 2 * n), (1.0, 2.0))
        y, x = np.meshgrid(*grid.centers, indexing="ij")
        exact = np.cos(np.pi * y) * np.cos(np.pi * x)
        k = np.exp(0.5 * x)
        source = (
            k
            * np.cos(np.pi * y)
            * (2 * np.pi**2 * np.cos(np.pi * x) + 0.5 * np.pi * np.sin(np.pi * x))
        )
        wells = [
            pag.Well((py, px), q * grid.cell_volume)
            for py, px, q in zip(y.ravel(), x.ravel(), source.ravel(), strict=True)
        ]
        ends = np.cos(np.pi * grid.centers[0])
        model = pag.models.Darcy(grid, wells, fixed_pressure={"x_min": ends, "x_max": ends})
        p = pag.solve(model, {"permeability": k}, tolerance=1e-10)["pressure"].values
        errors.append(np.max(np.abs(p - exact)))
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(rates > 1.9), (errors, rates)


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(), {"x_min": 1.0, "x_max": 0.0}], ids=["closed", "fixed"])
def test_fluxes_balance_the_wells_in_every_cell(sides):
    grid = grid_of((15, 31))
    model = doublet(grid, fixed_pressure=sides)
    state = pag.solve(model, {"permeability": permeability(grid, "white")}, tolerance=1e-12)
    hy, hx = grid.spacing
    divergence = np.diff(state["flux_x"], axis=1) / hx + np.diff(state["flux_y"], axis=0) / hy
    np.testing.assert_allclose(divergence, model.source, atol=1e-10 * model.source.max())
    assert np.all(state["flux_y"][[0, -1]] == 0)


@pytest.mark.slow
def test_linear_pressure_between_fixed_sides_in_one_to_three_dimensions():
    for shape in ((20,), (6, 20), (4, 6, 20)):
        grid = pag.Grid(shape, [1.0] * len(shape))
        model = pag.models.Darcy(grid, fixed_pressure={"x_min": 3.0, "x_max": 1.0})
        state = pag.solve(model, {"permeability": 2.0}, tolerance=1e-12)
        expected = np.broadcast_to(3.0 - 2.0 * grid.centers[-1], shape)
        np.testing.assert_allclose(state["pressure"], expected, rtol=1e-9)
        np.testing.assert_allclose(state["flux_x"], 4.0, rtol=1e-8)


@pytest.mark.slow
def test_a_plane_on_all_sides_is_the_solution():
    grid = pag.Grid((10, 14), (1.0, 2.0))
    plane = {"value": 5.0, "gradient": [1.0, -2.0]}
    sides = dict.fromkeys(("x_min", "x_max", "y_min", "y_max"), plane)
    model = pag.models.Darcy(grid, fixed_pressure=sides)
    state = pag.solve(model, {"permeability": 1.0}, tolerance=1e-12)
    y, x = np.meshgrid(*grid.centers, indexing="ij")
    np.testing.assert_allclose(state["pressure"], 5 + (y - 0.5) - 2 * (x - 1.0), rtol=1e-9)


@pytest.mark.slow
def test_harmonic_means_are_exact_for_layers():
    grid = pag.Grid((10,), (1.0,))
    k = np.where(grid.centers[0] < 0.5, 1.0, 1e-3)
    model = pag.models.Darcy(
        grid, face_mean="harmonic", fixed_pressure={"x_min": 1.0, "x_max": 0.0}
    )
    state = pag.solve(model, {"permeability": k}, tolerance=1e-12)
    assert float(state["flux_x"][3]) == pytest.approx(1.0 / (0.5 / 1.0 + 0.5 / 1e-3), rel=1e-6)


@pytest.mark.slow
def test_porosity_gives_the_pore_velocity():
    grid = grid_of((9, 17))
    state = pag.solve(doublet(grid), {"permeability": 1.0, "porosity": 0.2})
    np.testing.assert_allclose(state["velocity_x"], 5.0 * state["flux_x"])


@pytest.mark.slow
@pytest.mark.parametrize(("case", "allowed"), list(zip(CASES, (11, 11, 11, 27, 27), strict=True)))
def test_iterations_grow_with_nx_only(case, allowed):
    """6 to 11 nx for homogeneous, barrier and white; 15 to 27 nx for the others."""
    grid = grid_of((127, 255))
    m = {"permeability": permeability(grid, case)}
    state = pag.solve(doublet(grid), m, tolerance=1e-8, solver="pseudo-transient")
    assert state.attrs["iterations"] <= allowed * 255


def test_round_off_above_the_tolerance_is_noticed():
    grid = grid_of((127, 255))
    k = permeability(grid, "rough")
    with pytest.warns(ConvergenceWarning, match="round-off"):
        state = pag.solve(
            doublet(grid), {"permeability": k}, tolerance=1e-12, solver="pseudo-transient"
        )
    assert state.attrs["status"] == "round-off"
    assert 1e-12 < state.attrs["residual"] < 2e-11
    assert state.attrs["iterations"] < 45 * 255


@pytest.mark.parametrize("case", [c for c in CASES if c != "rough"])
def test_the_other_cases_reach_1e_12(case):
    grid = grid_of((127, 255))
    m = {"permeability": permeability(grid, case)}
    state = pag.solve(doublet(grid), m, tolerance=1e-12, solver="pseudo-transient")
    assert state.attrs["status"] == "converged"


@pytest.mark.parametrize(("solver", "few"), [("multigrid", 2), ("pseudo-transient", 20)])
def test_too_few_iterations_are_an_error_with_the_result_attached(solver, few):
    grid = grid_of((15, 31))
    with pytest.raises(ConvergenceError, match=r"max_iterations") as caught:
        pag.solve(doublet(grid), {"permeability": 1.0}, max_iterations=few, solver=solver)
    assert caught.value.result.attrs["status"] == "max_iterations"
    assert caught.value.result["pressure"].shape == grid.shape


@pytest.mark.slow
def test_single_precision_on_request():
    grid = grid_of((15, 31))
    state = pag.solve(
        doublet(grid),
        {"permeability": 1.0},
        engine=pag.EmbeddedEngine(dtype="float32"),
        tolerance=1e-5,
    )
    assert state["pressure"].dtype == np.float32
    double = pag.solve(doublet(grid), {"permeability": 1.0})
    np.testing.assert_allclose(state["pressure"], double["pressure"], atol=1e-3)


def test_equal_models_share_compiled_code():
    from pyadjoint_gpu.solvers import Operator

    a, b = (Operator(doublet(grid_of((15, 31)))) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nothing_flows_without_a_source(dtype):
    engine = pag.EmbeddedEngine(dtype=dtype)
    state = pag.solve(pag.models.Darcy(grid_of((8, 12))), {"permeability": 1.0}, engine=engine)
    assert state.attrs["iterations"] == 0
    assert np.all(state["pressure"] == 0)
