import h5py
import numpy as np
import pytest
from cases import observations, problem
from every_model import EVERY

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.inversion.variables import Scaled
from pyadjoint_gpu.problem.hessian import Hessian

ITERATIONS = 60
SAME_BITS_BUT = ("wall_time",)


def assert_same_bits(a, b):
    assert set(a.variables) == set(b.variables)
    for name in a.variables:
        if name not in SAME_BITS_BUT:
            assert a[name].values.tobytes() == b[name].values.tobytes(), name
    for key in ("status", "message", "inputs_sha256", "config_json", "title"):
        assert a.attrs[key] == b.attrs[key]


def reference(**options):
    return pag.invert(
        problem((15, 31), data=observations((15, 31), noise=0.001)),
        max_iterations=ITERATIONS,
        tolerance=1e-12,
        progress=False,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["multigrid", "pseudo-transient"])
@pytest.mark.parametrize("shape", [(33, 65), (31, 63)], ids=str)
def test_bits_do_not_depend_on_where_memory_happens_to_be(solver, shape):
    import jax.numpy as jnp

    generator = np.random.default_rng(0)
    tested = problem(shape, data=observations((15, 31)), solver=solver)
    held, bits = [], set()
    for _ in range(12):
        held.append([jnp.zeros(generator.integers(1, 3000)) for _ in range(3)])
        del held[: len(held) // 3]
        found = tested.evaluate(tested.initial)
        bits.add((np.asarray(found.solution.fields["pressure"]).tobytes(),
                  found.gradient.tobytes()))  # fmt: skip
    assert len(bits) == 1


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_iterations(tmp_path):
    path = tmp_path / "run.h5"
    data = observations((15, 31), noise=0.001)
    options = {"tolerance": 1e-12, "progress": False}
    first = pag.invert(problem(data=data), max_iterations=5, journal=path, **options)
    assert first.attrs["status"] == "max_iterations"
    more = pag.resume(path, max_iterations=ITERATIONS, progress=False)
    assert_same_bits(more, reference())
    assert_same_bits(pag.resume(path, max_iterations=5, progress=False), first)


@pytest.mark.slow
def test_ctrl_c_and_callbacks_leave_a_journal_that_resumes(tmp_path):
    path = tmp_path / "run.h5"

    def interrupt(state):
        if state.iteration == 4:
            raise KeyboardInterrupt

    data = observations((15, 31), noise=0.001)
    result = pag.invert(
        problem(data=data), max_iterations=ITERATIONS, tolerance=1e-12, journal=path,
        progress=False, callback=interrupt,
    )  # fmt: skip
    assert result.attrs["status"] == "interrupted"
    with pytest.raises(DataError, match="unfinished journal"):
        pag.invert(problem(data=data), journal=path, progress=False)
    assert_same_bits(pag.resume(path, progress=False), reference())


@pytest.mark.slow
def test_a_journal_grows(tmp_path, monkeypatch):
    from pyadjoint_gpu.core import journal

    monkeypatch.setattr(journal, "_FIRST", 4)
    path = tmp_path / "run.h5"
    result = reference(journal=path)
    assert_same_bits(result, reference())
    with h5py.File(path) as file:
        assert np.count_nonzero(file["evaluations.marks"][:, 0]) == result["evaluations"][-1]
        assert file["evaluations"].shape[0] == 128
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["TNC", "SLSQP", "trust-constr", "L-BFGS-B", "newton-cg"])
def test_resume_is_exact_with_other_methods(method, tmp_path):
    path = tmp_path / "run.h5"
    data = observations((9, 17))

    def make():
        bounds = (1e-6, 1e2)
        transform = "logistic" if method == "newton-cg" else "log"
        return pag.Problem(
            problem((9, 17), data=data).model,
            pag.Control("permeability", 1.0, bounds=bounds, transform=transform),
            pag.LeastSquares(data),
            pag.Smoothness("permeability", weight=1.0, length=0.1),
            tolerance=1e-10,
        )

    def stop(state):
        return state.iteration == 2

    options = {"method": method, "max_iterations": 6, "progress": False}
    pag.invert(make(), journal=path, callback=stop, **options)
    resumed = pag.resume(path, progress=False)
    assert_same_bits(resumed, pag.invert(make(), **options))


@pytest.mark.parametrize(
    "name",
    ["darcy", *(pytest.param(n, marks=pytest.mark.slow) for n in ("channel", "steps", "sound"))],
)
@pytest.mark.filterwarnings("ignore:a trial step could not be evaluated")
def test_hessian_products_go_on_with_the_same_bits(name, tmp_path, monkeypatch):
    """Ended within conjugate gradients, on steady models and over time steps: products then start
    from the recorded state."""
    path, right, count = tmp_path / "run.h5", Hessian.product, 0

    def cut(self, v):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return right(self, v)

    options = {"method": "newton-cg", "max_iterations": 4, "progress": False}
    monkeypatch.setattr(Hessian, "product", cut)
    first = pag.invert(EVERY[name](), journal=path, **options)
    assert first.attrs["status"] == "interrupted"
    count = 3
    resumed = pag.resume(path, progress=False)
    again, count = count, 3
    assert_same_bits(resumed, pag.invert(EVERY[name](), **options))
    assert again == count - 2  # those on record are not computed again
    assert resumed["products"][-1] <= count - 3


def test_a_product_of_another_problem_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    options = {"method": "newton-cg", "max_iterations": 2, "progress": False}
    pag.invert(EVERY["darcy"](), journal=path, **options)
    monkeypatch.setattr(Scaled, "change", lambda self, p: 2.0 * p)
    with pytest.raises(DataError, match="Hessian product 0 is another"):
        pag.resume(path, progress=False)


def test_code_in_a_problem_must_be_given_again(tmp_path):
    import jax.numpy as jnp

    def make(factor=1.0):
        base = problem((9, 17), data=observations((9, 17)))
        return pag.Problem(
            base.model,
            pag.Control("permeability", 1.0, transform="log"),
            lambda state: factor * jnp.sum((state["pressure"] - 1.0) ** 2),
        )

    path = tmp_path / "run.h5"
    first = pag.invert(make(), max_iterations=2, journal=path, progress=False)
    with pytest.raises(ConfigError, match="problem="):
        pag.resume(path, progress=False)
    more = pag.resume(path, make(), max_iterations=4, progress=False)
    assert more["objective"][:3].values.tobytes() == first["objective"].values.tobytes()
    other = pag.Problem(
        make().model, pag.Control("permeability", 2.0, transform="log"), make().misfit
    )
    with pytest.raises(DataError, match="other controls"):
        pag.resume(path, other, max_iterations=6, progress=False)


def test_refused_files(tmp_path):
    with pytest.raises(DataError, match="no such journal"):
        pag.resume(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataError, match="not a journal"):
        pag.resume(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    with pytest.raises(DataError, match="not a journal"):
        pag.resume(tmp_path / "other.h5")
    path = tmp_path / "run.h5"
    pag.invert(problem((9, 17), data=observations((9, 17))), max_iterations=1, journal=path,
               progress=False)  # fmt: skip
    whole = path.read_bytes()
    for part in (0.9, 0.5, 0.1):
        (tmp_path / "cut.h5").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(DataError, match=r"truncated|not a journal"):
            pag.resume(tmp_path / "cut.h5")
