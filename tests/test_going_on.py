"""One rule of going on: the same call continues, or returns what is finished; other inputs are
refused by name; `overwrite=True` starts anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from cases import observations, problem
from test_damage import MAP, PRIOR

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import DataError, JournalWarning
from pyadjoint_gpu.inversion.journal import started
from pyadjoint_gpu.models import ShallowWater
from pyadjoint_gpu.placement.placing import place_sensors
from pyadjoint_gpu.placement.selection import select
from pyadjoint_gpu.problem.problem import Problem
from pyadjoint_gpu.sampling import HierarchicalSMC
from pyadjoint_gpu.sampling import journal as samplers
from pyadjoint_gpu.sampling.linear import Settings
from pyadjoint_gpu.sampling.pseudo_marginal import PseudoMarginal
from pyadjoint_gpu.statistics import Independent
from pyadjoint_gpu.statistics.covariance import DenseCovariance

SHAPE = (9, 17)


def inverted(path: Path | None, made: Problem | None = None, **options: Any) -> Any:
    made = made or problem(SHAPE, data=observations(SHAPE))
    return pag.invert(made, **{"max_iterations": 3, "progress": False, "journal": path} | options)


def same(a: Any, b: Any) -> None:
    for name in ("permeability", "objective", "evaluations"):
        assert a[name].values.tobytes() == b[name].values.tobytes(), name


@pytest.fixture
def unsolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is evaluated from here on."""
    monkeypatch.setattr(Problem, "evaluate", None)


# Inversions


@pytest.mark.slow
def test_the_same_call_returns_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run.h5"
    first = inverted(path)
    whole = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Problem, "evaluate", None)
        same(inverted(path), first)
        assert path.read_bytes() == whole
        # Less of it is there, too, and takes nothing away.
        assert inverted(path, max_iterations=1)["iteration"].size == 2
        same(inverted(path), first)
        assert path.read_bytes() == whole
    same(inverted(path, max_iterations=5), inverted(None, max_iterations=5))


def test_the_same_call_goes_on(tmp_path: Path):
    path = tmp_path / "run.h5"
    assert inverted(path, callback=lambda i: i.iteration == 1).attrs["status"] == "stopped"
    same(inverted(path), inverted(None))


def test_a_journal_without_evaluations_is_gone_on_with(tmp_path: Path):
    """As a process leaves it that was killed in its first solve."""
    path = tmp_path / "run.h5"
    settings = {"method": "L-BFGS-B", "max_iterations": 3, "tolerance": 1e-6, "discrepancy": False}
    made = problem(SHAPE, data=observations(SHAPE))
    started(path, made, settings | {"title": None}).close()
    same(inverted(path), inverted(None))


def another(**given: Any) -> Problem:
    base = problem(SHAPE, data=observations(SHAPE))
    parts: dict[str, Any] = {
        "model": base.model,
        "controls": [c.control for c in base.controls],
        "misfit": pag.LeastSquares(observations(SHAPE)),
        "penalty": base.penalties,
        "parameters": None,
        "tolerance": base.tolerance,
    }
    return pag.Problem(**parts | given)


OTHERS = {
    "misfit": lambda: another(misfit=pag.LeastSquares(observations(SHAPE) * 1.01)),
    "penalty": lambda: another(penalty=pag.Smoothness("permeability", 2.0, 0.1)),
    "controls": lambda: another(controls=[pag.Control("permeability", 2.0, transform="log")]),
    "solver": lambda: another(tolerance=1e-7),
    "engine": lambda: another(engine=pag.EmbeddedEngine(dtype="float32")),
    "model": lambda: another(model=replaced_model()),
}


def replaced_model() -> Any:
    base = problem(SHAPE, data=observations(SHAPE)).model
    return pag.models.Darcy(base.grid, fixed_pressure={"x_min": 1.0})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / "run.h5"
    pag.invert(another(), max_iterations=1, journal=path, progress=False)
    return path


@pytest.mark.parametrize("named", OTHERS)
def test_another_problem_is_refused_by_name(named: str, made: Path, unsolved: None):
    before = made.read_bytes()
    told = rf"run\.h5: a journal of \d+ evaluations.*other inputs than now: other {named}[,;]"
    for call in (
        lambda: pag.invert(OTHERS[named](), journal=made, progress=False),
        lambda: pag.resume(made, OTHERS[named](), progress=False),
    ):
        with pytest.raises(DataError, match=told):
            call()
    with pytest.raises(DataError, match="other method;"):
        pag.invert(another(), method="TNC", journal=made, progress=False)
    assert made.read_bytes() == before


def coded(factor: float = 1.0, beyond: float = 5.0) -> Problem:
    """With functions of the user's."""

    def misfit(state: Any) -> Any:
        p = state["pressure"]
        return jnp.sum(jnp.where(jnp.abs(p) > beyond, 2.0 * p, p - 1.0) ** 2)

    return another(
        misfit=misfit, penalty=lambda theta: factor * jnp.sum(theta["permeability"] ** 2)
    )


def test_functions_of_the_user_are_told_by_their_code(tmp_path: Path, unsolved: None):
    """Also where they differ for values that are never met."""
    path = tmp_path / "run.h5"
    settings = {"method": "L-BFGS-B", "max_iterations": 3, "tolerance": 1e-6, "discrepancy": False}
    started(path, coded(), settings | {"title": None}).close()
    started(path, coded(), settings).close()
    with pytest.raises(DataError, match="other penalty;"):
        pag.invert(coded(factor=2.0), journal=path, progress=False)
    with pytest.raises(DataError, match="other misfit;"):
        pag.invert(coded(beyond=6.0), journal=path, progress=False)


def test_overwrite(tmp_path: Path):
    path = tmp_path / "run.h5"
    inverted(path)
    other = OTHERS["controls"]()
    anew = inverted(path, other, overwrite=True)
    same(inverted(path, other), anew)
    path.write_bytes(path.read_bytes()[:5000])  # what cannot be read any more
    inverted(path, overwrite=True)
    for kind in ("text", "other"):  # never what is no journal
        path.write_text("notes")
        if kind == "other":
            observations(SHAPE).to_netcdf(path, engine="h5netcdf")
        before = path.read_bytes()
        with pytest.raises(DataError, match=r"run\.h5: not a journal"):
            inverted(path, overwrite=True)
        assert path.read_bytes() == before


# Samplers


def forward(theta: dict[str, Any]) -> Any:
    return jnp.array([[theta["a"], 1.0], [1.0, 2.0], [0.5, theta["a"]]])


def changed_far_away(theta: dict[str, Any]) -> Any:
    a = jnp.where(theta["a"] > 5.0, 0.0, theta["a"])
    return jnp.array([[a, 1.0], [1.0, 2.0], [0.5, a]])


def sampler(**given: Any) -> HierarchicalSMC:
    from scipy.stats import norm

    parts = {
        "forward": forward, "data": np.array([1.0, 2.0, 0.5]), "noise": 0.1,
        "prior": np.ones(2), "theta_prior": {"a": norm(0.0, 1.0)},
        "particles": 4, "inner": Settings(particles=8), "moves": 1, "batch": 4, "draws": 1,
    }  # fmt: skip
    return HierarchicalSMC(**parts | given)


SAMPLERS = [
    ({"forward": changed_far_away}, "forward"),
    ({"data": np.array([1.0, 2.0, 0.6])}, "data"),
    ({"noise": 0.2}, "data, noise"),  # data are in units of the noise
    ({"prior": 2.0 * np.ones(2)}, "prior"),
    ({"bounds": (-1.0, 1.0)}, "bounds"),
    ({"moves": 2}, "moves"),
    ({"inner": Settings(particles=9)}, "inner"),
]


def test_samplers_are_told_by_all_that_they_are_given(tmp_path: Path):
    """What is said of them by name; nothing is sampled."""
    path = tmp_path / "run.h5"
    samplers.States.start(path, lambda: sampler()._made_with(0)).close()
    for given, named in SAMPLERS:
        with pytest.raises(DataError, match=f"other inputs than now: other .*{named}.*;"):
            sampler(**given).run(journal=path, progress=False)
    with pytest.raises(DataError, match="other inputs than now: other seed;"):
        sampler().run(seed=1, journal=path, progress=False)
    # And nothing else is named.
    with pytest.raises(DataError, match="than now: other forward; give"):
        sampler(forward=changed_far_away).run(journal=path, progress=False)


@pytest.mark.parametrize("run", [
    lambda path: sampler().run(journal=path, progress=False),
    lambda path: select(DenseCovariance(np.eye(4).reshape(2, 2, 2, 2)), 1.0, 1, journal=path),
    lambda path: place_sensors(MAP, PRIOR, 0.1, 2, random=0, journal=path),
    lambda path: place_sensors(MAP, PRIOR, 0.1, 2, random=0, store=path),
    lambda path: inverted(path),
    lambda path: pag.lti.LinearInversion(MAP, PRIOR, 0.1).save(path),
    MAP.save,
])  # fmt: skip
def test_where_nothing_can_be_written(run: Any, tmp_path: Path, unsolved: None, monkeypatch):
    """Known before anything is computed."""
    monkeypatch.setattr(PseudoMarginal, "first", None)
    with pytest.raises(DataError, match=r"cannot .*no such directory '.*none'"):
        run(tmp_path / "none" / "run.h5")
    with pytest.raises(DataError, match="is a directory"):
        run(tmp_path)


def test_two_outputs_in_one_file(tmp_path: Path):
    with pytest.raises(DataError, match=r"journal: .* is the same file as store"):
        place_sensors(MAP, PRIOR, 0.1, 2, store=tmp_path / "k.h5", journal=tmp_path / "k.h5")


# Rows and selections


def test_rows_of_a_model_of_the_users_are_told_by_its_code(tmp_path: Path):
    path = tmp_path / "rows.h5"

    class Shallow(ShallowWater):
        scale = 1.0

    def column(kind: Any, **options: Any) -> Any:
        model = kind(pag.Grid((7, 12), (0.7, 1.2)), 0.04, 24, source="cells", every=4)
        where = [[0.21, 0.33]]
        return pag.block_column(model, {"depth": 0.07}, where, journal=path, **options)

    first = column(Shallow)
    Shallow.scale = 2.0
    with pytest.raises(DataError, match="other inputs than now: other model;"):
        column(Shallow)
    anew = column(Shallow, overwrite=True)
    assert anew["response"].values.tobytes() == first["response"].values.tobytes()


def test_of_a_covariance_of_the_users_a_doubt_is_said(tmp_path: Path):
    """And gains that are found again tell another one still."""

    class Theirs:
        def __init__(self, array: np.ndarray):
            self.array, self.candidates, self.steps = array, *array.shape[:2]

        diagonal, row = DenseCovariance.diagonal, DenseCovariance.row

    path = tmp_path / "order.h5"
    root = np.random.default_rng(1).standard_normal((12, 12))
    x = (root @ root.T).reshape(4, 3, 4, 3)
    weaker = x.copy()
    for a in range(4):
        for b in set(range(4)) - {a}:
            weaker[a, :, b] *= 0.9
    with pytest.warns(JournalWarning, match=r"by its diagonal blocks alone: Theirs has no"):
        select(Theirs(x), 0.3, 3, journal=path)
    with pytest.warns(JournalWarning), pytest.raises(DataError, match="another covariance; sensor"):
        select(Theirs(weaker), 0.3, 3, journal=path)
    with pytest.warns(JournalWarning), pytest.raises(DataError, match="other covariance;"):
        select(Theirs(2.0 * x), 0.3, 3, journal=path)


def test_a_placement_is_told_by_its_map_and_prior(tmp_path: Path):
    files = {"store": tmp_path / "k.h5", "journal": tmp_path / "order.h5", "random": 0}
    first = place_sensors(MAP, PRIOR, 0.1, 2, **files)
    again = place_sensors(MAP, PRIOR, 0.1, 2, **files)
    np.testing.assert_array_equal(again["gain"], first["gain"])
    wider = Independent(2.0)
    with pytest.raises(DataError, match=r"k\.h5: .* other prior;"):
        place_sensors(MAP, wider, 0.1, 2, **files)
    with pytest.raises(DataError, match=r"k\.h5: .* other map;"):
        place_sensors(MAP.select([1, 0, 2, 3]), PRIOR, 0.1, 2, **files)
    with pytest.raises(DataError, match=r"order\.h5: .* other noise;"):
        place_sensors(MAP, PRIOR, 0.2, 2, **files)
    anew = place_sensors(MAP, wider, 0.1, 2, overwrite=True, **files)
    assert np.all(anew["gain"] > first["gain"])
