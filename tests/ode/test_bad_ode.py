"""Bad input is refused by name, before anything is solved."""

from __future__ import annotations

from importlib import import_module

import jax.numpy as jnp
import numpy as np
import pytest

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, ConvergenceError, DataError
from pyadjoint_gpu.ode import Incompressible, Interval, PiecewisePolytrope, Polytrope

EOS = Polytrope(100.0, 2.0)
CRUST = PiecewisePolytrope.with_crust


def stars(eos=EOS, **centre):
    return pag.ode.stars(eos, **centre)


def fit(data=(1.0, 2.0), parameters=None, function=None, error=0.1, **options):
    parameters = {"a": (0.0, 1.0)} if parameters is None else parameters
    function = function or (lambda m: m["a"] * jnp.arange(1.0, 3.0))
    return pag.ode.fit(function, data, parameters, error=error, **options)


BAD = [
    (lambda: Polytrope(0.0, 2.0), ConfigError, r"K: found 0\.0, expected a positive number"),
    (lambda: Polytrope("a", 2.0), ConfigError, "K: found 'a'"),
    (lambda: Polytrope(1.0, 1.0), ConfigError, "gamma: found 1, expected an adiabatic index > 1"),
    (lambda: Polytrope(1.0, np.nan), ConfigError, "gamma: found nan"),
    (lambda: Incompressible(-1.0), ConfigError, "rho: found -1.*positive"),
    (lambda: PiecewisePolytrope(1.0, [2.0], []), ConfigError, "found 1 and 0 numbers"),
    (lambda: PiecewisePolytrope(1.0, [2, 3], [1, 2]), ConfigError, "found 2 and 2 numbers"),
    (lambda: PiecewisePolytrope(1.0, 2.0, [1.0]), ConfigError, r"gammas: found shape \(\)"),
    (lambda: PiecewisePolytrope(1.0, [2, "a"], [1.0]), DataError, "gammas.*real numbers"),
    (lambda: PiecewisePolytrope(1.0, [0.9, 2], [1.0]), ConfigError, "gammas: found 0.9, 2.*first"),
    (lambda: PiecewisePolytrope(1.0, [2, 1.0], [1.0]), ConfigError, "gammas.*the last > 1"),
    (lambda: PiecewisePolytrope(1.0, [2, -1, 2], [1, 2]), ConfigError, "gammas.*numbers > 0"),
    (lambda: PiecewisePolytrope(1.0, [2, 2, 2], [2, 1]), ConfigError, "densities.*ascending"),
    (lambda: PiecewisePolytrope(1.0, [2, 2], [0.0]), ConfigError, "densities: found 0, expected"),
    (lambda: CRUST(34.4, [3.0, 3.0]), ConfigError, "gammas: found 2 numbers, expected 3"),
    (lambda: CRUST(33.0, [3.0, 3.0, 3.0]), ConfigError, "log_pressure: found 33.*between 2.63e"),
    (lambda: CRUST("a", [3.0, 3.0, 3.0]), DataError, "log_pressure: found 'a'"),
    (lambda: EOS.log_enthalpy(), ConfigError, "density, pressure: found neither"),
    (lambda: EOS.log_enthalpy(density=1.0, pressure=1.0), ConfigError, "found both"),
    (lambda: Incompressible(1.0).log_enthalpy(density=1.0), ConfigError, "give the pressure"),
    (lambda: stars("polytrope", density=1.0), ConfigError, "eos: found str 'polytrope'"),
    (lambda: stars(Polytrope, density=1.0), ConfigError, "eos: found the class Polytrope"),
    (lambda: stars(), ConfigError, "stars: found none, expected one of log_enthalpy, density"),
    (lambda: stars(density=1, pressure=1), ConfigError, "stars: found density and pressure"),
    (lambda: stars(density=[1.0, 0.0]), DataError, "density: found 0, expected positive"),
    (lambda: stars(density=[1.0, np.nan]), DataError, "density: 1 values are not finite"),
    (lambda: stars(log_enthalpy="a"), DataError, "log_enthalpy: found 'a'"),
    (lambda: stars(log_enthalpy=[]), DataError, r"log_enthalpy: found shape \(0,\)"),
    (lambda: stars(log_enthalpy=np.ones((2, 2))), DataError, r"found shape \(2, 2\)"),
    (lambda: pag.ode.structure(EOS, 0.1, tolerance=0.0), ConfigError, "tolerance: found 0.0"),
    (lambda: pag.ode.mass_radius(EOS, 1), ConfigError, "n: found 1, expected a whole number >= 2"),
    (lambda: pag.ode.mass_radius(3), ConfigError, "eos: found int"),
    (lambda: Interval(1.0, 1.0), ConfigError, "low, high: found 1 and 1, expected low < high"),
    (lambda: Interval(0.0, 1.0, log=True), ConfigError, "low: found 0, expected a number > 0"),
    (lambda: Interval(0.0, "a"), ConfigError, "high: found 'a'"),
    (lambda: Interval(0.0, 1.0, shape=(0,)), ConfigError, "shape: found 0"),
    (lambda: fit(parameters=3), ConfigError, "parameters: found 3, expected a mapping"),
    (lambda: fit(parameters={}), ConfigError, "parameters: found none"),
    (lambda: fit(parameters={"a": 3}), ConfigError, r"parameters\.a: found 3.*\(low, high\)"),
    (lambda: fit(parameters={"a": (2, 1)}), ConfigError, r"parameters\.a: low, high: found 2"),
    (lambda: fit(parameters={"loss": (0, 1)}), ConfigError, r"parameters\.loss: the result has"),
    (lambda: fit(parameters={"data": (0, 1)}, function=lambda m: m["data"] * jnp.ones(2)),
     ConfigError, r"data\.data: a parameter"),
    (lambda: fit(data=(1.0, 0.0)), DataError, "data: found 0, which has no relative error"),
    (lambda: fit(data=(np.nan, np.nan)), DataError, "data: found none"),
    (lambda: fit(data=(np.inf, 1.0)), DataError, "data: found an infinite value"),
    (lambda: fit(data="a"), DataError, "data: found 'a'"),
    (lambda: fit(error=0.0), DataError, "error: found 0, expected positive"),
    (lambda: fit(error=[0.1] * 3), DataError, r"error: found shape \(3,\).*\(2,\) of data"),
    (lambda: fit(error={"b": 0.1}), ConfigError, "error: found b, expected data"),
    (lambda: fit(function=lambda m: m["a"]), DataError, r"function: returned shape \(\), data"),
    (lambda: fit(function=lambda m: m), DataError, "function: returned dict, expected an array"),
    (lambda: fit(data={"b": [1.0]}), DataError, "function: returned .*expected a mapping of b"),
    (lambda: fit(data={"b": [1.0]}, function=lambda m: m), DataError, "returned a, expected b too"),
    (lambda: fit(starts=0), ConfigError, "starts: found 0, expected a positive whole number"),
    (lambda: fit(starts={"b": [0.5]}), ConfigError, "starts: found b, expected a"),
    (lambda: fit(starts={"a": [0.5, 1.0]}), DataError, r"starts\.a: found 0.5 to 1.*inside 0 to 1"),
    (lambda: fit(starts={"a": 0.5}), DataError, r"starts\.a: found shape \(\), expected \(starts"),
    (lambda: fit(steps=0), ConfigError, "steps: found 0"),
    (lambda: fit(rate=-1.0), ConfigError, "rate: found -1"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "says"), BAD)
def test_refused(call, kind, says, monkeypatch):
    def forbidden(*_):
        raise AssertionError("solved")

    for module in ("descent", "structure"):
        monkeypatch.setattr(import_module(f"pyadjoint_gpu.ode.{module}"), "needed", forbidden)
    with pytest.raises(kind, match=says) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.slow
@pytest.mark.parametrize(
    ("eos", "where"), [(Incompressible(1e-3), "last"), (Polytrope(1.0, 1.2), "first")]
)
def test_no_maximum_mass(eos, where):
    with pytest.raises(ConvergenceError, match=f"no maximum mass.*is largest at the {where}"):
        pag.ode.maximum_mass(eos)
