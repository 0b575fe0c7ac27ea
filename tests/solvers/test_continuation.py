"""Pseudo-transient continuation, for residuals with bounds on the unknowns."""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import ice_cap, inland_ice, snowy
from scipy.optimize import nnls

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.models import Elliptic, Model, Parameter, Variable
from pyadjoint_gpu.models.declarations import Bound
from pyadjoint_gpu.models.finite_volume import with_active_set
from pyadjoint_gpu.solvers.base import summary
from pyadjoint_gpu.solvers.stencil import from_faces


class Membrane(Model):
    """A membrane under a load f over a table: u'' + f <= 0, u >= 0, one of both equal, fixed at
    the ends (the obstacle problem)."""

    unknowns = (Variable("u"),)
    parameters = (Parameter("f"),)

    @property
    def lower(self):
        return {"u": Bound(0.0, 1.0)}

    def residual(self, u, c):
        u, h = u["u"], self.grid.spacing[0]
        flow = jnp.concatenate([2 * u[:1], u[1:] - u[:-1], -2 * u[-1:]]) / h**2
        return {"u": flow[1:] - flow[:-1] + c["f"]}

    def elliptic(self, u, c):
        h = self.grid.spacing[0]
        face = jnp.full(self.grid.shape[0] - 1, h**-2, u["u"].dtype)
        sink = jnp.zeros_like(u["u"]).at[0].set(2 * h**-2).at[-1].add(2 * h**-2)
        return {"u": Elliptic((face,), sink)}


def lifted(x):
    """Pushed up around 0.3 by a load of 8 on 0.2 to 0.4, down by 1 elsewhere."""
    return np.where(abs(x - 0.3) < 0.1, 8.0, -1.0)


class Undeclared(Membrane):
    """What a user writes first."""

    elliptic = Model.elliptic


@pytest.mark.slow
@pytest.mark.parametrize("membrane", [Membrane, Undeclared])
def test_the_obstacle_problem(membrane):
    """The solution: u'' = -8 within w = 0.1 of the middle of the load, 1 from there to where it
    leaves the table with u = u' = 0, at a distance of 9 w as forces balance."""
    errors = []
    for n in (50, 100, 200):
        model = membrane(pag.Grid((n,), (4.0,), (-1.7,)))
        state = pag.solve(model, {"f": lifted}, tolerance=1e-11)
        u, far = state["u"].values, np.abs(model.grid.centers[0] - 0.3)
        outer = 0.5 * np.maximum(0.9 - far, 0.0) ** 2
        exact = np.where(far < 0.1, 0.5 * 0.8**2 + 4.0 * (0.1**2 - far**2), outer)
        errors.append(np.max(np.abs(u - exact)))
        assert state.attrs["status"] == "converged"
        assert state.attrs["solver"] == "continuation"
        assert np.all(u >= 0) and np.any(u == 0)
    assert errors[-1] < 2e-3
    assert errors[0] / errors[2] > 4


class Beam(Model):
    """A beam over a table: f - u'''' <= 0, u >= 0, with cells beyond its ends where u = 0."""

    unknowns = (Variable("u"),)
    parameters = (Parameter("f"),)
    stencil_radius = 2

    @property
    def lower(self):
        return {"u": Bound(0.0, 1.0)}

    def residual(self, u, c):
        fourth = jnp.convolve(u["u"], jnp.array([1.0, -4.0, 6.0, -4.0, 1.0]), mode="same")
        return {"u": c["f"] - fourth}


def test_a_bound_with_a_wider_stencil():
    """Its diagonal is found where neighbours two cells away count; non-negative least squares of
    A = L L^T have the same solution."""
    model = Beam(pag.Grid((16,), (16.0,)))
    f = np.where(np.arange(16) < 6, 0.3, -0.2)
    state = pag.solve(model, {"f": f}, tolerance=1e-10)
    assert state.attrs["status"] == "converged"
    a = sum(k * np.eye(16, k=d) for d, k in ((-2, 1), (-1, -4), (0, 6), (1, -4), (2, 1)))
    root = np.linalg.cholesky(a)
    exact, _ = nnls(root.T, np.linalg.solve(root, f))
    assert np.any(exact == 0) and np.any(exact > 0)
    np.testing.assert_allclose(state["u"], exact, rtol=0, atol=1e-6 * np.max(exact))


def barely_fed(model):
    """Snow that falls with altitude, so that ice feeds itself: at four times this lapse rate there
    are two steady states, of which round-off chooses one."""
    m = snowy(model)
    return m | {"balance_lapse": 0.25 * m["balance_lapse"]}


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "shape"), [(inland_ice, (20, 25)), (barely_fed, (20, 25))])
def test_either_solver_of_the_steps(inputs, shape):
    model = ice_cap(shape)
    options = {"tolerance": 1e-10}
    expected = pag.solve(model, inputs(model), solver="pseudo-transient", **options)
    found = pag.solve(model, inputs(model), solver="multigrid", **options)
    assert found.attrs["status"] == expected.attrs["status"] == "converged"
    np.testing.assert_allclose(found["thickness"], expected["thickness"], rtol=0, atol=1e-5)
    assert found.attrs["solver"] == expected.attrs["solver"] == "continuation"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_rough_beds_and_flow_from_far_away(seed):
    """Every face its own slope, steps of the bed higher than the ice is thick."""
    model = ice_cap((24, 30))
    generator = np.random.default_rng(seed)
    rough = 400.0 * generator.standard_normal(model.grid.shape)
    m = inland_ice(model)
    m["bed"] = m["bed"] + rough
    m["rate_factor"] = 3e-5 * np.exp(generator.standard_normal(model.grid.shape))
    state = pag.solve(model, m, tolerance=1e-8)
    assert state.attrs["status"] == "converged"
    h = state["thickness"].values
    assert 0.02 < np.mean(h > 10) < 0.98
    rate = _rate(model, m, h)
    scale = np.max(np.abs(np.maximum(_rate(model, m, 0 * h), 0.0)))
    assert np.max(np.abs(np.maximum(rate, -h))) < 2e-8 * scale
    # The next solve of an inversion starts here, and is a short one.
    engine = pag.EmbeddedEngine()
    options = {"tolerance": 1e-8, "max_iterations": 10_000}
    cold = engine.solve(model, model.fields(m), **options)
    near = model.fields(m | {"rate_factor": 1.001 * m["rate_factor"]})
    warm = engine.solve(model, near, initial=cold, **options)
    assert warm.convergence.usable
    assert len(warm.convergence.history) < len(cold.convergence.history)


@double
def _rate(model, m, h):
    c = model.prepare({k: jnp.asarray(v) for k, v in model.fields(m).items()})
    return np.asarray(model.residual({"thickness": jnp.asarray(h)}, c)["thickness"])


@pytest.mark.slow
def test_without_a_steady_state():
    """Snow everywhere, and nowhere to go."""
    model = pag.models.Ice(pag.Grid((5,), (50e3,)))
    m = {"bed": 0.0, "rate_factor": 1e-5, "balance": 1.0}
    with pytest.raises(pag.ConvergenceError) as caught:
        pag.solve(model, m, max_iterations=1000)
    assert caught.value.result.attrs["residual"] > 0.5


@pytest.mark.slow
def test_stops_at_the_limit_of_the_arithmetic():
    model, engine = ice_cap((12, 15)), pag.EmbeddedEngine()
    m = model.fields(inland_ice(model))
    found = engine.solve(model, m, tolerance=1e-17, max_iterations=10_000).convergence
    assert found.status == "round-off" and found.method == "continuation"
    assert found.residual < 1e-12
    assert len(found.history) < 100


def test_round_off_is_not_what_stops_a_solve_that_got_nowhere():
    history, u = [(0, 1.0), (10, 0.8)], {"u": jnp.ones(3)}
    options = {"tolerance": 1e-8, "start": 0.0, "work": 1.0}
    assert summary("any", "round-off", history, u, (), **options).status == "diverged"
    history.append((20, 1e-4))
    assert summary("any", "round-off", history, u, (), **options).status == "round-off"


def test_nothing_to_solve():
    model, engine = ice_cap((12, 15)), pag.EmbeddedEngine(solver="pseudo-transient")
    m = model.fields(inland_ice(model)) | {"balance": np.full((12, 15), np.nan)}
    found = engine.solve(model, m, tolerance=1e-8, max_iterations=1000).convergence
    assert found.status == "diverged" and found.method == "continuation"


def test_where_all_melts():
    state = pag.solve(ice_cap((12, 15)), {"bed": 0.0, "rate_factor": 1e-5, "balance": -1.0})
    assert state.attrs["status"] == "converged"
    assert np.all(state["thickness"] == 0)


def test_steps_given_up_are_said_so():
    model = ice_cap((12, 15))
    with pytest.raises(pag.ConvergenceError, match="did not converge to") as caught:
        pag.solve(model, inland_ice(model), max_iterations=5)
    assert caught.value.result.attrs["status"] == "max_iterations"


@double
def test_held_cells_feel_nothing_and_are_felt():
    """`with_active_set` is the elimination of the cells from the matrix."""
    generator = np.random.default_rng(0)
    shape = (4, 5)
    faces = tuple(
        jnp.asarray(generator.random([n - (a == k) for k, n in enumerate(shape)])) for a in (0, 1)
    )
    sink = jnp.asarray(generator.random(shape))
    held = generator.random(shape) < 0.4
    cut = with_active_set(Elliptic(faces, sink), held, 7.0)
    full, reduced = from_faces(faces, sink), from_faces(cut.faces, cut.sink)
    v = jnp.asarray(generator.standard_normal(shape))
    moving = jnp.where(held, 0.0, v)
    found = reduced.apply(v)
    np.testing.assert_allclose(found[~held], full.apply(moving)[~held], rtol=1e-12)
    np.testing.assert_allclose(found[held], 7.0 * v[held], rtol=1e-12)
