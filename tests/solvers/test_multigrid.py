"""Multigrid: coarsening, iterations that do not grow with the grid, and giving way to the other
solver rather than a wrong answer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, diffusion_and_drift, direct, doublet, grid_of, permeability
from scipy.ndimage import gaussian_filter

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, ConvergenceWarning
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.engines import launches
from pyadjoint_gpu.engines.embedded import EmbeddedEngine
from pyadjoint_gpu.models import Darcy, Elliptic, Model, Parameter, Variable
from pyadjoint_gpu.solvers import hierarchy, multigrid
from pyadjoint_gpu.solvers.stencil import coarsen, from_faces, interpolation, prolong, restrict

SMALL = [(7,), (8,), (5, 6), (7, 9), (1, 5), (2, 3), (4, 5, 6), (3, 2, 5)]
OPTIONS = {"tolerance": 1e-8, "max_iterations": 1000}


def stencil_of(shape, seed=0):
    generator = np.random.default_rng(seed)
    faces = tuple(
        jnp.asarray(np.exp(2 * generator.standard_normal(np.subtract(shape, unit))))
        for unit in np.eye(len(shape), dtype=int)
    )
    return from_faces(faces, jnp.asarray(generator.random(shape)))


def dense(function, shape):
    """The matrix of a linear function of fields of that shape."""
    n = int(np.prod(shape))
    columns = jax.jit(jax.vmap(function))(jnp.eye(n).reshape(n, *shape))
    return np.asarray(columns).reshape(n, -1).T


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(7,), (8,), (5, 6), (7, 9), (1, 5), (2, 3), (4, 5, 6), (3, 2, 5)]
)
@double
def test_coarse_operators_are_the_triple_product(shape):
    fine = stencil_of(shape)
    a = dense(fine.apply, shape)
    np.testing.assert_allclose(a, a.T)
    np.testing.assert_allclose(np.diag(a), fine.diagonal().ravel())
    for axis in (*reversed(range(len(shape))), 0):
        n = fine.shape[axis]
        if n < 2:
            continue
        weight = jax.jit(partial(interpolation, axis=axis))(fine)
        halved = tuple((m + 1) // 2 if k == axis else m for k, m in enumerate(fine.shape))
        p = dense(lambda e, w=weight, k=axis, n=n: prolong(e, w, k, n), halved)
        r = dense(lambda f, w=weight, k=axis: restrict(f, w, k), fine.shape)
        np.testing.assert_allclose(r, p.T)
        np.testing.assert_allclose(p.sum(1), 1.0)
        fine = jax.jit(partial(coarsen, axis=axis))(fine, weight)
        a = p.T @ a @ p
        np.testing.assert_allclose(dense(fine.apply, halved), a, atol=1e-12 * np.abs(a).max())


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(29, 41), (9, 14, 11)])
@double
def test_the_cycle_is_symmetric_and_close_to_the_inverse(shape):
    fine = stencil_of(shape)
    spacing = (1.0,) * len(shape)
    elliptic = Elliptic(fine.couplings, fine.sink)
    h = jax.jit(lambda e: hierarchy.Hierarchy.of(e, spacing, null_space=False))(elliptic)
    cycle = jax.jit(lambda b: hierarchy.cycle(h, spacing, b))
    generator = np.random.default_rng(1)
    x, y = (jnp.asarray(generator.standard_normal(shape)) for _ in range(2))
    one, other = jnp.sum(x * cycle(y)), jnp.sum(y * cycle(x))
    assert abs(one - other) < 1e-4 * abs(one)
    error = x - cycle(fine.apply(x))
    energy = jnp.sum(error * fine.apply(error)) / jnp.sum(x * fine.apply(x))
    assert energy < 0.3**2


def channels(grid):
    """Winding channels of K = 10 in rock of 0.1, few cells wide."""
    smooth = gaussian_filter(np.random.default_rng(3).standard_normal(grid.shape), 6, mode="wrap")
    return np.where(np.abs(smooth / smooth.std()) < 0.15, 10.0, 0.1)


@pytest.mark.slow
def test_iterations_do_not_grow_with_the_grid():
    counts = {}
    for shape in [(63, 127), (255, 511)]:
        grid = grid_of(shape)
        for case in (*CASES, "channels"):
            k = channels(grid) if case == "channels" else permeability(grid, case)
            state = pag.solve(doublet(grid), {"permeability": k}, solver="multigrid")
            assert state.attrs["status"] == "converged"
            counts.setdefault(case, []).append(state.attrs["iterations"])
    most = {"homogeneous": 7, "barrier": 8, "channels": 20}
    for case, found in counts.items():
        assert max(found) <= most.get(case, 13), counts
        # Channels become thinner than coarse cells, and rock of long correlation rough on them:
        # larger grids have more such levels.
        assert found[-1] <= found[0] + (8 if case == "channels" else 3), counts


CLOSED, FIXED = {}, {"x_min": 1.0, "x_max": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "extent", "sides"),
    [
        ((200,), (1.0,), CLOSED),
        ((200,), (1.0,), FIXED),
        ((2, 333), (0.01, 2.0), CLOSED),
        ((32, 32), (1.0, 1.0), FIXED),
        ((33, 100), (1.0, 100.0), CLOSED),
        ((29, 16), (1.0, 30.0), FIXED),
        ((2, 2), (1.0, 1.0), CLOSED),
        ((2, 2), (1.0, 1.0), FIXED),
        ((8, 9, 10), (1.0, 1.0, 1.0), CLOSED),
        ((3, 10, 15), (0.01, 1.0, 3.0), FIXED),
    ],
    ids=str,
)
def test_any_shape_and_spacing(shape, extent, sides):
    grid = pag.Grid(shape, extent)
    wells = [
        pag.Well([0.2 * e for e in extent], 1.0),
        pag.Well([0.8 * e for e in extent], -1.0),
    ]
    model = Darcy(grid, wells, fixed_pressure=sides)
    k = np.exp(np.random.default_rng(0).standard_normal(shape))
    expected = direct(model, k, sides)
    state = pag.solve(model, {"permeability": k}, solver="multigrid")
    error = np.max(np.abs(state["pressure"].values - expected)) / np.max(np.abs(expected))
    assert error < 1e-6
    assert state.attrs["iterations"] <= 20


@pytest.mark.slow
def test_solvers_agree_in_single_precision():
    grid = grid_of((63, 127))
    m = {"permeability": permeability(grid, "white")}
    expected = pag.solve(doublet(grid), m)["pressure"].values
    state = pag.solve(doublet(grid), m, engine=EmbeddedEngine(dtype="float32"), tolerance=1e-5)
    assert state["pressure"].dtype == np.float32
    error = np.max(np.abs(state["pressure"].values - expected)) / np.max(np.abs(expected))
    assert error < 1e-4
    assert state.attrs["iterations"] <= 10


class Reaction(Model):
    """laplace u - drift du/dx - rate u + q = 0 with u = 0 on the outer faces; it declares its
    Laplacian times `told`, and its reaction."""

    unknowns = (Variable("u"),)
    parameters = (Parameter("rate"), Parameter("q"), Parameter("drift", default=0.0))
    linear = True
    told = 1.0

    def residual(self, u, c):
        transport = diffusion_and_drift(self.grid, u["u"], c["drift"])
        return {"u": transport - c["rate"] * u["u"] + c["q"]}

    def elliptic(self, u, c):
        ones = jnp.ones_like(u["u"])
        (hy, hx), told = self.grid.spacing, self.told
        sink = c["rate"] * ones
        sink = sink.at[:, 0].add(2 / hx**2).at[:, -1].add(2 / hx**2)
        sink = sink.at[0].add(2 / hy**2).at[-1].add(2 / hy**2)
        return {"u": Elliptic((told * ones[1:] / hy**2, told * ones[:, 1:] / hx**2), told * sink)}


class Misled(Reaction):
    """It tells of couplings that it has not."""

    def elliptic(self, u, c):
        y = jnp.linspace(0, 30, self.grid.shape[0])[:, None]
        declared = super().elliptic(u, c)["u"]
        return {"u": Elliptic(tuple(k * jnp.exp(y[: len(k)]) for k in declared.faces), 0.0 * y)}


M = {"rate": 3.0, "q": lambda y, x: np.sin(3 * x) + y}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("told", "drift", "kind"),
    [(1.0, 0.0, "exact"), (1.5, 0.0, "symmetric"), (1.0, 20.0, "general")],
)
def test_what_is_declared_need_not_be_the_whole_operator(told, drift, kind):
    model = Reaction(pag.Grid((20, 28), (1.0, 1.5)))
    model.told = told
    m = M | {"drift": drift}
    expected = pag.solve(model, m, solver="pseudo-transient", tolerance=1e-11)
    with double_arrays(model, m) as (c, zero):
        assert multigrid.prepare(model, c, zero).kind == kind
    found = pag.solve(model, m, solver="multigrid", tolerance=1e-10)
    np.testing.assert_allclose(
        found["u"], expected["u"], rtol=0, atol=1e-8 * float(abs(expected["u"]).max())
    )
    assert found.attrs["iterations"] < 40
    assert pag.adjoint_test(model, m).passed


class double_arrays:
    def __init__(self, model, m):
        self.model, self.m = model, m

    def __enter__(self):
        self.x64 = jax.enable_x64(True)
        self.x64.__enter__()
        c = {k: jnp.asarray(v) for k, v in self.model.fields(self.m).items()}
        return c, {v.name: jnp.zeros(self.model.grid.shape) for v in self.model.unknowns}

    def __exit__(self, *error):
        return self.x64.__exit__(*error)


@pytest.mark.slow
def test_a_solve_that_stagnates_goes_on_by_the_other_method():
    model = Misled(pag.Grid((40, 56), (1.0, 1.5)))
    expected = pag.solve(model, M, solver="pseudo-transient", tolerance=1e-10)
    with pytest.warns(ConvergenceWarning, match="stagnated.*pseudo-transient"):
        found = pag.solve(model, M, tolerance=1e-10)
    assert found.attrs["status"] == "converged"
    assert found.attrs["solver"] == "multigrid, then pseudo-transient"
    np.testing.assert_allclose(
        found["u"], expected["u"], rtol=0, atol=1e-8 * float(abs(expected["u"]).max())
    )


def test_coefficients_of_every_unknown_must_be_declared():
    class Partial(Reaction):
        def elliptic(self, u, c):
            return {"v": super().elliptic(u, c)["u"]}

    with pytest.raises(ConfigError, match="'user' declares v, expected coefficients of u"):
        pag.solve(Partial(pag.Grid((10, 12), (1.0, 1.0))), M)


@pytest.mark.slow
def test_the_solver_is_chosen_by_name(monkeypatch):
    class Plain(Reaction):
        elliptic = Model.elliptic

    grid = pag.Grid((10, 12), (1.0, 1.0))
    assert pag.solve(Reaction(grid), M).attrs["solver"] == "multigrid"
    assert pag.solve(Plain(grid), M).attrs["solver"] == "pseudo-transient"
    state = pag.solve(Reaction(grid), M, solver="pseudo-transient")
    assert state.attrs["solver"] == "pseudo-transient"
    with pytest.raises(ConfigError, match=r"'user' declares no elliptic.*'pseudo-transient'"):
        pag.solve(Plain(grid), M, solver="multigrid")
    with pytest.raises(ConfigError, match=r"solver: found 'multi', expected one of auto"):
        pag.solve(Reaction(grid), M, solver="multi")
    with pytest.raises(ConfigError, match="solver: found 'multigrid' beside an engine"):
        engine = EmbeddedEngine(solver="pseudo-transient")
        pag.solve(Reaction(grid), M, engine=engine, solver="multigrid")
    with pytest.raises(ConfigError, match="engine 'julia' has pseudo-transient iterations only"):
        pag.solve(Reaction(grid), M, engine="julia", solver="multigrid")
    monkeypatch.setattr(launches, "launches", [EmbeddedEngine()])
    with pytest.raises(ConfigError, match="ranks have pseudo-transient iterations"):
        pag.solve(Reaction(grid), M, solver="multigrid")
