"""Dislocations in a half space, against the published table and what must hold by itself."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.geophysics import Fault
from pyadjoint_gpu.geophysics.okada import SLIPS
from pyadjoint_gpu.geophysics.okada import displacement as by_upper_edge

# Okada (1985), table 2: depth 4, length 3, width 2.
PUBLISHED = {
    ("strike", 2, 3, 70): (-8.689e-3, -4.298e-3, -2.747e-3),
    ("dip", 2, 3, 70): (-4.682e-3, -3.527e-2, -3.564e-2),
    ("tensile", 2, 3, 70): (-2.660e-4, 1.056e-2, 3.214e-3),
    ("strike", 0, 0, 90): (0, 5.253e-3, 0),
    ("dip", 0, 0, 90): (0, 0, 0),
    ("tensile", 0, 0, 90): (1.223e-2, 0, -1.606e-2),
}


def displacement(x, y, depth, dip, length, width, slip):
    """As Okada has it, with `y` and `depth` of the lower edge."""
    upper = depth - width * jnp.sin(dip)
    # An edge within round-off of the surface is at the surface.
    upper = jnp.where(jnp.abs(upper) < 1e-14 * width, 0.0, upper)
    y = y + width * jnp.sin(dip - 0.5 * jnp.pi)
    return by_upper_edge(x, y, upper, dip, length, width, slip)


@double
@pytest.mark.parametrize("case", PUBLISHED)
def test_the_published_table(case):
    slip, x, y, dip = case
    found = displacement(float(x), float(y), 4.0, np.deg2rad(dip), 3.0, 2.0, slip)
    np.testing.assert_allclose(found, PUBLISHED[case], rtol=6e-4, atol=2e-7)


@double
@pytest.mark.parametrize("slip", SLIPS)
def test_patches_add_up(slip):
    """A fault is the sum of its parts, which other edges and corners bound."""
    x, y = np.meshgrid(np.linspace(-5, 8, 14), np.linspace(-6, 7, 14))
    dip, depth = np.deg2rad(35.0), 3.0
    whole = displacement(x, y, depth, dip, 3.0, 2.0, slip)
    parts = 0.0
    for i in range(3):
        for k, up in enumerate((0.0, 1.5)):
            width = (1.5, 0.5)[k]
            parts += displacement(
                x - i, y - up * np.cos(dip), depth - up * np.sin(dip), dip, 1.0, width, slip
            )
    np.testing.assert_allclose(parts, whole, rtol=1e-9, atol=1e-12)


@double
def test_symmetry_of_a_vertical_fault():
    """Slip along a vertical strike: u_x is odd across the fault, u_y along it, u_z both."""
    x, y = np.array([0.7, 2.1, -1.0]), np.array([0.4, 1.9, 3.0])
    found = [
        np.asarray(displacement(1.5 + a * x, b * y, 4.0, 0.5 * np.pi, 3.0, 2.0, "strike"))
        for a, b in ((1, 1), (1, -1), (-1, 1))
    ]
    np.testing.assert_allclose(found[1], found[0] * [-1, 1, -1], atol=1e-12)
    np.testing.assert_allclose(found[2], found[0] * [1, -1, -1], atol=1e-12)


@double
@pytest.mark.parametrize("slip", SLIPS)
def test_far_away_it_is_a_point_source(slip):
    """Its size goes with area, and falls with the square of the distance."""
    dip, at = np.deg2rad(50.0), np.array([[300.0, 400.0], [600.0, 800.0]])
    near, far = displacement(*at.T, 1.0, dip, 1.0, 1.0, slip)
    assert np.linalg.norm(near) / np.linalg.norm(far) == pytest.approx(4.0, rel=0.02)
    double_area = displacement(*at[0], 1.0, dip, 2.0, 1.0, slip)
    assert np.linalg.norm(double_area) / np.linalg.norm(near) == pytest.approx(2.0, rel=0.01)


@pytest.mark.slow
@double
@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("dip", [10.0, 45.0, 90.0, 130.0, np.rad2deg(np.pi / 2 + 0.99e-3)])
def test_derivatives_by_the_geometry(slip, dip):
    start = np.array([0.3, -0.2, 3.0, np.deg2rad(dip), 2.0, 1.4])
    x, y = np.array([1.1, -3.0, 0.4]), np.array([0.5, 2.0, -4.0])

    def u(t):
        return displacement(x - t[0], y - t[1], t[2], t[3], t[4], t[5], slip)

    found = np.asarray(jax.jacfwd(u)(jnp.asarray(start)))
    h = 4e-3
    for k in range(6):
        e = h * np.eye(6)[k]
        fourth = (8 * (u(start + e / 2) - u(start - e / 2)) - (u(start + e) - u(start - e))) / 6 / h
        np.testing.assert_allclose(found[..., k], fourth, rtol=2e-5, atol=1e-6)


@pytest.mark.slow
@double
@pytest.mark.parametrize("slip", SLIPS)
def test_in_line_with_edges(slip):
    """Where terms of the formulas are 0/0: finite, and the limit, with finite derivatives."""
    dip = np.deg2rad(60.0)
    # Above a corner, in line with the ends, and in the plane of the fault.
    y = 4.0 / np.tan(dip) * np.array([0.0, 1.0, -1.0, 1.0])
    x = np.array([0.0, 3.0, -2.0, 5.0])
    here = displacement(x, y, 4.0, dip, 3.0, 2.0, slip)
    beside = displacement(x + 1e-7, y + 1e-7, 4.0, dip, 3.0, 2.0, slip)
    np.testing.assert_allclose(here, beside, atol=1e-6)
    slope = jax.jacfwd(lambda d: displacement(x, y, d, dip, 3.0, 2.0, slip))(4.0)
    assert np.all(np.isfinite(slope))


def point_source(x, y, d, dip, slip, mu=0.5):
    """Okada (1985), equations 8 to 10, at a depth d, times 2 pi: nothing is divided by cos(dip)."""
    s, c = jnp.sin(dip), jnp.cos(dip)
    r = jnp.sqrt(x**2 + y**2 + d**2)
    p, q = y * c + d * s, y * s - d * c
    far = (3 * r + d) / (r**3 * (r + d) ** 3)
    i1 = mu * y * (1 / (r * (r + d) ** 2) - x**2 * far)
    i2 = mu * x * (1 / (r * (r + d) ** 2) - y**2 * far)
    i3 = mu * x / r**3 - i2
    i4 = -mu * x * y * (2 * r + d) / (r**3 * (r + d) ** 2)
    i5 = mu * (1 / (r * (r + d)) - x**2 * (2 * r + d) / (r**3 * (r + d) ** 2))
    along = jnp.stack(jnp.broadcast_arrays(x, y, d))
    if slip == "strike":
        return -(3 * x * q / r**5 * along + s * jnp.stack([i1, i2, i4]))
    if slip == "dip":
        return -(3 * p * q / r**5 * along - s * c * jnp.stack([i3, i1, i5]))
    return 3 * q**2 / r**5 * along - s**2 * jnp.stack([i3, i1, i5])


NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)


def integrated(x, y, depth, dip, length, width, slip):
    """Integral of point sources on the fault."""
    u, t = (0.5 * (1 + NODES[:, None, None]) * length, 0.5 * (1 + NODES[:, None]) * width)
    parts = point_source(x - u, y - t * jnp.cos(dip), depth - t * jnp.sin(dip), dip, slip)
    total = jnp.einsum("i,j,kijm->mk", WEIGHTS, WEIGHTS, parts)
    return 0.25 * length * width * total / (2 * np.pi)


X, Y = np.array([1.1, -2.0, 0.0, 3.0, 1.5, -1.0]), np.array([0.9, 2.0, 0.0, -3.0, 0.7, 0.0])
OFF = [0.0, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.09, 0.2, 0.5, 1.2, 1.5, 0.5 * np.pi]


@pytest.mark.slow
@double
@pytest.mark.parametrize("slip", SLIPS)
def test_dips_on_either_side_of_the_vertical(slip):
    """Displacements and their derivatives by the dip, to round-off at every one."""

    def both(of, off):
        dip = 0.5 * np.pi + off
        return jax.jvp(lambda dip: of(X, Y, 4.0, dip, 3.0, 1.4, slip), (dip,), (jnp.ones(()),))

    offs = jnp.asarray([*OFF, *(-off for off in OFF)])
    pairs = jax.jit(lambda off: [both(of, off) for of in (displacement, integrated)])
    for found, expected in zip(*jax.lax.map(pairs, offs), strict=True):
        assert np.max(np.abs(expected)) > 1e-3
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-13)


@partial(jax.jit, static_argnums=0)
def _at(slip, x, y, depth, off):
    def u(off):
        return by_upper_edge(x, y, depth, 0.5 * np.pi + off, 3.0, 2.0, slip)

    return jax.jvp(u, (off,), (jnp.ones_like(off),))


def at(slip, *arguments):
    """Displacements, and their derivatives by the dip, by x, y, depth, and the dip less a right
    angle. All of one shape, that is compiled once."""
    arrays = np.broadcast_arrays(*arguments)
    padded = (np.pad(a.ravel(), (0, 100 - a.size), constant_values=1.0) for a in arrays)
    found = _at(slip, *padded)
    return [np.asarray(a)[: arrays[0].size].reshape(*arrays[0].shape, 3) for a in found]


@pytest.mark.slow
@double
@pytest.mark.parametrize("slip", SLIPS)
def test_continuous_through_the_vertical(slip):
    """Beside the trace too, and in line with the edges."""
    x = np.tile([1.0, 1.0, 0.0, 3.0, -1.0, 2.0], 2)
    y = np.tile([1e-4, -0.3, 0.5, -0.5, 0.2, 1e-6], 2)
    depth = np.repeat([0.0, 0.3], 6)
    steps = np.array([0.0, 1e-13, -1e-13, 1e-11, -1e-11])[:, None]
    for found in at(slip, x, y, depth, steps):
        assert np.all(np.isfinite(found))
        np.testing.assert_allclose(found[1:], np.tile(found[0], (4, 1, 1)), rtol=1e-9, atol=1e-9)


@double
@pytest.mark.parametrize("strike", [0.0, 33.0, 250.0])
def test_beside_the_trace_of_a_vertical_fault(strike):
    """A long fault: u = 1/2 - arctan(x / width) / pi."""
    azimuth = np.deg2rad(strike)
    right = np.array([np.cos(azimuth), -np.sin(azimuth)])
    x = np.array([1e-4, 5e-3, 1.4e-2, 1.6e-2, 1.0])
    look = np.tile([np.sin(azimuth), np.cos(azimuth), 0.0], (10, 1))
    where = {"east": 0.0, "north": 0.0, "depth": 0.0, "strike": strike, "dip": 90.0}
    fault = Fault(2000, 15, slips=("strike",))
    points = np.concatenate([x, -x])[:, None] * right
    near, other = np.asarray(fault.green(points, look, **where)).reshape(2, 5)
    np.testing.assert_allclose(near, [0.5, 0.49989, 0.49970, 0.49966, 0.47881], atol=6e-6)
    np.testing.assert_allclose(near, 0.5 - np.arctan(x / 15) / np.pi, rtol=2e-5)
    np.testing.assert_allclose(other, -near, rtol=1e-9)
    # Under 50 m of rock: its lower edge's less its upper edge's.
    deep = np.asarray(fault.green(points, look, **(where | {"depth": 50.0})))[:5, 0]
    expected = (np.arctan2(65.0, x) - np.arctan2(50.0, x)) / np.pi
    np.testing.assert_allclose(deep, expected, atol=5e-5)


DIPS = np.array([0.0, 1e-9, 30.0, 89.99, 90.0, 120.0, 180.0])


@double
@pytest.mark.parametrize("slip", SLIPS)
def test_the_trace(slip):
    """The mean of both sides, to round-off, whatever patches a fault is cut in."""
    x, off = np.array([-1.0, 1.0, 2.5, 4.0]), np.deg2rad(DIPS - 90.0)[:, None, None]
    y = np.array([0.0, -1e-10, 1e-10])[:, None]
    found = at(slip, x, y, 0.0, off)[0]
    np.testing.assert_allclose(found[:, 0], np.mean(found[:, 1:], axis=1), atol=1e-9)
    jump = np.linalg.norm(found[:, 1] - found[:, 2], axis=-1)
    np.testing.assert_allclose(jump, np.tile([0.0, 1.0, 1.0, 0.0], (7, 1)), atol=1e-8)


@double
@pytest.mark.parametrize("slip", SLIPS)
def test_patches_of_a_fault_that_reaches_the_surface_add_up(slip):
    """At their corners, along their edges and on the trace."""
    north = np.tile(np.linspace(-3.0, 3.0, 13), 3)
    east = np.repeat([0.0, 0.3, -0.3], 13)
    points = np.column_stack([east, north])[np.abs(np.abs(north) - 2.0) > 0.1]
    look = np.tile(np.ones(3) / np.sqrt(3), (len(points), 1))
    many, one = Fault(4.0, 3.0, 4, 3, slips=(slip,)), Fault(4.0, 3.0, slips=(slip,))

    @jax.jit
    def both(dip):
        where = {"east": 0.0, "north": 0.0, "depth": 0.0, "strike": 0.0, "dip": dip}
        parts, whole = (f.green(points, look, **where) for f in (many, one))
        return jnp.sum(parts, axis=1), whole[:, 0]

    for dip in DIPS:
        np.testing.assert_allclose(*both(dip), atol=1e-12, err_msg=f"{dip}")


@pytest.mark.slow
@double
@pytest.mark.parametrize("slip", SLIPS)
def test_everything_is_finite(slip):
    """At corners, along edges, in line with them, and on the trace, with its derivatives."""
    x, y = np.meshgrid([-1.0, 0.0, 1.0, 3.0, 4.0], [-3.0, -2.0, -1.0, 0.0, 1.0])
    x, y = x.ravel(), y.ravel()

    def u(t):
        return by_upper_edge(x - t[0], y - t[1], t[2], t[3], t[4], t[5], slip)

    slopes = jax.jit(lambda t: (u(t), jax.jacfwd(u)(t), jax.vjp(u, t)[1](jnp.ones((25, 3)))[0]))
    for depth in (0.0, 1e-13, 0.5):
        for dip in np.deg2rad(DIPS):
            for found in slopes(np.array([0.0, 0.0, depth, dip, 3.0, 2.0])):
                assert np.all(np.isfinite(found)), (depth, dip)


@double
@pytest.mark.parametrize("slip", SLIPS)
def test_a_horizontal_fault_at_the_surface_carries_what_lies_on_it(slip):
    x, y = np.meshgrid([-1.0, 0.0, 1.0, 3.0, 4.0], [-3.0, -2.0, -1.0, 0.0, 1.0])
    x, y = x.ravel(), y.ravel()
    # Whole within, half at the edges, a quarter at the corners.
    share = np.array([0.0, 0.5, 1.0, 0.5, 0.0])
    moved = np.outer(share, share).ravel()
    away = ~(np.isin(x, [0.0, 3.0]) | np.isin(y, [-2.0, 0.0]))
    for off, side in ((-0.5 * np.pi, 1.0), (0.5 * np.pi, -1.0)):
        # As it is, just below the surface, and where it hardly dips.
        off = off + side * np.array([0.0, 0.0, 1e-9])[:, None]
        depth = np.array([0.0, 1e-9, 0.0])[:, None]
        found = at(slip, x, side * y, depth, off)[0]
        sign = side if slip == "strike" else 1.0
        component = {"strike": 0, "dip": 1, "tensile": 2}[slip]
        np.testing.assert_allclose(found[0, :, component], sign * moved, atol=1e-12)
        np.testing.assert_allclose(found[1:, away], np.tile(found[0, away], (2, 1, 1)), atol=1e-8)


@double
def test_a_fault_above_the_surface_has_no_displacements():
    y, depth, off = (np.array(a) for a in ([0.5, 2.0, 0.5], [-0.1, 0.1, 1.0], [0.0, 0.0, -1.7]))
    found = at("dip", 1.0, y, depth, off)[0]
    np.testing.assert_array_equal(np.all(np.isnan(found), axis=1), [True, False, True])
    assert np.all(np.isfinite(found[1]))
