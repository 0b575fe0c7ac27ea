"""Gaussians whose precision is the identity and a matrix of low rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class LowRank:
    """N(0, (I + V diag(values) V^T)^-1), V orthonormal: the posterior of whitened unknowns about
    its mean.

    Attributes
    ----------
    values : array, shape (r,)
        Eigenvalues of the information in the data, relative to the prior's, in descending order.
    vectors : array, shape (n, r)
        V.
    """

    values: Float[np.ndarray, " r"]
    vectors: Float[np.ndarray, "n r"]

    @classmethod
    def of_products(
        cls,
        probes: Float[np.ndarray, "n probes"],
        products: Float[np.ndarray, "n probes"],
        rank: int,
    ) -> LowRank:
        """The first `rank` eigenvalues and vectors of a positive semidefinite matrix A, from its
        products with orthonormal random probes: those of A P (P^T A P)^-1 P^T A, by one pass
        (Nystroem's method; Tropp, Yurtsever, Udell and Cevher 2017, NeurIPS 30, algorithm 3).

        They are those of A where its rank is that of the probes or less.
        """
        shift = np.finfo(float).eps * np.sqrt(len(probes)) * np.linalg.norm(products)
        shifted = products + shift * probes
        core = probes.T @ shifted
        values, vectors = np.linalg.eigh(0.5 * (core + core.T))
        # P^T A P is positive; what is not is round-off.
        kept = values > max(shift, np.finfo(float).eps * len(core) * values[-1])
        half = shifted @ (vectors[:, kept] / np.sqrt(values[kept]))
        u, s, _ = np.linalg.svd(half, full_matrices=False)
        found = np.maximum(s**2 - shift, 0.0)
        return cls(found[:rank], u[:, :rank])

    @property
    def shrinkage(self) -> Float[np.ndarray, " r"]:
        """The fraction of the variance along each vector that the data take away."""
        return self.values / (1.0 + self.values)

    @property
    def log_determinant(self) -> float:
        """ln det(I + V diag(values) V^T)."""
        return float(np.sum(np.log1p(self.values)))

    def root(self, z: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """A symmetric root of the covariance times z."""
        return z + ((z @ self.vectors) * ((1.0 + self.values) ** -0.5 - 1.0)) @ self.vectors.T

    def reduction(self, rows: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
        """The variance of row @ x that the data take away."""
        return np.square(rows @ self.vectors) @ self.shrinkage
