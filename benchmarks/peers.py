"""Other ways to the same discrete solution: a sparse factorisation and algebraic multigrid.

Both solve A P = Q and the adjoint's A lambda = -dJ/du, with A = -dR/du symmetric and positive
semi-definite; the constant that a closed box leaves free is fixed by zero mean, as ours is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
from scipy.sparse.linalg import splu

HIERARCHIES = ("Ruge-Stuben", "smoothed aggregation")


def _hierarchy(matrix: sp.csr_matrix, kind: str) -> Any:
    """Each as it bears the singular matrix best: with the coarsest level's inverse without the
    constant, or with the first cell tied to zero by a doubled diagonal, which changes no solution
    of a source that sums to zero."""
    if kind == "Ruge-Stuben":
        return pyamg.ruge_stuben_solver(matrix, coarse_solver=("pinv", {"rtol": 1e-9}))
    matrix = matrix.copy()
    matrix[0, 0] *= 2.0
    return pyamg.smoothed_aggregation_solver(matrix)


class Direct:
    """SuperLU: the first cell is pinned, the mean subtracted afterwards.

    Minimum degree on A^T + A without pivoting, the settings that suit a symmetric matrix: faster
    and sparser here than the defaults.
    """

    def __init__(self, matrix: sp.csr_array):
        self._factor: Any = splu(  # whose types do not know `trans`
            sp.csc_array(matrix)[1:, 1:],
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the factors: a value and an index an entry."""
        return 12 * int(self._factor.nnz)

    def forward(self, rhs: np.ndarray) -> np.ndarray:
        return self._solve(rhs, "N")

    def adjoint(self, rhs: np.ndarray) -> np.ndarray:
        return self._solve(rhs, "T")

    def _solve(self, rhs: np.ndarray, transposed: str) -> np.ndarray:
        u = np.concatenate([[0.0], self._factor.solve(rhs[1:], trans=transposed)])
        return u - u.mean()


class Multigrid:
    """Conjugate gradients, preconditioned by one of pyamg's hierarchies.

    pyamg stops on the 2-norm; `iterations_for` finds how few iterations bring the max norm to
    the tolerance, and `forward` and `adjoint` take that many, so that no time goes into a
    smaller residual.
    """

    def __init__(self, matrix: sp.csr_array, kind: str, iterations: tuple[int, int] = (0, 0)):
        self._matrix = matrix
        self._iterations = iterations
        self._hierarchy = _hierarchy(sp.csr_matrix(matrix), kind)

    def forward(self, rhs: np.ndarray) -> np.ndarray:
        return self.solve(rhs, self._iterations[0])

    def adjoint(self, rhs: np.ndarray) -> np.ndarray:
        return self.solve(rhs, self._iterations[1])

    def solve(
        self, rhs: np.ndarray, iterations: int, *, tolerance: float = 1e-30, callback: Any = None
    ) -> np.ndarray:
        """So many iterations, or as many as bring the relative 2-norm to `tolerance`."""
        u = self._hierarchy.solve(
            rhs, tol=tolerance, maxiter=iterations, accel="cg", callback=callback
        )
        return u - u.mean()

    def iterations_for(self, rhs: np.ndarray, tolerance: float, limit: int = 500) -> int:
        """The first iteration with ||rhs - A u||_max <= tolerance ||rhs||_max."""
        count = 0

        class Reached(Exception):
            pass

        def check(u: np.ndarray) -> None:
            nonlocal count
            count += 1
            if np.max(np.abs(rhs - self._matrix @ u)) <= tolerance * np.max(np.abs(rhs)):
                raise Reached

        try:
            self.solve(rhs, limit, callback=check)
        except Reached:
            return count
        raise RuntimeError(f"pyamg did not reach {tolerance:g} in {limit} iterations")
