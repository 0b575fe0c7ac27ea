"""Absorbing sides of the box, and the sponge layers before them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from ...core.errors import ConfigError
from ...core.grid import Grid
from ...core.spaces import SIDES

REMAINDER = 1e-3
"""Fraction of its amplitude that a wave at normal incidence keeps through a sponge and back."""


@dataclass(frozen=True)
class Absorbing:
    """Sides through which waves leave, and damping in the cells before them.

    Cells at absorbing sides end at their centres: they have half the volume. The damping layers
    are `sponge` cells thick; a `ConfigError` if they leave no cell along an axis without damping.
    """

    grid: Grid
    sides: tuple[str, ...]
    sponge: int

    def __post_init__(self) -> None:
        for axis, n in enumerate(self.grid.shape):
            if self.sponge * len(self._ends(axis)) >= n:
                raise ConfigError(
                    f"sponge: found {self.sponge} cells, but {n} along {self.grid.dims[axis]!r}"
                    " leave none without"
                )

    def _ends(self, axis: int) -> list[int]:
        """The absorbing ends of an axis: 0 or -1."""
        name = self.grid.dims[axis]
        return [0 if SIDES[s][1] == "min" else -1 for s in self.sides if SIDES[s][0] == name]

    def _along(self, axis: int, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " ..."]:
        """Values along an axis, shaped to broadcast over the grid."""
        return values.reshape([-1 if a == axis else 1 for a in range(self.grid.ndim)])

    @cached_property
    def shares(self) -> tuple[Float[np.ndarray, " ..."] | float, ...]:
        """For each axis, the length of a cell over the part of it that counts: 2 in cells at
        absorbing sides, else 1."""
        out: list[np.ndarray | float] = []
        for axis, n in enumerate(self.grid.shape):
            shares = np.ones(n)
            shares[self._ends(axis)] = 2.0
            out.append(self._along(axis, shares) if self._ends(axis) else 1.0)
        return tuple(out)

    @cached_property
    def damping(self) -> Float[np.ndarray, "*cells"]:
        """The damping g per length, which grows from zero as the square of the depth in the layer,
        scaled so that exp(-2 int g) = `REMAINDER`."""
        total = np.zeros(self.grid.shape)
        for axis, (n, h) in enumerate(zip(self.grid.shape, self.grid.spacing, strict=True)):
            for end in self._ends(axis) if self.sponge else ():
                depth = np.clip(1.0 - np.arange(n) / self.sponge, 0.0, 1.0)
                steepness = 1.5 * np.log(1.0 / REMAINDER) / (self.sponge * h)
                total = total + self._along(axis, steepness * np.square(depth[:: 1 + 2 * end]))
        return total

    @cached_property
    def leaving(self) -> Float[np.ndarray, "*cells"]:
        """The area of a cell's absorbing sides over its volume, which is half a cell's."""
        total = np.zeros(self.grid.shape)
        for share, h in zip(self.shares, self.grid.spacing, strict=True):
            total = total + 2.0 * (share - 1.0) / h
        return total
