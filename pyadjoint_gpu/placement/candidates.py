"""Candidates of one process against the sensors chosen so far, by pivoted block Cholesky."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int

from .device import DevicePanel
from .network import Mask
from .objective import Roundoff, Whitened
from .panel import Coefficients, Panel, Prepared, Row

TIE = 1e-10
"""Relative difference below which two gains count as equal."""

COLUMNS = 1024
"""Columns of V in a group, about: large enough for fast products, a group for each core."""

LAZY_COLUMNS = 64
"""Columns of V in a group under lazy evaluation, which skips groups that cannot win."""

WAVE = 4
"""Groups scored together before others are skipped: the same on every machine."""

LAZY_STEPS = 32
"""Times from which lazy evaluation pays, as a group then has one or two candidates: random cases
have read 0.2 to 0.7 of the blocks, in 0.25 to 1.05 of the time. Larger groups are seldom skipped
(0.6 to 0.9 of the blocks, in 1.3 to 2.4 of the time)."""

SEVERAL = 8.0
"""Safety factor on the largest error seen of gains in single precision."""


FEW = 8
"""Gains computed in both precisions before their differences bound the errors of others."""


T = TypeVar("T", float, np.ndarray)


class Group:
    """Neighbouring candidates, with a panel a matrix, which includes the first `level` chosen
    sensors; and the gain of each, in nats, when last `scored`, with so many chosen sensors: an
    upper bound later, if submodular."""

    def __init__(self, which: slice, panels: list[Panel]):
        self.which, self.panels, self.level = which, panels, 0
        self.scored = -1
        self.gains = np.full(which.stop - which.start, np.inf)

    def prepared(self, coefficients: Sequence[Coefficients]) -> list[Prepared]:
        """Coefficients as `extend` takes them, for all groups of one kind."""
        return [panel.prepared(a) for panel, a in zip(self.panels, coefficients, strict=True)]

    def extend(self, prepared: Sequence[Prepared], rows: Sequence[Row]) -> None:
        for panel, a, row in zip(self.panels, prepared, rows, strict=True):
            panel.extend(a, row)
        self.level += 1

    def indices(self, able: Mask) -> Int[np.ndarray, " some"]:
        """Indices of candidates that may be chosen."""
        return self.which.start + np.flatnonzero(able[self.which])

    def score(self, able: Mask) -> None:
        """Compute the gains of candidates that may be chosen."""
        which = self.indices(able) - self.which.start
        self.gains[which] = combined([panel.logdets(which) for panel in self.panels])
        self.scored = self.level


def combined(logdets: Sequence[T]) -> T:
    """[logdet K - logdet B] / 2, or logdet K / 2 where there is no B."""
    return 0.5 * (logdets[0] - logdets[1] if len(logdets) > 1 else logdets[0])


class Candidates:
    """The candidates of one process.

    At most `capacity` sensors may be chosen, those in place included. V, and gains that cannot
    decide the choice, have the type `dtype`. Where `lazy`, a group is skipped while the bounds on
    its gains are below the best gain.

    Attributes
    ----------
    chosen : list of int
    coefficients : list
        `pivots` of the chosen sensors, emptied when they are no longer needed.
    ready : list
        The coefficients as `Group.extend` takes them.
    error : float
        Largest error seen of single-precision gains, ``compared`` of them with exact ones.
    """

    def __init__(
        self,
        matrices: Sequence[Whitened],
        which: slice,
        capacity: int,
        *,
        dtype: str,
        lazy: bool,
        workers: Executor,
    ):
        self.matrices, self.which, self.capacity = matrices, which, capacity
        self.single, self.lazy, self.workers = dtype == "float32", lazy, workers
        self.chosen: list[int] = []
        self.coefficients: list[list[Coefficients]] = []
        self.ready: list[list[Prepared]] = []
        self.error, self.compared = 0.0, 0
        self.roundoff = Roundoff(matrices, capacity)
        self.size = max(1, (LAZY_COLUMNS if lazy else COLUMNS) // matrices[0].noise.steps)
        self.groups = [
            self._group(slice(start, min(start + self.size, which.stop)), dtype)
            for start in range(which.start, which.stop, self.size)
        ]
        self._precise: dict[int, Group] = {}

    def _group(self, which: slice, dtype: str) -> Group:
        kind = Panel if jax.default_backend() == "cpu" else DevicePanel
        size = self.capacity * self.matrices[0].noise.steps
        panels = [
            kind(partial(matrix.refusal, size), matrix.diagonal(which), self.capacity, dtype)
            for matrix in self.matrices
        ]
        return Group(which, panels)

    def best(self, able: Mask, divisor: Float[np.ndarray, " candidates"]) -> dict[int, float]:
        """Gains over divisors of own candidates that may be the best, in double precision. None is
        `able` that was not before."""
        count, highest = len(self.chosen), -np.inf
        values: dict[int, float] = {}
        # Repeats only if errors of single precision turn out larger than estimated.
        while stale := self._stale(able, divisor, highest):
            wave = WAVE if self.lazy else len(stale)
            for start in range(0, len(stale), wave):
                least = self._least(highest, divisor)
                groups = [
                    g for g in stale[start : start + wave] if self._bound(g, able, divisor) >= least
                ]
                list(self.workers.map(lambda group: self._update(group, able), groups))
                bounds = [self._bound(group, able, divisor) for group in groups]
                highest = max(highest, *bounds, -np.inf)
            scored = [g for g in self.groups if g.scored == count]
            gains = {j: float(g.gains[j - g.which.start]) for g in scored for j in g.indices(able)}
            values = self._values(gains, divisor)
            highest = max(values.values())
        if not self.lazy:
            # All groups include these sensors.
            self.ready = [[]] * count
            if not self.single:
                self.coefficients = [[]] * count
        return values

    def _update(self, group: Group, able: Mask) -> None:
        """Extend a group by the sensors that it lacks, and score it."""
        for k in range(group.level, len(self.chosen)):
            group.extend(self.ready[k], self._read(group, k))
        group.score(able)

    def pivots(self, p: int) -> tuple[list[Coefficients], float]:
        """L_p^-1 [-V_p^T, I] of each matrix, and the gain."""
        group, count = self._exactly(p), len(self.chosen)
        j = p - group.which.start
        found = [panel.pivot(j, count) for panel in group.panels]
        return [a for a, _ in found], float(combined([logdet for _, logdet in found]))

    def chosen_with(self, p: int) -> tuple[list[Coefficients], float]:
        """`pivots` of the sensor to choose; a `DataError` where round-off would affect them."""
        found = self.pivots(p)
        self.roundoff.check(found[0])
        return found

    def append(self, p: int, coefficients: list[Coefficients]) -> None:
        """Choose p, with its `pivots`."""
        self.chosen.append(p)
        self.roundoff.append(coefficients)
        self.coefficients.append(coefficients)
        self.ready.append(self.groups[0].prepared(coefficients) if self.groups else [])
        self._precise.clear()

    def _stale(self, able: np.ndarray, divisor: np.ndarray, highest: float) -> list[Group]:
        """Groups to score, the most promising first where others may be left out."""
        stale = [g for g in self.groups if g.scored < len(self.chosen) and able[g.which].any()]
        if not self.lazy:
            return stale
        least = self._least(highest, divisor)
        stale = [g for g in stale if self._bound(g, able, divisor) >= least]
        return sorted(stale, key=lambda g: -self._bound(g, able, divisor))

    def _bound(self, group: Group, able: np.ndarray, divisor: np.ndarray) -> float:
        values = group.gains / divisor[group.which]
        return np.max(values, where=able[group.which], initial=-np.inf)

    def _least(self, highest: float, divisor: np.ndarray) -> float:
        """The least bound of a group that is worth scoring."""
        if not self.lazy or highest == -np.inf:
            return -np.inf
        return highest - TIE * abs(highest) - 2.0 * self._margin(highest, divisor)

    def _margin(self, highest: float, divisor: np.ndarray) -> float:
        """Bound on the effect of round-off in V and C on the values."""
        if not self.single:
            return 0.0
        return SEVERAL * max(self.error / divisor.min(), float(np.finfo("f4").eps) * abs(highest))

    def _values(self, gains: dict[int, float], divisor: np.ndarray) -> dict[int, float]:
        """Values of candidates scored with all chosen sensors; in single precision only the best,
        in double precision again."""
        values = {j: gain / divisor[j] for j, gain in gains.items()}
        if not self.single:
            return values
        exact: dict[int, float] = {}
        for j in sorted(gains, key=lambda j: -values[j]):
            if exact and self.compared >= FEW:
                highest = max(exact.values())
                if values[j] < highest - TIE * abs(highest) - self._margin(highest, divisor):
                    break
            gain = self.pivots(j)[1]
            self.error, self.compared = max(self.error, abs(gain - gains[j])), self.compared + 1
            exact[j] = gain / divisor[j]
        return exact

    def _exactly(self, p: int) -> Group:
        """A group in double precision that has p, with all chosen sensors."""
        if not self.single:
            group = self.groups[(p - self.which.start) // self.size]
        elif (group := self._precise.get(p)) is None:
            group = self._precise[p] = self._group(slice(p, p + 1), "float64")
        for k in range(group.level, len(self.chosen)):
            group.extend(group.prepared(self.coefficients[k]), self._read(group, k))
        return group

    def _read(self, group: Group, k: int) -> list[Row]:
        return [matrix.row(self.chosen[k], group.which) for matrix in self.matrices]
