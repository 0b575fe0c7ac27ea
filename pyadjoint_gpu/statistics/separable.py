"""Separable Gaussian densities in space and time."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float

from ..core.checks import finite_array
from ..core.errors import DataError
from ..core.precision import AnyArray, fused
from .conditional import Conditional
from .densities import BoundPrior, Scalar
from .observed import factor


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mean", "spatial", "correlation", "times_factor"],
    meta_fields=[],
)
@dataclass(frozen=True, eq=False)
class Separable(BoundPrior):
    """N(mean, T (x) C) of arrays (steps, *sites): C the covariance in space, T the Toeplitz matrix
    of correlations of times. Made by `of`.

    Attributes
    ----------
    spatial : BoundPrior
        The density at any one time, less its mean.
    correlation : array, shape (steps,), or None
        The first column of T; None where times are independent.
    times_factor : array, shape (steps, steps), or None
        The lower Cholesky factor of T.
    """

    mean: Float[AnyArray, " steps *sites"]
    spatial: BoundPrior
    correlation: Float[AnyArray, " steps"] | None = None
    times_factor: Float[AnyArray, "steps steps"] | None = None

    @classmethod
    def of(
        cls,
        mean: Float[np.ndarray, " steps *sites"],
        spatial: BoundPrior,
        correlation: Any = None,
        where: str = "prior",
    ) -> Separable:
        """The density with the first column of T, which begins with 1.

        Raises
        ------
        DataError
            If T is of another shape, or not positive definite.
        """
        if correlation is None:
            return cls(mean, spatial)
        key, steps = f"{where}.correlation", len(mean)
        column = finite_array(key, correlation)
        if column.shape != (steps,) or column[0] != 1.0:
            raise DataError(f"{key}: found shape {column.shape}, expected ({steps},), from 1")
        if not np.any(column[1:]):
            return cls(mean, spatial)
        return cls(mean, spatial, column, factor(key, scipy.linalg.toeplitz(column), steps))

    @property
    def steps(self) -> int:
        """Number of times."""
        return self.shape[0]

    @property
    def sites(self) -> tuple[int, ...]:
        """Shape of the sites."""
        return self.shape[1:]

    @property
    def independent(self) -> bool:
        """Whether times are independent."""
        return self.correlation is None

    @property
    def times(self) -> Float[AnyArray, "steps steps"]:
        """T."""
        lags = np.abs(np.subtract.outer(np.arange(self.steps), np.arange(self.steps)))
        return np.eye(self.steps) if self.correlation is None else self.correlation[lags]

    def given(self, known: Bool[np.ndarray, "*sites"]) -> Separable:
        """The density conditional on zero at some sites, at all times.

        Raises
        ------
        DataError
            If these are not a mask of sites, or the covariance there is not positive definite.
        """
        spatial = Conditional.of(self.spatial, known)
        return Separable(
            np.asarray(spatial.projected(self.mean)), spatial, self.correlation, self.times_factor
        )

    def _in_time(
        self,
        matrix: Float[AnyArray, "steps steps"] | None,
        x: Float[Array, "*batch_and_shape"],
    ) -> Float[Array, "*batch_and_shape"]:
        if matrix is None:
            return x
        axis = -len(self.shape)
        return jnp.moveaxis(jnp.tensordot(jnp.asarray(matrix), x, (1, axis)), 0, axis)

    def _solved(
        self, x: Float[AnyArray, "*batch_and_shape"], transposed: bool
    ) -> Float[Array, "*batch_and_shape"]:
        if self.times_factor is None:
            return jnp.asarray(x)
        axis = jnp.ndim(x) - len(self.shape)
        first = jnp.moveaxis(jnp.asarray(x), axis, 0)
        factor, columns = jnp.asarray(self.times_factor), first.reshape(first.shape[0], -1)
        solved = jax.scipy.linalg.solve_triangular(factor, columns, lower=True, trans=transposed)
        return jnp.moveaxis(solved.reshape(first.shape), 0, axis)

    @fused
    def root(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        return self._in_time(self.times_factor, self.spatial.root(x))

    @fused
    def root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        factor = self.times_factor
        back = None if factor is None else jnp.asarray(factor).T
        return self._in_time(back, self.spatial.root_transposed(x))

    @fused
    def inverse_root(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self.spatial.inverse_root(self._solved(x, transposed=False))

    @fused
    def inverse_root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self.spatial.inverse_root_transposed(self._solved(x, transposed=True))

    @fused
    def covariance(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        times = None if self.correlation is None else self.times
        return self._in_time(times, self.spatial.covariance(x))

    @property
    @fused
    def variance(self) -> Float[Array, " steps *sites"]:
        return jnp.broadcast_to(self.spatial.variance, self.shape)

    @property
    def freedom(self) -> int:
        return self.steps * self.spatial.freedom

    @property
    @fused
    def log_determinant(self) -> Scalar:
        out = self.steps * self.spatial.log_determinant
        if self.times_factor is None:
            return out
        times = jnp.sum(jnp.log(jnp.diag(jnp.asarray(self.times_factor))))
        return out + self.spatial.freedom * times
