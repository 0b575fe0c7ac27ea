"""Results do not depend on how lengths, times and values were spelt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError
from pyadjoint_gpu.models import Model, Variable
from pyadjoint_gpu.models.declarations import Parameter

PER = {"m": 1.0, "km": 1e-3, "ft": 1.0 / 0.3048, "cm": 100.0}
"""Of these in a metre."""
A = {"s": 1.0, "min": 1.0 / 60.0, "hour": 1.0 / 3600.0, "year": 1.0, "day": 365.24219878125}
"""Of these in the model's own unit of time."""


class Spelling:
    """How numbers in metres and in the model's time are written."""

    def __init__(self, length: str, time: str):
        self.length, self.time = length, time

    def grid(self, shape: Any, extent: Any, origin: Any) -> pag.Grid:
        return pag.Grid(shape, self.at(extent), self.at(origin), units=self.length)

    def at(self, lengths: Any) -> Any:
        return [PER[self.length] * v for v in lengths]

    def times(self, t: float) -> float:
        return A[self.time] * t


def bumps(grid: pag.Grid) -> np.ndarray:
    """A smooth field between 0.5 and 1.5, the same in any unit."""
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in grid.shape), indexing="ij")
    return 1.0 + 0.5 * np.prod([np.sin(3.0 * a + 0.5) for a in axes], axis=0)


class Reaction(Model):
    """A user's: div(k grad u) - u + f = 0, with nothing through the sides."""

    unknowns = (Variable("u", "K"),)
    parameters = (Parameter("k", "m2"), Parameter("f", "K"))

    def residual(self, u: Any, c: Any) -> Any:
        r = c["f"] - u["u"]
        for axis, h in enumerate(self.grid.spacing):
            step = jnp.diff(u["u"], axis=axis) / h
            widths = [(1, 1) if a == axis else (0, 0) for a in range(self.grid.ndim)]
            r = r + c["k"] * jnp.diff(jnp.pad(step, widths), axis=axis) / h
        return {"u": r}


def darcy(s: Spelling) -> tuple[Model, dict[str, Any]]:
    grid = s.grid((6, 8), (100.0, 200.0), (0.0, -100.0))
    wells = [pag.Well(s.at((45.0, -60.0)), 2.0), pag.Well(s.at((45.0, 60.0)), -2.0)]
    return pag.models.Darcy(grid, wells), {"permeability": 1e-3 * bumps(grid), "porosity": 0.2}


def darcy_held(s: Spelling) -> tuple[Model, dict[str, Any]]:
    grid = s.grid((6, 8), (100.0, 200.0), (0.0, -100.0))
    slope = {"value": 5.0, "gradient": [0.01 / PER[s.length], 0.02 / PER[s.length]]}
    sides = {"x_min": slope, "y_max": slope}
    model = pag.models.Darcy(grid, [pag.Well(s.at((45.0, -60.0)), 2.0)], fixed_pressure=sides)
    return model, {"permeability": 1e-3 * bumps(grid)}


def diffusion(s: Spelling) -> tuple[Model, dict[str, Any]]:
    grid = s.grid((6, 8), (100.0, 200.0), (0.0, -100.0))
    model = pag.models.Diffusion(grid, {"x_min": 2.0}, inflow={"x_max": 1e-3})
    return model, {"diffusivity": 0.1 * bumps(grid), "exponent": 1.0, "source": 1e-5}


def channel(s: Spelling) -> tuple[Model, dict[str, Any]]:
    grid = s.grid((6, 8), (100.0, 200.0), (0.0, -100.0))
    model = pag.models.Channel(grid, smallest=1e-12, viscosity_limit=1e16)
    return model, {"prefactor": 1e8 * bumps(grid), "driving_force": 200.0}


def ice(s: Spelling) -> tuple[Model, dict[str, Any]]:
    grid = s.grid((8, 10), (200e3, 250e3), (0.0, 0.0))
    middle = [(np.arange(n) + 0.5) / n - 0.5 for n in grid.shape]
    balance = np.where(np.hypot(*np.meshgrid(*middle, indexing="ij")) < 0.3, 0.3, -5.0)
    bed = 500.0 * bumps(grid)
    return pag.models.Ice(grid), {"bed": bed, "rate_factor": 3e-5, "balance": balance}


def transient(s: Spelling) -> tuple[Model, dict[str, Any]]:
    inner, m = diffusion(s)
    model = pag.models.Transient(inner, s.times(3600.0), 3, time_units=s.time)
    return model, m | {"initial_height": bumps(inner.domain)}


def ice_in_time(s: Spelling) -> tuple[Model, dict[str, Any]]:
    inner, m = ice(s)
    model = pag.models.Transient(inner, s.times(50.0), 2, time_units=s.time)
    return model, m | {"initial_thickness": 800.0}


def acoustic(s: Spelling) -> tuple[Model, dict[str, Any]]:
    grid = s.grid((6, 8), (600.0, 800.0), (0.0, -400.0))
    model = pag.models.AcousticWave(
        grid,
        s.times(0.02),
        20,
        every=5,
        source=[s.at((300.0, -100.0))],
        absorbing=["x_max"],
        sponge=2,
        density=1000.0,
        time_units=s.time,
    )
    return model, {"wave_speed": 1500.0 * bumps(grid), "source": 1.0}


def water(s: Spelling) -> tuple[Model, dict[str, Any]]:
    grid = s.grid((6, 8), (60e3, 80e3), (0.0, -40e3))
    model = pag.models.ShallowWater(
        grid, s.times(15.0), 20, every=5, source="cells", absorbing=["y_min"], time_units=s.time
    )
    return model, {"depth": 3000.0 * bumps(grid), "source": 1e-3, "initial_elevation": 0.1}


def reaction(s: Spelling) -> tuple[Model, dict[str, Any]]:
    grid = s.grid((6, 8), (100.0, 200.0), (0.0, -100.0))
    return Reaction(grid), {"k": 300.0, "f": 10.0 * bumps(grid)}


Case = Callable[[Spelling], tuple[Model, dict[str, Any]]]
STEADY: list[Case] = [darcy, darcy_held, diffusion, channel, ice, reaction]
SECONDS: list[Case] = [transient, acoustic, water]


def state(case: Case, length: str, time: str, **options: Any) -> xr.Dataset:
    model, m = case(Spelling(length, time))
    return pag.solve(model, m, tolerance=1e-11, **options)


def same(found: xr.Dataset, expected: xr.Dataset, length: str, time: str, rtol: float) -> None:
    """Values are the same; positions and times are those that were given."""
    assert set(found.data_vars) == set(expected.data_vars)
    for name, values in expected.data_vars.items():
        if not str(name).startswith("convergence"):
            assert found[name].attrs == values.attrs, name
            scale = float(np.max(np.abs(values))) or 1.0
            np.testing.assert_allclose(found[name], values, rtol=0, atol=rtol * scale)
    for d in ("x", "y_face"):
        assert found[d].attrs["units"] == length
        np.testing.assert_allclose(found[d], expected[d] * PER[length], rtol=1e-12, atol=1e-9)
    if "time" in found.coords:
        assert found["time"].attrs["units"] == time
        factor = A[time] / A[expected["time"].attrs["units"]]
        np.testing.assert_allclose(found["time"], expected["time"] * factor, rtol=1e-12)


WAYS = [(c, s) for c in STEADY for s in ("multigrid", "pseudo-transient")]
WAYS.remove((reaction, "multigrid"))  # it declares no coefficients


@pytest.mark.slow
@pytest.mark.parametrize(("case", "solver"), WAYS)
def test_steady_states(case: Case, solver: str):
    expected = state(case, "m", "s", solver=solver)
    same(state(case, "km", "s", solver=solver), expected, "km", "s", 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("case", SECONDS)
def test_states_in_time(case: Case):
    expected = state(case, "m", "s")
    for length, time in (("km", "min"), ("ft", "hour")):
        same(state(case, length, time), expected, length, time, 1e-9)


@pytest.mark.slow
def test_ice_in_time():
    expected = state(ice_in_time, "m", "year")
    same(state(ice_in_time, "km", "day"), expected, "km", "day", 1e-7)


@pytest.mark.julia
@pytest.mark.parametrize("case", [darcy, darcy_held, diffusion, channel, ice, *SECONDS])
def test_julia(case: Case, julia: Any):
    same(state(case, "km", "min", engine=julia), state(case, "m", "s"), "km", "min", 1e-6)


KILO = {"units": "km"}
SPELT = {
    "bed": lambda v: xr.DataArray(v * 1e-3, dims=("y", "x"), attrs=KILO),
    "balance": lambda v: xr.DataArray(917.0 * v, dims=("y", "x"), attrs={"units": "kg m-2 year-1"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("length", ["m", "km"])
@pytest.mark.parametrize("names", [["bed"], ["balance"], ["bed", "balance"]])
def test_the_largest_surface_of_an_ice_sheet(length: str, names: list[str]):
    """In every spelling of bed, balance and grid."""
    model, m = ice(Spelling(length, "year"))
    plain = float(state(ice, "m", "year")["surface"].max())
    found = pag.solve(model, m | {n: SPELT[n](m[n]) for n in names}, tolerance=1e-11)
    assert float(found["surface"].max()) == pytest.approx(plain, rel=1e-6)
    assert plain > 1000.0


@pytest.mark.slow
def test_a_problem_is_the_same_in_any_spelling():
    """Value and gradient, with data, errors and a penalty's length in other units."""
    found = []
    for s in (Spelling("m", "s"), Spelling("km", "s")):
        model, m = darcy(s)
        where = np.array([[20.0, -30.0], [70.0, 10.0], [50.0, 80.0]]) * PER[s.length]
        data = xr.Dataset({"pressure": ("observation", [10.0, 20.0, -30.0], {"units": "Pa"})})
        data["pressure_sigma"] = ("observation", [1.0, 2.0, 3.0], {"units": "Pa"})
        if s.length == "km":
            data["pressure"] = data["pressure"] * 1e-3
            data["pressure"].attrs["units"] = "kPa"
            data["pressure_sigma"] = data["pressure_sigma"] * 1e-6
            data["pressure_sigma"].attrs["units"] = "MPa"
        for k, d in enumerate(("y", "x")):
            data[d] = ("observation", where[:, k], {"units": s.length})
        problem = pag.Problem(
            model,
            pag.Control("permeability", 2e-3 * bumps(model.domain), transform="log"),
            pag.LeastSquares(data),
            pag.Smoothness("permeability", 3.0, 50.0 * PER[s.length]),
            tolerance=1e-11,
        )
        fields = {"permeability": m["permeability"]}
        found.append(problem.value_and_gradient(fields))
    (value, gradient), (other, slope) = found
    assert other == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(slope["permeability"], gradient["permeability"], rtol=1e-7)


def test_a_step_too_long_is_told_in_its_own_unit():
    model, m = water(Spelling("km", "min"))
    longer = pag.models.ShallowWater(model.domain, 2.0, 20, time_units="min")
    with pytest.raises(pag.DataError, match=r"step: found 2, expected at most 0\.\d+ min"):
        pag.solve(longer, {"depth": m["depth"]})


def test_a_model_that_does_not_compute_in_metres_is_refused():
    class Own(Reaction):
        def __init__(self, grid: pag.Grid):
            self.grid = grid

    with pytest.raises(ConfigError, match=r"user.*'km'.*Model\.__init__"):
        pag.solve(Own(pag.Grid((2, 3), (2.0, 3.0), units="km")), {"k": 1.0, "f": 1.0})


def test_a_unit_of_time_is_one():
    with pytest.raises(ConfigError, match="time_units: found 'm', expected a unit of time"):
        pag.models.ShallowWater(pag.Grid(4, 1.0), 0.1, 2, time_units="m")
