"""Linear shallow-water waves: d eta/dt + div q = s, dq/dt = -g h grad eta."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from ...core.checks import check_kind, positive
from ...core.errors import ConfigError
from ...core.grid import Grid
from ..base import Fields
from ..declarations import Parameter, Variable
from ..finite_volume import mean
from .staggered import Medium, Wave


@dataclass(frozen=True, init=False, repr=False)
class ShallowWater(Wave):
    """Linear shallow-water waves: d eta/dt + div q = s, dq/dt = -g h grad eta, 1-D or 2-D.

    eta is the elevation of the surface, h the depth at rest, q the depth-integrated velocity, s the
    rate of uplift of the sea floor; valid for eta much less than h and h much less than the
    wavelength. h on a face is the mean of the cells on either side. Leapfrog steps on a staggered
    grid, second order in space and time. Sides are rigid walls, unless they absorb.

    Parameters
    ----------
    grid : Grid
    step : float
        dt, at most about ``1 / sqrt(g h sum 1/spacing^2)`` where h is largest.
    gravity : float
        g.
    steps, every, source, absorbing, sponge, checkpoints, time_units
        As for `Wave`.

    Notes
    -----
    Unknown: ``elevation``. Parameters: ``depth`` (h, positive), ``initial_elevation`` (zero unless
    given), each a cell field; ``source`` (s), one value for each interval of `every` steps and each
    site (at points, volume per time). A function for it takes time and the coordinates.

    Raises
    ------
    ConfigError
        If an option cannot be used, or the grid has three axes.
    DataError
        If the step is too long for the parameters.
    """

    gravity: float

    name: ClassVar[str] = "shallow-water"
    wave: ClassVar[Variable] = Variable("elevation", "m", "elevation of the surface")
    rate: ClassVar[tuple[str, int]] = ("uplift rate", 1)
    own_parameters = (Parameter("depth", "m", "depth of the water", positive=True),)

    def __init__(
        self,
        grid: Grid,
        step: float,
        steps: int,
        *,
        every: int = 1,
        source: Any = None,
        absorbing: str | Sequence[str] = (),
        sponge: int = 0,
        gravity: float = 9.81,
        checkpoints: int | None = None,
        time_units: str = "s",
    ):
        check_kind("grid", grid, Grid)
        if grid.ndim == 3:
            raise ConfigError("grid.shape: found three axes, shallow water has one or two")
        self._set(gravity=positive("gravity", gravity))
        super().__init__(
            grid, step, steps, every, source, absorbing, sponge, checkpoints, time_units
        )

    @property
    def uniform(self) -> tuple[float, float]:
        return 1.0, self.gravity

    def medium(self, m: Fields) -> Medium:
        b = self.gravity * m["depth"]
        return 1.0, tuple(mean(b, axis) for axis in range(self.grid.ndim)), jnp.sqrt(b)

    def specification(self) -> dict[str, Any]:
        return super().specification() | {"gravity": self.gravity}
