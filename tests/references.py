"""The same selection by forms that cost more: what `select` is checked and measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import scipy.linalg

from pyadjoint_gpu.placement.candidates import combined
from pyadjoint_gpu.placement.network import Network
from pyadjoint_gpu.placement.objective import Whitened, objective
from pyadjoint_gpu.placement.selection import GAIN, Selection, largest
from pyadjoint_gpu.statistics.covariance import Covariance
from pyadjoint_gpu.statistics.roundoff import cholesky


class Form(Protocol):
    """How logdet K_(S + j) - logdet K_S is found, of one matrix K."""

    def logdet(self, j: int) -> float: ...

    def append(self, p: int) -> None: ...


def select_by_schur_complements(
    covariance: Covariance,
    noise: Any,
    budget: int,
    *,
    conditional: Covariance | None = None,
    existing: Sequence[int] = (),
    forbidden: Sequence[int] = (),
) -> Selection:
    """As `select`; the gain of each candidate j at each step from V = L_S^-1 K_Sj and the Schur
    complement K_jj - V^T V, in C k^3 T^3 / 3 operations."""
    return _greedy(SchurComplement, covariance, noise, budget, conditional, existing, forbidden)


def select_naively(
    covariance: Covariance,
    noise: Any,
    budget: int,
    *,
    conditional: Covariance | None = None,
    existing: Sequence[int] = (),
    forbidden: Sequence[int] = (),
) -> Selection:
    """As `select`; the gain of each candidate j at each step from the Cholesky factor of the whole
    of K_(S + j), in C k^4 T^3 / 12 operations."""
    return _greedy(Whole, covariance, noise, budget, conditional, existing, forbidden)


def _greedy(
    form: Callable[[Whitened, int, int], Form],
    covariance: Covariance,
    noise: Any,
    budget: int,
    conditional: Covariance | None,
    existing: Sequence[int],
    forbidden: Sequence[int],
) -> Selection:
    network = Network.of(covariance.candidates, budget, None, existing, forbidden)
    matrices = objective(covariance, noise, conditional)
    capacity = network.most + len(network.existing)
    forms = [form(matrix, network.candidates, capacity) for matrix in matrices]

    def gain(j: int) -> float:
        return combined([f.logdet(j) for f in forms])

    def append(p: int) -> None:
        for f in forms:
            f.append(p)

    before = 0.0
    for p in network.existing:
        before += gain(p)
        append(p)
    order: list[int] = []
    gains: list[float] = []
    while (able := network.able(order)).any():
        values = {int(j): gain(int(j)) for j in np.flatnonzero(able)}
        order.append(min(largest(values)))
        gains.append(values[order[-1]])
        append(order[-1])
    return Selection(
        np.array(order),
        np.array(gains),
        before + np.cumsum(gains),
        before,
        GAIN,
        sum(matrix.read for matrix in matrices),
    )


class _Read:
    """What both forms have read: K_jj, and K_Sj of all candidates below each other."""

    def __init__(self, matrix: Whitened, candidates: int, capacity: int):
        self.matrix, self.steps, self.size = matrix, matrix.noise.steps, 0
        self.all = slice(0, candidates)
        self.diagonal = matrix.diagonal(self.all)
        self.rows = np.empty((capacity * self.steps, candidates * self.steps))

    def append(self, p: int) -> None:
        size, self.size = self.size, self.size + self.steps
        self.rows[size : self.size] = self.matrix.row(p, self.all).reshape(self.steps, -1)

    def cholesky(self, matrix: np.ndarray) -> np.ndarray:
        return cholesky(matrix, self.matrix.name, self.matrix.noise, self.matrix.largest)

    def column(self, j: int) -> np.ndarray:
        """K_Sj."""
        return self.rows[: self.size, j * self.steps : (j + 1) * self.steps]


class SchurComplement(_Read):
    """Schur complements by a solve with L_S."""

    def __init__(self, matrix: Whitened, candidates: int, capacity: int):
        super().__init__(matrix, candidates, capacity)
        self.factor = np.zeros((0, 0), order="F")

    def logdet(self, j: int) -> float:
        return 2.0 * float(np.log(self._last(j)[1].diagonal()).sum())

    def append(self, p: int) -> None:
        v, last = self._last(p)
        old, n = self.factor, self.size + self.steps
        self.factor = np.zeros((n, n), order="F")
        self.factor[: self.size, : self.size] = old
        self.factor[self.size :, : self.size], self.factor[self.size :, self.size :] = v.T, last
        super().append(p)

    def _last(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """V and the factor of the Schur complement."""
        column = self.column(j)
        v = column
        if self.size:
            v = scipy.linalg.solve_triangular(self.factor, column, lower=True, check_finite=False)
        return v, self.cholesky(self.diagonal[j] - v.T @ v)


class Whole(_Read):
    """Cholesky factors of the whole."""

    def __init__(self, matrix: Whitened, candidates: int, capacity: int):
        super().__init__(matrix, candidates, capacity)
        self.known = np.zeros((0, 0), order="F")
        self.value = 0.0

    def logdet(self, j: int) -> float:
        factor = self.cholesky(self._with(j))
        return 2.0 * float(np.log(factor.diagonal()).sum()) - self.value

    def append(self, p: int) -> None:
        self.value += self.logdet(p)
        self.known = self._with(p)
        super().append(p)

    def _with(self, j: int) -> np.ndarray:
        """The lower triangle of K_(S + j)."""
        n = self.size + self.steps
        out = np.empty((n, n), order="F")
        out[: self.size, : self.size] = self.known
        out[self.size :, : self.size] = self.column(j).T
        out[self.size :, self.size :] = self.diagonal[j]
        return out
