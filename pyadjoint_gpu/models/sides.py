"""Sides of the box where a boundary parameter acts: fixed values, inflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from ..core.errors import ConfigError
from ..core.grid import FieldLike, Grid
from ..core.spaces import BoundarySpace
from .declarations import Parameter, Variable


@dataclass(frozen=True)
class Sides:
    """Sides of the grid where a boundary parameter acts, and its default there.

    Attributes
    ----------
    names : tuple of str
    values : tuple of float or None
        The default: one value a face, side after side.
    label : str
        Prefix of the dimension of the values, ``<label>_face``.
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
        with_values = isinstance(given, Mapping)
        names = side_names(grid, list(given) if with_values else given, option)
        sides = cls(grid, names, label=label)
        if not with_values or not names:
            return sides
        values = sides.space.fill(dict(given), option, Variable(option, units))
        return replace(sides, values=tuple(values.tolist()))

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

    def layers(self, values: Float[Array, " faces"] | None) -> Iterator[Layer]:
        """The layers of cells at the sides, with the values of the boundary parameter there; None
        if there is no side, and so no parameter."""
        for axis, end, value in self.space.parts(values):
            at = slice(0, 1) if end == 0 else slice(-1, None)
            cells = tuple(at if a == axis else slice(None) for a in range(self.grid.ndim))
            yield Layer(axis, end, cells, value)


class Layer(NamedTuple):
    """The layer of cells at one side, at the end 0 or -1 of an axis: their index in a field, and
    the values of the boundary parameter there."""

    axis: int
    end: int
    cells: tuple[slice, ...]
    values: Float[Array, "*layer"]

    def with_inflow(
        self, flux: Float[Array, "*faces"], inflow: Float[Array, "*layer"]
    ) -> Float[Array, "*faces"]:
        """The flux along the axis, on all faces, with this inflow through the side."""
        return flux.at[self.cells].set(inflow if self.end == 0 else -inflow)


SidesLike = str | Sequence[str] | Mapping[str, FieldLike]
"""Names of sides, or a mapping from names to defaults of the boundary parameter."""


def side_names(grid: Grid, given: Any, option: str) -> tuple[str, ...]:
    """The names of sides in a model's option, a name or a sequence of them.

    Raises
    ------
    ConfigError
        If it is neither, or a side is unknown or named twice.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not all(isinstance(s, str) for s in names):
        raise ConfigError(f"{option}: found {given!r}, expected names of sides, such as 'x_min'")
    try:
        return BoundarySpace(grid, tuple(names)).sides
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from None
