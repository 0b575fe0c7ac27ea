from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    diffusion_and_drift,
    doublet,
    grid_of,
    ice_cap,
    observations,
    permeability,
    points,
    power_law_box,
    problem,
    snowy,
)

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConvergenceWarning
from pyadjoint_gpu.models import Model, Parameter, Variable
from pyadjoint_gpu.solvers import continuation, multigrid, newton

pytestmark = pytest.mark.filterwarnings("ignore::pyadjoint_gpu.core.errors.ConvergenceWarning")

SHAPES = [(31, 63), (6, 10, 14)]
SIDES = {"x_min": 1.0, "x_max": {"value": 0.0, "gradient": [0.5, 0.0]}}


def julia_spec(shape, case, sides=(), **options):
    """A problem away from its optimum: data from one field, the gradient at another."""
    grid = grid_of(shape)
    if sides and grid.ndim == 3:
        sides = {"x_min": 1.0, "x_max": {"value": 0.0, "gradient": [0.5, 0.5, 0.0]}}
    model = doublet(grid, fixed_pressure=sides)
    data = pag.synthetic.observe(
        model, {"permeability": permeability(grid, case, seed=1)}, points(grid), noise=0.05
    )
    controls = [pag.Control("permeability", permeability(grid, case), transform="log")]
    if sides:
        controls.append(pag.Control("boundary_pressure"))
    return pag.Problem(
        model,
        controls,
        pag.LeastSquares(data),
        pag.Smoothness("permeability", weight=0.1, length=0.1),
        tolerance=1e-12,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(), SIDES], ids=["closed", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("case", CASES)
def test_gradient_agrees_with_central_differences_in_every_component_tried(case, shape, sides):
    tested = julia_spec(shape, case, sides)
    theta = tested.initial
    gradient = tested.evaluate(theta).gradient
    generator = np.random.default_rng(0)
    order = np.argsort(-np.abs(gradient))
    # The largest components and some of the middle of the pack; boundary ones where there are.
    chosen = [*order[:2], *generator.choice(order[: len(order) // 2], 2)]
    if sides:
        chosen.append(len(theta) - 1)
    for i in chosen:

        def value(h, i=i):
            changed = theta.copy()
            changed[i] += h
            return tested.evaluate(changed, gradient=False).objective

        h = 0.2
        pairs = [(value(s) - value(-s)) / (2 * s) for s in (h, h / 2, h / 4)]
        once = [(4 * b - a) / 3 for a, b in pairwise(pairs)]
        central = (16 * once[1] - once[0]) / 15
        # What a component is worth beside the whole: differences of J hold no more digits.
        scale = max(abs(gradient[i]), 1e-3 * np.max(np.abs(gradient)))
        assert abs(central - gradient[i]) < 1e-6 * scale, (i, central, gradient[i])


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(), SIDES], ids=["closed", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", ["multigrid", "pseudo-transient"])
def test_taylor(case, shape, sides, solver):
    report = pag.taylor_test(julia_spec(shape, case, sides, solver=solver))
    assert report.passed, report
    assert report.slope == pytest.approx(2.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(), SIDES], ids=["closed", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("case", CASES)
def test_adjoint(case, shape, sides):
    grid = grid_of(shape)
    if sides and grid.ndim == 3:
        sides = {"x_min": 1.0, "x_max": 0.0}
    report = pag.adjoint_test(
        doublet(grid, fixed_pressure=sides), {"permeability": permeability(grid, case)}
    )
    assert report.passed, report
    assert report.error < 1e-10


@pytest.mark.parametrize(
    ("transform", "bounds"),
    [("identity", (1e-3, 1e2)), ("log", None), ("logistic", (0.01, 50.0))],
)
@pytest.mark.parametrize("face_mean", ["arithmetic", "harmonic"])
def test_taylor_with_every_transform_and_mean(transform, bounds, face_mean):
    shape = (15, 31)
    tested = pag.Problem(
        doublet(grid_of(shape), face_mean=face_mean),
        pag.Control("permeability", 1.5, bounds=bounds, transform=transform),
        pag.LeastSquares(observations(shape)),
        pag.Smoothness("permeability", weight=1.0, length=0.2),
        tolerance=1e-12,
    )
    report = pag.taylor_test(tested)
    assert report.passed, report


@pytest.mark.parametrize("basis", ["constant", "plane"])
def test_taylor_with_few_coefficients(basis):
    shape = (15, 31)
    model = doublet(grid_of(shape), fixed_pressure={"x_min": 0.5, "y_max": 0.5})
    tested = pag.Problem(
        model,
        [
            pag.Control("permeability", 1.5, transform="log", basis=basis),
            pag.Control("boundary_pressure", basis=basis),
        ],
        pag.LeastSquares(observations(shape)),
        tolerance=1e-12,
    )
    assert pag.taylor_test(tested).passed
    value, gradient = tested.value_and_gradient()
    assert value > 0
    assert gradient["permeability"].size == {"constant": 1, "plane": 3}[basis]


@pytest.mark.slow
def test_a_misfit_of_ones_own_sees_the_fluxes():
    tested = problem(penalty=(), tolerance=1e-12, data=observations((15, 31)))
    tested = pag.Problem(
        tested.model,
        pag.Control("permeability", lambda y, x: 1.0 + 0.3 * x, transform="log"),
        lambda state: jnp.sum(state["flux_x"][:, 12] ** 2) + jnp.sum(state["pressure"] ** 4),
        tolerance=1e-12,
    )
    report = pag.taylor_test(tested)
    assert report.passed, report


class Wrong(pag.Engine):
    """An engine whose gradient is off: by a factor, or without the outermost ring of cells."""

    name = "wrong"

    def __init__(self, change):
        self.right, self.change = pag.EmbeddedEngine(), change

    def solve(self, *args, **options):
        return self.right.solve(*args, **options)

    def adjoint(self, *args, **options):
        from dataclasses import replace

        found = self.right.adjoint(*args, **options)
        return replace(
            found,
            gradient={k: jnp.asarray(self.change(np.array(v))) for k, v in found.gradient.items()},
        )

    def info(self):
        return self.right.info()


def ringless(gradient):
    if gradient.ndim == 2:
        gradient[[0, -1]] = 0
        gradient[:, [0, -1]] = 0
    return gradient


@pytest.mark.parametrize(
    "change",
    [lambda g: 1.001 * g, lambda g: -g, ringless, lambda g: 0 * g],
    ids=["0.1 percent", "sign", "clamped ring", "zero"],
)
def test_a_wrong_gradient_fails_both_tests(change):
    tested = problem(tolerance=1e-12, penalty=(), engine=Wrong(change))
    report = pag.taylor_test(tested)
    assert not report.passed
    assert "FAILED" in repr(report)
    model = tested.model
    k = permeability(model.grid, "white")
    assert not pag.adjoint_test(model, {"permeability": k}, engine=Wrong(change)).passed
    assert pag.adjoint_test(model, {"permeability": k}).passed


def test_remainders_at_the_solvers_tolerance_fail_loudly():
    report = pag.taylor_test(problem(tolerance=1e-2))
    assert not report.passed
    assert "tighten" in report.message


def test_an_objective_linear_in_theta_cannot_pass():
    """Remainders are then round-off, and slopes mean nothing."""
    tested = problem(penalty=lambda fields: jnp.sum(fields["permeability"]), tolerance=1e-12)
    tested = pag.Problem(
        tested.model,
        pag.Control("permeability", 1.0, transform="log"),
        lambda state: 0.0 * jnp.sum(state["pressure"]),
        lambda fields: jnp.sum(fields["permeability"]),
    )
    for seed in range(5):
        report = pag.taylor_test(tested, seed=seed)
        assert report.noise > 0.0
        assert np.all(report.remainders < 10.0 * report.noise)
        assert not report.passed
        assert "round-off" in report.message


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_noise_is_never_estimated_as_nothing(value):
    """J that does not depend on the state, and is the same to the last bit at every tolerance and
    from every start."""
    model = doublet(grid_of((15, 31)))

    def curved(fields):
        theta = fields["permeability"]
        return value + jnp.sum(theta) + 0.5 * jnp.sum(theta**2)

    tested = pag.Problem(
        model,
        pag.Control("permeability", 1.0, transform="log"),
        lambda state: 0.0 * jnp.sum(state["pressure"]),
        curved,
    )
    report = pag.taylor_test(tested)
    assert report.passed, report
    eps = np.finfo(float).eps
    assert eps * value < report.noise < 1e4 * eps


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multigrid", "newton", "continuation"])
def test_solves_end_at_round_off_where_its_estimate_is_nothing(kind, monkeypatch):
    """As where u is 0, which has no rounding of its own."""
    solver = {"multigrid": multigrid, "newton": newton, "continuation": continuation}[kind]
    monkeypatch.setattr(solver, "round_off", lambda product, u: jnp.zeros(()))
    model, m = {
        "multigrid": lambda: (doublet(grid_of((11, 13))), {"permeability": 1.0}),
        "newton": lambda: (power_law_box((11, 13)), {"diffusivity": 1.0, "exponent": 2.0}),
        "continuation": lambda: (ice_cap((11, 13)), snowy(ice_cap((11, 13)))),
    }[kind]()
    state = pag.solve(model, m, tolerance=1e-20)
    assert state.attrs["status"] == "round-off"
    assert state.attrs["solver"] == kind


class Cubic(Model):
    """laplace u - k u^3 + q = 0, with u = 0 on the outer faces: nonlinear, not symmetric once
    drift is added."""

    unknowns = (Variable("u"),)
    parameters = (Parameter("k", positive=True), Parameter("q"), Parameter("drift", default=0.0))

    def residual(self, u, c):
        transport = diffusion_and_drift(self.grid, u["u"], c["drift"])
        return {"u": transport - c["k"] * u["u"] ** 3 + c["q"]}


@pytest.mark.slow
@pytest.mark.parametrize("drift", [0.0, 20.0])
def test_a_nonlinear_model_of_ones_own(drift):
    model = Cubic(pag.Grid((20, 24), (1.0, 1.0)))
    m = {"k": 30.0, "q": lambda y, x: 50.0 * np.sin(np.pi * y) * (1 + x), "drift": drift}
    assert pag.adjoint_test(model, m).passed
    data = pag.synthetic.observe(model, m, [(0.3, 0.3), (0.5, 0.7), (0.8, 0.2)], noise=0.01)
    tested = pag.Problem(
        model,
        pag.Control("k", 20.0, transform="log"),
        pag.LeastSquares(data),
        parameters={"q": m["q"], "drift": drift},
        tolerance=1e-12,
    )
    report = pag.taylor_test(tested)
    assert report.passed, report


def test_value_and_gradient_are_pure():
    tested = problem()
    first = tested.value_and_gradient()
    tested.value_and_gradient({"permeability": 3.0})
    again = tested.value_and_gradient()
    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1]["permeability"], again[1]["permeability"])
    assert first[1]["permeability"].dims == ("y", "x")


def test_the_users_jax_configuration_is_left_alone():
    problem().value_and_gradient()
    assert jnp.ones(3).dtype == jnp.float32
    with pytest.warns(ConvergenceWarning):
        pag.solve(doublet(grid_of((15, 31))), {"permeability": 1.0}, tolerance=1e-16)
    assert jnp.ones(3).dtype == jnp.float32
