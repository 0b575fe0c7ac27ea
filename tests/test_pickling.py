"""Every specification pickles, and gives what it gave; also in a process of its own."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import Fisher, doublet, grid_of, ice_cap, power_law_box, section
from linear_systems import NOISES, SENSORS, decaying, prior
from slip_files import pixels, stations

import pyadjoint_gpu as pag
from pyadjoint_gpu import geophysics, lti, sampling, statistics
from pyadjoint_gpu.core.spaces import BoundarySpace, CellSpace
from pyadjoint_gpu.engines.choose import get_engine
from pyadjoint_gpu.engines.julia.engine import JuliaEngine
from pyadjoint_gpu.engines.julia.ranks import Launch
from pyadjoint_gpu.models import AcousticWave, ShallowWater, Transient

pytestmark = pytest.mark.filterwarnings("ignore::pyadjoint_gpu.sampling.checks.SamplingWarning")

GRID = grid_of((6, 8))
BOX = pag.Grid((6, 8), (1.0, 2.0), (0.0, -1.0), units="km")
POINTS = [(0.3, -0.2), (0.6, 0.3), (0.8, 0.1)]
RANDOM = np.random.default_rng(0)
SIDES = {"x_min": 1.0, "x_max": 0.0}


def data():
    return pag.synthetic.observe(
        doublet(GRID, fixed_pressure=SIDES), {"permeability": 2.0}, POINTS, noise=0.1
    )


def squares(state):
    """A user's misfit."""
    return jnp.sum(state["pressure"] ** 2)


def rough(fields):
    """A user's penalty."""
    return jnp.sum(fields["permeability"] ** 4)


def problem(misfit=None, penalty=(), **control):
    """The start is a function that pickle cannot name."""
    return pag.Problem(
        doublet(GRID, fixed_pressure=SIDES),
        [
            pag.Control("permeability", lambda y, x: 1.0 + 0.1 * x + 0 * y, transform="log"),
            pag.Control("boundary_pressure"),
        ],
        pag.LeastSquares(data()) if misfit is None else misfit,
        penalty,
        parameters={"porosity": lambda y, x: 0.2 + 0.01 * y},
        tolerance=1e-10,
    )


def gradient_of(tested):
    value, gradient = tested.value_and_gradient()
    return np.concatenate([[value], *(gradient[n].values.ravel() for n in gradient.data_vars)])


def solved(model, m):
    return pag.solve(model, m)[model.unknowns[0].name].values


def filled(space):
    return np.concatenate([np.ravel(p) for p in space.positions()])


FAULT = geophysics.Fault(4.0, 2.0, 2, 3)
AT = {"east": 1.0, "north": -2.0, "depth": 1.5, "strike": 20.0, "dip": 55.0}
LOOK = np.eye(3)
RANDOM_POINTS = RANDOM.normal(size=(3, 2))


G = RANDOM.normal(size=(5, 3))
D = RANDOM.normal(size=5)
SETTINGS = sampling.Settings(particles=8, leapfrogs=2)


def forward(theta):
    return theta["a"] * G


def hierarchical():
    return sampling.HierarchicalSMC(
        forward,
        D,
        0.5,
        statistics.Independent(np.ones(3), mean=0.1),
        {"a": scipy.stats.norm(1.0, 0.1)},
        particles=4,
        inner=SETTINGS,
        moves=1,
        batch=4,
        draws=1,
    )


def random_of(run, names):
    return np.concatenate([run[n].values.ravel() for n in names])


def permeable():
    return pag.Control("permeability", 1.0, bounds=(1e-3, 10.0), transform="log")


def of_control(control):
    return gradient_of(
        pag.Problem(doublet(GRID), control, squares, pag.Smoothness("permeability", 1.0, 0.3))
    )


# How to make one, and numbers that it gives.
SPECIFICATIONS = {
    "Grid": (lambda: BOX, lambda g: np.concatenate(g.centers)),
    "CellSpace": (lambda: CellSpace(BOX), filled),
    "BoundarySpace": (lambda: BoundarySpace(BOX, ("x_min", "y_max")), filled),
    "Well": (lambda: pag.Well((0.5, 0.1), 2.0), lambda w: np.array([*w.position, w.rate])),
    "Darcy": (
        lambda: doublet(GRID, fixed_pressure=SIDES, face_mean="harmonic"),
        lambda m: solved(m, {"permeability": 2.0}),
    ),
    "Diffusion": (lambda: power_law_box((5, 6)), lambda m: m.fixed.space.shape),
    "Channel": (lambda: section((5, 6)), lambda m: m.viscosity_limit),
    "Ice": (lambda: ice_cap((5, 6)), lambda m: m.exponent),
    "Transient": (
        lambda: Transient(doublet(GRID, fixed_pressure=SIDES), 0.1, 2),
        lambda m: solved(m, {"permeability": 2.0, "initial_pressure": 0.0}),
    ),
    "AcousticWave": (
        lambda: AcousticWave(GRID, 0.05, 4, source="cells", absorbing="x_min", sponge=2),
        lambda m: solved(m, {"wave_speed": 1.0, "source": 1.0}),
    ),
    "ShallowWater": (
        lambda: ShallowWater(GRID, 0.01, 4, source=[(0.3, 0.2)]),
        lambda m: m.space("source").positions()[0],
    ),
    "a user's model": (lambda: Fisher(GRID), lambda m: m.grid.centers[0]),
    "Control": (permeable, of_control),
    "Smoothness": (lambda: pag.Smoothness("permeability", 2.0, 0.1), lambda s: s.weight),
    "LeastSquares": (
        lambda: pag.LeastSquares(data(), sigma=0.2),
        lambda s: s.bind(doublet(GRID, fixed_pressure=SIDES)).observed,
    ),
    "Problem": (problem, gradient_of),
    "Problem, penalties": (
        lambda: problem(squares, [pag.Smoothness("permeability", 2.0, 0.1), rough]),
        gradient_of,
    ),
    "EmbeddedEngine": (
        lambda: pag.EmbeddedEngine(dtype="float32", solver="pseudo-transient"),
        lambda e: [e.dtype, e.solver],
    ),
    "Matern": (lambda: pag.Matern(0.5, 0.2), lambda p: p.on(GRID).draw()),
    "Matern on a grid": (lambda: pag.Matern(0.5, 0.2).on(GRID), lambda p: p.draw()),
    "Settings": (lambda: SETTINGS, lambda s: s.particles),
    "Fault": (lambda: FAULT, lambda f: f.green(RANDOM_POINTS, LOOK, **AT)),
    "Fault.forward": (
        lambda: FAULT.forward(RANDOM_POINTS, LOOK, **{k: v for k, v in AT.items() if k != "dip"}),
        lambda forward: forward({"dip": 55.0}),
    ),
    "LinearSMC": (
        lambda: sampling.LinearSMC(G, D, 0.5, np.ones(3), settings=SETTINGS),
        lambda s: random_of(s.run(), ["slip"]),
    ),
    "HierarchicalSMC": (hierarchical, lambda s: random_of(s.run(progress=False), ["a"])),
    "SMC": (
        lambda: sampling.SMC(problem_of_one(pag.Matern(0.5, 0.2, mean=bump))),
        lambda s: s.target.prior.theta(np.ones(s.target.size)),
    ),
    "ToeplitzMap": (lambda: decaying(4, 1), lambda m: m.matvec(np.ones((6, 7)))),
    "SpaceTime": (
        lambda: statistics.SpaceTime(statistics.Independent(2.0), correlation=[1.0, 0.5]),
        lambda p: p.on((2, 3)).draw(2),
    ),
    "Separable": (lambda: prior("smooth"), lambda p: p.draw(2)),
    "Separable, of a field": (
        lambda: statistics.SpaceTime(statistics.Matern(1.0, 0.3), 0.02).on(
            ShallowWater(GRID, 0.01, 4, source="cells").space("source")
        ),
        lambda p: p.draw(2),
    ),
    "Conditional": (lambda: prior("smooth").given(np.arange(7) < 3), lambda p: p.draw(2)),
    "SlipSpace": (lambda: FAULT.space, filled),
    "LinearInversion": (
        lambda: lti.LinearInversion(decaying(SENSORS, 1), prior(), NOISES["full"], decaying(2, 2)),
        lambda i: random_of(i.infer(np.ones((6, SENSORS))), ["mean", "forecast_sd"]),
    ),
    "Rupture": (
        lambda: geophysics.Rupture((0.5, 0.2), 2.0, 0.4, 0.3, 0.1, 0.2),
        lambda r: r(np.full(3, 0.1), np.linspace(0, 1, 3), np.linspace(-1, 1, 3)),
    ),
}


def bump(y, x):
    return 1.0 + y * x


def problem_of_one(prior=None):
    return pag.Problem(
        doublet(GRID),
        pag.Control("permeability", 1.0, transform="log", prior=prior),
        pag.LeastSquares(
            pag.synthetic.observe(doublet(GRID), {"permeability": 2.0}, POINTS, noise=0.1)
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_round_trip(name):
    make, gives = SPECIFICATIONS[name]
    one = make()
    before = gives(one)  # what is computed and kept on the way must not be in the way
    for tested in (one, make()):
        back = pickle.loads(pickle.dumps(tested))
        assert type(back) is type(one)
        np.testing.assert_array_equal(gives(back), before)


def test_slip_data():
    found = geophysics.slip_data(stations(), pixels())
    back = pickle.loads(pickle.dumps(found))
    assert len(back) == len(found)
    for name in ("points", "look", "displacement", "errors"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))


def test_engines_that_run_elsewhere_pickle_as_they_were_asked_for():
    """Without their processes: as given to the next one, which starts its own."""
    julia = object.__new__(JuliaEngine)
    julia.__dict__.update(backend="threads", dtype="float64", installation=None)
    julia._last = ({"name": "darcy"}, lambda: "lives in Julia")
    back = pickle.loads(pickle.dumps(julia))
    assert (back.backend, back.dtype, back._last) == ("threads", "float64", (None, None))
    launch = object.__new__(Launch)
    launch.__dict__.update(command=["mpiexec", "-n", "2"], topology=None, _given_folder=None)
    launch._ranks = lambda: "processes"  # type: ignore[assignment]  # what pickle cannot take
    back = pickle.loads(pickle.dumps(launch))
    assert (back.command, back._ranks) == (["mpiexec", "-n", "2"], None)
    assert type(pickle.loads(pickle.dumps(get_engine("embedded")))) is pag.EmbeddedEngine


def test_a_copy_shares_compiled_code():
    one = problem()
    other = copy.copy(one)
    assert other.objective is one.objective
    other.tolerance = 1e-3
    assert one.tolerance == 1e-10


@pytest.mark.slow
def test_a_worker_started_by_spawn_finds_the_same_bits():
    tested = problem(squares, pag.Smoothness("permeability", 2.0, 0.1))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(gradient_of, (tested,))
    np.testing.assert_array_equal(found, gradient_of(tested))


def test_what_cannot_be_pickled_is_a_users_own():
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(problem(lambda state: jnp.sum(state["pressure"])))
    assert pickle.loads(pickle.dumps(problem(partial(squares)))).size == problem(squares).size
