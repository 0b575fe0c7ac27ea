"""Dislocations in a half space, against the published table and what must hold by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pyadjoint_gpu.arithmetic import double
from pyadjoint_gpu.bayes.okada import SLIPS, STEEP, displacement

# Okada (1985), table 2: depth 4, length 3, width 2.
PUBLISHED = {
    ("strike", 2, 3, 70): (-8.689e-3, -4.298e-3, -2.747e-3),
    ("dip", 2, 3, 70): (-4.682e-3, -3.527e-2, -3.564e-2),
    ("tensile", 2, 3, 70): (-2.660e-4, 1.056e-2, 3.214e-3),
    ("strike", 0, 0, 90): (0, 5.253e-3, 0),
    ("dip", 0, 0, 90): (0, 0, 0),
    ("tensile", 0, 0, 90): (1.223e-2, 0, -1.606e-2),
}


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
    """Of slip along a vertical strike: u_x is odd across the fault, u_y along it, u_z both."""
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


@double
@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("dip", [10.0, 45.0, 90.0, 130.0, np.rad2deg(np.pi / 2 + 0.99 * STEEP)])
def test_derivatives_by_the_geometry(slip, dip):
    start = np.array([0.3, -0.2, 3.0, np.deg2rad(dip), 2.0, 1.4])
    x, y = np.array([1.1, -3.0, 0.4]), np.array([0.5, 2.0, -4.0])

    def u(t):
        return displacement(x - t[0], y - t[1], t[2], t[3], t[4], t[5], slip)

    found = np.asarray(jax.jacfwd(u)(jnp.asarray(start)))
    h = 4e-3  # wider than where displacements are interpolated
    for k in range(6):
        e = h * np.eye(6)[k]
        fourth = (8 * (u(start + e / 2) - u(start - e / 2)) - (u(start + e) - u(start - e))) / 6 / h
        # At the edge of where they are interpolated, the slope is that of its middle.
        within = 0.01 * np.max(np.abs(fourth)) if k == 3 and 90 < dip < 91 else 1e-6
        np.testing.assert_allclose(found[..., k], fourth, rtol=2e-5, atol=within)


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
