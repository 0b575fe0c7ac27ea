"""Tikhonov penalties on controls, and the Gaussian densities that they are."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.errors import ConfigError
from ..core.precision import double
from ..core.spaces import Space
from ..models.base import Fields
from ..statistics.densities import BoundPrior, Full, Spectral
from ..statistics.matern import laplacian
from .control import BoundControl


@dataclass(frozen=True)
class Smoothness:
    """Tikhonov penalty on the size and the gradient of a control's change,

        weight/2 * 1/|Omega| * integral of d^2 + length^2 |grad d|^2,   d = theta - theta_0,

    for the transformed control theta and its start theta_0. Features shorter than `length` cost
    more; the integral, and so the penalty and its length scale, do not depend on the grid. It is
    the negative log density of a Gaussian field of precision
    weight/|Omega| (1 - length^2 Laplacian), up to a constant that `smoothness_prior` knows. The
    variance of that field depends on the grid in 2-D and 3-D, where it grows without limit as cells
    shrink; that of a `Matern` prior does not.

    Parameters
    ----------
    name : str
        The control.
    weight : float
        Dimensionless, >= 0.
    length : float
        In the grid's unit of length, >= 0.

    Raises
    ------
    ConfigError
        If a number is negative or not finite.
    """

    name: str
    weight: float
    length: float

    def __post_init__(self) -> None:
        for key in ("weight", "length"):
            value = getattr(self, key)
            bad = isinstance(value, bool) or not isinstance(value, int | float | np.number)
            if bad or not 0 <= value < np.inf:
                raise ConfigError(
                    f"penalty.{self.name}.{key}: found {value!r}, expected a number >= 0"
                )

    def bind(self, control: BoundControl) -> BoundSmoothness:
        """The penalty as a function of the transformed controls by name."""
        start = np.asarray(control.physical.expand(control.theta))
        return BoundSmoothness(self.name, self.weight, self.length, control.space, start)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weight", "length", "start"],
    meta_fields=["name", "space"],
)
@dataclass(frozen=True, eq=False)
class BoundSmoothness:
    """`Smoothness` of a control on its space; `start` is theta_0."""

    name: str
    weight: float
    length: float
    space: Space
    start: Float[np.ndarray, "*shape"]

    @property
    def typical(self) -> float:
        """The uniform change of theta with a penalty of 1/2."""
        return self.weight**-0.5 if self.weight > 0 else np.inf

    def __call__(self, fields: Fields) -> Float[Array, ""]:
        space = self.space
        change = fields[self.name] - self.start
        square = jnp.sum(jnp.square(change)) * space.measure
        # The gradient of the change: an initial field's own structure is not penalised.
        slope = self.length**2 * space.dirichlet(change)
        return 0.5 * self.weight * (square + slope) / (space.measure * space.size)


@double
def smoothness_prior(control: BoundControl, penalties: Sequence[BoundSmoothness]) -> BoundPrior:
    """The Gaussian density exp(-sum of penalties) of a control's theta, normalised.

    For a field its precision is sum_i weight_i/N (1 - length_i^2 Laplacian), N the number of
    points, which is diagonal in the Laplacian's eigenvectors.

    Raises
    ------
    ConfigError
        If it is improper, all weights being zero.
    """
    key = f"penalty.{control.name}"
    if not any(p.weight > 0 for p in penalties):
        raise ConfigError(f"{key}.weight: found 0, expected > 0 for a proper prior")
    if control.control.basis != "field":
        return _of_coefficients(control, penalties)
    space = control.space
    modes, values = laplacian(space, key)
    each = (p.weight / space.size * (1.0 + p.length**2 * values) for p in penalties)
    amplitude = np.asarray(sum(each)) ** -0.5
    return Spectral(control.theta, np.ones(space.shape), amplitude, modes)


def _of_coefficients(control: BoundControl, penalties: Sequence[BoundSmoothness]) -> BoundPrior:
    """`smoothness_prior` of a control with few components: their precision is a Hessian."""

    def penalty(theta: Float[Array, " n"]) -> Float[Array, ""]:
        field = control.physical.expand(theta.reshape(control.shape))
        return sum((p({control.name: field}) for p in penalties), jnp.zeros(()))

    start = jnp.ravel(jnp.asarray(control.theta))
    precision = np.asarray(jax.hessian(penalty)(start))
    return Full(control.theta, np.linalg.cholesky(np.linalg.inv(precision)))
