"""Matern fields: Gaussian random fields by an elliptic operator, through its eigenvectors.

Their covariance is that of the stochastic PDE (Whittle 1954, Biometrika 41, 434; Lindgren, Rue and
Lindstroem 2011, J. R. Stat. Soc. B 73, 423)

    (1 / length^2 - Laplacian) x = white noise,    dx/dn = 0 on the boundary,

discretised as the package's `Smoothness`: a Matern covariance of smoothness 2 - d/2 in d
dimensions. In 2-D correlation falls with distance r as (r / length) K_1(r / length), K_1 the
modified Bessel function: to 0.60 at `length`, to 0.28 at twice that. Walls double the variance
beside them: x is divided by its own standard deviation, point by point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.fft import dctn, idctn

from ..core.errors import ConfigError
from ..core.grid import Grid
from ..core.spaces import CellSpace, Space

DENSE = 4000
"""Most points of a space that is not all cells of a grid: its eigenvectors are a dense matrix."""


class MaternField:
    """A Matern field x of unit variance on the points of a space.

    Parameters
    ----------
    space : Space
    length : float
        Correlation length, in the grid's unit.

    Raises
    ------
    ConfigError
        If the length is not a number > 0, or the space is not of all cells and has more than
        `DENSE` points.
    """

    def __init__(self, space: Space, length: Any, where: str = "prior"):
        if isinstance(length, bool) or not isinstance(length, int | float | np.number):
            raise ConfigError(f"{where}.length: found {length!r}, expected a number > 0")
        if not 0 < length < np.inf:
            raise ConfigError(f"{where}.length: found {length:g}, expected a number > 0")
        self.length = float(length)
        values, self._field, self._modes, squares = _eigen(space, where)
        self._amplitude = 1.0 / (length**-2.0 + values)
        self._scale = 1.0 / np.sqrt(squares(self._amplitude**2))

    def root(self, z: jax.Array) -> jax.Array:
        """x from independent standard normal numbers, of the space's shape."""
        return jnp.asarray(self._scale) * self._field(jnp.asarray(self._amplitude) * z)

    def root_transposed(self, x: jax.Array) -> jax.Array:
        """The transpose of `root`: root(root_transposed(x)) is the covariance times x."""
        return jnp.asarray(self._amplitude) * self._modes(jnp.asarray(self._scale) * x)


def _eigen(
    space: Space, where: str
) -> tuple[
    np.ndarray,
    Callable[[jax.Array], jax.Array],
    Callable[[jax.Array], jax.Array],
    Callable[[np.ndarray], np.ndarray],
]:
    """Eigenvalues of -Laplacian with dx/dn = 0, of the space's shape; the field of given
    coefficients of its orthonormal eigenvectors; the coefficients of a field; and the sum of the
    eigenvectors' squares times given numbers, point by point."""
    if isinstance(space, CellSpace):
        values, squares = _cosines(space.grid)
        return values, lambda x: idctn(x, norm="ortho"), lambda x: dctn(x, norm="ortho"), squares
    if space.size > DENSE:
        raise ConfigError(
            f"{where}: a field of {space.size} values that are not all cells of a grid,"
            f" expected {DENSE} or less"
        )
    shape = space.shape

    def energy(x: jax.Array) -> jax.Array | float:
        return 0.5 * space.dirichlet(x.reshape(shape))

    stiffness = np.asarray(jax.hessian(energy)(jnp.zeros(space.size)))
    values, vectors = np.linalg.eigh(stiffness / space.measure)
    return (
        np.maximum(values, 0.0).reshape(shape),
        lambda x: (jnp.asarray(vectors) @ x.ravel()).reshape(shape),
        lambda x: (jnp.asarray(vectors).T @ x.ravel()).reshape(shape),
        lambda weights: (vectors**2 @ weights.ravel()).reshape(shape),
    )


def _cosines(grid: Grid) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    along = [
        (2.0 * np.sin(0.5 * np.pi * np.arange(n) / n) / h) ** 2
        for n, h in zip(grid.shape, grid.spacing, strict=True)
    ]
    values = sum(np.meshgrid(*along, indexing="ij"))

    def squares(weights: np.ndarray) -> np.ndarray:
        for axis, n in enumerate(grid.shape):
            basis = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(n)) / n)
            square = basis**2 * np.where(np.arange(n) == 0, 1.0, 2.0) / n
            weights = np.moveaxis(np.tensordot(square, weights, (1, axis)), 0, axis)
        return weights

    return np.asarray(values), squares
