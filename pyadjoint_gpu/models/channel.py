"""Flow of a power-law fluid, such as ice, along a channel, in its cross-section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..core.checks import positive
from ..core.errors import ConfigError
from ..core.grid import Grid
from .base import Fields, Model
from .declarations import Described, Elliptic, Parameter, Variable
from .finite_volume import difference, mean, pad
from .sides import side_names


@dataclass(frozen=True, repr=False)
class Channel(Model):
    """Velocity v normal to a cross-section, x across and y up, of a fluid driven by its weight:

        d/dx (eta dv/dx) + d/dy (eta dv/dy) + f = 0,    f = rho g sin(slope),
        1/eta = 1 / (k gamma^(n-1)) + 1/eta_max,    gamma^2 = (dv/dx)^2 + (dv/dy)^2 + smallest^2.

    With n < 1 the fluid is shear-thinning. Ice that follows Glen's law, strain rate = A stress^3,
    has n = 1/3 and k = (2 A)^(-1/3): the shear rate gamma is twice the strain rate.

    Parameters
    ----------
    grid : Grid
        Two axes, (y, x).
    no_slip : sequence of str
        Sides (``"x_min"``, ``"x_max"``, ``"y_min"``, ``"y_max"``) where v = 0; at least one. The
        others are free of stress: a free surface, or a plane of symmetry.
    smallest : float
        A shear rate far below those of interest, which keeps eta smooth where nothing shears.
    viscosity_limit : float, optional
        eta_max; unlimited by default. Pseudo-transient iterations with n < 1 need one: the more eta
        varies, the more iterations it takes, until they do not converge.

    Notes
    -----
    Unknown: ``velocity``. Parameters: ``prefactor`` (k, positive), ``exponent`` (n, positive) and
    ``driving_force`` (f, force per volume), each a cell field. Further state: ``viscosity`` in the
    cells, and ``stress_x`` and ``stress_y``, eta dv/dx and eta dv/dy on the faces: on the sides
    they are the drag.

    The viscosity is computed at the corners between cells, where k and n are means of the adjacent
    cells, and each square in gamma^2 is the mean of the squares of the two nearest differences,
    with mirror images of v beyond the sides. On a face it is the mean of its ends. So -R is the
    gradient of the discrete potential

        sum_corners area int_0^gamma eta g dg  -  sum_cells area f v,

    which is convex in v: dR/dv is symmetric and negative definite, and the solution is unique. Its
    error is O(h^2) where v is smooth. (For ice: Nye 1965, J. Glaciol. 5, 661.)

    Raises
    ------
    ConfigError
        If the grid does not have two axes, a side is unknown, named twice or none is given, or
        `smallest` or `viscosity_limit` is not positive.
    """

    grid: Grid
    no_slip: tuple[str, ...]
    smallest: float
    viscosity_limit: float | None

    name: ClassVar[str] = "channel"
    unknowns = (Variable("velocity", "m s-1", "velocity out of the section"),)
    parameters = (
        Parameter("prefactor", "Pa s", "viscosity at a shear rate of 1 s-1", positive=True),
        Parameter("driving_force", "N m-3", "driving force"),
        Parameter("exponent", "1", "exponent of the flow law", positive=True, default=1 / 3),
    )

    def __init__(
        self,
        grid: Grid,
        no_slip: Sequence[str] = ("y_min", "x_min"),
        *,
        smallest: float,
        viscosity_limit: float | None = None,
    ):
        super().__init__(grid)
        if grid.ndim != 2:
            raise ConfigError(f"grid: found axes {', '.join(grid.dims)}, expected y, x")
        self._set(no_slip=side_names(grid, no_slip, "no_slip"))
        if not self.no_slip:
            raise ConfigError("no_slip: found no side, expected one at least")
        limit = None if viscosity_limit is None else positive("viscosity_limit", viscosity_limit)
        self._set(smallest=positive("smallest", smallest), viscosity_limit=limit)

    @property
    def options_text(self) -> str:
        return f"no slip on {', '.join(self.no_slip)}"

    @property
    def output_variables(self) -> tuple[Described, ...]:
        return (
            (Variable("viscosity", "Pa s"), ("y", "x")),
            (Variable("stress_x", "Pa", "shear stress across x"), ("y", "x_face")),
            (Variable("stress_y", "Pa", "shear stress across y"), ("y_face", "x")),
        )

    def specification(self) -> dict[str, Any]:
        out = {"name": self.name, "no_slip": list(self.no_slip), "smallest": self.smallest}
        limit = self.viscosity_limit
        return out if limit is None else out | {"viscosity_limit": limit}

    def julia_spec(self) -> dict[str, Any]:
        return {
            "no_slip": list(self.no_slip),
            "smallest": self.smallest,
            "least_fluidity": self._least_fluidity,
        }

    @property
    def _least_fluidity(self) -> float:
        return 0.0 if self.viscosity_limit is None else 1.0 / self.viscosity_limit

    def guess(self, m: Fields) -> Fields:
        """The flow of a uniform fluid, approximately: 1/v = 1/v_x + 1/v_y, with v_a the flow
        between the walls across axis a alone. Starting at rest the viscosity would be extreme."""
        force, k, n = (float(np.mean(m[p])) for p in ("driving_force", "prefactor", "exponent"))
        walls: np.ndarray | float = 0.0
        for axis, dim in enumerate(self.grid.dims):
            ends = [s for s in self.no_slip if s[0] == dim]
            if not ends:
                continue
            low, extent = self.grid.origin[axis], self.grid.extent[axis]
            depth = extent / len(ends)  # distance from a wall to where nothing shears
            from_low = self.grid.centers[axis] - low
            distance = from_low if f"{dim}_min" in ends else extent - from_low
            left = np.abs(depth - distance)
            law, linear = (abs(force) / k) ** (1 / n), abs(force) * self._least_fluidity
            v = law * (depth ** (1 + 1 / n) - left ** (1 + 1 / n)) / (1 + 1 / n)
            v = v + 0.5 * linear * (depth**2 - left**2)
            shape = [-1 if a == axis else 1 for a in range(2)]
            walls = walls + 1.0 / np.maximum(v, np.finfo(float).tiny).reshape(shape)
        return {"velocity": np.sign(force) / np.broadcast_to(walls, self.grid.shape)}

    def prepare(self, m: Fields) -> dict[str, Any]:
        k, n = (_corners(jnp.pad(m[p], 1, mode="edge")) for p in ("prefactor", "exponent"))
        return {"fluidity": 1.0 / k, "power": 0.5 * (1.0 - n), "force": m["driving_force"]}

    def _slopes(
        self, v: Float[Array, "y x"]
    ) -> tuple[Float[Array, "y+1 x+2"], Float[Array, "y+2 x+1"]]:
        """dv/dy and dv/dx on all faces, with those between the mirror images beyond the sides."""
        for axis, dim in enumerate(self.grid.dims):
            low, high = (
                -_end(v, axis, end) if f"{dim}_{end}" in self.no_slip else _end(v, axis, end)
                for end in ("min", "max")
            )
            v = jnp.concatenate([low, v, high], axis)
        hy, hx = self.grid.spacing
        return difference(v, 0) / hy, difference(v, 1) / hx

    def _viscosity(
        self, slopes: tuple[Float[Array, "y+1 x+2"], Float[Array, "y+2 x+1"]], c: Any
    ) -> Float[Array, "y+1 x+1"]:
        """eta at the corners of the cells."""
        across_y, across_x = (jnp.square(s) for s in slopes)
        square = mean(across_y, 1) + mean(across_x, 0) + self.smallest**2
        return 1.0 / (c["fluidity"] * square ** c["power"] + self._least_fluidity)

    def _stresses(
        self, v: Float[Array, "y x"], c: Any
    ) -> tuple[Float[Array, "y+1 x"], Float[Array, "y x+1"]]:
        """eta dv/dy and eta dv/dx on all faces."""
        slope_y, slope_x = slopes = self._slopes(v)
        eta = self._viscosity(slopes, c)
        return mean(eta, 1) * slope_y[:, 1:-1], mean(eta, 0) * slope_x[1:-1]

    def residual(self, u: Fields, c: Any) -> Fields:
        stress_y, stress_x = self._stresses(u["velocity"], c)
        hy, hx = self.grid.spacing
        return {
            "velocity": c["force"] + difference(stress_y, 0) / hy + difference(stress_x, 1) / hx
        }

    def elliptic(self, u: Fields, c: Any) -> dict[str, Elliptic]:
        """Coefficients with the viscosity frozen: -dR/dv lies between these and n times these."""
        eta = self._viscosity(self._slopes(u["velocity"]), c)
        faces, sink = [], jnp.zeros_like(u["velocity"])
        for axis, (dim, h) in enumerate(zip(self.grid.dims, self.grid.spacing, strict=True)):
            k = mean(eta, 1 - axis) / h**2
            faces.append(lax.slice_in_dim(k, 1, -1, axis=axis))
            for end in ("min", "max"):
                if f"{dim}_{end}" in self.no_slip:
                    others = self.grid.shape[axis] - 1
                    before, after = (0, others) if end == "min" else (others, 0)
                    sink = sink + pad(2.0 * _end(k, axis, end), axis, before, after)
        return {"velocity": Elliptic(tuple(faces), sink)}

    def outputs(self, u: Fields, m: Fields) -> Fields:
        c = self.prepare(m)
        stress_y, stress_x = self._stresses(u["velocity"], c)
        eta = _corners(self._viscosity(self._slopes(u["velocity"]), c))
        return {"viscosity": eta, "stress_x": stress_x, "stress_y": stress_y}


def _end(array: Float[Array, "y x"], axis: int, end: str) -> Float[Array, " ..."]:
    """The first (``"min"``) or last (``"max"``) layer of cells along an axis."""
    n = array.shape[axis]
    start = 0 if end == "min" else n - 1
    return lax.slice_in_dim(array, start, start + 1, axis=axis)


def _corners(array: Float[Array, "y x"]) -> Float[Array, "y-1 x-1"]:
    """Mean of the four cells at each corner between cells."""
    return mean(mean(array, 0), 1)
