"""Finite volumes: means on faces, divergences of flows, and boundary sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..core.errors import ConfigError
from ..core.grid import FieldLike, Grid
from ..core.spaces import BoundarySpace
from .base import Elliptic, Parameter, Variable


@dataclass(frozen=True)
class Sides:
    """Sides of the grid where a boundary parameter acts, and its default there.

    Attributes
    ----------
    names : tuple of str
    values : tuple of float or None
        The default: one value a face, side after side.
    """

    grid: Grid
    names: tuple[str, ...]
    # Not compared: models that differ in nothing else share compiled code.
    values: tuple[float, ...] | None = field(default=None, compare=False)
    label: str = "boundary"

    @classmethod
    def of(cls, grid: Grid, given: Any, option: str, units: str, label: str = "boundary") -> Sides:
        """The sides given by a model's option: names, or a mapping from names to defaults in
        `units`. `label` is the prefix of the dimension of the values."""
        names = (given,) if isinstance(given, str) else given
        if not isinstance(names, Sequence | Mapping):
            raise ConfigError(f"{option}: found {names!r}, expected names of sides")
        sides = cls(grid, tuple(names), label=label)
        _ = sides.space  # refuses unknown names
        if isinstance(given, Mapping) and given:
            values = sides.space.fill(dict(given), option, Variable(option, units))
            return replace(sides, values=tuple(values.tolist()))
        return sides

    def text(self, what: str) -> str:
        """The names of the sides as a text, such as "inflow on x_min"; empty if there is none."""
        return f"{what} on {', '.join(self.names)}" if self.names else ""

    def __bool__(self) -> bool:
        return bool(self.names)

    @cached_property
    def space(self) -> BoundarySpace:
        return BoundarySpace(self.grid, self.names, self.label)

    def parameter(self, name: str, units: str, long_name: str) -> tuple[Parameter, ...]:
        """The declaration of the boundary parameter; empty if there is no side."""
        if not self.names:
            return ()
        default = None if self.values is None else np.array(self.values)
        return (Parameter(name, units, long_name, default=default, space=self.space),)

    def specification(self) -> dict[str, Any] | list[str]:
        """The option from which `of` makes these sides."""
        if self.values is None:
            return list(self.names)
        parts = self.space.parts(np.array(self.values))
        return {s: v.ravel() for s, (_, _, v) in zip(self.names, parts, strict=True)}

    def layers(self, values: Any) -> Iterator[tuple[int, int, tuple[slice, ...], Any]]:
        """For each side its axis, its end (0 or -1), the index of its layer of cells, and the
        values there."""
        for axis, end, value in self.space.parts(values):
            layer = slice(0, 1) if end == 0 else slice(-1, None)
            cells = tuple(layer if a == axis else slice(None) for a in range(self.grid.ndim))
            yield axis, end, cells, value


SidesLike = str | Sequence[str] | Mapping[str, FieldLike]
"""Names of sides, or a mapping from names to defaults of the boundary parameter."""


def below(cells: jax.Array, axis: int) -> jax.Array:
    """The cell below each inner face along an axis."""
    return lax.slice_in_dim(cells, 0, cells.shape[axis] - 1, axis=axis)


def above(cells: jax.Array, axis: int) -> jax.Array:
    """The cell above each inner face along an axis."""
    return lax.slice_in_dim(cells, 1, cells.shape[axis], axis=axis)


def mean(cells: jax.Array, axis: int) -> jax.Array:
    """Mean of the two cells at each inner face along an axis."""
    return 0.5 * (below(cells, axis) + above(cells, axis))


def difference(cells: jax.Array, axis: int) -> jax.Array:
    """Difference across each inner face along an axis."""
    return above(cells, axis) - below(cells, axis)


def gather(r: jax.Array, flows: Sequence[jax.Array]) -> jax.Array:
    """r plus the net inflow to each cell; `flows` are those through the inner faces along each
    axis, positive against the axis."""
    for axis, flow in enumerate(flows):
        # XLA runs this form, inner faces padded to cells, fastest.
        r = r + pad(flow, axis, 0, 1) - pad(flow, axis, 1, 0)
    return r


def with_active_set(elliptic: Elliptic, active_set: jax.Array, rate: float) -> Elliptic:
    """The operator with A u = rate u in the cells of the active set, whose values act as fixed
    boundary values on the others."""
    faces, sink = [], elliptic.sink
    for axis, k in enumerate(elliptic.faces):
        either = below(active_set, axis) | above(active_set, axis)
        faces.append(jnp.where(either, 0.0, k))
        cut = jnp.where(either, k, 0.0)
        sink = sink + pad(cut, axis, 0, 1) + pad(cut, axis, 1, 0)
    return Elliptic(tuple(faces), jnp.where(active_set, rate, sink))


def pad(array: jax.Array, axis: int, before: int, after: int) -> jax.Array:
    """The array with zeros added at the ends of an axis."""
    widths = [(before, after) if a == axis else (0, 0) for a in range(array.ndim)]
    return jnp.pad(array, widths)
