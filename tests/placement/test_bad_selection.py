"""What a selection of sensors refuses."""

from __future__ import annotations

import numpy as np
import pytest
from selections import C, T, smooth

from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.placement.information import information
from pyadjoint_gpu.placement.selection import select
from pyadjoint_gpu.statistics.covariance import DenseCovariance

SIZED = DenseCovariance(np.einsum("ab,ij->aibj", np.eye(C), np.eye(T + 1)))
NAN = smooth().array.copy()
NAN[2, 1, 3, 0] = NAN[3, 0, 2, 1] = np.nan
SKEW = smooth().array.copy()
SKEW[2, 1, 3, 0] += 1.0


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"budget": 0}, ConfigError, "budget: found 0, expected a whole number from 1 to 9"),
        ({"budget": 10}, ConfigError, "budget: found 10, expected a whole number from 1 to 9"),
        ({"budget": 8, "forbidden": [1], "existing": [2]}, ConfigError, "from 1 to 7"),
        ({"budget": 2.5}, ConfigError, "budget: found 2.5, expected a whole number"),
        ({"budget": True}, ConfigError, "budget: found True"),
        ({"budget": np.nan, "costs": np.ones(C)}, ConfigError, "budget: found nan, expected a"),
        ({"budget": -1.0, "costs": np.ones(C)}, ConfigError, "budget: found -1.0, expected a"),
        ({"budget": 0.5, "costs": np.ones(C)}, ConfigError, "0.5 is not enough for any sensor"),
        ({"existing": [9]}, ConfigError, "existing: found 9, expected indices from 0 to 8"),
        ({"existing": [-1]}, ConfigError, "existing: found -1, expected indices from 0 to 8"),
        ({"existing": [1, 1]}, ConfigError, "existing: a sensor is named twice"),
        ({"existing": [1.5]}, ConfigError, r"existing: found \[1.5\], expected indices"),
        ({"forbidden": 3}, ConfigError, "forbidden: found 3, expected indices"),
        ({"forbidden": [1, 2], "existing": [2]}, ConfigError, "forbidden: sensor 2 is one of"),
        ({"costs": np.r_[-1.0, np.ones(8)]}, DataError, "costs: found -1, expected values > 0"),
        ({"costs": np.ones(4)}, DataError, r"costs: found shape \(4,\), expected \(9,\)"),
        ({"costs": "cheap"}, DataError, "costs: found 'cheap', expected real numbers"),
        ({"costs": np.full(C, np.inf)}, DataError, "costs: 9 values are not finite"),
        ({"noise": 0.0}, DataError, "noise: found 0, expected values > 0"),
        ({"noise": -np.ones(C)}, DataError, "noise: found -1, expected values > 0"),
        ({"noise": np.nan}, DataError, "noise: 1 values are not finite"),
        ({"noise": np.ones(4)}, DataError, r"noise: found shape \(4,\), expected a number, \(9,"),
        ({"noise": np.ones((C, T, T))}, DataError, "noise: a covariance is not positive definite"),
        ({"noise": np.triu(np.ones((C, T, T)))}, DataError, "noise: a covariance is not symmet"),
        ({"noise": SKEW}, DataError, "noise: it is not symmetric"),
        ({"noise": np.ones((C, T, C, T))}, DataError, "noise: a covariance is not positive def"),
        (
            {
                "covariance": DenseCovariance(np.einsum("ab,ij->aibj", 9 * np.eye(C), np.eye(T))),
                "noise": np.einsum("ab,ij->aibj", 2.0 * np.ones((C, C)) - np.eye(C), np.eye(T)),
            },
            DataError,
            "noise: it is not positive definite",
        ),
        ({"conditional": SIZED}, DataError, "conditional: found 9 candidates and 5 steps, exp"),
        ({"conditional": NAN}, ConfigError, "conditional: found .* expected a Covariance"),
        ({"dtype": "half"}, ConfigError, "dtype: found 'half'"),
        ({"lazy": True, "noise": np.zeros(())}, DataError, "noise: found 0"),
        (
            {"lazy": True, "conditional": smooth()},
            ConfigError,
            "lazy: gains have no bounds with",
        ),
        (
            {"covariance": DenseCovariance(-smooth().array)},
            DataError,
            "covariance with noise: it is not positive definite",
        ),
    ],
)
def test_bad_input(given, error, message):
    given = {"covariance": smooth(), "noise": 0.3, "budget": 3} | given
    with pytest.raises(error, match=message):
        select(given.pop("covariance"), given.pop("noise"), given.pop("budget"), **given)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (NAN, "covariance: 2 values are not finite"),
        (SKEW, "covariance: it is not symmetric"),
        (np.ones((3, 4, 3)), r"covariance: found shape \(3, 4, 3\), expected \(C, T, C, T\)"),
        (np.ones((3, 4, 3, 5)), "covariance: found shape"),
        (np.ones((0, 4, 0, 4)), "covariance: found shape"),
        ("X", "covariance: found 'X', expected real numbers"),
    ],
)
def test_bad_covariances(array, message):
    with pytest.raises(DataError, match=message):
        DenseCovariance(array)


@pytest.mark.parametrize(
    ("designs", "message"),
    [
        ([[0, 9]], "designs: found 9, expected indices from 0 to 8"),
        ([[0, 0]], "designs: a sensor is named twice"),
        ([0, 1], r"designs: found shape \(2,\), expected \(R, k\)"),
        (np.zeros((0, 3)), r"designs: found shape \(0, 3\)"),
        ([[0.5, 1.0]], r"designs: found \[\[0\.5, 1\.0\]\], expected indices of shape"),
    ],
)
def test_bad_designs(designs, message):
    with pytest.raises(ConfigError, match=message):
        information(smooth(), 0.3, designs)
