"""The Julia engine beside the embedded one: one physics throughout, and what an engine must do."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from cases import CASES, grid_of, permeability, points, problem
from parity import TIGHT, relative, same_history, same_products, same_solves, setup

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import DataError, EngineError

pytestmark = [
    pytest.mark.julia,
    pytest.mark.filterwarnings("ignore::pyadjoint_gpu.core.errors.ConvergenceWarning"),
]

SHAPES = [(31, 63), (6, 10, 14)]


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


@pytest.mark.parametrize("kind", ["closed", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("case", CASES)
def test_parity(case, shape, kind, julia, embedded):
    model, m = setup(shape, case, kind)
    source = np.random.default_rng(1).standard_normal(shape)
    _, (back, again) = same_solves(model, m, source, julia, embedded, spectrum=1e-12)
    same_history(back.convergence, again.convergence)


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


def test_hessian_products_agree(julia, embedded):
    """Tangents are the embedded engine's at Julia's state, adjoints Julia's."""
    v = np.random.default_rng(0).standard_normal(problem_on(julia).size)
    for gauss_newton in (False, True):
        found, expected = (
            tested.hessian(tested.initial, gauss_newton=gauss_newton).product(v).vector
            for tested in map(problem_on, (julia, embedded))
        )
        np.testing.assert_allclose(found, expected, atol=1e-7 * np.max(np.abs(expected)))


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
    from pyadjoint_gpu.engines.julia import engine as boundary

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
    from pyadjoint_gpu.engines.julia import engine as boundary

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
        def julia_spec(self):
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
        # Of jobs in the background, shells have it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
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
