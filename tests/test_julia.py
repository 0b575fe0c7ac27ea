"""The Julia engine beside the embedded one: the same equations, solved twice."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    doublet,
    grid_of,
    habitat,
    ice_cap,
    inland_ice,
    permeability,
    points,
    power_law_box,
    problem,
    section,
    uneven,
    varied,
)

import pyadjoint_gpu as pag
from pyadjoint_gpu.arithmetic import double
from pyadjoint_gpu.engines import running
from pyadjoint_gpu.errors import DataError, EngineError
from pyadjoint_gpu.models import Ice

pytestmark = [
    pytest.mark.julia,
    pytest.mark.filterwarnings("ignore::pyadjoint_gpu.errors.ConvergenceWarning"),
]

SHAPES = [(31, 63), (6, 10, 14)]
TIGHT = {"tolerance": 1e-12, "max_iterations": 200_000}


def sides_of(kind, shape):
    if kind == "closed":
        return ()
    if kind == "all":
        return {
            f"{d}_{end}": 0.3 * k
            for k, d in enumerate("xyz"[: len(shape)])
            for end in ("min", "max")
        }
    return {"x_min": 1.0, "x_max": {"value": 0.0, "gradient": [0.5] * (len(shape) - 1) + [0.0]}}


def setup(shape, case, kind, **options):
    model = doublet(grid_of(shape), fixed_pressure=sides_of(kind, shape), **options)
    return model, model.fields({"permeability": permeability(model.grid, case)})


def relative(found, expected):
    expected = np.asarray(expected)
    return np.max(np.abs(np.asarray(found) - expected)) / (np.max(np.abs(expected)) or 1.0)


@pytest.fixture(scope="module")
def julia():
    return pag.JuliaEngine(backend="threads")


@pytest.fixture(scope="module")
def embedded():
    return pag.EmbeddedEngine(solver="pseudo-transient")


@double
def twin_products(model, m, u, w):
    """R, (dR/du)^T w and (dR/dm)^T w by jax.vjp."""
    m = {k: jnp.asarray(v) for k, v in m.items()}
    (name,) = (v.name for v in model.unknowns)
    r, pull = jax.vjp(lambda u, m: model.equations(u, model.prepare(m)), {name: jnp.asarray(u)}, m)
    u_bar, m_bar = pull({name: jnp.asarray(w)})
    return r[name], u_bar[name], m_bar


@pytest.mark.parametrize("face_mean", ["arithmetic", "harmonic"])
@pytest.mark.parametrize("kind", ["closed", "fixed", "all"])
@pytest.mark.parametrize("shape", [(9,), *SHAPES], ids=["1d", "2d", "3d"])
def test_one_residual_and_one_reverse_sweep(shape, kind, face_mean, julia):
    generator = np.random.default_rng(3)
    if len(shape) == 1:
        wells = [pag.Well(0.3, 1.0), pag.Well(1.7, -1.0)]
        sides = {"closed": (), "fixed": {"x_min": 1.0}, "all": {"x_min": 1.0, "x_max": 0.0}}[kind]
        grid = pag.Grid(shape, (2.0,))
        model = pag.models.Darcy(grid, wells, face_mean=face_mean, fixed_pressure=sides)
    else:
        model, _ = setup(shape, "white", kind, face_mean=face_mean)
    m = model.fields({"permeability": np.exp(generator.standard_normal(shape))})
    same_products(model, m, *generator.standard_normal((2, *shape)), julia)


def same_products(model, m, u, w, julia):
    """Both engines' residual at u, and its reverse sweep along w."""
    (unknown,) = (v.name for v in model.unknowns)
    r, u_bar, m_bar = twin_products(model, m, u, w)
    assert relative(julia.residual(model, m, {unknown: u})[unknown], r) < 1e-13
    found_u, found_m = julia.vjp(model, m, {unknown: u}, {unknown: w})
    assert relative(found_u[unknown], u_bar) < 1e-13
    assert set(found_m) == set(m)
    for name, expected in m_bar.items():
        assert relative(found_m[name], expected) < 1e-13, name


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
    here, there = julia.solve(model, m, **TIGHT), embedded.solve(model, m, **TIGHT)
    assert relative(here.fields["height"], there.fields["height"]) < 1e-10
    back = julia.adjoint(model, m, there, {"height": w}, **TIGHT)
    again = embedded.adjoint(model, m, there, {"height": w}, **TIGHT)
    for name, expected in again.gradient.items():
        assert relative(back.gradient[name], expected) < 1e-10, name
    same_history(here.convergence, there.convergence, spectrum=1e-8)  # it depends on the state


@pytest.mark.parametrize(
    ("n", "no_slip"), [(1 / 3, ("y_min", "x_min")), (3.0, ("x_max",)), (1 / 3, ("y_max", "x_min"))]
)
def test_a_power_law_channel_is_the_same(n, no_slip, julia, embedded):
    model = section(no_slip=no_slip)
    m = model.fields(varied(model, n))
    u, w = np.random.default_rng(4).standard_normal((2, *model.grid.shape))
    same_products(model, m, u, w, julia)
    here, there = julia.solve(model, m, **TIGHT), embedded.solve(model, m, **TIGHT)
    assert relative(here.fields["velocity"], there.fields["velocity"]) < 1e-10
    back = julia.adjoint(model, m, there, {"velocity": w}, **TIGHT)
    again = embedded.adjoint(model, m, there, {"velocity": w}, **TIGHT)
    for name, expected in again.gradient.items():
        assert relative(back.gradient[name], expected) < 1e-10, name
    same_history(here.convergence, there.convergence, spectrum=1e-8)


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
    here, there = julia.solve(model, m, **TIGHT), embedded.solve(model, m, **TIGHT)
    ice = np.asarray(there.fields["thickness"]) > 0
    assert 0.1 < ice.mean() < 0.9
    np.testing.assert_array_equal(np.asarray(here.fields["thickness"]) > 0, ice)
    assert relative(here.fields["thickness"], there.fields["thickness"]) < 1e-10
    back = julia.adjoint(model, m, there, {"thickness": w}, **TIGHT)
    again = embedded.adjoint(model, m, there, {"thickness": w}, **TIGHT)
    for name, expected in again.gradient.items():
        assert relative(back.gradient[name], expected) < 1e-10, name


@pytest.mark.parametrize("shape", [(11, 14), (5, 6, 7)], ids=["2d", "3d"])
def test_a_model_of_ones_own_is_the_same(shape, julia, embedded):
    """From the example's file, with the defaults of Julia's models."""
    model, m = habitat(shape)
    u, w = np.random.default_rng(4).standard_normal((2, *shape))
    same_products(model, m, u, w, julia)
    here, there = julia.solve(model, m, **TIGHT), embedded.solve(model, m, **TIGHT)
    assert relative(here.fields["density"], there.fields["density"]) < 1e-10
    back = julia.adjoint(model, m, there, {"density": w}, **TIGHT)
    again = embedded.adjoint(model, m, there, {"density": w}, **TIGHT)
    for name, expected in again.gradient.items():
        assert relative(back.gradient[name], expected) < 1e-10, name
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

            def twin(self):
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
    with pytest.raises(EngineError, match="explicit steps, which one process runs, not ranks"):
        pag.solve(model, {"wave_speed": 1.0}, engine=pag.Launch(["env"]))


@pytest.mark.parametrize("kind", ["closed", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("case", CASES)
def test_parity(case, shape, kind, julia, embedded):
    model, m = setup(shape, case, kind)
    here, there = julia.solve(model, m, **TIGHT), embedded.solve(model, m, **TIGHT)
    assert relative(here.fields["pressure"], there.fields["pressure"]) < 1e-10
    source = {"pressure": np.random.default_rng(1).standard_normal(shape)}
    # From the same state: its spectrum, where the adjoint begins, is noise in the last digits.
    back = julia.adjoint(model, m, there, source, **TIGHT)
    again = embedded.adjoint(model, m, there, source, **TIGHT)
    for name, expected in again.gradient.items():
        assert relative(back.gradient[name], expected) < 1e-10, name
    assert relative(back.multiplier["pressure"], again.multiplier["pressure"]) < 1e-10
    for a, b in ((here, there), (back, again)):
        same_history(a.convergence, b.convergence)


def same_history(a, b, spectrum=1e-12):
    """The iterations take the same steps. Their round-off, 1e-12 of the first residual in the hard
    cases, shows the more the smaller the residual is."""
    n = min(len(a.history), len(b.history))
    clear = b.history[:n, 1] > 1e-7
    np.testing.assert_array_equal(a.history[:n, 0], b.history[:n, 0])
    np.testing.assert_allclose(a.history[:n, 1][clear], b.history[:n, 1][clear], 1e-6, 2e-11)
    assert clear.sum() > 5
    assert a.spectrum.high == pytest.approx(b.spectrum.high, rel=spectrum)
    assert abs(a.iterations - b.iterations) <= 0.15 * b.iterations


def test_warm_starts_match(julia, embedded):
    model, m = setup((31, 63), "white", "fixed")
    near = m | {"permeability": 1.1 * m["permeability"]}
    options = {"tolerance": 1e-8, "max_iterations": 100_000}
    source = {"pressure": np.random.default_rng(1).standard_normal((31, 63))}
    found = []
    for engine in (julia, embedded):
        state = engine.solve(model, m, **options)
        multiplier = engine.adjoint(model, m, state, source, **options)
        warm = engine.solve(model, near, initial=state, **options)
        half = {"pressure": 0.5 * source["pressure"]}
        back = engine.adjoint(model, near, warm, half, initial=multiplier, **options)
        found.append([s.convergence.iterations for s in (state, multiplier, warm, back)])
        assert warm.convergence.iterations < state.convergence.iterations
    assert found[0] == found[1]


def test_single_precision(embedded):
    julia = pag.JuliaEngine(dtype="float32")
    model, m = setup((15, 31), "white", "fixed")
    here = julia.solve(model, m, tolerance=1e-5, max_iterations=10_000)
    there = embedded.solve(model, m, **TIGHT)
    assert here.fields["pressure"].dtype == np.float32
    assert here.convergence.usable
    assert relative(here.fields["pressure"], there.fields["pressure"]) < 1e-3
    assert julia.info()["dtype"] == "float32"


def problem_on(engine, shape=(15, 31), **options):
    return problem(shape, engine=engine, tolerance=1e-12, **options)


@pytest.mark.parametrize("kind", ["closed", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
def test_taylor_and_adjoint(shape, kind, julia):
    model, m = setup(shape, "white", kind)
    truth = {"permeability": permeability(model.grid, "white", seed=1)}
    data = pag.synthetic.observe(model, truth, points(model.grid), noise=0.05, engine=julia)
    controls = [pag.Control("permeability", m["permeability"], transform="log")]
    if kind == "fixed":
        controls.append(pag.Control("boundary_pressure"))
    tested = pag.Problem(
        model,
        controls,
        pag.LeastSquares(data),
        pag.Smoothness("permeability", weight=0.1, length=0.1),
        engine=julia,
        tolerance=1e-12,
    )
    report = pag.taylor_test(tested)
    assert report.passed, report
    assert report.slope == pytest.approx(2.0, abs=0.1)
    report = pag.adjoint_test(model, {"permeability": m["permeability"]}, engine=julia)
    assert report.passed, report
    assert report.error < 1e-10


def test_gradient_is_the_same_bits_again(julia):
    tested = problem_on(julia)
    first, again = (tested.evaluate(tested.initial) for _ in range(2))
    assert first.objective == again.objective
    np.testing.assert_array_equal(first.gradient, again.gradient)


def test_inversion_and_exact_resume(tmp_path, julia):
    whole = pag.invert(problem_on(julia), max_iterations=8, progress=False)
    pag.invert(problem_on(julia), max_iterations=4, progress=False, journal=tmp_path / "run.h5")
    rest = pag.resume(tmp_path / "run.h5", max_iterations=8)
    np.testing.assert_array_equal(rest["objective"], whole["objective"])
    np.testing.assert_array_equal(rest["permeability"], whole["permeability"])
    assert whole.attrs["engine"] == "julia"
    assert "Julia 1." in whole.attrs["engine_version"]
    other = pag.invert(problem_on("embedded"), max_iterations=8, progress=False)
    np.testing.assert_allclose(whole["objective"], other["objective"], rtol=1e-6)


def test_auto_takes_julia_where_it_is(monkeypatch):
    monkeypatch.setenv("PYADJOINT_GPU_ENGINE", "auto")
    assert problem_on("auto").engine.name == "julia"


# The boundary


def test_arrays_cross_without_a_copy(julia):
    from pyadjoint_gpu.engines import julia as boundary

    package = boundary._start()
    shared = package.seval(
        "a -> Base.get_extension(AdjointGPU, :AdjointGPUPythonCallExt).shared(a)"
    )
    array = np.arange(12.0).reshape(3, 4)
    seen = shared(array.T)
    assert tuple(package.seval("size")(seen)) == (4, 3)
    assert int(package.seval("a -> UInt(pointer(a))")(seen)) == array.ctypes.data
    package.seval("a -> (a[2, 1] = -1.0; nothing)")(seen)  # x = 1, y = 0
    assert array[0, 1] == -1.0
    made = package.seval("zeros(4, 3)")
    view = boundary._numpy(made)
    assert view.flags["C_CONTIGUOUS"] and view.shape == (3, 4)
    assert int(package.seval("a -> UInt(pointer(a))")(made)) == view.ctypes.data
    package.seval("a -> (a[2, 1] = 7.0; nothing)")(made)
    assert view[0, 1] == 7.0


def test_errors_are_python_errors(julia):
    from pyadjoint_gpu.engines import julia as boundary

    model, m = setup((15, 31), "white", "closed")
    with pytest.raises(DataError, match="found an array of 5 x 4 cells, expected 31 x 15"):
        julia.solve(model, {"permeability": np.ones((4, 5))}, **TIGHT)
    with pytest.raises(DataError, match="permeability is not given"):
        julia.solve(model, {}, **TIGHT)
    boundary._start().seval("python_fail(kind) = throw(eval(Symbol(kind))())")
    with pytest.raises(MemoryError):
        boundary._call("python_fail", "OutOfMemoryError")
    with pytest.raises(EngineError, match="StackOverflowError") as caught:
        boundary._call("python_fail", "StackOverflowError")
    assert "Stacktrace" in caught.value.trace
    assert "Stacktrace" not in str(caught.value)
    assert caught.value.__suppress_context__
    # Nothing is lost: the next solve goes on.
    assert julia.solve(model, m, **TIGHT).convergence.usable


def test_a_model_without_a_twin_is_refused():
    class Own(pag.models.Darcy):
        def twin(self):
            return None

    model = Own(grid_of((15, 31)), [pag.Well((0.3, 0.1), 1.0), pag.Well((0.3, 0.3), -1.0)])
    with pytest.raises(EngineError, match="Python only"):
        pag.solve(model, {"permeability": 1.0}, engine="julia")


def test_from_another_thread(julia):
    model, m = setup((15, 31), "white", "closed")
    expected = julia.solve(model, m, **TIGHT).fields["pressure"].copy()
    found = []
    workers = [
        threading.Thread(target=lambda: found.append(julia.solve(model, m, **TIGHT)))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60.0)
    assert len(found) == 3
    for solution in found:
        np.testing.assert_array_equal(solution.fields["pressure"], expected)


def run(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=500
    )


def test_julia_is_not_started_by_imports_and_probes():
    done = run(
        """
        import sys
        import pyadjoint_gpu as pag
        from pyadjoint_gpu.doctor import report
        engine = pag.JuliaEngine()
        text = report()
        assert "juliacall" not in sys.modules, "started"
        print(text)
        """
    )
    assert done.returncode == 0, done.stderr
    assert "engine 'julia'     ready" in done.stdout


def test_interrupt_reaches_python():
    done = run(
        """
        import os, signal, threading, time
        import numpy as np
        import pyadjoint_gpu as pag
        grid = pag.Grid((255, 511), (1.0, 2.0))
        wells = [pag.Well((0.4, 0.4), 1.0), pag.Well((0.4, 1.6), -1.0)]
        model = pag.models.Darcy(grid, wells)
        m = model.fields({"permeability": 1.0})
        engine = pag.JuliaEngine()
        engine.solve(model, m, tolerance=1e-2, max_iterations=1000)
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            while True:
                engine.solve(model, m, tolerance=1e-14, max_iterations=10**7)
        except KeyboardInterrupt:
            print("interrupted after", time.monotonic() - start)
        print(engine.solve(model, m, tolerance=1e-2, max_iterations=1000).convergence.status)
        """
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "interrupted after" in done.stdout
    assert "converged" in done.stdout
