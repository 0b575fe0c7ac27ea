"""Models whose residual is made from that of another model."""

from __future__ import annotations

from typing import ClassVar

from ..core.grid import Grid
from .base import Model
from .declarations import Variable


class Wrapper(Model):
    """A model with another model's unknowns, on its grid."""

    model: Model

    arrays: ClassVar[tuple[str, ...]] = ("model",)

    @property
    def grid(self) -> Grid:
        return self.model.grid

    @property
    def domain(self) -> Grid:
        return self.model.domain

    @property
    def linear(self) -> bool:
        return self.model.linear

    @property
    def stencil_radius(self) -> int:
        return self.model.stencil_radius

    @property
    def unknowns(self) -> tuple[Variable, ...]:
        return self.model.unknowns
