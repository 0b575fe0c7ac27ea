"""Acoustic waves: 1/(rho c^2) dp/dt + div v = s, rho dv/dt = -grad p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...core.checks import positive
from ...core.grid import Grid
from ..base import Fields
from ..declarations import Parameter, Variable
from .staggered import Medium, Wave


@dataclass(frozen=True, init=False, repr=False)
class AcousticWave(Wave):
    """Acoustic waves: 1/(rho c^2) dp/dt + div v = s, rho dv/dt = -grad p, 1-D to 3-D.

    p is the pressure, v the velocity, c the wave speed, rho the constant density, s the volume
    injected per time and volume. Leapfrog steps on a staggered grid, second order in space and
    time. Sides are rigid walls, unless they absorb.

    Parameters
    ----------
    grid : Grid
    step : float
        dt, at most ``1 / (c sqrt(sum 1/h^2))``.
    density : float
        rho.
    steps, every, source, absorbing, sponge, checkpoints, time_units
        As for `Wave`.

    Notes
    -----
    Unknown: ``pressure``. Parameters: ``wave_speed`` (c, positive), ``initial_pressure`` (zero
    unless given), each a cell field; ``source`` (s), one value for each interval of `every` steps
    and each site (at points, volume per time). A function for it takes time and the coordinates.

    Raises
    ------
    ConfigError
        If an option cannot be used.
    DataError
        If the step is too long for the parameters.
    """

    density: float

    name: ClassVar[str] = "acoustic-wave"
    wave: ClassVar[Variable] = Variable("pressure", "Pa", "pressure")
    rate: ClassVar[tuple[str, int]] = ("rate of volume injection", 0)
    own_parameters = (Parameter("wave_speed", "m s-1", "wave speed", positive=True),)

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
        density: float = 1.0,
        checkpoints: int | None = None,
        time_units: str = "s",
    ):
        self._set(density=positive("density", density))
        super().__init__(
            grid, step, steps, every, source, absorbing, sponge, checkpoints, time_units
        )

    @property
    def uniform(self) -> tuple[float, float]:
        return 1.0, 1.0 / self.density

    def medium(self, m: Fields) -> Medium:
        speed = m["wave_speed"]
        return self.density * speed**2, (1.0 / self.density,) * self.grid.ndim, speed

    def specification(self) -> dict[str, Any]:
        return super().specification() | {"density": self.density}
