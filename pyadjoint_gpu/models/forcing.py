"""The spaces of forcings: sites, and sites in time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core.grid import Grid
from ..core.spaces import CellSpace, Quantity, Space
from .sites import Sites


@dataclass(frozen=True)
class SiteSpace(Space):
    """Fields with one value for each site."""

    sites: Sites

    @property
    def grid(self) -> Grid:
        return self.sites.grid

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape if self.sites.everywhere else (self.sites.indices.size,)

    @property
    def dims(self) -> tuple[str, ...]:
        return self.grid.dims if self.sites.everywhere else ("source",)

    @property
    def measure(self) -> float:
        return self.grid.cell_volume

    @property
    def box(self) -> Grid | None:
        if self.sites.everywhere or self.sites.at_points:
            return None if self.sites.at_points else self.grid
        grid = self.grid
        cells = np.unravel_index(self.sites.indices, grid.shape)
        shape = tuple(int(np.ptp(c)) + 1 for c in cells)
        if math.prod(shape) != self.size or min(shape) < 2:
            return None
        return Grid(shape, tuple(n * h for n, h in zip(shape, grid.spacing, strict=True)))

    def positions(self) -> tuple[Float[np.ndarray, "*sites"], ...]:
        if self.sites.at_points:
            return tuple(np.transpose(self.sites.given[1]))
        everywhere = CellSpace(self.grid).positions()
        if self.sites.everywhere:
            return everywhere
        return tuple(p.ravel()[self.sites.indices] for p in everywhere)

    def dirichlet(self, field: Float[Array, "*batch_and_sites"]) -> Float[Array, ""] | float:
        """Integral of ``|grad field|^2`` over space, from differences between neighbouring sites,
        summed over a batch. Points have no neighbours."""
        if self.sites.at_points:
            return jnp.zeros(())
        flat = jnp.reshape(field, (-1, self.size))
        total = 0.0
        for (low, high), h in zip(self._pairs, self.grid.spacing, strict=True):
            total = total + jnp.sum(jnp.square(flat[:, high] - flat[:, low])) / h**2
        return total * self.grid.cell_volume

    @cached_property
    def _pairs(self) -> tuple[tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]], ...]:
        """For each axis, the numbers of the lower and the upper sites of all neighbours."""
        numbers = np.full(self.grid.size, -1)
        numbers[self.sites.indices] = np.arange(self.sites.indices.size)
        cells = numbers.reshape(self.grid.shape)
        out = []
        for axis, n in enumerate(self.grid.shape):
            low = np.take(cells, np.arange(n - 1), axis=axis).ravel()
            high = np.take(cells, np.arange(1, n), axis=axis).ravel()
            both = (low >= 0) & (high >= 0)
            out.append((low[both], high[both]))
        return tuple(out)


@dataclass(frozen=True)
class ForcingSpace(Space):
    """Forcings with one value for each interval of time and each site.

    Attributes
    ----------
    sites : Sites
    interval : float
        Length of an interval, in `time_units`.
    count : int
        Number of intervals.
    time_units : str
    """

    sites: Sites
    interval: float
    count: int
    time_units: str

    @cached_property
    def spatial(self) -> SiteSpace:
        """The space of the forcing at one time."""
        return SiteSpace(self.sites)

    @property
    def grid(self) -> Grid:
        return self.sites.grid

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *self.spatial.shape)

    @property
    def dims(self) -> tuple[str, ...]:
        return ("interval", *self.spatial.dims)

    @property
    def measure(self) -> float:
        return self.grid.cell_volume

    @property
    def box(self) -> Grid | None:
        return self.spatial.box

    @property
    def times(self) -> Float[np.ndarray, " intervals"]:
        """Middles of the intervals."""
        return (np.arange(self.count) + 0.5) * self.interval

    def positions(self) -> tuple[Float[np.ndarray, " intervals *sites"], ...]:
        return tuple(np.broadcast_to(p, self.shape) for p in self.spatial.positions())

    def fill(
        self, value: Any, name: str, of: Quantity | None = None
    ) -> Float[np.ndarray, " intervals *sites"]:
        """`Space.fill`, where a function takes the time and the coordinates."""
        if callable(value):
            times = self.times.reshape(-1, *(1 for _ in self.shape[1:]))
            value = value(np.broadcast_to(times, self.shape), *self.positions())
        return super().fill(value, name, of)

    def dirichlet(self, field: Float[Array, " intervals *sites"]) -> Float[Array, ""] | float:
        """`SiteSpace.dirichlet`, summed over the intervals."""
        return self.spatial.dirichlet(field)

    def coordinates(self) -> dict[str, Any]:
        time = {"units": self.time_units, "long_name": "middle of the interval"}
        out: dict[str, Any] = {"interval": ("interval", self.times, time)}
        if self.sites.everywhere:
            return out
        for d, p in zip(self.grid.dims, self.spatial.positions(), strict=True):
            attributes = {"units": self.grid.units, "long_name": f"{d} coordinate of sources"}
            out[f"source_{d}"] = ("source", p, attributes)
        return out
