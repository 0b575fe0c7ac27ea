"""Matern fields: Gaussian random fields by the eigenvectors of an elliptic operator.

They solve the stochastic PDE (Whittle 1954, Biometrika 41, 434; Lindgren, Rue and
Lindstroem 2011, J. R. Stat. Soc. B 73, 423)

    (1 / length^2 - Laplacian) x = white noise,    dx/dn = 0 on the boundary,

discretised as the package's `Smoothness`, and have a Matern covariance of smoothness 2 - d/2 in d
dimensions. In 2-D the correlation at distance r is (r / length) K_1(r / length), K_1 the modified
Bessel function: 0.60 at r = length, 0.28 at twice that. The boundary condition doubles the variance
at the boundary, so that x is divided by its own standard deviation, point by point.
"""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.fft import dctn, idctn
from jaxtyping import Array, Float

from ..core.checks import positive
from ..core.errors import ConfigError
from ..core.grid import Grid
from ..core.spaces import CellSpace, Space

DENSE = 4000
"""Most points of a space that is not all cells of a grid: its eigenvectors are a dense matrix."""

FieldMap = Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]
Squares = Callable[[Float[np.ndarray, "*shape"]], Float[np.ndarray, "*shape"]]


class MaternField:
    """A Matern field x of unit variance on the points of a space.

    Parameters
    ----------
    space : Space
    length : float
        Correlation length, in the grid's unit.
    where : str
        The key of the prior, in messages.

    Raises
    ------
    ConfigError
        If the length is not a number > 0, or the space is not all cells of a grid and has more
        than `DENSE` points.
    """

    def __init__(self, space: Space, length: float | None, where: str = "prior"):
        self.length = positive(f"{where}.length", length, "a number > 0")
        values, self._field, self._modes, squares = _eigen(space, where)
        self._amplitude = 1.0 / (self.length**-2.0 + values)
        self._scale = 1.0 / np.sqrt(squares(self._amplitude**2))

    def root(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The field x of independent standard normal numbers z."""
        return jnp.asarray(self._scale) * self._field(jnp.asarray(self._amplitude) * z)

    def root_transposed(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The product of x with the transpose of `root`: root(root_transposed(x)) is the product
        with the covariance."""
        return jnp.asarray(self._amplitude) * self._modes(jnp.asarray(self._scale) * x)


def _eigen(
    space: Space, where: str
) -> tuple[Float[np.ndarray, "*shape"], FieldMap, FieldMap, Squares]:
    """Eigenvalues of -Laplacian with dx/dn = 0 and maps by its orthonormal eigenvectors v_k.

    Returns
    -------
    values : array, of the space's shape
    field, modes : function
        The field sum_k c_k v_k of coefficients c, and the coefficients of a field.
    squares : function
        The field sum_k w_k v_k^2 of weights w.
    """
    if isinstance(space, CellSpace):
        values, squares = _cosines(space.grid)
        return values, lambda x: idctn(x, norm="ortho"), lambda x: dctn(x, norm="ortho"), squares
    if space.size > DENSE:
        raise ConfigError(
            f"{where}: a field of {space.size} values that are not all cells of a grid,"
            f" expected {DENSE} or less"
        )
    shape = space.shape

    def energy(x: Float[Array, " points"]) -> Float[Array, ""] | float:
        return 0.5 * space.dirichlet(x.reshape(shape))

    stiffness = np.asarray(jax.hessian(energy)(jnp.zeros(space.size)))
    values, vectors = np.linalg.eigh(stiffness / space.measure)
    return (
        np.maximum(values, 0.0).reshape(shape),
        lambda x: (jnp.asarray(vectors) @ x.ravel()).reshape(shape),
        lambda x: (jnp.asarray(vectors).T @ x.ravel()).reshape(shape),
        lambda weights: (vectors**2 @ weights.ravel()).reshape(shape),
    )


def _cosines(grid: Grid) -> tuple[Float[np.ndarray, "*shape"], Squares]:
    """Eigenvalues and squares (see `_eigen`) of a grid, whose eigenvectors are cosines."""
    along = [
        (2.0 * np.sin(0.5 * np.pi * np.arange(n) / n) / h) ** 2
        for n, h in zip(grid.shape, grid.spacing, strict=True)
    ]
    values = sum(np.meshgrid(*along, indexing="ij"))

    def squares(weights: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        for axis, n in enumerate(grid.shape):
            basis = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(n)) / n)
            square = basis**2 * np.where(np.arange(n) == 0, 1.0, 2.0) / n
            weights = np.moveaxis(np.tensordot(square, weights, (1, axis)), 0, axis)
        return weights

    return np.asarray(values), squares
