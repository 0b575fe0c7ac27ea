"""Equations of state: thermodynamics, continuity, limits, published stars."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.precision import compiled, double

TWO = pag.ode.Polytrope(100.0, 2.0)
STIFF = pag.ode.PiecewisePolytrope(30.0, [1.8, 2.6, 2.1], [3e-4, 1.2e-3])
SOFT = pag.ode.PiecewisePolytrope(30.0, [1.8, 0.9, 2.1], [3e-4, 1.2e-3])
SLY = pag.ode.PiecewisePolytrope.with_crust(34.384, [3.005, 2.988, 2.851])
H = np.array([1e-6, 1e-3, 0.02, 0.07, 0.2, 0.5])


@pytest.mark.parametrize("eos", [TWO, STIFF, SOFT, SLY, pag.ode.Incompressible(1e-3)])
def test_thermodynamics(eos):
    """dp/dh = e + p, de/dh = (e + p) / rho drho/dh."""
    with jax.enable_x64(True):
        derivatives = [
            jax.vmap(jax.grad(f))(jnp.asarray(H))
            for f in (eos.density, eos.pressure, eos.energy_density)
        ]
    rho, p, e = eos.density(H), eos.pressure(H), eos.energy_density(H)
    drho, dp, de = map(np.asarray, derivatives)
    np.testing.assert_allclose(dp, e + p, rtol=1e-11)
    np.testing.assert_allclose(de, (e + p) / rho * drho, rtol=1e-9, atol=1e-16)
    assert float(eos.pressure(0.0)) == 0.0
    np.testing.assert_allclose(eos.log_enthalpy(pressure=p), H, rtol=1e-11)
    if not isinstance(eos, pag.ode.Incompressible):
        assert float(eos.density(0.0)) == 0.0
        np.testing.assert_allclose(eos.log_enthalpy(density=rho), H, rtol=1e-11)


def test_a_polytrope_has_its_pressure_and_energy():
    rho = np.asarray(TWO.density(H))
    np.testing.assert_allclose(TWO.pressure(H), 100.0 * rho**2, rtol=1e-14)
    np.testing.assert_allclose(TWO.energy_density(H), rho + 100.0 * rho**2, rtol=1e-12)


@pytest.mark.parametrize("eos", [STIFF, SOFT, SLY])
def test_pieces_meet(eos):
    divisions = np.asarray(eos.divisions)
    assert np.all(np.diff(divisions) > 0)
    for f in (eos.density, eos.pressure, eos.energy_density):
        np.testing.assert_allclose(f(divisions * (1 - 1e-13)), f(divisions), rtol=1e-11)
    np.testing.assert_allclose(eos.density(divisions), eos.densities, rtol=1e-11)
    # The indices are those that were asked for, d ln p / d ln rho.
    inside = np.concatenate([[divisions[0] / 2], (divisions[1:] + divisions[:-1]) / 2, [1.0]])
    both = np.log([[f(inside * (1 + k)) for f in (eos.density, eos.pressure)] for k in (0, 1e-6)])
    rise = np.asarray(both[1] - both[0])
    np.testing.assert_allclose(rise[1] / rise[0], eos.gammas, rtol=1e-6)


def test_equal_pieces_are_one():
    pieces = pag.ode.PiecewisePolytrope(100.0, [2.0, 2.0, 2.0], [3e-4, 1e-3])
    for name in ("density", "pressure", "energy_density"):
        np.testing.assert_allclose(getattr(pieces, name)(H), getattr(TWO, name)(H), rtol=1e-12)
    stars = [pag.ode.stars(eos, log_enthalpy=[0.05, 0.2, 0.5]) for eos in (pieces, TWO)]
    for name in ("mass", "radius", "baryon_mass", "love_number"):
        np.testing.assert_allclose(stars[0][name], stars[1][name], rtol=1e-10)


def test_an_index_of_one():
    """p / rho constant: the limit, also of derivatives by the index."""
    around = [
        pag.ode.PiecewisePolytrope(30.0, [1.8, g, 2.1], [3e-4, 1.2e-3])
        for g in (1 - 2e-5, 1, 1 + 2e-5)
    ]
    low, one, high = (np.asarray(eos.density(H)) for eos in around)
    np.testing.assert_allclose(one, (low + high) / 2, rtol=1e-8)

    @double
    def density(g):
        eos = pag.ode.PiecewisePolytrope(30.0, jnp.stack([1.8, g, 2.1]), [3e-4, 1.2e-3])
        return eos.density(0.12)

    assert low.shape == H.shape and SOFT.divisions[0] < 0.12 < SOFT.divisions[1]
    slope = double(jax.grad(density))(1.0)
    below, above = (float(density(1.0 + k * 1e-4)) for k in (-1, 1))
    assert float(slope) == pytest.approx((above - below) / 2e-4, rel=1e-6)


@double
def _radii(values):
    eos = pag.ode.PiecewisePolytrope(values[0], values[1:4], values[4:])
    centres = jnp.append(eos.divisions[1], jnp.array([0.02, 0.3]))
    return jax.vmap(pag.ode.structure, (None, 0))(eos, centres).radius


@pytest.mark.slow
def test_gradients_by_all_parameters():
    """Also of a star with its centre where two pieces meet."""
    values = np.array([30.0, 1.8, 2.6, 2.1, 3e-4, 1.2e-3])
    found = np.asarray(double(compiled(jax.jacrev(_radii)))(values))
    radii = double(compiled(_radii))
    for k, value in enumerate(values):
        step = 1e-5 * value * np.eye(6)[k]
        slope = (np.asarray(radii(values + step)) - np.asarray(radii(values - step))) / (
            2e-5 * value
        )
        # Round-off of R over a step of 6e-9.
        np.testing.assert_allclose(found[:, k], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("log_pressure", "gammas", "mass", "radius"),
    [
        (34.384, (3.005, 2.988, 2.851), 2.049, 11.736),  # SLy
        (34.269, (2.830, 3.445, 3.348), 2.213, 11.428),  # APR4
        (34.669, (2.909, 2.246, 2.144), 2.032, 13.774),  # H4
    ],
)
def test_neutron_stars(log_pressure, gammas, mass, radius):
    """Maximum masses, and radii at 1.4 M_sun, of the tables that the four parameters were fitted
    to (Read et al. 2009, table III, which states deviations up to 1.4 % for these)."""
    eos = pag.ode.PiecewisePolytrope.with_crust(log_pressure, gammas)
    curve = pag.ode.mass_radius(eos)
    assert float(curve["mass"][-1]) == pytest.approx(mass, rel=0.014)
    found = np.interp(1.4, curve["mass"], curve["radius"])
    assert found == pytest.approx(radius, rel=0.014)


def test_copies():
    """Through pickle, and as a pytree of its parameters."""
    for eos in (TWO, SLY, pag.ode.Incompressible(1e-3)):
        leaves, tree = jax.tree.flatten(eos)
        for copy in (pickle.loads(pickle.dumps(eos)), jax.tree.unflatten(tree, leaves)):
            assert type(copy) is type(eos)
            np.testing.assert_array_equal(copy.pressure(H), eos.pressure(H))
