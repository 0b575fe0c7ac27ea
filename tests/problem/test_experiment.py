"""A problem stated by its experiment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError

GRID = pag.Grid((5, 6), (1.0, 2.0))
MODEL = pag.models.Darcy(GRID, fixed_pressure={"x_min": 1.0, "x_max": 0.0})
CONTROL = pag.Control("permeability", 1.0, transform="log")


def misfit() -> pag.LeastSquares:
    points = [(0.2, 0.3), (0.5, 1.1), (0.8, 1.7)]
    truth = {"permeability": lambda y, x: 1.0 + x * y}
    return pag.LeastSquares(pag.synthetic.observe(MODEL, truth, points))


def test_it_is_the_problem_of_its_model_and_misfit_to_the_same_bits():
    data, known = misfit(), {"porosity": 0.2}
    plain = pag.Problem(MODEL, CONTROL, data, parameters=known)
    experiment = pag.Experiment(MODEL, data, known)
    other = pag.Problem(experiments={"pump A": experiment}, controls=[CONTROL])
    (a, slope), (b, other_slope) = (p.value_and_gradient() for p in (plain, other))
    assert a == b
    np.testing.assert_array_equal(slope["permeability"], other_slope["permeability"])
    assert repr(plain) == repr(other)
    assert other.model is MODEL
    assert other.misfit.size == 3
    np.testing.assert_array_equal(other.known["porosity"], plain.known["porosity"])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"experiments": {}}, "experiments: found none; one is possible"),
    ({"experiments": {"a": None, "b": None}}, "experiments: found 'a', 'b'; one is possible"),
    ({"model": MODEL, "experiments": {"a": None}}, "model: found beside experiments"),
    ({"misfit": abs, "experiments": {"a": None}}, "misfit: found beside experiments"),
    ({"parameters": {}, "experiments": {"a": None}}, "parameters: found beside experiments"),
    ({"experiments": {"a": MODEL}}, "experiments.a: found Darcy, expected .*Experiment"),
    ({}, "model: found NoneType, expected a Model"),
]


@pytest.mark.parametrize(("arguments", "pattern"), WRONG)
def test_what_is_not_one_experiment_is_refused(arguments: dict[str, Any], pattern: str):
    found = arguments.get("experiments")
    if found and None in found.values():
        arguments = arguments | {"experiments": {k: pag.Experiment(MODEL, abs) for k in found}}
    with pytest.raises(ConfigError, match=pattern):
        pag.Problem(controls=CONTROL, **arguments)
