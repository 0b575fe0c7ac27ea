"""Nonlinear diffusion: -div(D grad H) = Q with D = k H^n."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.checks import positive
from ..core.errors import ConfigError
from ..core.grid import Grid
from .base import Fields, Model
from .declarations import Described, Elliptic, Parameter, Variable, components
from .finite_volume import difference, gather, mean, pad
from .sides import Layer, Sides, SidesLike


@dataclass(frozen=True, repr=False)
class Diffusion(Model):
    """Diffusion with a diffusivity that is a power of the height, 1-D to 3-D.

    It describes gas in a porous medium, gravity currents and hillslopes. Finite volumes: in each
    cell

        R = sum_faces D_f (H_neighbour - H) / h^2 + Q = 0,    D_f = k_f max(H_f, smallest)^n_f,

    H_f, k_f and n_f the means of the cells on either side. Sides have no flux, unless H is fixed
    there or an inflow is given. With a fixed height H_b the inflow is 2 D (H_b - H) / h, D = k
    max(H_b, smallest)^n.

    Parameters
    ----------
    grid : Grid
    fixed_height : sequence of str, or mapping of str to field
        Sides (``"x_min"``, ``"x_max"``, ``"y_min"``, ...) fixed at the parameter
        ``boundary_height``; at least one. A mapping also gives that parameter's default.
    inflow : sequence of str, or mapping of str to field
        Sides with the inflow ``boundary_inflow``, a parameter, per time and area.
    smallest : float
        Height below which the diffusivity does not decrease any further.

    Notes
    -----
    Unknown: ``height``. Parameters: ``diffusivity`` (k, positive), ``exponent`` (n) and ``source``
    (Q), each a cell field; ``boundary_height`` and ``boundary_inflow``, one value a face of their
    sides. Further state: ``flux_x``, ``flux_y``, ``flux_z``, -D dH/dx on the faces.

    Raises
    ------
    ConfigError
        If a side is unknown, named twice or none is fixed, or `smallest` is not positive.
    """

    grid: Grid
    fixed: Sides
    inflow: Sides
    smallest: float

    name: ClassVar[str] = "diffusion"
    unknowns = (Variable("height", "m", "height"),)

    def __init__(
        self,
        grid: Grid,
        fixed_height: SidesLike,
        *,
        inflow: SidesLike = (),
        smallest: float = 1e-3,
    ):
        super().__init__(grid)
        self._set(fixed=Sides.of(grid, fixed_height, "fixed_height", "m"))
        self._set(inflow=Sides.of(grid, inflow, "inflow", "m2 s-1", "inflow"))
        self._set(smallest=positive("smallest", smallest))
        if not self.fixed:
            raise ConfigError("fixed_height: found no side, expected one at least")
        both = set(self.fixed.names) & set(self.inflow.names)
        if both:
            raise ConfigError(f"inflow: side {min(both)!r} has a fixed height")

    @property
    def options_text(self) -> str:
        sides = self.fixed.text("fixed height"), self.inflow.text("inflow")
        return ", ".join(filter(None, sides))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (
            Parameter("diffusivity", "m2 s-1", "diffusivity where H is 1 m", positive=True),
            Parameter("exponent", "1", "exponent of the diffusivity", default=0.0),
            Parameter("source", "m s-1", "source", default=0.0),
            *self.fixed.parameter("boundary_height", "m", "height on the fixed sides"),
            *self.inflow.parameter("boundary_inflow", "m2 s-1", "inflow through sides"),
        )

    @property
    def output_variables(self) -> tuple[Described, ...]:
        return components("flux", "m2 s-1", "flux", self.grid.dims)

    def specification(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "name": self.name,
            "fixed_height": self.fixed.specification(),
            "smallest": self.smallest,
        }
        return out | ({"inflow": self.inflow.specification()} if self.inflow else {})

    def julia_spec(self) -> dict[str, Any]:
        return {
            "fixed": list(self.fixed.names),
            "inflow": list(self.inflow.names),
            "smallest": self.smallest,
        }

    def guess(self, m: Fields) -> Fields:
        """The mean height of the fixed sides: with H = 0 the diffusivity would vanish."""
        level = max(float(np.mean(m["boundary_height"])), self.smallest)
        return {"height": np.full(self.grid.shape, level)}

    def prepare(self, m: Fields) -> dict[str, Any]:
        k, n = m["diffusivity"], m["exponent"]
        axes = range(self.grid.ndim)
        sink, source = jnp.zeros_like(k), jnp.asarray(m["source"])
        for side in self.fixed.layers(m["boundary_height"]):
            power = self._power(side, n)
            conductance = 2.0 * k[side.cells] * power / self.grid.spacing[side.axis] ** 2
            sink = sink.at[side.cells].add(conductance)
            source = source.at[side.cells].add(conductance * side.values)
        for side in self.inflow.layers(m.get("boundary_inflow")):
            source = source.at[side.cells].add(side.values / self.grid.spacing[side.axis])
        return {
            "faces": tuple(mean(k, a) / self.grid.spacing[a] ** 2 for a in axes),
            "exponents": tuple(mean(n, a) for a in axes),
            "sink": sink,
            "source": source,
        }

    def _power(self, side: Layer, n: Float[Array, "*cells"]) -> Float[Array, "*layer"]:
        """D/k on the faces of a side of fixed height."""
        return jnp.maximum(side.values, self.smallest) ** n[side.cells]

    def _conductances(self, h: Float[Array, "*cells"], c: Any) -> list[Float[Array, " ..."]]:
        """D_f over the square of the spacing, on the inner faces along each axis."""
        return [
            k * jnp.maximum(mean(h, axis), self.smallest) ** n
            for axis, (k, n) in enumerate(zip(c["faces"], c["exponents"], strict=True))
        ]

    def residual(self, u: Fields, c: Any) -> Fields:
        h = u["height"]
        flows = [d * difference(h, axis) for axis, d in enumerate(self._conductances(h, c))]
        return {"height": gather(c["source"] - c["sink"] * h, flows)}

    def elliptic(self, u: Fields, c: Any) -> dict[str, Elliptic]:
        return {"height": Elliptic(tuple(self._conductances(u["height"], c)), c["sink"])}

    def outputs(self, u: Fields, m: Fields) -> Fields:
        h, c = u["height"], self.prepare(m)
        fluxes = [
            pad(-self.grid.spacing[axis] * d * difference(h, axis), axis, 1, 1)
            for axis, d in enumerate(self._conductances(h, c))
        ]
        for side in self.fixed.layers(m["boundary_height"]):
            d = m["diffusivity"][side.cells] * self._power(side, m["exponent"])
            inflow = 2.0 * d * (side.values - h[side.cells]) / self.grid.spacing[side.axis]
            fluxes[side.axis] = side.with_inflow(fluxes[side.axis], inflow)
        for side in self.inflow.layers(m.get("boundary_inflow")):
            fluxes[side.axis] = side.with_inflow(fluxes[side.axis], side.values)
        return {f"flux_{d}": flux for d, flux in zip(self.grid.dims, fluxes, strict=True)}
