"""The prior of all controls of a problem together, and the whitened variable that belongs to it."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.precision import compiled, double
from ..statistics.densities import AnyArray, BoundPrior

Vectors = Float[AnyArray, "*batch n"]


@partial(jax.tree_util.register_dataclass, data_fields=["parts"], meta_fields=["shapes"])
@dataclass(frozen=True, eq=False)
class JointPrior:
    """p(theta) of independent controls, for vectors (..., n) of all components of theta.

    The whitened variable x has theta = mu + R x with the covariance R R^T of p: where p is
    Gaussian, x are independent standard normal numbers, and the Hessian of J by x is the identity
    and what the data add, whose size does not depend on the grid.

    Attributes
    ----------
    parts : dict of BoundPrior
        The priors by control, in the order of their parts of theta.
    shapes : tuple of (str, tuple of int)
        Name and shape of each part.
    """

    parts: dict[str, BoundPrior]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def gaussian(self) -> bool:
        """Whether all parts are Gaussian."""
        return all(p.gaussian for p in self.parts.values())

    @property
    def size(self) -> int:
        """Number of components of theta."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def split(self, x: Vectors) -> Iterator[tuple[BoundPrior, Float[Array, "..."]]]:
        """The priors and their parts of a vector."""
        start, x = 0, jnp.asarray(x)
        for name, shape in self.shapes:
            size = math.prod(shape)
            part = x[..., start : start + size]
            yield self.parts[name], part.reshape(*x.shape[:-1], *shape)
            start += size

    def each(
        self, of: Callable[[BoundPrior, Float[Array, "..."]], Float[Array, "..."]], x: Vectors
    ) -> Float[Array, "*batch n"]:
        """A function of a prior and its part of a vector, of all of them."""
        batch = jnp.shape(x)[:-1]
        return jnp.concatenate([of(p, part).reshape(*batch, -1) for p, part in self.split(x)], -1)

    @double
    def theta(self, x: Vectors) -> Float[np.ndarray, "*batch n"]:
        """mu + R x."""
        return np.asarray(_theta(self, jnp.asarray(x)))

    @double
    def white(self, theta: Vectors) -> Float[np.ndarray, "*batch n"]:
        """x = R^-1 (theta - mu)."""
        return np.asarray(_white(self, jnp.asarray(theta)))

    @double
    def root(self, x: Vectors) -> Float[np.ndarray, "*batch n"]:
        """R x."""
        return np.asarray(_root(self, jnp.asarray(x)))

    @double
    def root_transposed(self, slope: Vectors) -> Float[np.ndarray, "*batch n"]:
        """R^T slope: the derivative by x of what has the derivative `slope` by theta."""
        return np.asarray(_root_transposed(self, jnp.asarray(slope)))

    @double
    def of_normal(self, z: Vectors) -> Float[np.ndarray, "*batch n"]:
        """Draws of theta from independent standard normal numbers."""
        return np.asarray(_of_normal(self, jnp.asarray(z)))

    @double
    def potential(
        self, theta: Vectors
    ) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch n"]]:
        """-ln p(theta) up to a constant, and its derivative by theta."""
        value, slope = _potential(self, jnp.asarray(theta))
        return np.asarray(value), np.asarray(slope)

    @property
    @double
    def variance(self) -> Float[np.ndarray, " n"]:
        """The diagonal of R R^T."""
        return np.concatenate([np.ravel(self.parts[name].variance) for name, _ in self.shapes])

    @property
    @double
    def log_normaliser(self) -> float:
        """ln p(theta) + potential(theta)."""
        return float(sum(p.log_normaliser for p in self.parts.values()))

    @double
    def near(self, theta: Float[AnyArray, " n"]) -> JointPrior:
        """The Gaussian with the curvature of the potential at theta; a Gaussian prior itself."""
        parts = {
            name: p.near(part)
            for (name, _), (p, part) in zip(self.shapes, self.split(theta), strict=True)
        }
        return JointPrior(parts, self.shapes)


@compiled
def _theta(prior: JointPrior, x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    return prior.each(lambda p, part: jnp.asarray(p.mean) + p.root(part), x)


@compiled
def _white(prior: JointPrior, theta: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    return prior.each(lambda p, part: p.inverse_root(part - p.mean), theta)


@compiled
def _root(prior: JointPrior, x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    return prior.each(lambda p, part: p.root(part), x)


@compiled
def _root_transposed(prior: JointPrior, x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    return prior.each(lambda p, part: p.root_transposed(part), x)


@compiled
def _of_normal(prior: JointPrior, z: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    return prior.each(lambda p, part: p.of_normal(part), z)


@compiled
def _potential(
    prior: JointPrior, theta: Float[Array, "*batch n"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch n"]]:
    def total(theta: Float[Array, "*batch n"]) -> tuple[Float[Array, ""], Float[Array, "*batch"]]:
        each = sum(
            (p.potential(part) for p, part in prior.split(theta)), jnp.zeros(theta.shape[:-1])
        )
        return jnp.sum(each), each

    (_, each), slope = jax.value_and_grad(total, has_aux=True)(theta)
    return each, slope
