"""Displacement of the surface of an elastic half space by a rectangular dislocation.

Y. Okada, 1985, Surface deformation due to shear and tensile faults in a half-space, Bull. Seismol.
Soc. Am. 75, 1135: equations 24 to 30. His I_1 to I_5 divide differences by powers of cos(dip); here
they are written without. With the corner's horizontal distance y and depth d (his with a tilde),
the stereographic coordinate and the tangent of half the angle from the vertical

    zeta = (y + i xi) / (R + d),    k = cos(dip) / (1 + sin(dip)),

    R + eta = (R + d) |1 + k zeta|^2 / (1 + k^2),    F = (ln(1 + k zeta) - k zeta) / k^2,

they are, up to terms that cancel in the sum over the corners, mu / (lambda + mu) times

    I_1 =  (1 + k^2)/2 [(1 - k^2) Im F - k Im zeta]
    I_3 = -(1 + k^2)/2 [ln(R + d) + k Re zeta + (1 + k^2) Re F]
    I_2 = -ln(R + d) - 2 k (Re zeta + k Re F) - I_3
    I_4 =  k ln(R + d) - (1 - k^2) (Re zeta + k Re F)
    I_5 = -(1 + k^2) (Im zeta + k Im F)

For a vertical fault k is zero and F is -zeta^2 / 2. In JAX operations, differentiable with respect
to the geometry.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

SLIPS = ("strike", "dip", "tensile")
NEAR = 0.1
"""|k zeta| below which F is summed as a series; above it cancellation costs at most two digits."""
TERMS = 16
"""Terms of that series: enough for the last bit."""


@partial(jax.jit, static_argnames="slip", inline=True)
def displacement(
    x: ArrayLike,
    y: ArrayLike,
    depth: ArrayLike,
    dip: ArrayLike,
    length: ArrayLike,
    width: ArrayLike,
    slip: str,
    *,
    poisson: Float[Array, ""] | float = 0.25,
) -> Float[Array, "*points 3"]:
    """Displacement (u_x, u_y, u_z) of points on the surface per unit of slip, in the fault's axes.

    Position and depth are relative to the upper edge, so that a fault can reach the surface
    exactly. Displacements jump at the trace of such a fault, where they are the mean of those on
    either side. Above a horizontal fault at depth zero they are those of the upper side. At the
    corners of a fault that reaches the surface displacements may be unbounded; the singular terms
    are left out there. A fault that is partly above the surface gives NaN.

    Parameters
    ----------
    x, y : array
        Position along the strike from one end of the fault, and horizontally up its dip from the
        upper edge; they broadcast with all that follows.
    depth : float or array
        Depth of the upper edge.
    dip : float or array
        Angle in radians, from 0 to pi.
    length, width : float or array
        Extent along the strike and the dip.
    slip : {"strike", "dip", "tensile"}
        Left-lateral slip, thrust, or opening.
    poisson : float
        Poisson's ratio of the half space; lambda = mu at 0.25.

    Returns
    -------
    array
        Displacement along a last axis of length three, z upwards, in units of the slip.
    """
    dip = jnp.asarray(dip, jnp.result_type(float))
    # The cosine is zero at a right angle within round-off.
    sin, cos = jnp.sin(dip), -jnp.sin(dip - 0.5 * jnp.pi)
    x, y, depth, sin, cos, length, width = jnp.broadcast_arrays(
        *(jnp.asarray(a, jnp.result_type(float)) for a in (x, y, depth, sin, cos, length, width))
    )
    nothing = _small(x) * (length + width)
    trace = (jnp.abs(y) < nothing) & (depth < nothing)
    q = jnp.where(trace, 0.0, y * sin - depth * cos)
    # The side on which a point in the plane of the fault counts: above it, where it is flat.
    side = jnp.where(cos < 0.0, 1.0, -1.0)
    # Axes of the corners: the two ends of the fault, then its lower and its upper edge.
    terms = _corners(
        slip,
        1.0 - 2.0 * poisson,
        xi=jnp.stack([x, x - length])[:, None],
        y=jnp.stack([y + width * cos, y]),
        d=jnp.stack([depth + width * sin, depth]),
        q=q,
        sin=sin,
        cos=cos,
        trace=jnp.stack([jnp.zeros_like(trace), trace]),
        side=jnp.stack([jnp.where(trace, 0.0, side), jnp.where(trace, 1.0, side)]),
        nothing=nothing,
    )
    total = terms[0, 0] - terms[0, 1] - (terms[1, 0] - terms[1, 1])
    sign = 1.0 if slip == "tensile" else -1.0
    possible = (depth >= 0.0) & (sin >= -_small(sin))
    return jnp.where(possible[..., None], sign / (2.0 * jnp.pi) * total, jnp.nan)


def _corners(
    slip: str,
    mu: Float[Array, ""] | float,
    *,
    xi: Float[Array, "2 1 *points"],
    y: Float[Array, " 2 *points"],
    d: Float[Array, " 2 *points"],
    q: Float[Array, "*points"],
    sin: Float[Array, "*points"],
    cos: Float[Array, "*points"],
    trace: Bool[Array, " 2 *points"],
    side: Float[Array, " 2 *points"],
    nothing: Float[Array, "*points"],
) -> Float[Array, "2 2 *points 3"]:
    """Terms of the corners, with Okada's symbols; `mu` is mu / (lambda + mu). A point is on the
    `trace` of an edge at the surface; where q is zero its sign is `side`; distances below `nothing`
    are zero within round-off."""
    square = xi**2 + y**2 + d**2
    here = square < nothing**2
    r = jnp.sqrt(jnp.where(here, 1.0, square))
    eta = y * cos + d * sin

    # 1 + k v without cancellation, for negative y from the squares of the other sides.
    k = cos / (1.0 + sin)
    v, w = y / (r + d), xi / (r + d)
    toward = jnp.where(k < 0.0, -y, y)
    ahead = toward > 0.0
    gap = jnp.where(ahead, r + toward, (xi**2 + d**2) / (r - jnp.where(ahead, 0.0, toward)))
    real = ((1.0 - jnp.abs(k)) * r + d + jnp.abs(k) * gap) / (r + d)
    norm = real**2 + (k * w) ** 2
    # In line with an end of a horizontal fault at depth zero, terms over R + eta are zero.
    line = norm < _small(norm) ** 2
    real, norm = jnp.where(line, 1.0, real), jnp.where(line, 1.0, norm)
    over = jnp.where(line, 0.0, (1.0 + k**2) / (r * (r + d) * norm))

    f, g = _remainder(k, v, w, real, norm)
    log = jnp.log(r + d)
    i1 = mu * 0.5 * (1.0 + k**2) * ((1.0 - k**2) * g - k * w)
    i3 = -mu * 0.5 * (1.0 + k**2) * (log + k * v + (1.0 + k**2) * f)
    i2 = -mu * (log + 2.0 * k * (v + k * f)) - i3
    i4 = mu * (k * log - (1.0 - k**2) * (v + k * f))
    i5 = -mu * (1.0 + k**2) * (w + k * g)

    # On the trace, ratios are the limits from beside it, the same on both sides.
    y_, d_, eta_, q_ = (
        jnp.where(trace, a, b) for a, b in ((1.0, y), (0.0, d), (cos, eta), (sin, q))
    )
    angle = _arctan(xi * eta_, r * q_, side)
    # Products over R (R + xi), without cancellation as well.
    behind = xi < 0.0
    across = y_**2 + d_**2
    reach = jnp.where(
        behind,
        (r - xi) / jnp.where(across > 0.0, across, 1.0),
        1.0 / (r + jnp.where(behind, 0.0, xi)),
    )
    along, upward = (jnp.where(behind, b * q_, a * q) * reach / r for a, b in ((y, y_), (d, d_)))

    if slip == "strike":
        parts = (
            xi * q * over + angle + i1 * sin,
            cos * q / r + sin * q**2 * over + i2 * sin,
            sin * q / r - cos * q**2 * over + i4 * sin,
        )
    elif slip == "dip":
        parts = (
            q / r - i3 * sin * cos,
            along + cos * angle - i1 * sin * cos,
            upward + sin * angle - i5 * sin * cos,
        )
    else:
        bent = xi * q * over - angle
        parts = (
            q**2 * over - i3 * sin**2,
            -upward - sin * bent - i1 * sin**2,
            along + cos * bent - i5 * sin**2,
        )
    return jnp.where(here[..., None], 0.0, jnp.stack(parts, axis=-1))


def _remainder(
    k: Float[Array, "*points"],
    v: Float[Array, "2 2 *points"],
    w: Float[Array, "2 2 *points"],
    real: Float[Array, "2 2 *points"],
    norm: Float[Array, "2 2 *points"],
) -> tuple[Float[Array, "2 2 *points"], Float[Array, "2 2 *points"]]:
    """Real and imaginary part of F; `real` and `norm` are 1 + k v and |1 + k zeta|^2."""
    near = k**2 * (v**2 + w**2) < NEAR**2
    zeta = lax.complex(v, w)
    u = jnp.where(near, k, 0.0) * zeta
    series = jnp.zeros_like(u)
    for n in range(TERMS, 1, -1):
        series = (-1.0) ** (n + 1) / n + u * series
    series = zeta**2 * series
    by = jnp.where(near, 1.0, k)
    return (
        jnp.where(near, series.real, (0.5 * jnp.log(norm) - k * v) / by**2),
        jnp.where(near, series.imag, (jnp.arctan2(k * w, real) - k * w) / by**2),
    )


def _arctan(
    above: Float[Array, "2 2 *points"],
    under: Float[Array, "2 2 *points"],
    side: Float[Array, " 2 *points"],
) -> Float[Array, "2 2 *points"]:
    """arctan(above / under); where `under` is zero its sign is `side`."""
    steep = jnp.abs(above) > jnp.abs(under)
    flat = jnp.arctan(above / jnp.where(steep | (under == 0.0), 1.0, under))
    sign = jnp.where(under == 0.0, side, jnp.sign(under)) * jnp.sign(above)
    rest = jnp.arctan(under / jnp.where(steep, above, 1.0))
    return jnp.where(steep, 0.5 * jnp.pi * sign - rest, flat)


def _small(a: Array | np.ndarray) -> float:
    """Relative size that counts as zero, within round-off."""
    return 64.0 * float(jnp.finfo(a.dtype).eps)
