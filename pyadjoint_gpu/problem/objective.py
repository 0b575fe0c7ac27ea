"""The objective J(theta) as a pytree: problems of the same shapes share compiled code."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.precision import compiled
from ..models.base import Fields, Model
from .control import Transformation
from .traced import scalar

Scalar = Float[Array, ""]
Value = Float[Array | np.ndarray, ""] | float
Function = Callable[[Fields], Any]
"""A misfit or penalty: a scalar from fields by name. Users' functions may return anything."""


@jax.tree_util.register_static
class UserFunction:
    """A user's function as a static part of compiled code, by its identity."""

    def __init__(self, function: Function):
        self.function = function

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, fields: Fields) -> Any:
        return self.function(fields)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["model", "known", "misfit", "penalties", "transformations"],
    meta_fields=["shapes"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Objective:
    """J = misfit(u, m(theta)) + penalties(theta), as a function of u and theta.

    Attributes
    ----------
    known : dict
        Parameters that are not controls.
    misfit : callable
        A function of the state, unknowns and outputs.
    penalties : tuple of callable
        Functions of the transformed controls.
    transformations : dict of Transformation
        Maps from theta to physical fields by control, in the order of their parts in theta.
    shapes : tuple
        Name and shape of each control's part of theta.
    """

    model: Model
    known: Fields
    misfit: Function
    penalties: tuple[Function, ...]
    transformations: dict[str, Transformation]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    def split(self, theta: Float[Array | np.ndarray, " n"]) -> Fields:
        """theta, or a gradient, by control."""
        out: Fields = {}
        start = 0
        for name, shape in self.shapes:
            size = math.prod(shape)
            out[name] = theta[start : start + size].reshape(shape)
            start += size
        return out

    def controls(self, theta: Float[Array, " n"]) -> Fields:
        """The controls' physical fields."""
        return {k: self.transformations[k](part) for k, part in self.split(theta).items()}

    def parameters(self, theta: Float[Array, " n"]) -> Fields:
        """All parameters of the model."""
        return self.known | self.controls(theta)

    def __call__(self, u: Fields, theta: Float[Array, " n"]) -> tuple[Value, tuple[Value, Value]]:
        """J, and its parts: misfit and penalties."""
        state = u | self.model.outputs(u, self.parameters(theta))
        expanded = {k: self.transformations[k].expand(v) for k, v in self.split(theta).items()}
        misfit = scalar("misfit", self.misfit, state)
        charges = (scalar("penalty", p, expanded) for p in self.penalties)
        penalty = sum(charges, jnp.zeros(()))
        return misfit + penalty, (misfit, penalty)


def _slopes(
    objective: Objective, u: Fields, theta: Float[Array, " n"]
) -> tuple[tuple[Scalar, tuple[Scalar, Scalar]], tuple[Fields, Float[Array, " n"]]]:
    return jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(u, theta)


def _vjp(objective: Objective, theta: Float[Array, " n"], m_bar: Fields) -> Float[Array, " n"]:
    m, vjp = jax.vjp(objective.controls, theta)
    return vjp({k: jnp.asarray(m_bar[k], v.dtype) for k, v in m.items()})[0]


parameters = compiled(Objective.parameters)
"""All parameters of the objective's model at theta."""
slopes = compiled(_slopes)
"""(J, (misfit, penalty)), (partial J/partial u, partial J/partial theta) at u and theta."""
vjp = compiled(_vjp)
"""(dm/dtheta)^T m_bar at theta."""
# The same of many members along the first axis.
parameters_many = compiled(jax.vmap(Objective.parameters, in_axes=(None, 0)))
slopes_many = compiled(jax.vmap(_slopes, in_axes=(None, 0, 0)))
vjp_many = compiled(jax.vmap(_vjp, in_axes=(None, 0, 0)))
