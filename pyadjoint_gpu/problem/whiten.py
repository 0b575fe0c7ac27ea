"""The prior of all controls of a problem together, and the whitened variable that belongs to it."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.precision import AnyArray, compiled, double
from ..statistics.densities import BoundPrior
from .objective import Shapes, split

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
    shapes : Shapes
    """

    parts: dict[str, BoundPrior]
    shapes: Shapes

    @property
    def gaussian(self) -> bool:
        """Whether all parts are Gaussian."""
        return all(p.gaussian for p in self.parts.values())

    @property
    def size(self) -> int:
        """Number of components of theta."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def theta(self, x: Vectors) -> Float[np.ndarray, "*batch n"]:
        """mu + R x."""
        return self._each("of_white", x)

    def white(self, theta: Vectors) -> Float[np.ndarray, "*batch n"]:
        """x = R^-1 (theta - mu)."""
        return self._each("white", theta)

    def root(self, x: Vectors) -> Float[np.ndarray, "*batch n"]:
        """R x."""
        return self._each("root", x)

    def root_transposed(self, slope: Vectors) -> Float[np.ndarray, "*batch n"]:
        """R^T slope: the derivative by x of what has the derivative `slope` by theta."""
        return self._each("root_transposed", slope)

    def of_normal(self, z: Vectors) -> Float[np.ndarray, "*batch n"]:
        """Draws of theta from independent standard normal numbers."""
        return self._each("of_normal", z)

    def mapped(self, name: str, x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
        """`theta` ("of_white") and the other maps, within compiled code."""
        return _map(self, name, x)

    def energy(self, theta: Float[Array, " n"]) -> Float[Array, ""]:
        """`potential` of one theta, within compiled code."""
        parts = split(self.shapes, theta)
        return sum((p.potential(parts[k]) for k, p in self.parts.items()), jnp.zeros(()))

    @double
    def _each(self, name: str, x: Vectors) -> Float[np.ndarray, "*batch n"]:
        """The method of that name of every part, of its part of the vectors."""
        return np.asarray(_mapped(self, name, jnp.asarray(x)))

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

    @property
    @double
    def log_determinant(self) -> float:
        """ln |det R|."""
        return float(sum(p.log_determinant for p in self.parts.values()))

    @double
    def near(self, theta: Float[AnyArray, " n"]) -> JointPrior:
        """The Gaussian with the curvature of the potential at theta; a Gaussian prior itself."""
        parts = split(self.shapes, jnp.asarray(theta))
        return JointPrior({k: p.near(parts[k]) for k, p in self.parts.items()}, self.shapes)


def _map(prior: JointPrior, name: str, x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    parts = split(prior.shapes, x)
    found = (getattr(prior.parts[k], name)(part) for k, part in parts.items())
    return jnp.concatenate([part.reshape(*x.shape[:-1], -1) for part in found], -1)


_mapped = compiled(_map, static_argnums=(1,))


@compiled
def _potential(
    prior: JointPrior, theta: Float[Array, "*batch n"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch n"]]:
    def total(theta: Float[Array, "*batch n"]) -> tuple[Float[Array, ""], Float[Array, "*batch"]]:
        parts = split(prior.shapes, theta)
        each = sum((p.potential(parts[k]) for k, p in prior.parts.items()), jnp.zeros(()))
        return jnp.sum(each), each

    (_, each), slope = jax.value_and_grad(total, has_aux=True)(theta)
    return each, slope
