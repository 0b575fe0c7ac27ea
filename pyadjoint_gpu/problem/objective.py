"""The objective as one argument of compiled code: problems of the same shapes share it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.precision import compiled
from ..models.base import Fields, Model
from .control import Transformation
from .traced import scalar

Function = Callable[[Fields], Any]


@jax.tree_util.register_pytree_node_class
class UserFunction:
    """A function of the user's, which compiled code knows as the one that it was made with."""

    def __init__(self, function: Function):
        self.function = function

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, fields: Fields) -> Any:
        return self.function(fields)

    def tree_flatten(self) -> tuple[tuple[()], UserFunction]:
        return (), self

    @classmethod
    def tree_unflatten(cls, function: UserFunction, _: tuple[()]) -> UserFunction:
        return function


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["model", "known", "misfit", "penalties", "transformations"],
    meta_fields=["shapes"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Objective:
    """J(theta) = misfit(u, m(theta)) + penalties(theta) as a function of u and theta.

    Attributes
    ----------
    known : dict
        Parameters that are no controls.
    misfit : callable
        Of the state.
    penalties : tuple of callable
        Of the transformed controls.
    transformations : dict of Transformation
        From theta to the physical field, by control, in the order in which theta has them.
    shapes : tuple
        Of theta, by control.
    """

    model: Model
    known: Fields
    misfit: Function
    penalties: tuple[Function, ...]
    transformations: dict[str, Transformation]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    def split(self, theta: jax.Array | np.ndarray) -> Fields:
        """theta, or a gradient, by control."""
        out, start = {}, 0
        for name, shape in self.shapes:
            size = math.prod(shape)
            out[name] = theta[start : start + size].reshape(shape)
            start += size
        return out

    def controls(self, theta: jax.Array) -> Fields:
        """The controls' physical fields."""
        return {k: self.transformations[k](part) for k, part in self.split(theta).items()}

    def parameters(self, theta: jax.Array) -> Fields:
        """All parameters of the model."""
        return self.known | self.controls(theta)

    def __call__(self, u: Fields, theta: jax.Array) -> tuple[jax.Array, tuple[Any, Any]]:
        """J, and its parts: misfit and penalties."""
        state = u | self.model.outputs(u, self.parameters(theta))
        expanded = {k: self.transformations[k].expand(v) for k, v in self.split(theta).items()}
        misfit = scalar("misfit", self.misfit, state)
        charges = (scalar("penalty", p, expanded) for p in self.penalties)
        penalty = sum(charges, jnp.zeros(()))
        return misfit + penalty, (misfit, penalty)


def _slopes(objective: Objective, u: Fields, theta: jax.Array) -> Any:
    return jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(u, theta)


def _vjp(objective: Objective, theta: jax.Array, m_bar: Fields) -> jax.Array:
    m, vjp = jax.vjp(objective.controls, theta)
    return vjp({k: jnp.asarray(m_bar[k], v.dtype) for k, v in m.items()})[0]


def _members(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for many theta at once."""

    def many(objective: Objective, *members: Any) -> Any:
        return jax.vmap(partial(function, objective))(*members)

    return many


parameters = compiled(Objective.parameters)
"""All parameters of an objective's model at theta."""
slopes = compiled(_slopes)
"""(J, (misfit, penalty)), (partial J/partial u, partial J/partial theta) at u and theta."""
vjp = compiled(_vjp)
"""(dm/dtheta)^T m_bar at theta."""
parameters_many, slopes_many, vjp_many = (
    compiled(_members(f)) for f in (Objective.parameters, _slopes, _vjp)
)
