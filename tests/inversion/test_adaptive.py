"""Estimates of what loose solves cost, and inversions that rely on them."""

import numpy as np
import pytest
from cases import CASES, doublet, grid_of, observations, permeability, points, problem

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError
from pyadjoint_gpu.inversion.adaptive import estimate


def away_from_the_optimum(shape, case, **options):
    grid = grid_of(shape)
    model = doublet(grid, **options)
    data = pag.synthetic.observe(
        model, {"permeability": permeability(grid, case, seed=1)}, points(grid), noise=0.05
    )
    control = pag.Control("permeability", permeability(grid, case), transform="log")
    return pag.Problem(model, control, pag.LeastSquares(data), tolerance="adaptive")


@pytest.mark.slow
@pytest.mark.parametrize("sides", [{}, {"x_min": 1.0, "x_max": 0.0}], ids=["closed", "fixed"])
@pytest.mark.parametrize("case", CASES)
def test_errors_are_estimated(case, sides):
    """Against solves to 1e-12: three tenths of the error of J are left when its estimate is taken
    out, at most, and seven of that of the gradient."""
    tested = away_from_the_optimum((31, 63), case, fixed_pressure=sides)
    theta = tested.initial
    exact = tested.evaluate(theta, tolerance=1e-12)
    for tolerance in (1e-1, 1e-2, 1e-4):
        found = tested.evaluate(theta, tolerance=tolerance)
        errors = estimate(tested, theta, found)
        true = found.objective - exact.objective
        assert abs(errors.objective - true) < 0.3 * abs(true) + 1e-9 * exact.objective
        off = found.gradient - exact.gradient
        size = np.linalg.norm(off)
        assert np.linalg.norm(errors.gradient - off) < 0.7 * size + 1e-9 * np.linalg.norm(
            exact.gradient
        )


def run(tolerance, solver="auto"):
    tested = problem((31, 63), data=observations((31, 63)), tolerance=tolerance, solver=solver)
    return pag.invert(tested, max_iterations=60, tolerance=1e-9, progress=False)


def test_an_adaptive_inversion_takes_half_the_work_to_the_same_objective():
    fixed, adaptive = run(1e-8), run("adaptive")
    assert float(adaptive["objective"][-1]) < 1.05 * float(fixed["objective"][-1])
    for factor in (10.0, 3.0, 1.2):
        goal = factor * float(fixed["objective"][-1])
        work = [
            float(np.cumsum(r["work"].values)[np.argmax(r["objective"].values <= goal)])
            for r in (fixed, adaptive)
        ]
        assert work[1] < 0.6 * work[0], factor


@pytest.mark.slow
def test_an_adaptive_inversion_by_pseudo_transient_solves():
    fixed, adaptive = run(1e-8, "pseudo-transient"), run("adaptive", "pseudo-transient")
    assert float(adaptive["objective"][-1]) < 1.05 * float(fixed["objective"][-1])
    assert float(adaptive["work"].sum()) < float(fixed["work"].sum())


@pytest.mark.slow
def test_a_killed_adaptive_run_goes_on_to_the_same_bits(tmp_path):
    def go(**options):
        tested = problem((15, 31), tolerance="adaptive")
        return pag.invert(tested, tolerance=1e-9, progress=False, **options)

    whole = go(max_iterations=12)
    go(max_iterations=5, journal=tmp_path / "run.h5")
    more = pag.resume(tmp_path / "run.h5", max_iterations=12, progress=False)
    assert whole.sizes["iteration"] == 13
    for name in ("objective", "permeability", "pressure", "work"):
        assert whole[name].values.tobytes() == more[name].values.tobytes(), name


def test_adaptive_needs_a_model_with_elliptic_coefficients():
    class Plain(pag.models.Darcy):
        elliptic = pag.models.Model.elliptic

    grid = grid_of((15, 31))
    control = pag.Control("permeability", 1.0, transform="log")
    with pytest.raises(ConfigError, match="'adaptive' needs a model that declares elliptic"):
        data = pag.LeastSquares(observations((15, 31)))
        pag.Problem(Plain(grid), control, data, tolerance="adaptive")
    with pytest.raises(ConfigError, match="tolerance: found 'adapted', expected a number in"):
        problem(tolerance="adapted")
    with pytest.raises(ConfigError, match="adjoint_tolerance: found 1e-06 beside 'adaptive'"):
        problem(tolerance="adaptive", adjoint_tolerance=1e-6)
