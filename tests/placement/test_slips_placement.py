"""Common slips in placement and linear inversion: each is refused in one line that says where, what
was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from linear_systems import PLACES, SENSORS, STEPS, decaying, prior
from placement_files import RUN_FILE
from run_files import RUN_FILE as INVERSION
from slip_files import RUN_FILE as SLIP

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.geophysics import Rupture, continental_margin
from pyadjoint_gpu.lti import LinearInversion, ToeplitzMap
from pyadjoint_gpu.placement import information, place_sensors, placement_cost, select
from pyadjoint_gpu.statistics import Dense, DenseCovariance, Independent, SpaceTime

OF, BEFORE = decaying(SENSORS, 1), prior()
BLOCKS = OF.column.values
DATASET = OF.column.to_dataset(name="response")
BLIND = ToeplitzMap.of(np.zeros_like(BLOCKS))
TWICE = ToeplitzMap.of(BLOCKS[:, [0, 0, 1, 1]])
"""Two pairs of sensors at the same places: their data are redundant."""
BEYOND = np.eye(SENSORS * STEPS).reshape(SENSORS, STEPS, SENSORS, STEPS).copy()
"""Noise that is not of any data, but well where the first two sensors are."""
BEYOND[2, :, 3] = BEYOND[3, :, 2] = 2.0 * np.eye(STEPS)
DATA = np.ones((STEPS, SENSORS))
WHITE = DenseCovariance(np.einsum("ab,ij->aibj", np.eye(SENSORS), np.eye(STEPS)))
ARRAY = WHITE.array
INVERSE = LinearInversion(OF, BEFORE, 0.3)


def place(**given: Any) -> object:
    given = {"of": OF, "prior": BEFORE, "noise": 0.3, "budget": 2, "random": 1} | given
    first = [given.pop(k) for k in ("of", "prior", "noise", "budget")]
    return place_sensors(*first, **given)


def invert(of: Any = OF, before: Any = BEFORE, noise: Any = 0.3, **given: Any) -> object:
    return LinearInversion(of, before, noise, **given)


MAP = "expected a ToeplitzMap; ToeplitzMap.of makes one"
PRIOR = r"expected a prior, such as SpaceTime\(Matern\("
WHOLE = "expected a whole number from 1 to 4"
RUPTURE = {"centre": [1.0, 2.0], "uplift": 1.0, "length": 1.0, "width": 1.0, "speed": 1.0}

SLIPS: list[tuple[str, Callable[[], object], type[Exception], str]] = [
    # What belongs elsewhere
    ("array for map", lambda: place(of=BLOCKS), ConfigError, rf"of: found ndarray .*, {MAP}"),
    ("Dataset for map", lambda: place(of=DATASET), ConfigError, rf"of: found Dataset, {MAP}"),
    ("path for map", lambda: place(of="a.nc"), ConfigError, rf"of: found 'a.nc', {MAP}"),
    ("list for map", lambda: place(of=[1, 2]), ConfigError, rf"of: found \[1, 2\], {MAP}"),
    (
        "array for prior",
        lambda: place(prior=np.eye(2)),
        ConfigError,
        rf"prior: found ndarray of shape .*{PRIOR}",
    ),
    ("no prior", lambda: place(prior=None), ConfigError, rf"prior: found None, {PRIOR}"),
    ("swapped", lambda: place(of=BEFORE, prior=OF), ConfigError, r"of: found Separable"),
    ("array for map, inversion", lambda: invert(BLOCKS), ConfigError, rf"of: found ndarray.*{MAP}"),
    (
        "array for prior, inversion",
        lambda: invert(OF, np.eye(7)),
        ConfigError,
        rf"prior: .*{PRIOR}",
    ),
    ("array for forecast", lambda: invert(forecast=BLOCKS), ConfigError, rf"forecast: .*{MAP}"),
    ("Dataset for forecast", lambda: invert(forecast=DATASET), ConfigError, rf"forecast: .*{MAP}"),
    (
        "array to select",
        lambda: select(ARRAY, 0.3, 2),
        ConfigError,
        r"covariance: found ndarray .*"
        r"expected a Covariance; DenseCovariance",
    ),
    ("map to select", lambda: select(OF, 0.3, 2), ConfigError, "covariance: found ToeplitzMap"),
    (
        "array as conditional",
        lambda: select(WHITE, 0.3, 2, conditional=ARRAY),
        ConfigError,
        "conditional: found ndarray",
    ),
    (
        "array to information",
        lambda: information(ARRAY, 0.3, [[0]]),
        ConfigError,
        "covariance: foun",
    ),
    (
        "Grid for a prior",
        lambda: SpaceTime(pag.Grid((3,), (1.0,))),
        ConfigError,
        "prior.space: found Grid, expected a Prior",
    ),
    (
        "number for grid",
        lambda: continental_margin(3),
        ConfigError,
        "grid: found 3, expected a Grid",
    ),
    (
        "number for machine",
        lambda: placement_cost(9, 5, 2).seconds(3),
        ConfigError,
        "machine: found 3, expected a Machine",
    ),
    (
        "number for comm",
        lambda: place(comm=3),
        ConfigError,
        "comm: found 3, expected a communicator",
    ),
    ("text for lazy", lambda: place(lazy="yes"), ConfigError, "lazy: found 'yes', expected True"),
    ("number for store", lambda: place(store=3), ConfigError, "store: found 3, expected a path"),
    (
        "number for journal",
        lambda: place(journal=3),
        ConfigError,
        "journal: found 3, expected a path",
    ),
    ("number for path", lambda: ToeplitzMap.read(3), ConfigError, "path: found 3, expected a path"),
    # Steps and sizes
    (
        "other steps",
        lambda: place(prior=Independent(1.0).on((5, PLACES))),
        DataError,
        r"prior: found 5 times and places \(7,\), the map has 6 and \(7,\)",
    ),
    (
        "other steps, forecast",
        lambda: invert(forecast=ToeplitzMap.of(BLOCKS[:5])),
        DataError,
        "prior: found 6 times .* 'forecast' has 5",
    ),
    (
        "other steps, goal",
        lambda: place(goal=ToeplitzMap.of(BLOCKS[:5])),
        DataError,
        "'goal' has 5",
    ),
    # Covariances
    (
        "asymmetric covariance",
        lambda: place(prior=Dense(np.triu(np.ones((7, 7))))),
        DataError,
        "prior.covariance: the covariance is not symmetric",
    ),
    (
        "covariance is NaN",
        lambda: place(prior=Dense(np.full((3, 3), np.nan))),
        DataError,
        "prior.covariance: 9 values are not finite",
    ),
    (
        "no covariance",
        lambda: place(prior=Dense([])),
        DataError,
        r"prior.covariance: found shape \(0,\), expected \(7, 7\)",
    ),
    (
        "correlation of other length",
        lambda: place(prior=SpaceTime(Independent(1.0), correlation=[1, 0.5])),
        DataError,
        r"prior.correlation: found shape \(2,\), expected \(6,\), from 1",
    ),
    # Noise
    (
        "noise too small for the rank",
        lambda: place(of=TWICE, noise=1e-9, budget=4),
        DataError,
        r"noise: found 1e-09, too small beside what sensors see .* expected \S+ or more",
    ),
    (
        "the same, inversion",
        lambda: invert(TWICE, noise=1e-9),
        DataError,
        r"noise: found 1e-09, too small beside what sensors see .* expected \S+ or more",
    ),
    (
        "indefinite beyond the chosen",
        lambda: place(noise=BEYOND, forbidden=[2, 3]),
        DataError,
        "noise: it is not positive definite",
    ),
    (
        "the same, inversion",
        lambda: invert(noise=BEYOND),
        DataError,
        "noise: it is not positive def",
    ),
    ("no noise", lambda: place(noise=None), DataError, "noise: found None, expected real numbers"),
    (
        "noise of text",
        lambda: place(noise="0.3"),
        DataError,
        "noise: found '0.3', expected real numbers",
    ),
    (
        "complex noise",
        lambda: place(noise=np.full(4, 1j)),
        DataError,
        "noise: found complex numbers, expected real numbers",
    ),
    (
        "noise of a Dataset",
        lambda: place(noise=xr.Dataset({"a": 1.0})),
        DataError,
        "noise: found Dataset, expected real numbers",
    ),
    (
        "noise of another shape",
        lambda: place(noise=np.ones(3)),
        DataError,
        r"found shape \(3,\), exp",
    ),
    (
        "negative noise",
        lambda: invert(noise=-0.1),
        DataError,
        "noise: found -0.1, expected values > 0",
    ),
    ("noise is NaN", lambda: invert(noise=np.nan), DataError, "noise: 1 values are not finite"),
    # Budgets and networks
    ("budget 0", lambda: place(budget=0), ConfigError, f"budget: found 0, {WHOLE}"),
    ("budget -1", lambda: place(budget=-1), ConfigError, f"budget: found -1, {WHOLE}"),
    ("budget 1.5", lambda: place(budget=1.5), ConfigError, rf"budget: found 1\.5, {WHOLE}"),
    ("budget above", lambda: place(budget=5), ConfigError, f"budget: found 5, {WHOLE}"),
    ("budget '2'", lambda: place(budget="2"), ConfigError, f"budget: found '2', {WHOLE}"),
    ("no budget", lambda: place(budget=None), ConfigError, f"budget: found None, {WHOLE}"),
    (
        "none left",
        lambda: place(forbidden=[0, 1, 2, 3]),
        ConfigError,
        "forbidden: no candidate is left",
    ),
    (
        "existing of two lengths",
        lambda: place(existing=[[0], [1, 2]]),
        ConfigError,
        r"existing: found \[\[0\], \[1, 2\]\], expected indices",
    ),
    (
        "existing by name",
        lambda: place(existing=["a"]),
        ConfigError,
        r"existing: found \['a'\], exp",
    ),
    (
        "existing as a mask",
        lambda: place(existing=[True, False, False, False]),
        ConfigError,
        "existing: found .*expected indices",
    ),
    (
        "costs are NaN",
        lambda: place(costs=np.full(4, np.nan), budget=2.0),
        DataError,
        "costs: 4 values",
    ),
    (
        "costs of another shape",
        lambda: place(costs=[1.0], budget=2.0),
        DataError,
        "costs: found shape",
    ),
    (
        "designs of two lengths",
        lambda: information(WHITE, 0.3, [[0], [1, 2]]),
        ConfigError,
        r"designs: found \[\[0\], \[1, 2\]\], expected indices of shape \(R, k\)",
    ),
    (
        "random 1.5",
        lambda: place(random=1.5),
        ConfigError,
        r"random: found 1\.5, expected a whole num",
    ),
    (
        "seed -1",
        lambda: place(seed=-1),
        ConfigError,
        "seed: found -1, expected a whole number >= 0",
    ),
    (
        "seed 1.5",
        lambda: place(seed=1.5),
        ConfigError,
        r"seed: found 1\.5, expected a whole number",
    ),
    (
        "seed None",
        lambda: place(seed=None),
        ConfigError,
        "seed: found None, expected a whole number",
    ),
    # Goals, and what sees nothing
    ("goal by name", lambda: place(goal="coast"), DataError, "goal: .*found 'coast'"),
    ("goal by number", lambda: place(goal=[0, 1]), DataError, r"goal: .*found \[0, 1\]"),
    (
        "goal of numbers",
        lambda: place(goal=np.ones(PLACES)),
        DataError,
        r"places: expected \(7,\) true",
    ),
    (
        "candidates see nothing",
        lambda: place(of=BLIND),
        DataError,
        "candidates see nothing of what is",
    ),
    (
        "candidates see nothing of the goal",
        lambda: place(goal=BLIND),
        DataError,
        "see nothing of what",
    ),
    (
        "weights where nothing is seen",
        lambda: place(
            of=ToeplitzMap.of(BLOCKS * (np.arange(7) > 0)), weights=1.0 * (np.arange(7) == 0)
        ),
        DataError,
        "candidates see nothing of what is asked for",
    ),
    (
        "weights of text",
        lambda: place(weights="x"),
        DataError,
        "weights: found 'x', expected real numbers",
    ),
    # Maps and data
    (
        "map of numbers",
        lambda: ToeplitzMap.of([1, 2, 3]),
        DataError,
        r"found shape \(3,\), expected \(",
    ),
    (
        "complex map",
        lambda: ToeplitzMap.of(1j * BLOCKS),
        DataError,
        "block column: found values that",
    ),
    (
        "map of nothing",
        lambda: ToeplitzMap.of(np.ones((0, 2, 2))),
        DataError,
        "block column: found shap",
    ),
    (
        "map of another variable",
        lambda: ToeplitzMap.of(xr.Dataset({"respons": 1.0})),
        DataError,
        "no variable 'response'",
    ),
    ("text to a product", lambda: OF.matvec("x"), DataError, "m: found 'x', expected real numbers"),
    (
        "Dataset as data",
        lambda: INVERSE.infer(DATASET),
        DataError,
        "data: found Dataset, expected real num",
    ),
    (
        "text as data",
        lambda: INVERSE.infer("x"),
        DataError,
        "data: found 'x', expected real numbers",
    ),
    (
        "complex data",
        lambda: INVERSE.infer(1j * DATA),
        DataError,
        "data: found complex numbers, expected real numbers",
    ),
    (
        "data turned round",
        lambda: INVERSE.infer(DATA.T),
        DataError,
        r"data: found shape \(4, 6\), expec",
    ),
    (
        "until 2.0",
        lambda: INVERSE.infer(DATA, 2.0),
        ConfigError,
        r"until: found 2\.0, expected a positi",
    ),
    (
        "no data to a stream",
        lambda: INVERSE.stream().update(DATA[:0]),
        DataError,
        r"found shape \(0, 4\)",
    ),
    ("seed of draws", lambda: INVERSE.draws(DATA, 2, seed=-1), ConfigError, "seed: found -1"),
    (
        "draws of a prior",
        lambda: BEFORE.draw(1.5),
        ConfigError,
        r"count: found 1\.5, expected a posit",
    ),
    ("no forecast", lambda: INVERSE.forecast_covariance(), ConfigError, "forecast: there is none"),
    (
        "uplift of text",
        lambda: Rupture(**RUPTURE | {"uplift": "x"}, rise_time=1.0),
        ConfigError,
        "uplift: found 'x', expected a number",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [s[1:] for s in SLIPS], ids=[s[0] for s in SLIPS]
)
def test_a_slip_is_refused_in_one_line(call: Callable, error: type[Exception], message: str):
    with pytest.raises(error, match=message) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 300
    assert type(caught.value) is error


FILES: list[tuple[str, str, list[str], str]] = [
    ("place", SLIP, [], r"run\.toml: a run file of fault slip, for `pyadjoint-gpu run`"),
    ("place", INVERSION, [], r"run\.toml: a run file of an inversion, for `pyadjoint-gpu run`"),
    ("run", RUN_FILE, [], r"run\.toml: a run file of sensor placement, for `pyadjoint-gpu place`"),
    (
        "check",
        RUN_FILE,
        [],
        r"run\.toml: a run file of sensor placement, for `pyadjoint-gpu place`",
    ),
    ("place", RUN_FILE, ["placement.bugdet=2"], r"placement\.bugdet: .*did you mean 'budget'"),
    ("place", RUN_FILE, ["placement.rndom=2"], r"placement\.rndom: .*did you mean 'random'"),
    (
        "place",
        RUN_FILE,
        ["sensors.candidate=1"],
        r"sensors\.candidate: .*did you mean 'candidates'",
    ),
    ("place", RUN_FILE, ["sensors.sigmas=1"], r"sensors\.sigmas: .*did you mean 'sigma'"),
    ("place", RUN_FILE, ["sensors.exsiting=[1]"], r"sensors\.exsiting: .*did you mean 'existing'"),
    ("place", RUN_FILE, ["placment.budget=1"], r"placment: unknown key; did you mean 'placement'"),
]


@pytest.mark.parametrize(("command", "text", "overrides", "message"), FILES)
def test_a_slip_at_the_command_line(
    command: str, text: str, overrides: list[str], message: str, folder: Path, refused: Callable
):
    (folder / "run.toml").write_text(text)
    settings = [a for o in overrides for a in ("--set", o)]
    refused([command, "run.toml", *settings], message)


def test_a_sensor_that_adds_nothing_is_named():
    blind = BLOCKS.copy()
    blind[:, 2] = 0.0
    found = place_sensors(ToeplitzMap.of(blind), BEFORE, 0.3, 4, random=1)
    assert found["order"].values[-1] == 2
    assert found.attrs["warnings"].startswith("sensors 2: chosen, but they add no information")
    assert "warnings" not in place_sensors(OF, BEFORE, 0.3, 4, random=1).attrs
