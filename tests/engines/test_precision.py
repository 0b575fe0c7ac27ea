"""Every model, option and solver in both precisions."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import habitat, ice_cap, inland_ice, power_law_box, section, snowy, uneven, varied

import pyadjoint_gpu as pag
from pyadjoint_gpu.models import AcousticWave, Darcy, Ice, ShallowWater, Transient

# A tolerance of 1e-8 is more than single precision has; that is said in a warning.
pytestmark = pytest.mark.filterwarnings("ignore::pyadjoint_gpu.core.errors.ConvergenceWarning")

BOX = pag.Grid((5, 6), (1.0, 1.2))
RANDOM = np.random.default_rng(0)
UNEVEN = np.exp(0.3 * RANDOM.standard_normal(BOX.shape))
START = np.exp(-((BOX.centers[0][:, None] - 0.5) ** 2) - (BOX.centers[1] - 0.4) ** 2)
MASK = np.zeros(BOX.shape, bool)
MASK[2, 1:4] = True
SIDES = {"x_min": 1.0, "y_max": {"value": 0.5, "gradient": [0.0, 0.3]}}
DOUBLET = [pag.Well((0.3, 0.3), 1.0), pag.Well((0.7, 0.9), -1.0)]


def darcy(**options):
    return Darcy(BOX, DOUBLET, **options), {"permeability": UNEVEN, "porosity": 0.2}, "permeability"


def diffusion():
    model = power_law_box((5, 6))
    return model, uneven(model), "diffusivity"


def channel():
    model = section((5, 6))
    return model, varied(model), "prefactor"


def cap():
    model = ice_cap((6, 7))
    return model, inland_ice(model), "rate_factor"


def at_sea():
    """Ice on an island."""
    model = Ice(ice_cap((6, 7)).grid, sea_level=0.0)
    m = snowy(model)
    here = 10.0 * (m["bed"] > 300.0)
    return model, m | {"bed": m["bed"] - 300.0, "reference_thickness": here}, "rate_factor"


def own():
    return (*habitat((5, 6)), "diffusivity")


def marched(case, step):
    model, m, control = case
    u = model.unknowns[0].name
    return Transient(model, step, 2), m | {f"initial_{u}": 0.2}, control


def wave(kind, **options):
    options = {"every": 2} | options
    model = kind(BOX, 0.04, 6, **options)
    medium, start = ("wave_speed", "initial_pressure")
    if kind is ShallowWater:
        medium, start = ("depth", "initial_elevation")
    m = {medium: 0.1 * UNEVEN if kind is ShallowWater else UNEVEN, start: START}
    if options.get("source") is not None:
        m["source"] = np.cos(np.arange(np.prod(model.space("source").shape))).reshape(
            model.space("source").shape
        )
    return model, m, medium


WAVES = {
    "walls": {},
    "absorbing": {"absorbing": ("x_min", "y_max")},
    "sponge": {"absorbing": "x_max", "sponge": 2},
    "in all cells": {"source": "cells"},
    "in a mask": {"source": MASK},
    "in a box": {"source": {"low": (0.2, 0.2), "high": (0.7, 0.9)}},
    "at points, all sides absorbing": {
        "source": [(0.5, 0.6), (0.1, 0.2)],
        "absorbing": ("x_min", "x_max", "y_min", "y_max"),
        "sponge": 1,
    },
}
MODELS = {
    "darcy, closed": lambda: darcy(),
    "darcy, fixed sides": lambda: darcy(fixed_pressure=SIDES),
    "darcy, harmonic": lambda: darcy(fixed_pressure=SIDES, face_mean="harmonic"),
    "diffusion": diffusion,
    "channel": channel,
    "ice": cap,
    "ice at sea": at_sea,
    "own": own,
    "darcy in time": lambda: marched(darcy(fixed_pressure=SIDES), 0.1),
    "diffusion in time": lambda: marched(diffusion(), 0.1),
    "channel in time": lambda: marched(channel(), 0.1),
    "ice in time": lambda: marched(cap(), 10.0),
    "own in time": lambda: marched(own(), 0.1),
}
STEADY = [name for name in MODELS if not name.endswith("in time")]
WAVE_MODELS = {
    f"{kind.name}, {name}": partial(wave, kind, **options)
    for kind in (AcousticWave, ShallowWater)
    for name, options in WAVES.items()
}
ALL = MODELS | WAVE_MODELS
CASES = [
    *(pytest.param(name, "auto", id=f"{name}, auto") for name in ALL),
    *(pytest.param(name, "pseudo-transient", id=f"{name}, pseudo-transient") for name in STEADY),
]


def evaluated(name, solver, dtype, tolerance):
    """J of one parameter and its gradient, all in `dtype`."""
    model, m, control = ALL[name]()
    unknown = model.unknowns[0].name
    problem = pag.Problem(
        model,
        pag.Control(control, m[control], transform="log"),
        lambda state: jnp.sum(state[unknown] ** 2),
        parameters={k: v for k, v in m.items() if k != control},
        engine=pag.EmbeddedEngine(dtype=dtype, solver=solver),
        tolerance=tolerance,
    )
    evaluation = problem.evaluate(problem.initial)
    solution, adjoint = evaluation.solution, evaluation.adjoint
    for fields in (solution.fields, adjoint.gradient, adjoint.multiplier):
        assert {str(a.dtype) for a in fields.values()} == {dtype}
    given = {k: np.asarray(v, dtype) for k, v in model.fields(m).items()}
    with jax.enable_x64(True):
        outputs = jax.eval_shape(model.outputs, solution.fields, given)
    assert {str(a.dtype) for a in outputs.values()} <= {dtype}
    return solution.fields[unknown], evaluation.objective, evaluation.gradient


in_double = cache(partial(evaluated, solver="auto", dtype="float64", tolerance=1e-8))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "solver"), CASES)
def test_single_precision_is_that_and_near_double(name, solver):
    found = evaluated(name, solver, "float32", 1e-5)
    for single, double in zip(found, in_double(name), strict=True):
        size = np.max(np.abs(double))
        assert size > 0
        np.testing.assert_allclose(single, double, atol=2e-3 * size, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", STEADY)
def test_both_solvers_in_double_precision(name):
    marched = evaluated(name, "pseudo-transient", "float64", 1e-8)
    for one, other in zip(marched, in_double(name), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.max(np.abs(other)), rtol=0)


def test_a_forward_solve_in_single_precision():
    model, m, _ = darcy(fixed_pressure=SIDES)
    state = pag.solve(model, m, engine=pag.EmbeddedEngine(dtype="float32"), tolerance=1e-5)
    assert {str(state[n].dtype) for n in ("pressure", "flux_x", "velocity_y")} == {"float32"}
