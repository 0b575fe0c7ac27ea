"""Densities of theta: priors on a space, as arguments of compiled code."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid, sigmoid
from jax.scipy.special import logit, ndtr
from jaxtyping import Array, Float

from ..core.checks import count as count_of
from ..core.precision import AnyArray, double, fused
from .matern import Modes

Scalar = Float[Array, ""]
LN_2PI = float(np.log(2.0 * np.pi))


class BoundPrior(ABC):
    """A density p(theta) with a mean mu and a covariance C = R R^T, R square.

    All maps take arrays (..., *shape) and act on their last axes. They are JAX operations in double
    precision, differentiable and vectorised, for `jax.jit` and `jax.grad` too.

    Attributes
    ----------
    mean : array, shape (*shape,)
        mu.
    """

    mean: Float[AnyArray, "*shape"]
    gaussian: ClassVar[bool] = True
    """Whether p is N(mu, C)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of theta."""
        return jnp.shape(self.mean)

    @property
    def axes(self) -> tuple[int, ...]:
        """The last axes, those of theta."""
        return tuple(range(-len(self.shape), 0))

    @property
    def freedom(self) -> int:
        """Number of components that vary."""
        return np.size(self.mean)

    # By each class

    @abstractmethod
    def root(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """R x."""

    @abstractmethod
    def root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        """R^T x."""

    @abstractmethod
    def inverse_root(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        """R^-1 x."""

    @abstractmethod
    def inverse_root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        """R^-T x."""

    @property
    @abstractmethod
    def variance(self) -> Float[Array, "*shape"]:
        """The diagonal of C."""

    @property
    @abstractmethod
    def log_determinant(self) -> Scalar:
        """ln |det R|."""

    # By these

    @fused
    def covariance(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        """C x."""
        return self.root(self.root_transposed(x))

    @fused
    def precision(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """C^-1 x."""
        return self.inverse_root_transposed(self.inverse_root(x))

    @fused
    def of_white(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """theta = mu + R x."""
        return jnp.asarray(self.mean) + self.root(x)

    @fused
    def white(self, theta: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """x = R^-1 (theta - mu)."""
        return self.inverse_root(jnp.asarray(theta) - self.mean)

    @fused
    def potential(self, theta: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch"]:
        """-ln p(theta) up to a constant: |R^-1 (theta - mu)|^2 / 2."""
        return 0.5 * jnp.sum(jnp.square(self.white(theta)), axis=self.axes)

    @property
    @fused
    def log_normaliser(self) -> Scalar:
        """ln p(theta) + potential(theta)."""
        return -self.log_determinant - 0.5 * self.freedom * LN_2PI

    @fused
    def log_density(self, theta: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch"]:
        """ln p(theta), normalised."""
        return self.log_normaliser - self.potential(theta)

    @fused
    def of_normal(self, z: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        """A draw of theta from independent standard normal numbers: mu + R z."""
        return self.of_white(z)

    def draw(self, count: int = 1, seed: int = 0) -> Float[np.ndarray, " draws *shape"]:
        """Samples of theta."""
        shape = count_of("count", count), *self.shape
        generator = np.random.default_rng(count_of("seed", seed, 0))
        return np.asarray(self.of_normal(generator.standard_normal(shape)))

    def near(self, theta: Float[AnyArray, "*shape"]) -> BoundPrior:
        """The Gaussian with the curvature of the potential at theta: this one."""
        return self


@partial(jax.tree_util.register_dataclass, data_fields=["mean", "sd"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Diagonal(BoundPrior):
    """N(mean, diag(sd^2))."""

    mean: Float[AnyArray, "*shape"]
    sd: Float[AnyArray, "*shape"]

    @fused
    def root(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        return jnp.asarray(self.sd) * x

    root_transposed = root

    @fused
    def inverse_root(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return jnp.asarray(x) / self.sd

    inverse_root_transposed = inverse_root

    @property
    @fused
    def variance(self) -> Float[Array, "*shape"]:
        return jnp.square(jnp.asarray(self.sd))

    @property
    @fused
    def log_determinant(self) -> Scalar:
        return jnp.sum(jnp.log(jnp.asarray(self.sd)))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mean", "scale", "amplitude", "modes"],
    meta_fields=[],
)
@dataclass(frozen=True, eq=False)
class Spectral(BoundPrior):
    """N(mean, R R^T) with R = diag(scale) V diag(amplitude), V the orthonormal eigenvectors of the
    Laplacian."""

    mean: Float[AnyArray, "*shape"]
    scale: Float[AnyArray, "*shape"]
    amplitude: Float[AnyArray, "*shape"]
    modes: Modes

    @fused
    def root(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        return jnp.asarray(self.scale) * self.modes.field(jnp.asarray(self.amplitude) * x)

    @fused
    def root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return jnp.asarray(self.amplitude) * self.modes.coefficients(jnp.asarray(self.scale) * x)

    @fused
    def inverse_root(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self.modes.coefficients(jnp.asarray(x) / self.scale) / self.amplitude

    @fused
    def inverse_root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self.modes.field(jnp.asarray(x) / self.amplitude) / self.scale

    @property
    @fused
    def variance(self) -> Float[Array, "*shape"]:
        squares = self.modes.squares(jnp.square(jnp.asarray(self.amplitude)))
        return jnp.square(jnp.asarray(self.scale)) * squares

    @property
    @fused
    def log_determinant(self) -> Scalar:
        both = jnp.log(jnp.asarray(self.scale)) + jnp.log(jnp.asarray(self.amplitude))
        return jnp.sum(both)


@partial(jax.tree_util.register_dataclass, data_fields=["mean", "factor"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Full(BoundPrior):
    """N(mean, L L^T) with the lower Cholesky factor L of a covariance of all components, in C
    order."""

    mean: Float[AnyArray, "*shape"]
    factor: Float[AnyArray, "n n"]

    def _solved(
        self, x: Float[AnyArray, "*batch_and_shape"], transposed: bool
    ) -> Float[Array, "*batch_and_shape"]:
        flat = self._flat(x)
        columns = jnp.moveaxis(flat, -1, 0).reshape(flat.shape[-1], -1)
        factor = jnp.asarray(self.factor)
        solved = jax.scipy.linalg.solve_triangular(factor, columns, lower=True, trans=transposed)
        return jnp.moveaxis(solved.reshape(-1, *flat.shape[:-1]), 0, -1).reshape(jnp.shape(x))

    def _flat(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch n"]:
        batch = jnp.ndim(x) - len(self.shape)
        return jnp.reshape(jnp.asarray(x), (*jnp.shape(x)[:batch], -1))

    @fused
    def root(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        return (self._flat(x) @ jnp.asarray(self.factor).T).reshape(jnp.shape(x))

    @fused
    def root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return (self._flat(x) @ jnp.asarray(self.factor)).reshape(jnp.shape(x))

    @fused
    def inverse_root(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self._solved(x, transposed=False)

    @fused
    def inverse_root_transposed(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return self._solved(x, transposed=True)

    @property
    @fused
    def variance(self) -> Float[Array, "*shape"]:
        return jnp.sum(jnp.square(jnp.asarray(self.factor)), axis=1).reshape(self.shape)

    @property
    @fused
    def log_determinant(self) -> Scalar:
        return jnp.sum(jnp.log(jnp.diag(jnp.asarray(self.factor))))


@partial(jax.tree_util.register_dataclass, data_fields=["mean"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Logistic(BoundPrior):
    """Independent standard logistic components, p = s (1 - s) with s = 1 / (1 + exp(-theta)): the
    density of theta where s is uniform in (0, 1). Its C is pi^2 / 3."""

    mean: Float[AnyArray, "*shape"]
    gaussian = False

    @fused
    def root(self, x: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        return (np.pi / np.sqrt(3.0)) * jnp.asarray(x)

    root_transposed = root

    @fused
    def inverse_root(
        self, x: Float[AnyArray, "*batch_and_shape"]
    ) -> Float[Array, "*batch_and_shape"]:
        return (np.sqrt(3.0) / np.pi) * jnp.asarray(x)

    inverse_root_transposed = inverse_root

    @property
    @fused
    def variance(self) -> Float[Array, "*shape"]:
        return jnp.full(self.shape, np.pi**2 / 3.0)

    @property
    @fused
    def log_determinant(self) -> Scalar:
        return jnp.asarray(np.size(self.mean) * np.log(np.pi / np.sqrt(3.0)))

    @fused
    def potential(self, theta: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch"]:
        t = jnp.asarray(theta)
        return -jnp.sum(log_sigmoid(t) + log_sigmoid(-t), axis=self.axes)

    @property
    @fused
    def log_normaliser(self) -> Scalar:
        return jnp.zeros(())

    @fused
    def of_normal(self, z: Float[AnyArray, "*batch_and_shape"]) -> Float[Array, "*batch_and_shape"]:
        return logit(ndtr(jnp.asarray(z)))

    @double
    def near(self, theta: Float[AnyArray, "*shape"]) -> BoundPrior:
        t = jnp.asarray(theta)
        return Diagonal(t, (2.0 * sigmoid(t) * sigmoid(-t)) ** -0.5)
