"""Piecewise polytropes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from ..core.checks import finite_array, positive
from ..core.errors import ConfigError
from ..core.precision import double, traced
from .equations_of_state import EquationOfState, Number, exact, floats, one_of
from .units import DENSITY, PRESSURE

# The crust of Douchin and Haensel's SLy, and the densities that divide the core: table II and
# section IV of Read et al. 2009; g cm-3, c = 1.
_CRUST_K = 6.80110e-9
_CRUST_GAMMAS = (1.58425, 1.28733, 0.62223, 1.35692)
_CRUST_DENSITIES = (2.44034e7, 3.78358e11, 2.62780e12)
_CORE_DENSITIES = (10**14.7, 10**15.0)


class Piece(NamedTuple):
    """Constants of pieces: the index, and where each begins, of which all follows. The outermost
    begins at rho = 0, and has the values where it ends."""

    outermost: Bool[Array, " pieces"]
    gamma: Float[Array, " pieces"]
    density: Float[Array, " pieces"]
    pressure: Float[Array, " pieces"]
    log_enthalpy: Float[Array, " pieces"]


@dataclass(frozen=True, eq=False)
class PiecewisePolytrope(EquationOfState):
    """p proportional to rho^gamma_i between densities rho_i and rho_(i+1), and continuous (Read,
    Lackey, Owen and Friedman 2009, Phys. Rev. D 79, 124032). From d exp(h) = dp / rho,

        exp(h) = exp(h_i) + gamma_i p_i / rho_i (x - 1) / (gamma_i - 1),
        x = (rho / rho_i)^(gamma_i - 1),    p = p_i (rho / rho_i)^gamma_i,

    also in the limit gamma_i = 1; p = K rho^gamma_0 from zero to the first of the densities.

    Parameters
    ----------
    K : float
        Of the outermost piece. Positive, in G = c = M_sun = 1.
    gammas : sequence of float
        Positive adiabatic indices from the surface inwards; the first and the last > 1.
    densities : sequence of float
        Densities of rest mass where pieces meet, one fewer; positive, ascending.

    Raises
    ------
    ConfigError, DataError
        If a parameter is impossible.
    """

    K: Number
    gammas: Sequence[float] | Float[np.ndarray, " pieces"] | Float[Array, " pieces"]
    densities: Sequence[float] | Float[np.ndarray, " divisions"] | Float[Array, " divisions"]

    def __post_init__(self) -> None:
        if not traced(self.K):
            self._set(K=positive("K", self.K))
        gammas, densities = _vector("gammas", self.gammas), _vector("densities", self.densities)
        if len(gammas) != len(densities) + 1 or not len(densities):
            raise ConfigError(
                f"gammas, densities: found {len(gammas)} and {len(densities)} numbers, expected at"
                " least two, and one fewer"
            )
        if not traced(gammas) and (np.any(gammas <= 0) or min(gammas[0], gammas[-1]) <= 1):
            raise ConfigError(
                f"gammas: found {_listed(gammas)}, expected numbers > 0, the first and the last > 1"
            )
        if not traced(densities) and (densities[0] <= 0 or np.any(np.diff(densities) <= 0)):
            raise ConfigError(
                f"densities: found {_listed(densities)}, expected ascending numbers > 0"
            )
        self._set(gammas=gammas, densities=densities)

    @classmethod
    @double
    def with_crust(cls, log_pressure: Number, gammas: Any) -> Self:
        """A neutron star's matter in the four parameters of Read et al. (2009): a core of three
        pieces, which meet at 10^14.7 and 10^15 g cm-3, inside the crust of SLy.

        Parameters
        ----------
        log_pressure : float
            log10 of the pressure in dyn cm-2 where the first two pieces of the core meet.
        gammas : sequence of three floats
            Their indices, outwards to inwards; table III of the paper has those of 34 models.

        Raises
        ------
        ConfigError, DataError
            If a parameter is impossible: the first piece has to meet the crust between the latter's
            last division, 2.6e12 g cm-3, and 10^14.7 g cm-3.
        """
        core = _vector("gammas", gammas)
        if len(core) != len(_CORE_DENSITIES) + 1:
            raise ConfigError(f"gammas: found {len(core)} numbers, expected 3")
        if not traced(log_pressure):
            finite_array("log_pressure", log_pressure)
        crust = cls(
            _CRUST_K * DENSITY ** (_CRUST_GAMMAS[0] - 1.0),
            _CRUST_GAMMAS,
            np.divide(_CRUST_DENSITIES, DENSITY),
        )
        last = crust.pieces()
        divisions = np.divide(_CORE_DENSITIES, DENSITY)
        # ln p is linear in ln rho on both sides of where they meet.
        at_core = jnp.log(10.0) * floats(log_pressure) - np.log(PRESSURE)
        rise = (
            at_core
            - jnp.log(last.pressure[-1])
            - core[0] * jnp.log(divisions[0] / last.density[-1])
        )
        meet = last.density[-1] * jnp.exp(rise / (last.gamma[-1] - core[0]))
        if not traced((meet, core)) and not last.density[-1] < meet < divisions[0]:
            raise ConfigError(
                f"log_pressure: found {float(log_pressure):g}, with which the core meets the crust"
                f" at {float(meet) * DENSITY:.3g} g cm-3, expected between"
                f" {_CRUST_DENSITIES[-1]:.3g} and {_CORE_DENSITIES[0]:.3g}"
            )
        return cls(
            crust.K,
            jnp.concatenate([floats(crust.gammas), floats(core)]),
            jnp.concatenate([floats(crust.densities), meet[None], floats(divisions)]),
        )

    @property
    @exact
    def divisions(self) -> Float[Array, " divisions"]:
        return self.pieces().log_enthalpy[1:]

    @double
    def pieces(self) -> Piece:
        gammas, rho = floats(self.gammas), floats(self.densities)
        lengths = jnp.diff(jnp.log(rho))
        first = floats(self.K) * rho[0] ** gammas[0]
        p = first * jnp.exp(jnp.cumsum(jnp.append(0.0, gammas[1:-1] * lengths)))
        steps = gammas[1:-1] * p[:-1] / rho[:-1] * _grown(gammas[1:-1] - 1.0, lengths)
        exp_h_1 = gammas[0] / (gammas[0] - 1.0) * first / rho[0]
        h = jnp.log1p(exp_h_1 + jnp.cumsum(jnp.append(0.0, steps)))
        columns = (jnp.append(column[:1], column) for column in (rho, p, h))
        return Piece(jnp.arange(len(gammas)) == 0, gammas, *columns)

    def at(
        self, h: Float[Array, "*shape"], piece: Any
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        c: Piece = piece
        g = c.gamma - 1.0
        # The outermost piece, where exp(h) - 1 is proportional to rho^g.
        inside = h > 0.0
        x = jnp.expm1(jnp.where(inside & c.outermost, h, c.log_enthalpy))
        outer = jnp.log(x / jnp.expm1(c.log_enthalpy)) / jnp.where(c.outermost, g, 1.0)
        # The others; 0 in place of what is not used, so that it has derivatives.
        above = jnp.where(c.outermost, 0.0, h - c.log_enthalpy)
        z = jnp.exp(c.log_enthalpy) * jnp.expm1(above) * c.density / (c.gamma * c.pressure)
        length = jnp.where(c.outermost, outer, _shrunk(g, z))  # ln(rho / rho_i)
        rho, p = c.density * jnp.exp(length), c.pressure * jnp.exp(c.gamma * length)
        return jnp.where(inside, rho, 0.0), jnp.where(inside, p, 0.0)

    @exact
    def log_enthalpy(
        self, *, density: ArrayLike | None = None, pressure: ArrayLike | None = None
    ) -> Float[Array, "*shape"]:
        rho, p = one_of(density, pressure)
        table = self.pieces()
        edges, given = (table.pressure, p) if rho is None else (table.density, rho)
        number = jnp.searchsorted(edges[1:], given, side="right")
        c = Piece(*(column[number] for column in table))
        if rho is None:
            rho = c.density * (given / c.pressure) ** (1.0 / c.gamma)
        length = jnp.log(rho / c.density)
        outer = jnp.expm1(c.log_enthalpy) * jnp.exp((c.gamma - 1.0) * length)
        inner = c.gamma * c.pressure / c.density * _grown(c.gamma - 1.0, length)
        return jnp.log1p(jnp.where(c.outermost, outer, jnp.expm1(c.log_enthalpy) + inner))


_SMALL = 1e-5
"""gamma - 1 below which series are more accurate."""


def _grown(g: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(exp(g x) - 1) / g, also for g = 0."""
    small = jnp.abs(g) < _SMALL
    series = x * (1.0 + g * x / 2.0 * (1.0 + g * x / 3.0))
    g = jnp.where(small, 1.0, g)
    return jnp.where(small, series, jnp.expm1(g * x) / g)


def _shrunk(g: Float[Array, "*shape"], z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """ln(1 + g z) / g, the inverse of `_grown`."""
    small = jnp.abs(g) < _SMALL
    series = z * (1.0 - g * z * (0.5 - g * z / 3.0))
    g = jnp.where(small, 1.0, g)
    return jnp.where(small, series, jnp.log1p(g * z) / g)


@double
def _vector(name: str, given: Any) -> Any:
    """Numbers in a row, as an array."""
    array = floats(given) if traced(given) else finite_array(name, given)
    if array.ndim != 1:
        raise ConfigError(f"{name}: found shape {array.shape}, expected numbers in a row")
    return array


def _listed(values: Any) -> str:
    return ", ".join(f"{v:.4g}" for v in np.asarray(values))
