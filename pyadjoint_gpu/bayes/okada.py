"""Displacement of the surface of an elastic half space by a rectangular dislocation.

Y. Okada, 1985, Surface deformation due to shear and tensile faults in a half-space, Bull. Seismol.
Soc. Am. 75, 1135: equations 24 to 30, with his limits at points in line with the edges. In JAX
operations, differentiable by the geometry.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

STEEP = 1e-3
"""|dip - pi/2| below which displacements are interpolated between its two ends, to 1e-6 (their
derivatives by the dip to 1e-2): the formulas divide differences by cos(dip) twice."""
SLIPS = ("strike", "dip", "tensile")


def displacement(
    x: Any,
    y: Any,
    depth: Any,
    dip: Any,
    length: Any,
    width: Any,
    slip: str,
    *,
    poisson: float = 0.25,
) -> Any:
    """Displacement (u_x, u_y, u_z) of surface points per unit of slip, in the fault's axes.

    Parameters
    ----------
    x, y : array
        Along the strike from one end of the fault, and horizontally up its dip from the lower
        edge; they broadcast with all that follows.
    depth : float or array
        Of the lower edge, positive.
    dip : float or array
        In radians, above 0 and below pi.
    length, width : float or array
        Along the strike and the dip.
    slip : {"strike", "dip", "tensile"}
        Left-lateral, upward on the side above the fault (thrust), or opening.
    poisson : float
        Of the half space; lambda = mu at 0.25.

    Returns
    -------
    array
        With a last axis of length three, z upwards, in units of the slip.
    """
    off = jnp.asarray(dip) - 0.5 * jnp.pi
    steep = jnp.abs(off) < STEEP

    def at(off: Any) -> Any:
        cos, sin = -jnp.sin(off), jnp.cos(off)
        p, q = y * cos + depth * sin, y * sin - depth * cos

        def corner(xi: Any, eta: Any) -> Any:
            return _corner(xi, eta, q, sin, cos, slip, 1.0 - 2.0 * poisson)

        total = corner(x, p) - corner(x, p - width) - corner(x - length, p)
        return total + corner(x - length, p - width)

    one, other = jnp.where(steep, -STEEP, off), jnp.where(steep, STEEP, off)
    part = jnp.where(steep, (off / STEEP + 1.0) / 2.0, 0.0)[..., None]
    sign = 1.0 if slip == "tensile" else -1.0
    return sign / (2.0 * jnp.pi) * ((1.0 - part) * at(one) + part * at(other))


def _corner(xi: Any, eta: Any, q: Any, sin: Any, cos: Any, slip: str, mu: Any) -> Any:
    """The terms of one corner; `mu` is mu / (lambda + mu)."""
    xi, eta, q, sin, cos = jnp.broadcast_arrays(xi, eta, q, sin, cos)
    y, d = eta * cos + q * sin, eta * sin - q * cos
    r = jnp.sqrt(xi**2 + eta**2 + q**2)
    # Where R + eta vanishes, up to round-off, what it divides does too, and ln(R + eta) has the
    # finite part -ln(R - eta).
    edge = r + eta < 1e-12 * r
    over_eta = jnp.where(edge, 0.0, 1.0 / (r * jnp.where(edge, 1.0, r + eta)))
    log_eta = jnp.where(
        edge, -jnp.log(jnp.where(edge, r - eta, 1.0)), jnp.log(jnp.where(edge, 1.0, r + eta))
    )
    end = r + xi < 1e-12 * r
    over_xi = jnp.where(end, 0.0, 1.0 / (r * jnp.where(end, 1.0, r + xi)))
    plane = jnp.abs(q) < 1e-12 * r
    angle = jnp.where(plane, 0.0, jnp.arctan(xi * eta / jnp.where(plane, 1.0, q * r)))

    x = jnp.sqrt(xi**2 + q**2 + jnp.where((xi == 0.0) & (q == 0.0), 1.0, 0.0))
    middle = jnp.abs(xi) < 1e-12 * r
    ratio = (eta * (x + q * cos) + x * (r + x) * sin) / jnp.where(middle, 1.0, xi * (r + x) * cos)
    i5 = 2.0 * mu / cos * jnp.where(middle, 0.0, jnp.arctan(ratio))
    i4 = mu / cos * (jnp.log(r + d) - sin * log_eta)
    i3 = mu * (y / (cos * (r + d)) - log_eta) + sin / cos * i4
    i1 = -mu * xi / (cos * (r + d)) - sin / cos * i5
    i2 = -mu * log_eta - i3

    if slip == "strike":
        parts = (
            xi * q * over_eta + angle + i1 * sin,
            y * q * over_eta + q * cos * r * over_eta + i2 * sin,
            d * q * over_eta + q * sin * r * over_eta + i4 * sin,
        )
    elif slip == "dip":
        parts = (
            q / r - i3 * sin * cos,
            y * q * over_xi + cos * angle - i1 * sin * cos,
            d * q * over_xi + sin * angle - i5 * sin * cos,
        )
    else:
        bent = xi * q * over_eta - angle
        parts = (
            q**2 * over_eta - i3 * sin**2,
            -d * q * over_xi - sin * bent - i1 * sin**2,
            y * q * over_xi + cos * bent - i5 * sin**2,
        )
    return jnp.stack(parts, axis=-1)
