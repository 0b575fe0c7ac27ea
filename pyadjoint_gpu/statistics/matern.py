"""Eigenvectors of the Laplacian on a space, for Matern fields and Tikhonov's penalties.

They solve -Laplacian v = lambda v with dv/dn = 0 on the boundary. On all cells of a grid they are
cosines, those of the continuous Laplacian and of its differences alike; on other spaces, of few
points, they are the columns of a dense matrix.
"""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.fft import dctn, idctn
from jaxtyping import Array, Float

from ..core.errors import ConfigError
from ..core.precision import AnyArray, compiled, fused
from ..core.spaces import Space

DENSE = 4000
"""Most points of a space that is not all cells of a grid: its eigenvectors are a dense matrix."""

ALIASES = 2
"""Most multiples of the sampled waves, along an axis, that count in a Matern field."""

Transform = Callable[..., Array]


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["cells", "shape"])
@dataclass(frozen=True)
class Cosines:
    """The eigenvectors of a grid: products of cosines, orthonormal.

    Attributes
    ----------
    cells, shape : tuple of int
        Shape of the grid, and of the arrays of its values, in the same order: one field, or several
        one after the other.
    """

    cells: tuple[int, ...]
    shape: tuple[int, ...]

    @fused
    def field(self, c: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """The field sum_k c_k v_k of coefficients c."""
        return self._transformed(idctn, c)

    @fused
    def coefficients(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        """The coefficients of a field."""
        return self._transformed(dctn, x)

    def _transformed(
        self, transform: Transform, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        batch = jnp.shape(x)[: jnp.ndim(x) - len(self.shape)]
        axes = tuple(range(-len(self.cells), 0))
        fields = jnp.reshape(jnp.asarray(x), (*batch, -1, *self.cells))
        return transform(fields, axes=axes, norm="ortho").reshape(jnp.shape(x))

    @fused
    def squares(self, weights: Float[AnyArray, "*shape"]) -> Float[Array, "*shape"]:
        """The field sum_k w_k v_k^2 of weights w."""
        out = jnp.reshape(jnp.asarray(weights), (-1, *self.cells))
        for axis, n in enumerate(self.cells, 1):
            basis = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(n)) / n)
            square = basis**2 * np.where(np.arange(n) == 0, 1.0, 2.0) / n
            out = jnp.moveaxis(jnp.tensordot(jnp.asarray(square), out, (1, axis)), 0, axis)
        return out.reshape(self.shape)


@partial(jax.tree_util.register_dataclass, data_fields=["vectors"], meta_fields=["shape"])
@dataclass(frozen=True, eq=False)
class Vectors:
    """Eigenvectors as the columns of a matrix; like `Cosines`."""

    vectors: Float[AnyArray, "n n"]
    shape: tuple[int, ...]

    @fused
    def field(self, c: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        return self._product(c, jnp.asarray(self.vectors).T)

    @fused
    def coefficients(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self._product(x, jnp.asarray(self.vectors))

    @fused
    def squares(self, weights: Float[AnyArray, "*shape"]) -> Float[Array, "*shape"]:
        return (jnp.square(jnp.asarray(self.vectors)) @ jnp.ravel(weights)).reshape(self.shape)

    def _product(
        self, x: Float[AnyArray, "*batch_and_shape"], matrix: Float[Array, "n n"]
    ) -> Float[Array, "*batch_and_shape"]:
        batch = jnp.shape(x)[: jnp.ndim(x) - len(self.shape)]
        return (jnp.reshape(jnp.asarray(x), (*batch, -1)) @ matrix).reshape(jnp.shape(x))


Modes = Cosines | Vectors


def laplacian(space: Space, where: str) -> tuple[Modes, Float[np.ndarray, "*shape"]]:
    """Eigenvectors and eigenvalues of -Laplacian, by the differences of `Space.dirichlet`.

    Raises
    ------
    ConfigError
        If the space is not all cells of a grid and has more than `DENSE` points; the message begins
        with `where`.
    """
    grid = space.box
    if grid is not None:
        along = [
            (2.0 / h * np.sin(0.5 * np.pi * np.arange(n) / n)) ** 2
            for n, h in zip(grid.shape, grid.spacing, strict=True)
        ]
        return Cosines(grid.shape, space.shape), _of_each(_total(along), space)
    if space.size > DENSE:
        raise ConfigError(
            f"{where}: a field of {space.size} values that are not all cells of a grid,"
            f" expected {DENSE} or less"
        )
    shape = space.shape

    def energy(x: Float[Array, " points"]) -> Float[Array, ""] | float:
        return 0.5 * space.dirichlet(x.reshape(shape))

    stiffness = np.asarray(compiled(jax.hessian(energy))(jnp.zeros(space.size)))
    values, vectors = np.linalg.eigh(stiffness / space.measure)
    return Vectors(vectors, shape), np.maximum(values, 0.0).reshape(shape)


def matern_spectrum(
    space: Space, lengths: tuple[float, ...], where: str
) -> tuple[Modes, Float[np.ndarray, "*shape"]]:
    """Eigenvectors and eigenvalues of the covariance (1 - sum_a lengths_a^2 d^2/dx_a^2)^-2, up to a
    factor.

    On all cells of a grid it is that of the continuous field at their centres. A wave k looks there
    like any other 2 n m + k, n cells an axis, whose variances add: with m up to `ALIASES` those
    left out are below 2 % of all, where the grid has four cells a length or more.

    Parameters
    ----------
    space : Space
    lengths : tuple of float
        One for each axis of the grid; all the same where the space is not all cells of one.
    where : str
        As for `laplacian`.
    """
    grid = space.box
    if grid is None:
        modes, values = laplacian(space, where)
        return modes, (1.0 + lengths[0] ** 2 * values) ** -2
    power = np.zeros(grid.shape)
    for shift in np.ndindex(*(2 * ALIASES + 1,) * grid.ndim):
        along = [
            (np.pi * length / extent * (np.arange(n) + 2 * n * (m - ALIASES))) ** 2
            for n, extent, length, m in zip(grid.shape, grid.extent, lengths, shift, strict=True)
        ]
        power += (1.0 + _total(along)) ** -2
    return Cosines(grid.shape, space.shape), _of_each(power, space)


def _of_each(field: Float[np.ndarray, "*cells"], space: Space) -> Float[np.ndarray, "*shape"]:
    """A field on the grid of a space, for each of the fields of that one."""
    return np.tile(field.ravel(), space.size // field.size).reshape(space.shape)


def _total(along: Sequence[Float[np.ndarray, " n"]]) -> Float[np.ndarray, "*shape"]:
    """The sum of one value of each axis, at every point of a grid."""
    return np.asarray(sum(np.meshgrid(*along, indexing="ij", sparse=True)))
