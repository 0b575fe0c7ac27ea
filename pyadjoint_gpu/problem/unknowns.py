"""theta, the unknowns of a problem: one vector of all transformed controls, and of the nuisances
of the data."""

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
from .experiment import BoundExperiment, Misfit
from .likelihood import BoundLeastSquares
from .objective import Objective
from .part import Part
from .penalty import BoundSmoothness


class Unknowns:
    """Vectors theta of a problem, and what belongs to their components."""

    experiment: BoundExperiment
    parts: tuple[Part, ...]
    objective: Objective
    size: int
    _penalties: tuple[BoundPenalty, ...]

    @property
    def initial(self) -> Float[np.ndarray, " n"]:
        """theta at the start."""
        return np.concatenate([np.ravel(c.theta) for c in self.parts])

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
        pairs = [np.broadcast_to(np.array(c.box), (math.prod(c.shape), 2)) for c in self.parts]
        both = np.concatenate(pairs)
        return both[:, 0], both[:, 1]

    @property
    def weight(self) -> Float[np.ndarray, " n"]:
        """Weights of theta in the L2 inner product, see `Part.weight`."""
        return self._each({c.name: c.weight for c in self.parts})

    @property
    def typical(self) -> Float[np.ndarray, " n"]:
        """Typical changes of theta, see `Part`; at most those with a penalty of 1/2."""
        found = {c.name: c.typical for c in self.parts}
        for p in self._penalties:
            if isinstance(p, BoundSmoothness):
                found[p.name] = min(found[p.name], p.typical)
        return self._each(found)

    def _each(self, numbers: Mapping[str, float]) -> Float[np.ndarray, " n"]:
        """A vector like theta from one number a part."""
        return np.concatenate([np.full(math.prod(c.shape), numbers[c.name]) for c in self.parts])

    def split(self, theta: Float[Array | np.ndarray, " n"]) -> Fields:
        """theta, or a gradient, by part."""
        return self.objective.split(theta)

    @double
    def physical(self, theta: Float[np.ndarray, " n"]) -> dict[str, Float[np.ndarray, "*shape"]]:
        """The physical fields of all parts."""
        parts = self.split(theta)
        return {c.name: np.asarray(c.physical(parts[c.name])) for c in self.parts}

    def theta(self, controls: Mapping[str, Any] | None = None) -> Float[np.ndarray, " n"]:
        """theta of physical fields by part; those not given are at their start."""
        check_mapping("controls", {} if controls is None else controls, "physical fields by name")
        given = dict(controls or {})
        parts = [
            c.coefficients(c.field(given.pop(c.name))) if c.name in given else c.theta
            for c in self.parts
        ]
        if given:
            raise ConfigError(
                f"controls: {next(iter(given))!r} is not one of"
                f" {', '.join(c.name for c in self.parts)}"
            )
        return np.concatenate([np.ravel(part) for part in parts])

    def misfit_at(self, theta: Float[np.ndarray, " n"]) -> Misfit:
        """The misfit as a function of the state alone, with the scale of the noise in theta."""
        of = self.experiment.misfit
        return of.at(self.split(theta)) if isinstance(of, BoundLeastSquares) else of

    def chi2(self, misfit: float, theta: Float[np.ndarray, " n"]) -> float | None:
        """|w|^2 / n of n data whose misfit at theta this is, w their whitened residuals: 1 where
        the fit is as good as the data; None without data."""
        of = self.misfit_at(theta)
        return of.chi2(misfit) if isinstance(of, BoundLeastSquares) else None
