"""Gaussian densities conditional on zero at some points."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..core.errors import DataError, shown
from ..core.precision import AnyArray, double, fused
from .densities import BoundPrior, Scalar
from .observed import factor

TOGETHER = 64
"""Columns of a covariance that are computed together."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mean", "prior", "known", "known_factor"],
    meta_fields=[],
)
@dataclass(frozen=True, eq=False)
class Conditional(BoundPrior):
    """A Gaussian density N(mu, C), C = R R^T, given zero at some points: N(P mu, P C) with

        P = I - C w^T (w C w^T)^-1 w,    P C = (P R) (P R)^T,

    w the rows of the identity for these points. Made by `of`. Its density is that of the other
    components, and its inverse root is for fields that are zero at these points.

    Attributes
    ----------
    prior : BoundPrior
        N(mu, C).
    known : array of int
        The points, in C order.
    known_factor : array
        The lower Cholesky factor of w C w^T.
    """

    mean: Float[AnyArray, "*shape"]
    prior: BoundPrior
    known: Int[AnyArray, " known"]
    known_factor: Float[AnyArray, "known known"]

    @classmethod
    @double
    def of(cls, prior: BoundPrior, known: Bool[np.ndarray, "*shape"]) -> Conditional:
        """The density given zero where `known` is true.

        Raises
        ------
        DataError
            If `known` is no such mask, or true nowhere, or the covariance there is not positive
            definite.
        """
        mask = np.asarray(known)
        if mask.dtype != bool or mask.shape != prior.shape or not mask.any():
            raise DataError(
                f"places: expected {prior.shape} true or false, one true at least, found"
                f" {shown(known)}"
            )
        at = np.flatnonzero(mask)
        own = np.empty((at.size, at.size))
        for k in range(0, at.size, TOGETHER):
            some = at[k : k + TOGETHER]
            unit = np.zeros((some.size, mask.size))
            unit[np.arange(some.size), some] = 1.0
            rows = np.asarray(prior.covariance(unit.reshape(-1, *mask.shape)))
            own[k : k + TOGETHER] = rows.reshape(some.size, -1)[:, at]
        found = cls(prior.mean, prior, at, factor("prior of the places", own, at.size))
        return cls(np.asarray(found.projected(prior.mean)), prior, at, found.known_factor)

    def _weights(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """w^T (w C w^T)^-1 w x."""
        values = jnp.asarray(x)
        flat = values.reshape(-1, np.size(self.mean))
        own = (jnp.asarray(self.known_factor), True)
        solved = jax.scipy.linalg.cho_solve(own, flat[:, self.known].T).T
        return jnp.zeros_like(flat).at[:, self.known].set(solved).reshape(values.shape)

    @fused
    def projected(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """P x."""
        return jnp.asarray(x) - self.prior.covariance(self._weights(x))

    @fused
    def root(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        return self.projected(self.prior.root(x))

    @fused
    def root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self.prior.root_transposed(jnp.asarray(x) - self._weights(self.prior.covariance(x)))

    @fused
    def inverse_root(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self.prior.inverse_root(x)

    @fused
    def inverse_root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self.prior.inverse_root_transposed(x)

    @fused
    def covariance(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self.projected(self.prior.covariance(x))

    @property
    @fused
    def variance(self) -> Float[Array, "*shape"]:
        n = np.size(self.mean)
        unit = jnp.zeros((len(self.known), n)).at[np.arange(len(self.known)), self.known].set(1.0)
        rows = self.prior.covariance(unit.reshape(-1, *self.shape)).reshape(-1, n)
        own = jnp.asarray(self.known_factor)
        white = jax.scipy.linalg.solve_triangular(own, rows, lower=True)
        return self.prior.variance - jnp.sum(jnp.square(white), axis=0).reshape(self.shape)

    @property
    def freedom(self) -> int:
        return self.prior.freedom - len(self.known)

    @property
    @fused
    def log_determinant(self) -> Scalar:
        own = jnp.sum(jnp.log(jnp.diag(jnp.asarray(self.known_factor))))
        return self.prior.log_determinant - own
