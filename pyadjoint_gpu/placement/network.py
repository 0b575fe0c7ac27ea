"""The checked request of a selection: candidates, budget, costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from ..core.checks import finite_array
from ..core.errors import ConfigError, DataError

Mask = Bool[np.ndarray, " candidates"]


@dataclass(frozen=True)
class Network:
    """The sensors that may be chosen, and their number or cost."""

    candidates: int
    budget: float
    """Sensors, or where they have costs the most that they may cost together."""
    costs: Float[np.ndarray, " candidates"] | None
    existing: tuple[int, ...]
    forbidden: tuple[int, ...]

    @classmethod
    def of(
        cls,
        candidates: int,
        budget: float,
        costs: ArrayLike | None = None,
        existing: Sequence[int] = (),
        forbidden: Sequence[int] = (),
    ) -> Network:
        """A checked network."""
        here = indices(existing, candidates, "existing")
        never = indices(forbidden, candidates, "forbidden")
        both = sorted(set(here) & set(never))
        if both:
            raise ConfigError(f"forbidden: sensor {both[0]} is one of those in place")
        network = cls(candidates, budget, _costs(costs, candidates), here, never)
        able = int(network._free().sum())
        if not able:
            raise ConfigError("forbidden: no candidate is left, all are in place or forbidden")
        if costs is None and not (_is(budget, Integral) and 1 <= budget <= able):
            raise ConfigError(
                f"budget: found {budget!r}, expected a whole number from 1 to {able}, the"
                " candidates neither in place nor forbidden"
            )
        if costs is not None:
            if not (_is(budget, Real) and 0.0 < budget < math.inf):
                raise ConfigError(f"budget: found {budget!r}, expected a number > 0")
            if not network.able([]).any():
                raise ConfigError(f"budget: {budget:g} is not enough for any sensor")
        return network

    @property
    def most(self) -> int:
        """Most sensors the budget allows, those in place not counted."""
        if self.costs is None:
            return int(self.budget)
        cheapest = np.sort(self.costs[self._free()]).cumsum()
        return int(np.count_nonzero(cheapest <= self.budget * (1.0 + 1e-12)))

    @property
    def kinds(self) -> Int[np.ndarray, " candidates"]:
        """1 for candidates in place, -1 for those forbidden, else 0."""
        kinds = np.zeros(self.candidates, dtype=np.int8)
        kinds[list(self.existing)] = 1
        kinds[list(self.forbidden)] = -1
        return kinds

    def able(self, order: Sequence[int]) -> Mask:
        """Mask of candidates that may be chosen after those in `order`."""
        able = self._free()
        able[list(order)] = False
        if self.costs is None:
            return able & (len(order) < self.budget)
        # Tolerance for round-off of sums.
        spent = math.fsum(self.costs[list(order)])
        return able & (spent + self.costs <= self.budget * (1.0 + 1e-12))

    def _free(self) -> Mask:
        free = np.ones(self.candidates, dtype=bool)
        free[[*self.existing, *self.forbidden]] = False
        return free


def integers(given: object) -> Int[np.ndarray, "*shape"] | None:
    """An integer array, or None where values are not whole numbers."""
    try:
        found = np.asarray(given)
    except ValueError:  # lists of different lengths
        return None
    return found if found.dtype.kind in "iu" or not found.size else None


def indices(given: object, candidates: int, name: str) -> tuple[int, ...]:
    """Distinct indices of candidates, or a `ConfigError`."""
    found = integers(given)
    if found is None or found.ndim != 1:
        raise ConfigError(f"{name}: found {given!r:.60}, expected indices of candidates")
    for index in found.tolist():
        if not 0 <= index < candidates:
            raise ConfigError(f"{name}: found {index}, expected indices from 0 to {candidates - 1}")
    if len(set(found.tolist())) < found.size:
        raise ConfigError(f"{name}: a sensor is named twice")
    return tuple(int(i) for i in found)


def _costs(given: ArrayLike | None, candidates: int) -> Float[np.ndarray, " candidates"] | None:
    if given is None:
        return None
    costs = finite_array("costs", given)
    if costs.shape != (candidates,):
        raise DataError(f"costs: found shape {costs.shape}, expected {(candidates,)}")
    if not (costs > 0.0).all():
        raise DataError(f"costs: found {costs.min():g}, expected values > 0")
    return costs


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)
