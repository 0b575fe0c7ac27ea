"""Gaussian noise of given data: whitening, densities, products and draws by a root of its
covariance."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components

from ..core.checks import finite_array
from ..core.errors import DataError
from ..core.precision import AnyArray, fused

Errors: TypeAlias = Float[np.ndarray, " n"] | csr_array
"""Errors of n data: standard deviations, shape (n,), where they are independent, else their
covariance (n, n)."""
Block: TypeAlias = tuple[Int[AnyArray, "blocks m"], Float[AnyArray, "blocks m m"]]
"""Indices of the data of blocks of one size, and the lower Cholesky factors of their
covariances."""


class BoundNoise(ABC):
    """Gaussian noise e ~ N(0, Sigma) of n data, with Sigma = L L^T.

    A JAX pytree: compiled code sees its arrays. Arrays of data have the shape (n, *columns).
    """

    sd: Float[AnyArray, " n"]
    """Standard deviations of the data, the roots of Sigma's diagonal."""

    @property
    def size(self) -> int:
        """Number of data."""
        return len(self.sd)

    @abstractmethod
    def whiten(self, r: Float[AnyArray, " n *columns"]) -> Float[AnyArray, " n *columns"]:
        """L^-1 r, of independent components of variance one for r of this noise."""

    @abstractmethod
    def root(self, z: Float[AnyArray, " n *columns"]) -> Float[AnyArray, " n *columns"]:
        """The product L z: the noise of independent standard normal numbers z."""

    @abstractmethod
    def covariance(self, x: Float[AnyArray, " n *columns"]) -> Float[AnyArray, " n *columns"]:
        """The product Sigma x."""

    @property
    @abstractmethod
    def log_root(self) -> Float[AnyArray, ""]:
        """ln det L."""

    @property
    def constant(self) -> Float[AnyArray, ""]:
        """-ln det(2 pi Sigma) / 2, the log density at r = 0."""
        return -self.log_root - 0.5 * self.size * np.log(2.0 * np.pi)

    def log_density(self, r: Float[AnyArray, " n"]) -> Float[AnyArray, ""]:
        """ln p(r) = -|L^-1 r|^2 / 2 - ln det(2 pi Sigma) / 2."""
        return self.constant - 0.5 * jnp.sum(jnp.square(self.whiten(r)))

    def draw(self, generator: np.random.Generator, count: int) -> Float[np.ndarray, "{count} n"]:
        """Samples of the noise, one a row."""
        z = generator.standard_normal((count, self.size))
        return np.asarray(self.root(z.T)).T


@partial(jax.tree_util.register_dataclass, data_fields=["sd"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class IndependentNoise(BoundNoise):
    """Noise that is independent from datum to datum."""

    sd: Float[AnyArray, " n"]

    def whiten(self, r: Float[AnyArray, " n *columns"]) -> Float[AnyArray, " n *columns"]:
        return r / self._each(r)

    def root(self, z: Float[AnyArray, " n *columns"]) -> Float[AnyArray, " n *columns"]:
        return z * self._each(z)

    def covariance(self, x: Float[AnyArray, " n *columns"]) -> Float[AnyArray, " n *columns"]:
        return self.root(self.root(x))

    @property
    def log_root(self) -> Float[AnyArray, ""]:
        numpy = _module(self.sd)
        return numpy.sum(numpy.log(self.sd))

    def _each(self, r: Float[AnyArray, " n *columns"]) -> Float[AnyArray, " n *ones"]:
        return self.sd.reshape(-1, *(1,) * (r.ndim - 1))


@partial(jax.tree_util.register_dataclass, data_fields=["sd", "blocks"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class CorrelatedNoise(BoundNoise):
    """Noise that is correlated within blocks of data, by the Cholesky factor of each: one of all
    data, or one a place for errors that are correlated in time.

    Within a block L^-1 r are innovations: each is what the data before it do not predict, in units
    of its standard deviation given them.
    """

    sd: Float[AnyArray, " n"]
    blocks: tuple[Block, ...]

    def whiten(self, r: Float[AnyArray, " n *columns"]) -> Float[Array, " n *columns"]:
        return self._each(_solved, r)

    def root(self, z: Float[AnyArray, " n *columns"]) -> Float[Array, " n *columns"]:
        return self._each(jnp.matmul, z)

    def covariance(self, x: Float[AnyArray, " n *columns"]) -> Float[Array, " n *columns"]:
        return self._each(_symmetric_product, x)

    @property
    def log_root(self) -> Float[AnyArray, ""]:
        numpy = _module(self.sd)
        diagonals = [numpy.diagonal(factor, axis1=1, axis2=2).ravel() for _, factor in self.blocks]
        return numpy.sum(numpy.log(numpy.concatenate(diagonals)))

    @partial(fused, static_argnums=1)
    def _each(self, product: Any, x: Float[AnyArray, " n *columns"]) -> Float[Array, " n *columns"]:
        """Products of the blocks' factors with their parts of x."""
        flat = jnp.asarray(x).reshape(self.size, -1)
        out = flat
        for index, factor in self.blocks:
            out = out.at[index].set(product(jnp.asarray(factor), flat[index]))
        return out.reshape(x.shape)


def _solved(
    factor: Float[Array, "blocks m m"], x: Float[Array, "blocks m columns"]
) -> Float[Array, "blocks m columns"]:
    """L^-1 x."""
    return solve_triangular(factor, x, lower=True)


def _symmetric_product(
    factor: Float[Array, "blocks m m"], x: Float[Array, "blocks m columns"]
) -> Float[Array, "blocks m columns"]:
    """L L^T x."""
    return factor @ (factor.swapaxes(1, 2) @ x)


def _module(array: AnyArray) -> Any:
    """NumPy for its arrays, in double precision whatever JAX's is, or else JAX's version of it."""
    return np if isinstance(array, np.ndarray) else jnp


def observed(
    name: str, values: Float[np.ndarray, " n"], noise_name: str, errors: Errors
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " used"], Errors]:
    """Mask of the observed among n values, their values and their errors.

    A value that is NaN, or whose error is infinite or NaN, is not observed.

    Raises
    ------
    DataError
        If no value is observed, or an observed one or its errors are not finite.
    """
    used = seen(values, errors)
    if not np.any(used):
        raise DataError(
            f"{name}: none of {len(values)} values is observed (each is missing, or has an infinite"
            " or NaN error), expected one at least"
        )
    errors = select(errors, used)
    finite_array(noise_name, errors if isinstance(errors, np.ndarray) else errors.data)
    return used, finite_array(name, values[used]), errors


def seen(values: Float[np.ndarray, " n"], errors: Errors) -> Bool[np.ndarray, " n"]:
    """Mask of the observed values: those that are not NaN, with an error that is finite."""
    own = errors if isinstance(errors, np.ndarray) else errors.diagonal()
    return ~np.isnan(values) & np.isfinite(own)


def select(errors: Errors, used: Bool[np.ndarray, " n"]) -> Errors:
    """The errors of some of the data."""
    return errors[used] if isinstance(errors, np.ndarray) else errors[used][:, used]


def scaled(errors: Errors, factor: Float[np.ndarray, " n"] | float) -> Errors:
    """The errors of data that are multiplied by `factor`, one or one a datum."""
    if isinstance(errors, np.ndarray):
        return errors * factor
    each = diags_array(np.broadcast_to(factor, errors.shape[0]), format="csr")
    return each @ errors @ each


def as_covariance(errors: Errors) -> csr_array:
    """Errors as a covariance."""
    if isinstance(errors, np.ndarray):
        return csr_array(diags_array(np.square(errors), format="csr"))
    return errors


def added(one: Errors, other: Errors) -> Errors:
    """The errors of the sum of independent noise."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.hypot(one, other)
    return as_covariance(one) + as_covariance(other)


def arrays(errors: Errors) -> Any:
    """Errors as arrays: the standard deviations, or rows, columns and values of the covariance."""
    if isinstance(errors, np.ndarray):
        return errors
    found = errors.tocoo()
    return {"row": found.row, "column": found.col, "covariance": found.data}


def bound(
    errors: Errors, name: str = "noise", times: Float[np.ndarray, " n"] | None = None
) -> BoundNoise:
    """The noise of data with these errors, all finite. Blocks of the covariance are in the order of
    `times`, if they are given.

    Raises
    ------
    DataError
        If a standard deviation is not positive, or the covariance not positive definite.
    """
    if isinstance(errors, np.ndarray):
        if not np.all(errors > 0):
            raise DataError(f"{name}: found {np.min(errors):g}, expected values > 0")
        return IndependentNoise(errors)
    count, component = connected_components(errors, directed=False)
    if count == errors.shape[0]:
        variances = errors.diagonal()
        if not np.all(variances > 0):
            raise DataError(f"{name}: the covariance is not positive definite")
        return IndependentNoise(np.sqrt(variances))
    order = np.lexsort((np.arange(len(component)) if times is None else times, component))
    sizes = np.bincount(component)
    ends = np.cumsum(sizes)
    blocks: list[Block] = []
    for size in np.unique(sizes):
        starts = (ends - sizes)[sizes == size]
        index = order[starts[:, None] + np.arange(size)]
        matrices = np.stack([errors[k][:, k].toarray() for k in index])
        try:
            blocks.append((index, np.linalg.cholesky(matrices)))
        except np.linalg.LinAlgError:
            raise DataError(f"{name}: the covariance is not positive definite") from None
    return CorrelatedNoise(np.sqrt(errors.diagonal()), tuple(blocks))
