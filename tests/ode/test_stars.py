"""Stars against published and closed-form values, and against another route to them."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import radial
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.precision import compiled, double
from pyadjoint_gpu.ode.structure import love_number
from pyadjoint_gpu.ode.units import KILOMETRES

K, RHO = 100.0, 1.28e-3
POLYTROPE = pag.ode.Polytrope(K, 2.0)
DENSITIES = np.concatenate([[RHO, 3.18242e-3], np.linspace(2e-4, 5e-3, 198)])


@pytest.fixture(scope="module")
def many() -> xr.Dataset:
    """200 stars in one vmapped call."""
    return pag.ode.stars(POLYTROPE, density=DENSITIES)


def test_the_polytrope_of_every_textbook(many):
    star = many.isel(star=0)
    assert float(star["radius"]) / KILOMETRES == pytest.approx(9.585624, abs=5e-7)
    assert float(star["radius"]) == pytest.approx(14.1544, abs=5e-5)
    assert float(star["mass"]) == pytest.approx(1.400160, abs=5e-7)
    assert float(star["baryon_mass"]) == pytest.approx(1.506176, abs=5e-7)


def test_two_hundred_at_once(many):
    assert many.sizes == {"star": 200}
    assert all(np.all(np.isfinite(many[name])) for name in many)
    heaviest = int(np.argmax(many["mass"].values))
    assert heaviest == 1  # the others are 2.4e-5 apart
    np.testing.assert_allclose(many["compactness"] * many["radius"], many["mass"] * KILOMETRES)
    np.testing.assert_allclose(many["central_log_enthalpy"], np.log1p(2.0 * K * DENSITIES))
    np.testing.assert_allclose(
        many["tidal_deformability"], 2 / 3 * many["love_number"] / many["compactness"] ** 5
    )
    # A Dataset of the house.
    assert many.attrs["kind"] == "stars" and many.attrs["Conventions"].startswith("CF")
    assert all({"units", "long_name"} <= set(many[name].attrs) for name in many)
    assert many["radius"].attrs["units"] == "km"
    assert many["central_density"].attrs["units"] == "g cm-3"
    assert float(many["central_density"][0]) == pytest.approx(7.906e14, rel=1e-3)


def test_compactness_knows_no_scale():
    centre = 0.4555555556
    for constant in (1e-3, K, 7e6):
        eos = pag.ode.Polytrope(constant, 2.0)
        star = pag.ode.stars(eos, log_enthalpy=[centre, 0.1, 0.2])
        # Published as 0.2081937711; `radial.star` has the digits of the second.
        assert float(star["compactness"][0]) == pytest.approx(0.2081937711, abs=1e-7)
        assert float(star["compactness"][0]) == pytest.approx(0.2081938383, abs=1e-10)


def test_the_incompressible_star():
    """p_c / rho = (1 - s) / (3 s - 1), s = sqrt(1 - 2 M / R), as far as near 8/9."""
    ratios = np.array([1e-4, 0.3, 30.0])
    star = pag.ode.stars(pag.ode.Incompressible(1e-3), pressure=1e-3 * ratios)
    s = np.sqrt(1.0 - 2.0 * star["compactness"].values)
    np.testing.assert_allclose((1.0 - s) / (3.0 * s - 1.0), ratios, rtol=1e-9)
    volume = 4.0 / 3.0 * np.pi * (star["radius"].values / KILOMETRES) ** 3
    np.testing.assert_allclose(star["mass"], 1e-3 * volume, rtol=1e-11)


@double
def _mass_and_radius(values):
    constant, density = values
    eos = pag.ode.Polytrope(constant, 2.0)
    star = pag.ode.structure(eos, eos.log_enthalpy(density=density))
    return jnp.stack([star.mass, star.radius])


def test_gradients_obey_the_scaling():
    """R = K^(1/2) f(K rho_c), whatever f: K dR/dK - rho_c dR/drho_c = R / 2, likewise M."""
    jacobian = double(compiled(jax.jacrev(_mass_and_radius)))
    values = np.array([K, RHO])
    found, value = np.asarray(jacobian(values)), np.asarray(_mass_and_radius(values))
    np.testing.assert_allclose(found @ (K, -RHO), value / 2.0, rtol=1e-12)
    assert found[0, 1] > 0 > found[1, 1]
    # The part that the scaling does not know, against differences.
    step = 1e-4 * RHO
    differences = [np.asarray(_mass_and_radius(np.array([K, RHO + k * step]))) for k in (-1, 1)]
    np.testing.assert_allclose(
        found[:, 1], (differences[1] - differences[0]) / (2 * step), rtol=1e-6
    )


@pytest.mark.slow
def test_digits_as_asked_for():
    """Of a star and its gradient, against the finest."""

    def both(tolerance):
        def radius(h):
            return pag.ode.structure(POLYTROPE, h, tolerance=tolerance).radius

        return np.array(double(compiled(jax.value_and_grad(radius)))(0.3))

    exact = both(1e-13)
    for tolerance, error in ((1e-11, 1e-11), (1e-6, 1e-6)):
        np.testing.assert_allclose(both(tolerance), exact, rtol=error)


def test_maximum_mass():
    star = pag.ode.maximum_mass(POLYTROPE)
    assert star.sizes == {}
    assert float(star["mass"]) == pytest.approx(1.637276, abs=5e-7)
    assert float(star["radius"]) == pytest.approx(11.2743, abs=5e-5)
    density = np.expm1(float(star["central_log_enthalpy"])) / (2.0 * K)
    assert density == pytest.approx(3.18242e-3, abs=5e-9)
    curve = pag.ode.mass_radius(POLYTROPE, 3)
    assert curve.sizes == {"star": 3}
    assert float(curve["mass"][-1]) == pytest.approx(float(star["mass"]), rel=1e-13)
    assert np.all(np.diff(curve["mass"]) > 0) and np.all(np.diff(curve["radius"]) < 0)


# Tides


@pytest.mark.parametrize(("gamma", "centre"), [(2.0, np.log1p(2 * K * RHO)), (1.8, 0.3)])
def test_tides_of_polytropes(gamma, centre):
    found = pag.ode.stars(pag.ode.Polytrope(K, gamma), log_enthalpy=[centre] * 3).isel(star=0)
    mass, radius, k2 = radial.star(centre, [radial.polytrope(K, gamma)])
    assert float(found["mass"]) == pytest.approx(mass, rel=1e-9)
    assert float(found["radius"]) == pytest.approx(radius * KILOMETRES, rel=1e-9)
    assert float(found["love_number"]) == pytest.approx(k2, rel=1e-7)


def test_a_jump_of_density_at_the_surface():
    found = pag.ode.stars(pag.ode.Incompressible(1e-3), log_enthalpy=[0.3] * 3).isel(star=0)
    _, _, k2 = radial.star(0.3, [radial.incompressible(1e-3)])
    assert float(found["love_number"]) == pytest.approx(k2, rel=1e-8)


@dataclass(frozen=True, eq=False)
class Layers(pag.ode.EquationOfState):
    """A user's equation of state: an incompressible core in an incompressible mantle."""

    core: float
    mantle: float

    @property
    def divisions(self):
        return jnp.full(1, 0.1)

    def pieces(self):
        return jnp.arange(2)

    def at(self, h, piece):
        p = self.mantle * jnp.expm1(self.divisions[0])
        rho = (self.core + p) * jnp.exp(-self.divisions[0])
        inside = piece == 1
        pressure = jnp.where(inside, rho * jnp.exp(h) - self.core, self.mantle * jnp.expm1(h))
        return jnp.where(inside, rho, self.mantle), pressure

    def log_enthalpy(self, *, density=None, pressure=None):
        raise NotImplementedError


def test_a_jump_of_density_inside():
    found = pag.ode.stars(Layers(2e-3, 1e-3), log_enthalpy=[0.3, 0.05, 0.2])
    p = 1e-3 * np.expm1(0.1)
    core, mantle = radial.incompressible(2e-3, 0.1, p), radial.incompressible(1e-3)
    for k, (centre, layers) in enumerate([(0.3, [core, mantle]), (0.05, [mantle])]):
        mass, radius, k2 = radial.star(centre, layers)
        assert float(found["mass"][k]) == pytest.approx(mass, rel=1e-8)
        assert float(found["radius"][k]) == pytest.approx(radius * KILOMETRES, rel=1e-8)
        assert float(found["love_number"][k]) == pytest.approx(k2, rel=1e-8)


def test_tides_in_newtons_limit():
    """k2 = 3/4 of a homogeneous star, (15 - pi^2) / (2 pi^2) of the polytrope gamma = 2, at a
    compactness of 1e-9, where closed forms in it lose all digits."""
    homogeneous = pag.ode.stars(pag.ode.Incompressible(1.0), log_enthalpy=[1e-9] * 3)
    assert float(homogeneous["love_number"][0]) == pytest.approx(0.75, rel=1e-7)
    found = pag.ode.stars(POLYTROPE, log_enthalpy=[1e-9] * 3)["love_number"][0]
    assert float(found) == pytest.approx((15 - np.pi**2) / (2 * np.pi**2), rel=1e-7)


def test_love_numbers_equal_hinderers_closed_form():
    c, y = (a.ravel() for a in np.meshgrid(np.linspace(0.1, 0.44, 8), [-1.0, 0.5, 1.5]))
    with jax.enable_x64(True):
        found = np.asarray(love_number(jnp.asarray(c), jnp.asarray(y)))
    np.testing.assert_allclose(found, radial.hinderer(c, y), rtol=1e-9)


# In JAX


def test_a_users_jax_stays_as_it_is():
    """Single precision outside, double inside: else it is refused."""

    def radius(constant):
        return pag.ode.structure(pag.ode.Polytrope(constant, 2.0), 0.2).radius

    value = radius(K)
    assert not jax.config.jax_enable_x64
    assert value.dtype == np.float64
    for transformed in (jax.grad(radius), jax.jit(radius)):
        with pytest.raises(pag.ConfigError, match=r"single precision; set jax_enable_x64"):
            transformed(K)


def test_a_star_that_is_not_solved_is_named(monkeypatch):
    with pytest.raises(pag.ConvergenceError, match=r"star 1 of central log-enthalpy 60 was not"):
        pag.ode.stars(pag.ode.Incompressible(1.0), log_enthalpy=[0.1, 60.0, 0.3])


def test_figures(many, tmp_path):
    many.pag.plot(tmp_path / "stars.png")
    many.pag.save(tmp_path / "stars.nc")
    again = xr.load_dataset(tmp_path / "stars.nc", engine="h5netcdf")
    assert again.pag.kind == "stars"
    xr.testing.assert_identical(again, many)


@pytest.mark.parametrize(("name", "library"), [("stars", "diffrax"), ("fit", "optax")])
def test_missing_libraries_are_named(name, library, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(pag.EngineError, match=rf"{library} is missing: pip install '.*\[ode\]'"):
        if name == "stars":
            pag.ode.stars(POLYTROPE, log_enthalpy=np.linspace(0.1, 0.2, 17))
        else:
            pag.ode.fit(lambda m: m["a"], 1.0, {"a": (0.0, 2.0)}, error=0.1)
