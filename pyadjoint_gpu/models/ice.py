"""Ice sheets and glaciers in the shallow-ice approximation: dH/dt = div(D grad S) + M, H >= 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..core.checks import finite
from ..core.errors import ConfigError
from ..core.grid import Grid
from .base import Fields, Model
from .declarations import Bound, Described, Elliptic, Parameter, Variable, components
from .finite_volume import above, below, difference, gather, mean, pad, with_active_set

DENSITY = 917.0
"""Density of ice in kg m-3, by which a mass balance in ``kg m-2 year-1`` becomes metres of ice."""
FLOATING = 1.0 - DENSITY / 1027.0
"""Fraction of floating ice above water."""
FLATTEST = 1e-6
"""Slope below which D does not decrease any further."""

Faces = Float[Array, "*faces"]


@dataclass(frozen=True, repr=False)
class Ice(Model):
    """Shallow-ice flow over a bed, 1-D or 2-D: in each cell

        dH/dt = R = sum_faces D_f (S_neighbour - S) / h^2 + M,    S = B + H,    H >= 0,
        D = (a1 H^(n+2) + a2 H^n) |grad S|^(n-1),    M = min(beta (S - ELA), cap) + m.

    H_f is taken upstream, so that no ice leaves an empty cell (Jarosch, Schoof and Anslow 2013, The
    Cryosphere 7, 229); |grad S| has the difference across the face and the mean of those beside it.
    Without ice R may be negative: the inflow melts. The sides of the grid are closed.

    Parameters
    ----------
    grid : Grid
    exponent : float
        n, at least 1.
    sea_level : float, optional
        If given, cells with a lower bed and zero ``reference_thickness`` are water, where ice is
        lost. Elsewhere thin ice below this level floats: S = max(B + H, 0.11 H), B from sea level.

    Notes
    -----
    Unknown: ``thickness`` (H). Parameters, all cell fields: ``bed`` (B), ``rate_factor`` (a1,
    positive: 2 A (rho g)^n / (n + 2) with Glen's A), ``sliding`` (a2), ``balance_lapse``
    (beta), ``equilibrium_line`` (ELA), ``balance_cap`` (cap), ``balance`` (m), and
    ``reference_thickness``, the initial guess. Balances are in metres of ice a year; those in
    ``kg m-2 year-1`` are converted by 917 kg m-3. Further state: ``surface`` (S),
    ``mass_balance`` (M), ``flux_x``, ``flux_y``.

    With beta > 0 there may be several steady states, as a high surface gains more ice (Weertman
    1961, J. Geophys. Res. 66, 3783): a solve finds one, which depends on the initial guess.

    Raises
    ------
    ConfigError
        If the grid has three axes, or an option is not such a number.
    """

    grid: Grid
    exponent: float
    sea_level: float | None
    time_units: str = "year"

    name: ClassVar[str] = "ice"
    unknowns = (Variable("thickness", "m", "ice thickness", "land_ice_thickness"),)

    def __init__(self, grid: Grid, *, exponent: float = 3.0, sea_level: float | None = None):
        super().__init__(grid)
        if grid.ndim == 3:
            raise ConfigError("grid: found 3 axes, expected 1 or 2: ice has a thickness")
        self._set(exponent=finite("exponent", exponent))
        self._set(sea_level=None if sea_level is None else finite("sea_level", sea_level))
        if self.exponent < 1.0:
            raise ConfigError(f"exponent: found {exponent!r}, expected 1 or more")

    @property
    def options_text(self) -> str:
        sea = "" if self.sea_level is None else f", sea level {self.sea_level:g} m"
        return f"exponent {self.exponent:g}{sea}"

    @property
    def lower(self) -> dict[str, Bound]:
        return {"thickness": Bound(0.0, 1.0)}

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        n = f"{self.exponent:g}"
        return (
            Parameter("bed", "m", "bed elevation", "bedrock_altitude"),
            Parameter("rate_factor", f"m-{n} year-1", "rate factor of deformation", positive=True),
            Parameter("sliding", f"m{2 - self.exponent:g} year-1", "sliding factor", default=0.0),
            Parameter("balance_lapse", "year-1", "mass balance gradient", default=0.0),
            Parameter("equilibrium_line", "m", "equilibrium line altitude", default=0.0),
            Parameter(
                "balance_cap", "m year-1", "largest mass balance", default=1e6, density=DENSITY
            ),
            Parameter(
                "balance",
                "m year-1",
                "mass balance beside that by altitude",
                default=0.0,
                density=DENSITY,
            ),
            Parameter("reference_thickness", "m", "reference ice thickness", default=0.0),
        )

    @property
    def output_variables(self) -> tuple[Described, ...]:
        dims = self.grid.dims
        return (
            (Variable("surface", "m", "surface elevation", "surface_altitude"), dims),
            (Variable("mass_balance", "m year-1", "surface mass balance", density=DENSITY), dims),
            *components("flux", "m2 year-1", "ice flux", dims),
        )

    def specification(self) -> dict[str, Any]:
        out: dict[str, Any] = {"name": self.name, "exponent": self.exponent}
        return out | ({} if self.sea_level is None else {"sea_level": self.sea_level})

    def julia_spec(self) -> dict[str, Any]:
        return {k: v for k, v in self.specification().items() if k != "name"}

    def guess(self, m: Fields) -> Fields:
        """The reference thickness; if that is zero, where the balance is positive, the height of an
        ice sheet on a flat bed whose width is a quarter of the grid's (Vialov 1958)."""
        if np.any(m["reference_thickness"] > 0.0):
            return {"thickness": np.maximum(m["reference_thickness"], 0.0)}
        n = self.exponent
        balance = np.minimum(
            m["balance_lapse"] * (m["bed"] - m["equilibrium_line"]), m["balance_cap"]
        )
        balance = balance + m["balance"]
        gain = np.mean(np.maximum(balance, 0.0))
        width = 0.25 * min(self.grid.extent)
        ratio = gain / float(np.median(m["rate_factor"]))
        height = (2**n * ratio * width ** (n + 1)) ** (1.0 / (2.0 * n + 2.0))
        return {"thickness": np.where(balance > 0.0, height, 0.0)}

    def prepare(self, m: Fields) -> dict[str, Any]:
        bed = m["bed"]
        axes = range(self.grid.ndim)
        water = jnp.zeros(bed.shape, bool)
        if self.sea_level is not None:
            water = (bed < self.sea_level) & ~(m["reference_thickness"] > 0.0)
        return {
            "bed": bed,
            "deformation": tuple(mean(m["rate_factor"], a) for a in axes),
            "sliding": tuple(mean(m["sliding"], a) for a in axes),
            "gradient": m["balance_lapse"],
            "line": m["equilibrium_line"],
            "cap": m["balance_cap"],
            "balance": m["balance"],
            "water": water,
        }

    def _surface(self, h: Float[Array, "*cells"], c: Any) -> Float[Array, "*cells"]:
        """S, the elevation of the surface."""
        if self.sea_level is None:
            return c["bed"] + h
        return jnp.maximum(c["bed"] + h, self.sea_level + FLOATING * h)

    def _balance(self, surface: Float[Array, "*cells"], c: Any) -> Float[Array, "*cells"]:
        """M, the mass balance."""
        by_altitude = jnp.minimum(c["gradient"] * (surface - c["line"]), c["cap"])
        return by_altitude + c["balance"]

    def _faces(
        self, h: Float[Array, "*cells"], surface: Float[Array, "*cells"], c: Any
    ) -> Iterator[tuple[int, Faces, Faces, Faces]]:
        """For each axis, on its inner faces: the slope across them, |grad S|^2, and
        a1 H^(n+2) + a2 H^n."""
        n, spacing = self.exponent, self.grid.spacing
        slopes = [difference(surface, a) / spacing[a] for a in range(self.grid.ndim)]
        for axis, slope in enumerate(slopes):
            square = slope**2 + FLATTEST**2
            for other, beside in enumerate(slopes):
                if other != axis:
                    # Zero slope beyond both ends.
                    centred = mean(pad(beside, other, 1, 1), other)
                    square = square + mean(centred, axis) ** 2
            source = jnp.where(slope < 0.0, below(h, axis), above(h, axis))
            power = _power(source, n)
            mobility = (c["deformation"][axis] * source**2 + c["sliding"][axis]) * power
            yield axis, slope, square, mobility

    def _flows(
        self, h: Float[Array, "*cells"], surface: Float[Array, "*cells"], c: Any
    ) -> list[Faces]:
        """D_f (S_above - S_below) / h^2 on the inner faces along each axis."""
        power, spacing = 0.5 * (self.exponent - 1.0), self.grid.spacing
        return [
            mobility * _power(square, power) * slope / spacing[axis]
            for axis, slope, square, mobility in self._faces(h, surface, c)
        ]

    def residual(self, u: Fields, c: Any) -> Fields:
        h = u["thickness"]
        surface = self._surface(h, c)
        r = gather(self._balance(surface, c), self._flows(h, surface, c))
        return {"thickness": jnp.where(c["water"], -h, r)}

    def elliptic(self, u: Fields, c: Any) -> dict[str, Elliptic]:
        """Derivatives of the flows with respect to the slope across their faces: n D_f where the
        slope is along the axis."""
        h, n = u["thickness"], self.exponent
        faces = tuple(
            mobility
            * _power(square, 0.5 * (n - 1.0))
            * (1.0 + (n - 1.0) * slope**2 / square)
            / self.grid.spacing[axis] ** 2
            for axis, slope, square, mobility in self._faces(h, self._surface(h, c), c)
        )
        return {"thickness": with_active_set(Elliptic(faces, jnp.zeros_like(h)), c["water"], 1.0)}

    def outputs(self, u: Fields, m: Fields) -> Fields:
        h, c = u["thickness"], self.prepare(m)
        surface = self._surface(h, c)
        out = {"surface": surface, "mass_balance": self._balance(surface, c)}
        for axis, flow in enumerate(self._flows(h, surface, c)):
            out[f"flux_{self.grid.dims[axis]}"] = pad(-self.grid.spacing[axis] * flow, axis, 1, 1)
        return out


def _power(base: Float[Array, "*shape"], exponent: float) -> Float[Array, "*shape"]:
    """base ** exponent, by multiplications for whole exponents."""
    whole = round(exponent)
    return lax.integer_pow(base, whole) if whole == exponent else base**exponent
