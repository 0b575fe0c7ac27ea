"""Each physics on the Julia engine beside the embedded one."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cases import habitat, ice_cap, inland_ice, power_law_box, section, uneven, varied
from parity import TIGHT, relative, same_products, same_solves, twin_products

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import DataError, EngineError
from pyadjoint_gpu.engines.choose import running
from pyadjoint_gpu.models import Ice

pytestmark = [
    pytest.mark.julia,
    pytest.mark.filterwarnings("ignore::pyadjoint_gpu.core.errors.ConvergenceWarning"),
]

DIFFUSION = [(9,), (11, 14), (5, 6, 7)]


@pytest.mark.parametrize("shape", DIFFUSION, ids=["1d", "2d", "3d"])
def test_nonlinear_diffusion_is_the_same(shape, julia, embedded):
    model = power_law_box(shape)
    m = model.fields(uneven(model))
    generator = np.random.default_rng(4)
    # Some cells below the smallest height.
    u, w = 1.0 + 0.8 * generator.standard_normal(shape), generator.standard_normal(shape)
    same_products(model, m, u, w, julia)
    if len(shape) == 2:  # what a step adds is alike in all
        step = pag.models.Transient(model, 0.01, 1).one_step
        same_products(step, m | {"previous_height": w}, u, w, julia)
    same_solves(model, m, w, julia, embedded)


@pytest.mark.parametrize(
    ("n", "no_slip"), [(1 / 3, ("y_min", "x_min")), (3.0, ("x_max",)), (1 / 3, ("y_max", "x_min"))]
)
def test_a_power_law_channel_is_the_same(n, no_slip, julia, embedded):
    model = section(no_slip=no_slip)
    m = model.fields(varied(model, n))
    u, w = np.random.default_rng(4).standard_normal((2, *model.grid.shape))
    same_products(model, m, u, w, julia)
    same_solves(model, m, w, julia, embedded)


@pytest.mark.parametrize("sea_level", [None, -100.0])
@pytest.mark.parametrize("shape", [(24,), (12, 15)], ids=["1d", "2d"])
def test_ice_is_the_same(shape, sea_level, julia, embedded):
    """Bounds and all: some cells have no ice, some less than none."""
    if len(shape) == 1:
        model = Ice(pag.Grid(shape, (200e3,), (-100e3,)), sea_level=sea_level)
        x = model.grid.centers[0]
        m = {"bed": 500.0 - x**2 / 1e7, "rate_factor": 3e-5, "balance": 0.5 - x**2 / 4e9}
        m = model.fields(m | {"reference_thickness": np.where(np.abs(x) < 6e4, 500.0, 0.0)})
    else:
        model = Ice(ice_cap(shape).grid, sea_level=sea_level)
        m = model.fields(inland_ice(model))
    generator = np.random.default_rng(4)
    u, w = 300.0 * generator.standard_normal(shape), generator.standard_normal(shape)
    same_products(model, m, u, w, julia)
    if len(shape) == 2:
        step = pag.models.Transient(model, 5.0, 1).one_step
        same_products(step, m | {"previous_thickness": np.abs(u)}, u, w, julia)
    (here, there), _ = same_solves(model, m, w, julia, embedded, spectrum=None)
    ice = np.asarray(there.fields["thickness"]) > 0
    assert 0.1 < ice.mean() < 0.9
    np.testing.assert_array_equal(np.asarray(here.fields["thickness"]) > 0, ice)


def test_ice_on_a_rough_bed_is_the_same(julia):
    """Every face its own slope, steps of the bed higher than the ice is thick. Snow that falls the
    more the higher the ice is leaves it several steady states: each engine keeps the other's."""
    model = ice_cap((24, 30))
    generator = np.random.default_rng(0)
    m = inland_ice(model)
    m["bed"] = m["bed"] + 400.0 * generator.standard_normal(model.grid.shape)
    m["rate_factor"] = 3e-5 * np.exp(generator.standard_normal(model.grid.shape))
    options = {"tolerance": 1e-12, "max_iterations": 50_000}
    for one, other in ((julia, pag.EmbeddedEngine()), (pag.EmbeddedEngine(), julia)):
        found = one.solve(model, model.fields(m), **options)
        kept = other.solve(model, model.fields(m), initial=found, **options)
        assert found.convergence.method == kept.convergence.method == "continuation"
        assert found.convergence.usable and kept.convergence.usable
        assert relative(kept.fields["thickness"], found.fields["thickness"]) < 1e-9
        assert len(kept.convergence.history) < 0.2 * len(found.convergence.history)


@pytest.mark.parametrize("shape", [(11, 14), (5, 6, 7)], ids=["2d", "3d"])
def test_a_model_of_ones_own_is_the_same(shape, julia, embedded):
    """From the example's file, with the defaults of Julia's models."""
    model, m = habitat(shape)
    u, w = np.random.default_rng(4).standard_normal((2, *shape))
    same_products(model, m, u, w, julia)
    same_solves(model, m, w, julia, embedded, spectrum=None)
    step = pag.models.Transient(model, 0.05, 1).one_step
    m = m | {"previous_density": w}
    r, *_ = twin_products(step, m, u, w)
    assert relative(julia.residual(step, m, {"density": u})["density"], r) < 1e-13


DECAY = """
using AdjointGPU: AdjointGPU, Grid, Model, register
struct Decay{N} <: Model{N}
    grid::Grid{N}
    rate::Float64
end
Decay(grid; rate) = Decay(grid, rate)
AdjointGPU.parameters(::Decay) = (; source=:cells)
AdjointGPU.equation(model::Decay) = Rate(model.rate)
struct Rate
    rate::Float64
end
(law::Rate)(u, c, I) = c.source[I...] - FACTOR * law.rate * u[I...]
register("decay", Decay)
"""


@pytest.fixture
def decay(tmp_path):
    """Classes of models q - factor * 3 u, by their files."""

    def of(file, text):
        (tmp_path / file).write_text(text)

        class Decay(pag.models.Model):
            name = "decay"
            unknowns = (pag.models.Variable("u"),)
            parameters = (pag.models.Parameter("source"),)
            julia_source = tmp_path / file

            def residual(self, u, c):
                return {"u": c["source"] - 3.0 * u["u"]}

            def julia_spec(self):
                return {"rate": 3.0}

        return Decay(pag.Grid((4,), (1.0,)))

    return of


def test_a_users_file_is_read_again_where_it_changed(decay, julia):
    def at_one(model):
        return float(julia.residual(model, {"source": np.ones(4)}, {"u": np.ones(4)})["u"][0])

    first = decay("first.jl", DECAY.replace("FACTOR", "1"))
    assert at_one(first) == -2.0
    second = decay("second.jl", DECAY.replace("FACTOR", "2"))
    assert at_one(second) == -5.0
    assert at_one(first) == -2.0
    decay("first.jl", DECAY.replace("FACTOR", "4"))
    assert at_one(first) == -11.0


def test_a_users_file_that_does_not_do(decay, julia):
    def said(text):
        with pytest.raises(EngineError) as caught:
            julia.residual(decay("own.jl", text), {"source": np.ones(4)}, {"u": np.ones(4)})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    text = DECAY.replace("FACTOR", "1")
    assert re.search(
        r"own\.jl:9: syntax error: \w", said(text.replace("Rate(model.rate)", "Rate())"))
    )
    assert re.search(r"own\.jl:2: UndefVarError", said("\nstruct Decay <: Modell{1} end"))
    assert re.search(
        r"own\.jl:14: .*own, expected another name", said(text.replace('"decay"', '"darcy"'))
    )
    # A good one is taken after all.
    model = decay("own.jl", text)
    assert julia.residual(model, {"source": np.ones(4)}, {"u": np.ones(4)})["u"][0] == -2.0
    model.julia_source.unlink()
    with pytest.raises(EngineError, match=r"own\.jl: No such file"):
        julia.residual(model, {"source": np.ones(4)}, {"u": np.ones(4)})


def test_time_steps(julia, embedded):
    model = pag.models.Transient(power_law_box((8, 9)), 0.01, 10, every=5)
    m = model.fields(uneven(model) | {"initial_height": 0.8})
    source = {"height": np.random.default_rng(1).standard_normal(model.shape)}
    found = []
    for engine in (running(julia, model), running(embedded, model)):
        state = engine.solve(model, m, **TIGHT)
        found.append((state, engine.adjoint(model, m, state, source, **TIGHT)))
    (here, back), (there, again) = found
    assert relative(here.fields["height"], there.fields["height"]) < 1e-10
    for name, expected in again.gradient.items():
        assert relative(back.gradient[name], expected) < 1e-10, name


WAVES = {
    "sound 1d": (pag.models.AcousticWave, (20,), {"source": [[0.55], [0.55], [1.3]]}),
    "sound 2d": (pag.models.AcousticWave, (9, 12), {"absorbing": ("x_min", "y_max"), "sponge": 3}),
    "sound 3d": (pag.models.AcousticWave, (5, 6, 7), {"absorbing": "z_min", "source": "cells"}),
    "water 2d": (
        pag.models.ShallowWater,
        (9, 12),
        {"absorbing": ("x_min", "x_max"), "sponge": 2, "source": {"low": [0, 0], "high": [1, 0.5]}},
    ),
}


@pytest.mark.parametrize("case", WAVES)
def test_waves_are_the_same(case, julia, embedded):
    kind, shape, options = WAVES[case]
    grid = pag.Grid(shape, tuple(0.1 * n for n in shape))
    own = {"density": 1.3} if kind is pag.models.AcousticWave else {"gravity": 1.2}
    model = kind(grid, 0.03, 40, every=4, checkpoints=3, **own, **options)
    generator = np.random.default_rng(5)
    m = model.fields(
        {
            p.name: 1.0 + 0.2 * np.tanh(noise) if p.positive else noise
            for p in model.parameters
            for noise in [generator.standard_normal(model.space(p.name).shape)]
        }
    )
    (unknown,) = (v.name for v in model.unknowns)
    source = {unknown: generator.standard_normal(model.shape)}
    here = running(julia, model).solve(model, m, **TIGHT)
    there = running(embedded, model).solve(model, m, **TIGHT)
    assert relative(here.fields[unknown], there.fields[unknown]) < 1e-12
    assert here.convergence.iterations == there.convergence.iterations == 40
    again = running(embedded, model).adjoint(model, m, there, source, **TIGHT)
    for first in (here, there):  # with the states of its own solve at hand, and without
        if first is there:
            running(julia, model).solve(model, m | {p: 0.5 * v for p, v in m.items()}, **TIGHT)
        back = running(julia, model).adjoint(model, m, first, source, **TIGHT)
        assert set(back.gradient) == set(again.gradient)
        for name, expected in again.gradient.items():
            assert relative(back.gradient[name], expected) < 1e-10, name
    assert pag.adjoint_test(model, m, engine=julia, bound=1e-12).passed
    with pytest.raises(DataError, match=r"step: found 0\.03, expected at most"):
        julia.solve(model, m | {model.parameters[0].name: np.full(shape, 50.0)}, **TIGHT)


def test_block_column_of_waves(julia):
    grid = pag.Grid((9, 12), (0.9, 1.2))
    model = pag.models.ShallowWater(grid, 0.03, 24, every=4, source="cells", gravity=1.0)
    found = [
        pag.block_column(model, {"depth": 0.8}, [[0.3, 0.4], [0.6, 1.0]], engine=e)["response"]
        for e in (julia, "embedded")
    ]
    assert relative(*found) < 1e-12


def test_ranks_refuse_waves(julia):
    grid = pag.Grid((9, 12), (0.9, 1.2))
    model = pag.models.AcousticWave(grid, 0.03, 4)
    with pytest.raises(EngineError, match="explicit steps, which run in one process, not on ranks"):
        pag.solve(model, {"wave_speed": 1.0}, engine=pag.Launch(["env"]))
