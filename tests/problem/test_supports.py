"""Averages and integrals over boxes and spans of time, and the transpose of observations."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.problem.observation import LONGEST
from pyadjoint_gpu.problem.specification import build_problem, problem_parts, specification

GRID = pag.Grid((6, 8), (1.0, 2.0), (0.0, -1.0), units="km")
MODEL = pag.models.Darcy(GRID, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
Y, X = np.meshgrid(*GRID.centers, indexing="ij")
K = {"permeability": np.exp(0.5 * np.sin(2.0 * X) * np.cos(3.0 * Y))}
BOXES = {"y": [(0.1, 0.45), (0.5, 1.0), (0.0, 1.0)], "x": [(-1.0, 0.3), (0.2, 0.33), (-1.0, 1.0)]}
TIMED = pag.models.Transient(
    pag.models.Diffusion(pag.Grid(8, 1.0), {"x_min": 1.0}), 0.5, 6, every=2
)
SPANS = {"time": [(0.3, 2.7), (1.0, 1.5), (0.0, 3.0)], "x": [(0.1, 0.2), (0.0, 1.0), (0.3, 0.9)]}


def places(methods: str | None, units: str = "km", **ends: Any) -> xr.Dataset:
    """The middles of intervals and their bounds, and the methods."""
    data = xr.Dataset(attrs={} if methods is None else {"cell_methods": methods})
    for d, bounds in ends.items():
        array = np.array(bounds)
        about = {} if d == "time" else {"units": units}
        if array.ndim == 2:
            data[f"{d}_bounds"] = ("observation", "bounds"), array
            array, about = array.mean(axis=1), about | {"bounds": f"{d}_bounds"}
        data[d] = "observation", array, about
    return data


def seen(field: np.ndarray, at: Any, variable: str = "pressure", model: Any = MODEL) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(pag.Observation.at(model, variable, at)({variable: field}))


@pytest.mark.parametrize("shape", [(7,), (5, 6), (4, 5, 6)])
def test_points_see_linear_fields_and_what_is_constant_beyond_the_centres(shape: tuple[int, ...]):
    generator = np.random.default_rng(0)
    grid = pag.Grid(shape, [2.0] * len(shape), [-1.0] * len(shape))
    slope = generator.standard_normal(len(shape))
    field = sum(
        s * c for s, c in zip(slope, np.meshgrid(*grid.centers, indexing="ij"), strict=True)
    )
    inside = [(c[0], c[-1]) for c in grid.centers]
    points = generator.uniform(-1, 1, (50, len(shape)))
    model = pag.models.Diffusion(grid, {"x_min": 1.0})
    np.testing.assert_allclose(seen(np.ones(shape), points, "height", model), 1.0)
    value = seen(np.asarray(field), points, "height", model)
    clipped = np.stack([np.clip(p, *i) for p, i in zip(points.T, inside, strict=True)], axis=1)
    np.testing.assert_allclose(value, clipped @ slope, atol=1e-13)


def integral(field: np.ndarray, edges: tuple[np.ndarray, ...], box: Any) -> float:
    """Of a field with one value between edges, by its cumulative sums."""
    for (low, high), e in zip(box, edges, strict=True):
        widths = np.diff(e).reshape(-1, *(1 for _ in field.shape[1:]))
        total = np.concatenate([np.zeros((1, *field.shape[1:])), np.cumsum(field * widths, axis=0)])
        columns = total.reshape(len(e), -1).T
        ends = [[np.interp(end, e, column) for column in columns] for end in (low, high)]
        field = np.subtract(*ends[::-1]).reshape(field.shape[1:])
    return field.item()


def test_means_and_integrals_are_those_of_the_cells():
    field = np.random.default_rng(0).standard_normal(GRID.shape)
    total = [integral(field, GRID.faces, box) for box in zip(*BOXES.values(), strict=True)]
    area = np.prod([np.ptp(b, axis=1) for b in BOXES.values()], axis=0)
    np.testing.assert_allclose(seen(field, places("x: y: sum", **BOXES)), total, rtol=1e-13)
    for text in ("y: x: mean", "area: mean", "x: mean y: mean (of cells)"):
        np.testing.assert_allclose(seen(field, places(text, **BOXES)), total / area, rtol=1e-13)
    assert seen(field, places("area: mean", **BOXES))[2] == pytest.approx(field.mean(), rel=1e-13)


def test_means_of_polynomials_over_whole_cells():
    y, x = (np.array(b) for b in ([(0.0, 0.5), (1 / 6, 1.0)], [(-0.75, 0.0), (0.25, 1.0)]))
    at = places("x: y: mean", y=y, x=x)
    np.testing.assert_allclose(seen(2.0 * Y - X, at), 2.0 * y.mean(1) - x.mean(1), atol=1e-14)
    exact = np.diff(x**3, axis=1)[:, 0] / (3.0 * np.ptp(x, axis=1)) - 0.25**2 / 12.0
    np.testing.assert_allclose(seen(X**2, at), exact, atol=1e-14)


def test_a_box_that_is_a_cell_has_its_value():
    (low, high), field = (-0.25, 0.0), np.random.default_rng(0).standard_normal(GRID.shape)
    at = places("x: y: mean", y=[tuple(GRID.faces[0][2:4])], x=[(high, low)])
    assert seen(field, at)[0] == pytest.approx(field[2, 3], rel=1e-14)


def test_an_interval_along_one_axis_at_a_point_of_the_other():
    found = seen(3.0 * Y, places("x: mean", y=[0.4, 0.98], x=[(-0.3, 0.1), (0.5, 0.75)]))
    np.testing.assert_allclose(found, [1.2, 2.75], atol=1e-14)  # constant beyond the last centre
    both = places("x: point y: mean", y=[(0.0, 0.5)], x=[(-0.3, 0.1)])
    np.testing.assert_allclose(seen(3.0 * Y + X, both), [0.75 - 0.1], atol=1e-14)


def test_faces_have_the_dual_cells():
    field = np.random.default_rng(0).standard_normal((6, 9))
    y, x = GRID.faces[0], GRID.faces[1]
    edges = y, np.concatenate([x[:1], GRID.centers[1], x[-1:]])
    total = [integral(field, edges, box) for box in zip(*BOXES.values(), strict=True)]
    np.testing.assert_allclose(
        seen(field, places("x: y: sum", **BOXES), "flux_x"), total, rtol=1e-13
    )


def test_means_over_time_are_of_what_is_linear_between_states():
    times = TIMED.times
    linear = np.repeat((2.0 - 3.0 * times)[:, None], 8, axis=1)
    middles = np.mean(SPANS["time"], axis=1)
    at = places("time: mean", "m", **SPANS | {"x": [0.1, 0.5, 0.7]})
    np.testing.assert_allclose(seen(linear, at, "height", TIMED), 2.0 - 3.0 * middles, atol=1e-14)
    rough = np.random.default_rng(0).standard_normal((len(times), 8))
    fine = np.unique(np.concatenate([times, np.ravel(SPANS["time"])]))
    values = np.stack([np.interp(fine, times, c) for c in rough.T], axis=1)
    inside = [(fine >= a) & (fine <= b) for a, b in SPANS["time"]]
    spans = [np.trapezoid(values[i], fine[i], axis=0) for i in inside]
    faces = TIMED.grid.faces
    total = [integral(s, faces, [b]) for s, b in zip(spans, SPANS["x"], strict=True)]
    at = places("time: x: sum", "m", **SPANS)
    np.testing.assert_allclose(seen(rough, at, "height", TIMED), total, rtol=1e-13)


DOT = {
    "points": (MODEL, "pressure", [(0.2, -0.7), (0.2, -0.7), (0.95, 0.99)]),
    "faces": (MODEL, "flux_x", [(0.2, -0.7), (0.5, 1.0)]),
    "means": (MODEL, "pressure", places("area: mean", **BOXES)),
    "sums": (MODEL, "flux_y", places("area: sum", **BOXES)),
    "times": (TIMED, "height", [(0.3, 0.1), (3.0, 0.6)]),
    "spans": (TIMED, "height", places("time: x: mean", "m", **SPANS)),
    "fluxes": (TIMED, "flux_x", places("time: mean x: sum", "m", **SPANS)),
}


@pytest.mark.parametrize("name", DOT)
def test_the_transpose(name: str):
    model, variable, at = DOT[name]
    h = pag.Observation.at(model, variable, at)
    generator = np.random.default_rng(0)
    u, d = generator.standard_normal(h.shape), generator.standard_normal(h.size)
    with jax.enable_x64(True):
        forward, back = np.asarray(h({variable: u})), np.asarray(h.transposed(d))
        by_rows = np.stack([np.asarray(h.transposed(e)).ravel() for e in np.eye(h.size)])
    assert back.shape == u.shape
    assert abs(d @ forward - np.vdot(back, u)) <= 1e-14 * np.abs(back * u).sum()
    np.testing.assert_allclose(by_rows @ u.ravel(), forward, rtol=0, atol=1e-14 * np.abs(u).sum())


def test_long_rows_are_stored_in_pieces():
    h = pag.Observation.at(MODEL, "pressure", places("area: mean", **BOXES))
    assert h.indices.shape[1] == LONGEST
    assert np.array_equal(h.rows, [0, 1, 2, 2]), h.rows
    assert pag.Observation.at(MODEL, "pressure", [(0.2, 0.1)]).indices.shape == (1, 4)


# From files to problems


def problem(data: xr.Dataset, **options: Any) -> pag.Problem:
    return pag.Problem(
        MODEL,
        pag.Control("permeability", 1.0, transform="log"),
        pag.LeastSquares(data, **options),
        tolerance=1e-11,
    )


@pytest.fixture(scope="module", params=["mean", "sum"])
def data(request: pytest.FixtureRequest) -> xr.Dataset:
    return pag.synthetic.observe(MODEL, K, places(f"area: {request.param}", **BOXES), noise=0.0)


def same(a: Any, b: Any) -> bool:
    one, other = a.misfit.observation, b.misfit.observation
    return all(
        np.allclose(getattr(one, f.name), getattr(other, f.name), rtol=1e-13, atol=0.0)
        if isinstance(getattr(one, f.name), np.ndarray)
        else getattr(one, f.name) == getattr(other, f.name)
        for f in dataclasses.fields(one)
    )


def test_what_was_observed_is_read_back(data: xr.Dataset, tmp_path: Any):
    direct, own = problem(data), pag.Observation.at(MODEL, "pressure", data)
    assert np.array_equal(own.weights, direct.misfit.observation.weights)
    summed = data["pressure"].attrs["cell_methods"].endswith("sum")
    assert data["pressure"].attrs["units"] == ("Pa km2" if summed else "Pa") == own.units
    assert direct.evaluate(direct.theta(K)).misfit < 1e-12
    data.pag.save(tmp_path / "data.nc")
    for how in (True, "all"):
        with xr.open_dataset(tmp_path / "data.nc", decode_coords=how) as file:
            assert same(problem(file.load()), direct)
    assert same(build_problem(specification(direct)), direct)
    names = data.sizes, sorted(data.coords)
    assert names == ({"observation": 3, "bounds": 2}, ["x", "x_bounds", "y", "y_bounds"])


def test_other_units(data: xr.Dataset):
    """Of positions and bounds, and of integrals."""
    direct, units = problem(data), data["pressure"].attrs["units"]
    other = data.assign_coords({k: 1e3 * data[k] for k in ("x", "y", "x_bounds", "y_bounds")})
    for k in other.coords:
        other[k].attrs = data[k].attrs | {"units": "m"}
    del other["x_bounds"].attrs["units"]  # those of x, then
    if units == "Pa km2":
        for name in ("pressure", "pressure_sigma"):
            other[name] = (1e6 * data[name]).assign_attrs(data[name].attrs | {"units": "Pa m2"})
    found = problem(other)
    assert same(found, direct)
    assert found.evaluate(found.initial).misfit == pytest.approx(
        direct.evaluate(direct.initial).misfit, rel=1e-10
    )


def test_the_gradient_and_what_a_journal_depends_on(data: xr.Dataset):
    found = problem(data)
    assert pag.taylor_test(found).passed
    narrow = data.copy(deep=True)
    narrow["x_bounds"][1, 0] += 0.01
    before, after = (problem_parts(p)["misfit"][1]["support"] for p in (found, problem(narrow)))
    assert not np.array_equal(before.bounds, after.bounds)


def test_a_map_of_means_is_listed():
    y, x = (c.reshape(-1, 2).mean(axis=1) for c in GRID.centers)
    edges = [np.stack([f[:-2:2], f[2::2]], axis=1) for f in GRID.faces]
    field = np.random.default_rng(0).standard_normal(GRID.shape)
    coarse = field.reshape(3, 2, 4, 2).mean(axis=(1, 3))
    data = xr.Dataset(
        {"pressure": (("x", "y"), coarse.T, {"units": "Pa", "cell_methods": "area: mean"})},
        {
            "x": ("x", x, {"bounds": "x_bnds"}),
            "y": ("y", y, {"bounds": "y_bnds"}),
            "x_bnds": (("x", "n"), edges[1]),
            "y_bnds": (("y", "n"), edges[0][:, ::-1]),
        },
    )
    misfit = pag.LeastSquares(data, sigma=1.0).bind(MODEL)
    with jax.enable_x64(True):
        np.testing.assert_allclose(misfit.predict({"pressure": field}), misfit.observed, atol=1e-14)


def test_results_say_the_boxes(data: xr.Dataset):
    result = pag.invert(problem(data), max_iterations=1, progress=False)
    assert result["observation_x"].attrs["bounds"] == "observation_x_bounds"
    np.testing.assert_array_equal(result["observation_x_bounds"], BOXES["x"])
    method = data["pressure"].attrs["cell_methods"].split()[-1]
    for name in ("observed", "predicted"):
        said = result[name].attrs["cell_methods"]
        assert said == f"observation_y: observation_x: {method}"
    for figure in (result.pag.plot(), result.pag.plot(kind="residuals"), data.pag.plot()):
        drawn = [c for ax in figure.axes for c in ax.collections if isinstance(c, PolyCollection)]
        corners = [c.get_paths()[1].vertices for c in drawn if len(c.get_paths()) == 3]
        assert corners
        for box in corners:
            assert {tuple(v) for v in box} == {(x, y) for x in (0.2, 0.33) for y in (0.5, 1.0)}


RUN_FILE = """\
[grid]
shape = [6, 8]
extent = [1.0, 2.0]
origin = [0.0, -1.0]
units = "km"

[model]
name = "darcy"
fixed_pressure = {x_min = 1.0, x_max = 0.0}

[controls.permeability]
initial = 1.0
transform = "log"

[misfit]
observations = "data.nc"

[inversion]
max_iterations = 2

[output]
path = "result.nc"
journal = "result.h5"
"""


def test_a_run_file_and_its_journal(data: xr.Dataset, tmp_path: Any):
    data.pag.save(tmp_path / "data.nc")
    (tmp_path / "run.toml").write_text(RUN_FILE)
    assert main(["run", str(tmp_path / "run.toml"), "--quiet"]) in (0, 1)
    result = xr.load_dataset(tmp_path / "result.nc")
    expected = pag.invert(
        pag.Problem(
            MODEL, pag.Control("permeability", 1.0, transform="log"), pag.LeastSquares(data)
        ),
        max_iterations=2,
        progress=False,
    )
    np.testing.assert_array_equal(result["observation_y_bounds"], BOXES["y"])
    np.testing.assert_allclose(result["predicted"], expected["predicted"], rtol=1e-10)
    again = pag.resume(tmp_path / "result.h5", progress=False)
    np.testing.assert_array_equal(again["predicted"], result["predicted"])
    assert again["observed"].attrs == result["observed"].attrs


def outside() -> xr.Dataset:
    return places("area: mean", **BOXES | {"x": [(0.1, 0.2), (0.5, 1.1), (0.0, 0.1)]})


def empty() -> xr.Dataset:
    return places("area: mean", **BOXES | {"x": [(0.1, 0.2), (0.5, 0.5), (0.0, 0.1)]})


def moved() -> xr.Dataset:
    out = places("area: mean", **BOXES)
    return out.assign(x=out["x"].copy(data=[-0.5, 0.5, 0.0]))


def unknown() -> xr.Dataset:
    return places("area: mean", **BOXES).drop_vars("x_bounds")


def short() -> xr.Dataset:
    out = places("area: mean", **BOXES)
    return out.assign(x_bounds=out["x_bounds"][:, 0])


WRONG = {
    "outside": (outside, r"corner of point 1 \(.*x=1.1\) lies outside the grid"),
    "empty": (empty, "point 1: found x = 0.5 with bounds 0.5 and 0.5, expected two different"),
    "moved": (moved, r"point 1: found x = 0.5 with bounds 0.2 and 0.33, expected x between them"),
    "unknown": (unknown, "the bounds 'x_bounds' of 'x' are no variable"),
    "short": (short, r"the bounds 'x_bounds' of 'x' have shape \(3,\), expected \(3, 2\)"),
    "nothing said": (
        lambda: places(None, **BOXES),
        "coordinate 'y' has bounds, and cell_methods say nothing of it, expected 'x: y: mean'",
    ),
    "one axis": (
        lambda: places("y: mean", **BOXES),
        "'x' has bounds, and cell_methods say",
    ),
    "maximum": (lambda: places("area: maximum", **BOXES), "cell_methods say 'maximum'"),
    "nonsense": (lambda: places("mean over x", **BOXES), "found cell_methods 'mean over x'"),
    "no bounds": (
        lambda: places("area: sum", y=[0.5], x=[0.5]),
        "cell_methods say 'sum' of 'y', which has no bounds",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_box_is_refused(name: str):
    make, pattern = WRONG[name]
    with pytest.raises(DataError, match=re.compile(pattern)) as error:
        pag.synthetic.observe(MODEL, K, make())
    assert "\n" not in str(error.value)


def test_a_box_of_data_outside_is_called_by_its_own_number():
    data = outside().assign(pressure=("observation", [np.nan, 1.0, 2.0]))
    data["pressure"].attrs = {"units": "Pa", "cell_methods": "area: mean"}
    with pytest.raises(DataError, match=r"corner of observation 1 \("):
        problem(data, sigma=1.0)


def test_a_span_outside_the_times_is_refused():
    at = places("time: mean", "m", time=[(0.0, 1.0), (2.0, 4.0)], x=[0.2, 0.3])
    with pytest.raises(DataError, match=r"point 1 \(time=4\) lies outside the times of the state"):
        pag.Observation.at(TIMED, "height", at)


def test_an_integral_in_units_of_no_integral_is_refused():
    data = pag.synthetic.observe(MODEL, K, places("area: sum", **BOXES))
    data["pressure"].attrs["units"] = "Pa"
    with pytest.raises(DataError, match=r"'pressure' is in 'Pa', expected 'Pa km2'"):
        problem(data)
