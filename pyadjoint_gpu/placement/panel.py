"""Arithmetic of a selection for a group of candidates: the part whose cost matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from ..core.errors import DataError

Blocks = Float[np.ndarray, "some times times"]
"""Blocks (j, j) of neighbouring candidates j."""
Row = Float[np.ndarray, "times some times"]
"""Blocks (p, j) of a sensor p and neighbouring candidates j."""
Coefficients = Float[np.ndarray, "times rows"]
"""L_p^-1 [-V_p^T, I] of a sensor p, after those chosen before it."""
Prepared = Any
"""Coefficients as one kind of panel takes them."""


class Panel:
    """V_j = L_S^-1 K_Sj and C_j = K_jj - V_j^T V_j of neighbouring candidates j, for one matrix K.

    Made from K_jj, the `diagonal`, for at most `capacity` sensors; `refusal` gives the error to
    raise where a C_j is not positive definite. `rows` are V, of which the first are known, `left`
    is C, and `least` the smallest eigenvalue that single precision tells from zero.
    """

    def __init__(
        self,
        refusal: Callable[[], DataError],
        diagonal: Blocks,
        capacity: int,
        dtype: str,
    ):
        n, steps = diagonal.shape[:2]
        self.refusal, self.left = refusal, diagonal.astype(dtype)
        self.least = np.finfo("f4").eps * diagonal.max(initial=0.0)
        # Memory is taken as rows are written.
        self.rows = np.empty((capacity * steps, n * steps), dtype)

    def prepared(self, coefficients: Coefficients) -> Prepared:
        """L_p^-1 [-V_p^T, I] of a sensor p, for `extend` of this panel and others."""
        return coefficients.astype(self.rows.dtype, copy=False)

    def extend(self, coefficients: Prepared, row: Row) -> None:
        """Add a sensor p, with its `prepared` coefficients and K_pj: W_j = L_p^-1 (K_pj - V_p^T
        V_j) goes below V_j, and C_j -= W_j^T W_j."""
        steps, stop = coefficients.shape
        new = self.rows[stop - steps : stop]
        new[:] = row.reshape(steps, -1)
        new[:] = coefficients @ self.rows[:stop]
        blocks = new.reshape(steps, -1, steps)
        self.left -= blocks.transpose(1, 2, 0) @ blocks.transpose(1, 0, 2)

    def pivot(self, j: int, count: int) -> tuple[Coefficients, float]:
        """L_p^-1 [-V_p^T, I] and logdet C_p of p, candidate j of the panel, after `count` sensors,
        in double precision."""
        factor, column = self._cholesky(self.blocks(j)), self.column(j, count)
        # Noise has unit variance, which bounds the inverse: a product with it is as good as a
        # solve, and many times as fast.
        inverse = scipy.linalg.solve_triangular(factor, np.eye(len(factor)), lower=True)
        return np.hstack([-inverse @ column.T, inverse]), float(_logdets(factor))

    def column(self, j: int, count: int) -> Float[np.ndarray, "rows times"]:
        """V_j for `count` sensors."""
        steps = self.left.shape[1]
        return self.rows[: count * steps, j * steps : (j + 1) * steps]

    def blocks(
        self, which: Int[np.ndarray, " some"] | int
    ) -> Float[np.ndarray, "*some times times"]:
        """C_j of some of the candidates, or one."""
        return self.left[which]

    def logdets(self, which: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """logdet C_j of some of the candidates."""
        blocks = self.blocks(which)
        if blocks.dtype == np.float32:
            try:
                return _logdets(np.linalg.cholesky(blocks))
            except np.linalg.LinAlgError:
                # Round-off; gains that may decide are computed again in double precision.
                values = np.linalg.eigvalsh(blocks).astype(float)
                return np.log(np.maximum(values, self.least)).sum(1)
        return _logdets(self._cholesky(blocks))

    def _cholesky(
        self, blocks: Float[np.ndarray, "*some times times"]
    ) -> Float[np.ndarray, "*some times times"]:
        """Cholesky factors of one matrix or a batch."""
        try:
            return np.linalg.cholesky(blocks)
        except np.linalg.LinAlgError:
            raise self.refusal() from None


def _logdets(factors: Float[np.ndarray, "*some times times"]) -> Float[np.ndarray, "*some"]:
    return 2.0 * np.log(np.diagonal(factors, axis1=-2, axis2=-1), dtype=float).sum(-1)
