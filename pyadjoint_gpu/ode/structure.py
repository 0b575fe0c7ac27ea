"""The structure of a spherical star in general relativity, with its tidal deformability.

The equations of Tolman, Oppenheimer and Volkoff with the log-enthalpy h as the independent variable
(Lindblom 1992, ApJ 398, 569): the surface is h = 0, so that radius and mass need no search for it,
and are smooth in all parameters. In units of the central density of energy, lengths in those of
(4 pi e_c / 3)^(-1/2), with u = r^2, v = m / r^3, b = m_b / r^3, where m_b is the mass of baryons,
g = v + 3 p and Lambda = 1 / (1 - 2 u v),

    du/dh = -2 / (Lambda g),    d ln r/dh = -1 / (u Lambda g),
    dv/d ln r = 3 (e - v),      db/d ln r = 3 (rho Lambda^(1/2) - b).

The solution depends on h and the shape of the equation of state alone: no step does on its scale.

The tidal perturbation y = d ln H / d ln r (Hinderer 2008, ApJ 677, 1216; Postnikov, Prakash and
Lattimer 2010, Phys. Rev. D 82, 024016) has de/dh in its equation, and jumps where the density does,
also at a surface of finite density. Both disappear in w = y - 3 e / g:

    dw/d ln r = -y^2 - y Lambda (1 + 3 u (p - e)) - 3 Lambda u (5 e + 9 p) + 6 Lambda
                + (2 u g Lambda)^2 + 3 e / g^2 dg/d ln r,
    dg/d ln r = 3 (e - v) - 3 (e + p) u Lambda g,

and at the surface w is the y outside. There H is a sum of a part that grows and one that decays,
r^2 (1 - z) and r^-3 F(z) / (1 - z), z = 2 M / r, F = 2F1(1, 3; 6; z), and their ratio is the Love
number

    k2 = (1 - z)^2 (2 - y + z / (1 - z)) / (2 F (y + 3 + z / (1 - z) + z F'(z) / F)),

without the cancellations of Hinderer's closed form, which it equals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..core.checks import positive
from ..core.errors import ConfigError
from ..core.extras import needed
from ..core.precision import traced
from .equations_of_state import EquationOfState, Number, exact, floats, rows

_LENIENT = 1e-8
"""Tolerance above which a method of lower order is faster."""
_START = 1e-5
"""Part of the central log-enthalpy that the series at the centre spans; its errors are 1e-15."""
_MOST_STEPS = 1024
_TERMS = np.arange(200.0)
_SERIES = 60.0 / ((_TERMS + 3.0) * (_TERMS + 4.0) * (_TERMS + 5.0))
"""Coefficients of F, enough for any star: z < 8/9."""


class Star(NamedTuple):
    """Properties of a star in G = c = M_sun = 1, NaN where it was not solved."""

    mass: Float[Array, "*shape"]
    radius: Float[Array, "*shape"]
    baryon_mass: Float[Array, "*shape"]
    compactness: Float[Array, "*shape"]
    """Mass over radius."""
    love_number: Float[Array, "*shape"]
    """k2, quadrupolar."""
    tidal_deformability: Float[Array, "*shape"]
    """2/3 k2 / compactness^5."""


def structure(eos: EquationOfState, log_enthalpy: Number, *, tolerance: float = 1e-11) -> Star:
    """One star, as a JAX function of its central log-enthalpy and of the equation of state: to be
    mapped by `jax.vmap`, compiled, and differentiated in reverse mode (`jax.grad`), with JAX in
    double precision, as it is in a function that `fit` takes.

    Parameters
    ----------
    eos : EquationOfState
    log_enthalpy : float
        At the centre, positive.
    tolerance : float
        Relative tolerance of steps: by the method of Dormand and Prince of order 8, or where it is
        above 1e-8 that of Tsitouras of order 5. Radius and mass have errors of 1e-13 to 1e-12 with
        1e-11, and less than 1e-7 with 1e-6, in a quarter of the time: enough for data with errors.

    Returns
    -------
    Star

    Raises
    ------
    ConfigError
        If the tolerance is not positive, or JAX traces it in single precision.
    EngineError
        If diffrax is missing.
    """
    if traced((eos, log_enthalpy)) and jnp.zeros(0).dtype != np.float64:
        raise ConfigError(
            "structure: JAX traces it in single precision; set jax_enable_x64, or transform and"
            " call it within `with jax.enable_x64(True):`"
        )
    return _solve(eos, log_enthalpy, positive("tolerance", tolerance))


@exact
def _solve(eos: EquationOfState, log_enthalpy: Number, tolerance: float) -> Star:
    diffrax = needed("diffrax", "ode")
    method = diffrax.Tsit5() if tolerance > _LENIENT else diffrax.Dopri8()
    centre = floats(log_enthalpy)
    table, innermost = eos.pieces(), eos.number(centre)
    rho_c, p_c = eos.at(centre, rows(table, innermost))
    e_c = rho_c * jnp.exp(centre) - p_c

    def matter(h: Float[Array, ""], number: Int[Array, ""]) -> Float[Array, "3"]:
        """Densities of rest mass and energy, and pressure, in units of e_c."""
        rho, p = eos.at(h, rows(table, number))
        return jnp.stack([rho, rho * jnp.exp(h) - p, p]) / e_c

    def speed(t: Any, y: Float[Array, "4"], path: Any) -> Float[Array, "4"]:
        """dy/dt, where sqrt(h) is linear in t: at the surface matter of a power law is smoother in
        it than in h."""
        (inner, outer), number = path
        root = inner + (outer - inner) * t
        return 2.0 * root * (outer - inner) * _rates(y, *matter(root**2, number))

    def through(state: Any, number: Int[Array, ""]) -> tuple[Any, None]:
        """One piece, so that no step spans two; of length zero if the centre lies outside it."""
        y, solved = state
        ends = jnp.minimum(start, edges[number + 1]), jnp.minimum(start, edges[number])
        solution = diffrax.diffeqsolve(
            *(diffrax.ODETerm(speed), method, 0.0, 1.0, None, y),
            args=(ends, jnp.minimum(number, innermost)),
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=_MOST_STEPS,
            throw=False,
        )
        good = solution.result == diffrax.RESULTS.successful
        return (solution.ys[0], solved & good), None

    start = jnp.sqrt(centre * (1.0 - _START))
    divisions = jnp.sqrt(eos.divisions)
    edges = jnp.concatenate([jnp.zeros(1), divisions, jnp.full(1, jnp.inf)])
    begin = _centre(lambda h: matter(h, innermost), centre)
    pieces = jnp.arange(len(divisions), -1, -1)
    ((u, v, b, w), solved), _ = lax.scan(through, (begin, jnp.asarray(True)), pieces)
    radius = jnp.sqrt(u / (4.0 / 3.0 * jnp.pi * e_c))
    compactness = u * v
    k2 = love_number(compactness, w)
    star = Star(
        compactness * radius,
        radius,
        u * b * radius,
        compactness,
        k2,
        2.0 / 3.0 * k2 / compactness**5,
    )
    return Star(*(jnp.where(solved, a, jnp.nan) for a in star))


def _rates(
    y: Float[Array, "4"], rho: Float[Array, ""], e: Float[Array, ""], p: Float[Array, ""]
) -> Float[Array, "4"]:
    """d(u, v, b, w)/dh."""
    u, v, b, w = y
    lamb = 1.0 / (1.0 - 2.0 * u * v)
    g = v + 3.0 * p
    tide = w + 3.0 * e / g
    dg = 3.0 * (e - v) - 3.0 * (e + p) * u * lamb * g
    dw = (
        -tide * (tide + lamb * (1.0 + 3.0 * u * (p - e)))
        - lamb * (3.0 * u * (5.0 * e + 9.0 * p) - 6.0)
        + (2.0 * u * g * lamb) ** 2
        + 3.0 * e / g**2 * dg
    )
    by_radius = jnp.stack([2.0 * u, 3.0 * (e - v), 3.0 * (rho * jnp.sqrt(lamb) - b), dw])
    return -by_radius / (u * lamb * g)


def _centre(
    matter: Callable[[Float[Array, ""]], Float[Array, "3"]], centre: Float[Array, ""]
) -> Float[Array, "4"]:
    """(u, v, b, w) a distance d = h_c - h from the centre, to d^2 in u and d in the others:

    u = u1 d + u1 (-2 u1 - g1 / g0) d^2 / 2,    u1 = 2 / g0,    g = g0 + g1 d = v + 3 p,
    v = 1 - 3/5 e' d,    b = rho_c + 3/5 (rho_c u1 - rho') d,
    y = 2 - 3/7 (5 + 9 p_c + e') u.
    """
    (rho, _, p), (drho, de, dp) = jax.jvp(matter, (centre,), (jnp.ones_like(centre),))
    d = _START * centre
    g0, g1 = 1.0 + 3.0 * p, -0.6 * de - 3.0 * dp
    u1 = 2.0 / g0
    return jnp.stack(
        [
            u1 * d * (1.0 - (u1 + 0.5 * g1 / g0) * d),
            1.0 - 0.6 * de * d,
            rho + 0.6 * (rho * u1 - drho) * d,
            2.0
            - 3.0 / g0
            + (3.0 * (de / g0 + g1 / g0**2) - 3.0 / 7.0 * (5.0 + 9.0 * p + de) * u1) * d,
        ]
    )


def love_number(
    compactness: Float[Array, "*shape"], y: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """k2 of a star of that compactness, y = d ln H / d ln r just outside its surface."""
    z = 2.0 * compactness
    powers = z[..., None] ** _TERMS
    series, slope = powers @ _SERIES, powers @ (_TERMS * _SERIES)
    grows, decays = 2.0 + z / (1.0 - z), -3.0 - z / (1.0 - z) - slope / series
    return 0.5 * (1.0 - z) ** 2 / series * (grows - y) / (y - decays)
