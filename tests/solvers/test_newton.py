"""Newton's method with multigrid inside, for nonlinear residuals."""

import jax.numpy as jnp
import numpy as np
import pytest

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.precision import compiled, double
from pyadjoint_gpu.engines.embedded import EmbeddedEngine
from pyadjoint_gpu.models import Elliptic, Model, Parameter, Variable
from pyadjoint_gpu.solvers.base import largest


class Heat(Model):
    """div((1 + c u^2) grad u) - k u^3 + q = 0, u = 0 on the outer faces. What it declares leaves
    out the derivatives of the conductivity: dR/du is not symmetric."""

    unknowns = (Variable("u"),)
    parameters = (Parameter("c"), Parameter("k"), Parameter("q"))

    def conductivities(self, u, c):
        d = 1.0 + c["c"] * u**2
        return 0.5 * (d[1:] + d[:-1]), 0.5 * (d[:, 1:] + d[:, :-1])

    def residual(self, u, c):
        u = u["u"]
        (hy, hx), (ky, kx) = self.grid.spacing, self.conductivities(u, c)
        fy = ky * (u[1:] - u[:-1]) / hy
        fx = kx * (u[:, 1:] - u[:, :-1]) / hx
        fy = jnp.concatenate([2 * u[:1] / hy, fy, -2 * u[-1:] / hy])
        fx = jnp.concatenate([2 * u[:, :1] / hx, fx, -2 * u[:, -1:] / hx], axis=1)
        r = (fy[1:] - fy[:-1]) / hy + (fx[:, 1:] - fx[:, :-1]) / hx
        return {"u": r - c["k"] * u**3 + c["q"]}

    def elliptic(self, u, c):
        u = u["u"]
        (hy, hx), (ky, kx) = self.grid.spacing, self.conductivities(u, c)
        sink = 3 * c["k"] * u**2
        sink = sink.at[:, 0].add(2 / hx**2).at[:, -1].add(2 / hx**2)
        sink = sink.at[0].add(2 / hy**2).at[-1].add(2 / hy**2)
        return {"u": Elliptic((ky / hy**2, kx / hx**2), sink)}


def source(y, x):
    return 200.0 * np.sin(np.pi * y) * (1 + x)


def box(n):
    return Heat(pag.Grid((n, n + n // 4), (1.0, 1.25)))


@pytest.mark.slow
@pytest.mark.parametrize(("c", "k"), [(0.0, 30.0), (1.0, 0.0), (0.5, 5.0)])
def test_agrees_with_the_pseudo_transient_iteration(c, k):
    m = {"c": c, "k": k, "q": lambda y, x: 0.1 * source(y, x)}
    expected = pag.solve(box(24), m, solver="pseudo-transient", tolerance=1e-11)
    found = pag.solve(box(24), m, solver="multigrid", tolerance=1e-10)
    assert found.attrs["status"] == "converged"
    np.testing.assert_allclose(
        found["u"], expected["u"], rtol=0, atol=1e-8 * float(abs(expected["u"]).max())
    )


@pytest.mark.slow
def test_a_manufactured_solution_to_second_order():
    """u = sin(pi y) sin(pi x) on the unit square."""
    errors = []
    for n in (16, 32):
        grid = pag.Grid((n, n), (1.0, 1.0))
        y, x = np.meshgrid(*grid.centers, indexing="ij")
        u = np.sin(np.pi * y) * np.sin(np.pi * x)
        slope = np.pi**2 * (
            (np.cos(np.pi * y) * np.sin(np.pi * x)) ** 2
            + (np.sin(np.pi * y) * np.cos(np.pi * x)) ** 2
        )
        q = (1 + u**2) * 2 * np.pi**2 * u - 2 * u * slope + 2 * u**3
        found = pag.solve(Heat(grid), {"c": 1.0, "k": 2.0, "q": q}, solver="multigrid")
        errors.append(np.max(np.abs(found["u"].values - u)))
    assert np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 1.8), errors


@pytest.mark.slow
def test_iterations_do_not_grow_with_the_grid():
    counts = []
    for n in (64, 128):
        state = pag.solve(box(n), {"c": 1.0, "k": 5.0, "q": source}, solver="multigrid")
        counts.append(state.attrs["iterations"])
    assert max(counts) <= 40, counts
    assert counts[1] <= 1.25 * counts[0], counts


@pytest.mark.slow
def test_far_from_the_solution_steps_are_shortened():
    """The first step solves without the cubic sink and overshoots a hundredfold."""
    model, options = box(24), {"tolerance": 1e-9, "max_iterations": 500}
    engine = EmbeddedEngine(solver="multigrid")
    m = model.fields({"c": 0.0, "k": 1e6, "q": source})
    state = engine.solve(model, m, **options)
    residuals = state.convergence.history[:, 1]
    assert state.convergence.status == "converged"
    assert state.convergence.method == "newton"
    assert np.all(np.diff(residuals) < 0) or np.all(residuals < 10 * residuals[0])
    exact = np.cbrt(200.0 / 1e6)
    assert 0.5 * exact < np.max(np.asarray(state.fields["u"])) < 1.5 * exact


@pytest.mark.slow
def test_gradients_are_exact():
    model = box(24)
    m = {"c": 1.0, "k": 5.0, "q": source}
    assert pag.adjoint_test(model, m).passed
    points = [(0.3, 0.3), (0.5, 0.7), (0.8, 1.1)]
    data = pag.synthetic.observe(model, m, points, noise=0.01)
    tested = pag.Problem(
        model,
        [pag.Control("c", 0.5, transform="log"), pag.Control("k", 3.0, transform="log")],
        pag.LeastSquares(data),
        parameters={"q": source},
        solver="multigrid",
        tolerance=1e-12,
    )
    report = pag.taylor_test(tested)
    assert report.passed, report


@pytest.mark.slow
def test_warm_starts_save_iterations():
    model, engine = box(24), EmbeddedEngine()
    options = {"tolerance": 1e-8, "max_iterations": 500}
    m = model.fields({"c": 1.0, "k": 5.0, "q": source})
    cold = engine.solve(model, m, **options)
    near = engine.solve(model, {k: 1.01 * v for k, v in m.items()}, initial=cold, **options)
    again = engine.solve(model, m, initial=cold, **options)
    assert near.convergence.iterations < cold.convergence.iterations
    assert again.convergence.iterations <= 2


@pytest.mark.slow
def test_a_nonlinear_inversion_resumes_to_the_bit(tmp_path):
    model = box(24)
    m = {"c": 0.5, "k": 5.0}
    points = [(0.3, 0.3), (0.5, 0.9), (0.8, 0.4), (0.2, 1.0)]
    data = pag.synthetic.observe(model, m | {"q": source}, points, noise=0.01)

    def problem():
        return pag.Problem(
            model,
            pag.Control("q", 50.0),
            pag.LeastSquares(data),
            pag.Smoothness("q", weight=1e-4, length=0.3),
            parameters=m,
        )

    whole = pag.invert(problem(), max_iterations=8, progress=False)
    pag.invert(problem(), max_iterations=4, progress=False, journal=tmp_path / "run.h5")
    rest = pag.resume(tmp_path / "run.h5", problem(), max_iterations=8)
    np.testing.assert_array_equal(rest["objective"], whole["objective"])
    np.testing.assert_array_equal(rest["q"], whole["q"])


@double
def test_one_nan_is_seen():
    """Reductions of the compiler's may pass over it."""
    for cell in (0, 17, 1000, 16895):
        field = np.ones(176 * 96)
        field[cell] = np.nan
        found = compiled(lambda a: largest({"u": a}))(jnp.asarray(field.reshape(176, 96)))
        assert not np.isfinite(float(found))
