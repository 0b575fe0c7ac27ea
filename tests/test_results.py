"""What every public function returns can be drawn, saved, read back and drawn again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from placement_files import BARE
from placement_files import RUN_FILE as PLACEMENT
from slip_files import FIXED, write

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.lti import LinearInversion, ToeplitzMap
from pyadjoint_gpu.placement import place_sensors
from pyadjoint_gpu.plots.accessor import _kind
from pyadjoint_gpu.runfiles import placement_run as case
from pyadjoint_gpu.runfiles import sampling_run as slip
from pyadjoint_gpu.runfiles.schema import read
from pyadjoint_gpu.sampling import (
    HierarchicalSMC,
    LinearSMC,
    SamplingWarning,
    Settings,
)
from pyadjoint_gpu.statistics import Independent, Matern, Prior

GRID = pag.Grid((6, 8), (1.0, 1.5))
LINE = pag.Grid((8,), (1.0,))
POINTS = [[0.3, 0.2], [0.6, 1.1], [0.8, 0.7]]
SMALL = Settings(particles=16, moves=1, leapfrogs=2)


def darcy(grid: pag.Grid = GRID) -> pag.models.Darcy:
    middle, end = ((0.3,), (0.8,)) if grid is LINE else ((0.3, 0.3), (0.7, 1.2))
    return pag.models.Darcy(grid, wells=[pag.Well(middle, 1.0), pag.Well(end, -1.0)])


def observed(grid: pag.Grid = GRID) -> xr.Dataset:
    points = [[0.3], [0.5], [0.9]] if grid is LINE else POINTS
    return pag.synthetic.observe(darcy(grid), {"permeability": 2.0}, points, engine="embedded")


def problem(grid: pag.Grid = GRID, **options: Any) -> pag.Problem:
    seen = observed(grid)
    control = pag.Control("permeability", initial=1.0, transform="log", truth=2.0, **options)
    return pag.Problem(darcy(grid), [control], pag.LeastSquares(seen), engine="embedded")


def water(source: object) -> pag.models.ShallowWater:
    grid = pag.Grid((6, 8), (6.0, 8.0))
    return pag.models.ShallowWater(grid, 0.05, 20, every=4, source=source)


def column(source: object = "cells") -> xr.Dataset:
    return _column(json.dumps(source))


@cache
def _column(text: str) -> xr.Dataset:
    """Solved once a source."""
    source = json.loads(text)
    sensors = [[y, x] for y in (1.5, 4.0) for x in (2.0, 5.0, 7.0)]
    return pag.block_column(water(source), {"depth": 1.0}, sensors, engine="embedded")


def linear(source: object = "cells") -> tuple[ToeplitzMap, Prior]:
    prior = Independent(0.5) if isinstance(source, list) else Matern(0.5, 2.0)
    return ToeplitzMap.of(column(source)), prior


def plain() -> tuple[ToeplitzMap, Prior]:
    """From arrays: neither units nor positions."""
    blocks = np.random.default_rng(0).normal(size=(4, 5, 7))
    return ToeplitzMap.of(blocks), Independent(1.0)


BOX = {"low": [1.0, 1.0], "high": [4.0, 6.0]}
PLACES = [[1.0, 1.0], [3.0, 3.0], [5.0, 6.5]]


def inferred(known: int | None = None) -> xr.Dataset:
    of, prior = linear()
    found = LinearInversion(of.select([0, 1, 2, 3]), prior, 0.01, of.select([4, 5]))
    data = 0.1 * np.random.default_rng(0).normal(size=(of.steps, 4))
    return found.infer(data, known)


def streamed() -> xr.Dataset:
    stream = LinearInversion(*plain(), 0.1).stream()
    return stream.update(np.ones((2, 5)))


def resumed(folder: Path) -> xr.Dataset:
    path = folder / "run.h5"
    pag.invert(problem(), journal=path, max_iterations=1, progress=False)
    return pag.resume(path, max_iterations=2)


def waves(theta):
    x = np.linspace(0.0, 1.0, 12)
    return np.stack([np.cos(float(theta["slope"]) * x), float(theta["start"]) + x], axis=1)


def hierarchical() -> xr.Dataset:
    priors = {"slope": scipy.stats.norm(0.0, 1.0), "start": scipy.stats.norm(0.0, 2.0)}
    data = np.sin(np.linspace(0.0, 1.0, 12))
    smc = HierarchicalSMC(
        waves, data, 0.2, np.ones(2), priors, particles=16, moves=1, inner=SMALL, batch=16
    )
    return smc.run(progress=False)


def linear_smc() -> xr.Dataset:
    green = np.random.default_rng(0).normal(size=(12, 6))
    return LinearSMC(green, green.sum(axis=1), 0.2, np.ones(6), settings=SMALL).run()


def problem_smc() -> xr.Dataset:
    return pag.sample(problem(prior=pag.Matern(sd=0.5, length=0.5)), particles=8, progress=False)


def around() -> xr.Dataset:
    asked = problem(prior=pag.Matern(sd=0.5, length=0.5))
    best = pag.invert(asked, tolerance=1e-5, max_iterations=200, progress=False)
    return pag.laplace(asked, best, rank=8, draws=2, predict=[(0.5, 0.5)], progress=False)


def slip_run(folder: Path) -> xr.Dataset:
    write(folder)
    return slip.run(read(folder / "run.toml", FIXED).build())


def placed(folder: Path, text: str) -> xr.Dataset:
    (folder / "run.toml").write_text(text)
    return case.run(read(folder / "run.toml").build(), progress=False)


def at_many_times() -> xr.Dataset:
    model = pag.models.ShallowWater(pag.Grid((6, 8), (6.0, 8.0)), 0.05, 20, every=4, source="cells")
    points = [[t, y, x] for t in (0.4, 0.8) for y, x in ((2.0, 3.0), (4.0, 6.0))]
    given = {"depth": 1.0, "source": 0.1}
    return pag.synthetic.observe(model, given, points, engine="embedded")


RESULTS: dict[str, tuple[str, Callable[[Path], xr.Dataset]]] = {
    "solve": ("forward", lambda _: pag.solve(darcy(), {"permeability": 2.0}, engine="embedded")),
    "solve, 1-D": ("forward", lambda _: pag.solve(darcy(LINE), {"permeability": 2.0})),
    "solve, in time": (
        "forward",
        lambda _: pag.solve(water("cells"), {"depth": 1.0, "source": 0.1}),
    ),
    "value_and_gradient": ("gradient", lambda _: problem().value_and_gradient()[1]),
    "invert": ("inversion", lambda _: pag.invert(problem(), max_iterations=2, progress=False)),
    "invert, 1-D": (
        "inversion",
        lambda _: pag.invert(problem(LINE), max_iterations=2, progress=False),
    ),
    "resume": ("inversion", resumed),
    "observe": ("observations", lambda _: observed()),
    "observe, 1-D": ("observations", lambda _: observed(LINE)),
    "observe, in time": ("observations", lambda _: at_many_times()),
    "block_column": ("block-column", lambda _: column()),
    "block_column, box": ("block-column", lambda _: column(BOX)),
    "block_column, points": ("block-column", lambda _: column(PLACES)),
    "infer": ("linear-inversion", lambda _: inferred()),
    "infer, early": ("linear-inversion", lambda _: inferred(3)),
    "stream": ("linear-inversion", lambda _: streamed()),
    "place_sensors": ("placement", lambda _: place_sensors(*linear(), 0.01, 3, existing=[2])),
    "place_sensors, box": ("placement", lambda _: place_sensors(*linear(BOX), 0.01, 3)),
    "place_sensors, points": (
        "placement",
        lambda _: place_sensors(*linear(PLACES), 0.01, 2, forbidden=[0]),
    ),
    "place_sensors, arrays": ("placement", lambda _: place_sensors(*plain(), 0.1, 2)),
    "place": ("placement", lambda folder: placed(folder, PLACEMENT)),
    "place, no trial": ("placement", lambda folder: placed(folder, BARE)),
    "HierarchicalSMC": ("sampling", lambda _: hierarchical()),
    "LinearSMC": ("sampling", lambda _: linear_smc()),
    "SMC": ("sampling", lambda _: problem_smc()),
    "laplace": ("laplace", lambda _: around()),
    "run, slip": ("sampling", slip_run),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RESULTS)
def test_every_result_is_drawn_saved_and_drawn_again(name: str, tmp_path: Path):
    kind, make = RESULTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        result = make(tmp_path)
    assert result.attrs["kind"] == result.pag.kind == kind
    if kind != "gradient":  # as files of old, which have no such attribute
        assert _kind(result.drop_attrs()) == kind
    figure = result.pag.plot(tmp_path / "first.png")
    assert [ax.get_title() for ax in figure.axes if ax.has_data()]
    result.pag.save(tmp_path / "result.nc")
    again = xr.load_dataset(tmp_path / "result.nc")
    assert again.attrs["kind"] == again.pag.kind == kind
    assert set(again.variables) == set(result.variables)
    for variable in result.variables:
        np.testing.assert_array_equal(again[variable].values, result[variable].values)
    again.pag.plot(tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "first.png").read_bytes()


def test_the_command_line_draws_any_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    place_sensors(*plain(), 0.1, 2).pag.save(tmp_path / "result.nc")
    assert main(["plot", str(tmp_path / "result.nc")]) == 0
    assert "wrote" in capsys.readouterr().out
    assert (tmp_path / "result.png").stat().st_size > 5000


def test_a_variable_may_be_called_samples():
    data = xr.Dataset({"samples": ("x", [1.0]), "inversion": 2.0, "placement": 3.0})
    assert float(data.samples[0]) == 1.0
    assert (float(data.inversion), float(data.placement)) == (2.0, 3.0)


def test_what_is_no_result_is_not_drawn():
    with pytest.raises(pag.DataError, match="not a result of pyadjoint_gpu: it has no attribute"):
        xr.Dataset({"a": ("x", [1.0])}).pag.plot()
