"""Faults: what slip on a rectangle, cut in patches, does to points of the surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..errors import ConfigError, DataError
from .okada import SLIPS, displacement


@dataclass(frozen=True)
class Fault:
    """A rectangle of `along` x `down` equal patches in an elastic half space.

    Parameters
    ----------
    length, width : float
        Along its strike and down its dip, in the units of the points.
    along, down : int
        Patches.
    slips : sequence of {"strike", "dip", "tensile"}
        Components of slip that each patch has: left-lateral, thrust, opening.
    poisson : float
        Of the half space.
    """

    length: float
    width: float
    along: int = 1
    down: int = 1
    slips: tuple[str, ...] = ("strike", "dip")
    poisson: float = 0.25

    def __post_init__(self) -> None:
        for name in ("length", "width", "along", "down"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected more than 0")
        unknown = [s for s in self.slips if s not in SLIPS]
        if unknown or not self.slips:
            raise ConfigError(f"slips: found {self.slips!r}, expected some of {', '.join(SLIPS)}")
        if not -1.0 < self.poisson <= 0.5:
            raise ConfigError(f"poisson: found {self.poisson}, expected above -1, 0.5 at most")

    @property
    def components(self) -> int:
        """Of slip, all patches together."""
        return len(self.slips) * self.along * self.down

    def green(
        self, points: Any, look: Any, *, east: Any, north: Any, depth: Any, strike: Any, dip: Any
    ) -> Any:
        """G: displacements along `look` per unit of each component of slip.

        Parameters
        ----------
        points : array, shape (m, 2)
            East and north of each datum.
        look : array, shape (m, 3)
            Unit vector (east, north, up) along which each datum is taken: an axis for a component
            of GNSS, the line of sight for InSAR.
        east, north, depth : float
            Of the middle of the upper edge; depth positive.
        strike, dip : float
            In degrees: strike clockwise from north, the fault dipping to the right of it.

        Returns
        -------
        array, shape (m, components)
            By component of slip, then along the strike, then down the dip (the last runs fastest).
        """
        points, look = jnp.asarray(points), jnp.asarray(look)
        azimuth, delta = jnp.deg2rad(strike), jnp.deg2rad(dip)
        ahead = jnp.stack([jnp.sin(azimuth), jnp.cos(azimuth)])
        left = jnp.stack([-jnp.cos(azimuth), jnp.sin(azimuth)])
        length, width = self.length / self.along, self.width / self.down
        i, j = (a.ravel() for a in np.indices((self.along, self.down)))
        # The lower edge of each patch, where it begins.
        start = jnp.stack([jnp.asarray(east), jnp.asarray(north)])
        lower = (
            start
            + (i * length - 0.5 * self.length)[:, None] * ahead
            - ((j + 1) * width * jnp.cos(delta))[:, None] * left
        )
        off = points[:, None] - lower
        at = off @ ahead, off @ left, depth + (j + 1) * width * jnp.sin(delta)
        parts = []
        for slip in self.slips:
            u = displacement(*at, delta, length, width, slip, poisson=self.poisson)
            flat = u[..., 0, None] * ahead + u[..., 1, None] * left
            parts.append(jnp.einsum("mk,mnk->mn", look[:, :2], flat) + look[:, 2:] * u[..., 2])
        return jnp.concatenate(parts, axis=1)

    def smoothing(self) -> np.ndarray:
        """The Laplacian of slip, (components, components): differences of neighbouring patches,
        over the squares of their distances, each component of slip by itself."""
        size = self.along * self.down
        cells = np.arange(size).reshape(self.along, self.down)
        lap = np.zeros((size, size))
        for axis, h in enumerate((self.length / self.along, self.width / self.down)):
            low = np.take(cells, np.arange(cells.shape[axis] - 1), axis=axis).ravel()
            high = np.take(cells, np.arange(1, cells.shape[axis]), axis=axis).ravel()
            for a, b in ((low, high), (high, low)):
                np.add.at(lap, (a, a), -1.0 / h**2)
                np.add.at(lap, (a, b), 1.0 / h**2)
        return np.kron(np.eye(len(self.slips)), lap)


def gnss(points: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points and looks of three components (east, north, up) at each of the stations (k, 2)."""
    stations = np.asarray(points, dtype=float)
    if stations.ndim != 2 or stations.shape[1] != 2:
        raise DataError(f"points: found an array of shape {stations.shape}, expected (k, 2)")
    return np.repeat(stations, 3, axis=0), np.tile(np.eye(3), (len(stations), 1))
