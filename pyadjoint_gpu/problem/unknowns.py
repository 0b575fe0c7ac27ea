"""theta, the unknowns of a problem: one vector of all transformed controls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ..core.checks import check_mapping
from ..core.errors import ConfigError, DataError
from ..core.precision import double
from ..models.base import Fields
from .binding import BoundPenalty
from .control import BoundControl
from .experiment import BoundExperiment
from .objective import Objective
from .penalty import BoundSmoothness


class Unknowns:
    """Vectors theta of a problem, and what belongs to their components."""

    experiment: BoundExperiment
    controls: tuple[BoundControl, ...]
    objective: Objective
    size: int
    _penalties: tuple[BoundPenalty, ...]

    @property
    def initial(self) -> Float[np.ndarray, " n"]:
        """theta at the start."""
        return np.concatenate([np.ravel(c.theta) for c in self.controls])

    def _check(self, theta: Float[np.ndarray, " n"]) -> None:
        """Raise an error unless theta is a finite vector of the problem's size."""
        if np.shape(theta) != (self.size,):
            raise ConfigError(
                f"theta: found shape {np.shape(theta)}, expected {(self.size,)}, all controls"
                " transformed (`theta` makes it of physical fields)"
            )
        bad = np.count_nonzero(~np.isfinite(theta))
        if bad:
            raise DataError(f"theta: {bad} of {self.size} values are not finite")

    @property
    def box(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Lower and upper bounds on theta."""
        pairs = [np.broadcast_to(np.array(c.box), (math.prod(c.shape), 2)) for c in self.controls]
        both = np.concatenate(pairs)
        return both[:, 0], both[:, 1]

    @property
    def weight(self) -> Float[np.ndarray, " n"]:
        """Weights of theta in the L2 inner product, see `BoundControl.weight`."""
        return self._each({c.name: c.weight for c in self.controls})

    @property
    def typical(self) -> Float[np.ndarray, " n"]:
        """Typical changes of theta, see `BoundControl`; at most those with a penalty of 1/2."""
        found = {c.name: c.typical for c in self.controls}
        for p in self._penalties:
            if isinstance(p, BoundSmoothness):
                found[p.name] = min(found[p.name], p.typical)
        return self._each(found)

    def _each(self, numbers: Mapping[str, float]) -> Float[np.ndarray, " n"]:
        """A vector like theta from one number a control."""
        return np.concatenate([np.full(math.prod(c.shape), numbers[c.name]) for c in self.controls])

    def split(self, theta: Float[Array | np.ndarray, " n"]) -> Fields:
        """theta, or a gradient, by control."""
        return self.objective.split(theta)

    @double
    def physical(self, theta: Float[np.ndarray, " n"]) -> dict[str, Float[np.ndarray, "*shape"]]:
        """The controls' physical fields."""
        parts = self.split(theta)
        return {c.name: np.asarray(c.physical(parts[c.name])) for c in self.controls}

    def theta(self, controls: Mapping[str, Any] | None = None) -> Float[np.ndarray, " n"]:
        """theta of physical fields by control; those not given are at their start."""
        check_mapping("controls", {} if controls is None else controls, "physical fields by name")
        given = dict(controls or {})
        parts = [
            c.coefficients(self.experiment.model.field(c.name, given.pop(c.name)))
            if c.name in given
            else c.theta
            for c in self.controls
        ]
        if given:
            raise ConfigError(
                f"controls: {next(iter(given))!r} is not one of"
                f" {', '.join(c.name for c in self.controls)}"
            )
        return np.concatenate([np.ravel(part) for part in parts])
