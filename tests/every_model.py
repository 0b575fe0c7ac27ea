"""A small inverse problem on every model, away from its optimum."""

from __future__ import annotations

import numpy as np
from cases import (
    doublet,
    grid_of,
    habitat,
    ice_cap,
    inland_ice,
    permeability,
    power_law_box,
    section,
    uneven,
    varied,
)

import pyadjoint_gpu as pag
from pyadjoint_gpu.models import AcousticWave, ShallowWater, Transient

TIGHT = {"tolerance": 1e-12}


def data_of(model, m, count=12, seed=3):
    generator = np.random.default_rng(seed)
    low, high = list(model.grid.origin), list(np.add(model.grid.origin, model.grid.extent))
    if model.times is not None:
        low, high = [model.times[0], *low], [model.times[-1], *high]
    return pag.synthetic.observe(model, m, generator.uniform(low, high, (count, len(low))))


def inverse(model, m, controls, **options):
    """A problem away from its optimum, with data from other parameters."""
    names = [c.name for c in controls]
    truth = {k: 1.2 * np.asarray(v) if k in names else v for k, v in m.items()}
    known = {k: v for k, v in m.items() if k not in names}
    data = pag.LeastSquares(data_of(model, truth))
    return pag.Problem(model, controls, data, parameters=known, **TIGHT | options)


def darcy():
    model = doublet(grid_of((7, 10)), fixed_pressure={"x_min": 0.5})
    m = {"permeability": permeability(model.grid, "smooth"), "boundary_pressure": 0.5}
    controls = [
        pag.Control("permeability", m["permeability"], transform="log"),
        pag.Control("boundary_pressure", 0.5, basis="plane"),
    ]
    return inverse(model, m, controls, penalty=pag.Smoothness("permeability", 1.0, 0.2))


def diffusion():
    model = power_law_box((5, 6))
    m = uneven(model)
    bounds = (0.0, 10.0 * float(np.max(m["diffusivity"])))
    controls = [
        pag.Control("diffusivity", m["diffusivity"], transform="logistic", bounds=bounds),
        pag.Control("exponent", 2.0, transform="log", basis="constant"),
    ]
    return inverse(model, m | {"exponent": 2.0}, controls)


def channel():
    model = section((5, 6))
    m = varied(model)
    controls = [
        pag.Control("prefactor", m["prefactor"], transform="log"),
        pag.Control("driving_force", m["driving_force"]),
    ]
    return inverse(model, m, controls)


def ice():
    """With margins: the active set of the bound is fixed."""
    model = ice_cap((8, 10))
    m = inland_ice(model)
    return inverse(model, m, [pag.Control("rate_factor", m["rate_factor"], transform="log")])


def steps(every=2, checkpoints=2):
    model = Transient(power_law_box((4, 5)), 0.05, 6, every=every, checkpoints=checkpoints)
    m = uneven(model) | {"initial_height": 1.0}
    controls = [
        pag.Control("diffusivity", m["diffusivity"], transform="log"),
        pag.Control("initial_height", 1.0),
    ]
    return inverse(model, m, controls)


def wave(kind, names, scale, checkpoints=3):
    """Of the medium, and of a source in which the state is linear."""
    model = kind(
        pag.Grid((6, 7), (0.6, 0.7)),
        0.03,
        8,
        every=2,
        source="cells",
        checkpoints=checkpoints,
        absorbing=("x_max",),
    )
    generator = np.random.default_rng(0)
    fields = {p.name: generator.random(model.space(p.name).shape) for p in model.parameters}
    m = {k: v if k in model.linear_in else scale * (1.0 + 0.3 * v) for k, v in fields.items()}
    return inverse(model, m, [pag.Control(n, m[n], transform=t) for n, t in names.items()])


def sound(**options):
    names = {"wave_speed": "log", "source": "identity"}
    return wave(AcousticWave, names, 1.0, **options)


def water(**options):
    return wave(ShallowWater, {"depth": "log"}, 0.07, **options)


def own():
    """A model without elliptic coefficients: pseudo-transient iterations."""
    model, m = habitat((9,))
    controls = [
        pag.Control("growth", m["growth"]),
        pag.Control("diffusivity", m["diffusivity"], transform="log"),
    ]
    return inverse(model, m, controls, tolerance=1e-13)


EVERY = {f.__name__: f for f in (darcy, diffusion, channel, ice, steps, sound, water, own)}
