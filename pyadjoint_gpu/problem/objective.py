"""The objective J(theta) as a pytree: problems of the same shapes share compiled code."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.precision import compiled
from ..models.base import Fields, Model
from ..statistics.densities import BoundPrior
from .part import Transformation
from .traced import scalar

Scalar = Float[Array, ""]
Value = Float[Array | np.ndarray, ""] | float
Function = Callable[[Fields], Any]
"""A misfit or penalty: a scalar from fields by name. Users' functions may return anything."""


class Misfit(Protocol):
    """A function of the state, and of nuisances of its own: parts of theta that no parameter of the
    model depends on."""

    def __call__(self, state: Fields, /) -> Any: ...

    def at(self, parts: Fields, /) -> Misfit:
        """The misfit at the nuisances among the parts of theta."""
        ...

    def information(self) -> dict[str, float]:
        """The Fisher information of each component of the nuisances, which has no mixed terms."""
        ...


Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Name and shape of each part of theta."""


def split(shapes: Shapes, x: Float[Array | np.ndarray, "*batch n"]) -> Fields:
    """Vectors like theta by part."""
    out: Fields = {}
    start = 0
    for name, shape in shapes:
        size = math.prod(shape)
        out[name] = x[..., start : start + size].reshape((*x.shape[:-1], *shape))
        start += size
    return out


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

    def at(self, parts: Fields) -> UserFunction:
        return self

    def information(self) -> dict[str, float]:
        return {}


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["model", "known", "misfit", "penalties", "transformations", "priors"],
    meta_fields=["shapes"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Objective:
    """J = misfit(u, m(theta)) + priors(theta) + penalties(theta), as a function of u and theta.

    Attributes
    ----------
    known : dict
        Parameters that are not controls.
    misfit : Misfit
        A function of the state, unknowns and outputs, and of its nuisances.
    penalties : tuple of callable
        Functions of the transformed controls.
    transformations : dict of Transformation
        Maps from theta to physical fields by control, in the order of their parts in theta.
    priors : dict of BoundPrior
        Densities of parts of theta, which count by their potentials.
    shapes : tuple
        Name and shape of each part of theta: the controls', then the misfit's nuisances.
    """

    model: Model
    known: Fields
    misfit: Misfit
    penalties: tuple[Function, ...]
    transformations: dict[str, Transformation]
    priors: dict[str, BoundPrior]
    shapes: Shapes

    def split(self, theta: Float[Array | np.ndarray, " n"]) -> Fields:
        """theta, or a gradient, by part."""
        return split(self.shapes, theta)

    def controls(self, theta: Float[Array, " n"]) -> Fields:
        """The controls' physical fields."""
        parts = self.split(theta)
        return {k: physical(parts[k]) for k, physical in self.transformations.items()}

    def parameters(self, theta: Float[Array, " n"]) -> Fields:
        """All parameters of the model."""
        return self.known | self.controls(theta)

    def __call__(self, u: Fields, theta: Float[Array, " n"]) -> tuple[Value, tuple[Value, Value]]:
        """J, and its parts: misfit, and priors with penalties."""
        misfit, penalty = self.fit(self.state(u, theta), theta), self.penalty(theta)
        return misfit + penalty, (misfit, penalty)

    def state(self, u: Fields, theta: Float[Array, " n"]) -> Fields:
        """The unknowns and the outputs."""
        return u | self.model.outputs(u, self.parameters(theta))

    def fit(self, state: Fields, theta: Float[Array, " n"]) -> Value:
        """The misfit of a state, and of the nuisances in theta."""
        return scalar("misfit", self.misfit.at(self.split(theta)), state)

    def information(self, v: Float[Array, " n"]) -> Float[Array, " n"]:
        """The product of the misfit's Fisher information of its nuisances with v."""
        known = self.misfit.information()
        parts = [known.get(k, 0.0) * part for k, part in self.split(v).items()]
        return jnp.concatenate([jnp.ravel(part) for part in parts])

    def penalty(self, theta: Float[Array, " n"]) -> Value:
        """Priors and penalties, the part of J that no solve is needed for."""
        parts = self.split(theta)
        expanded = {k: physical.expand(parts[k]) for k, physical in self.transformations.items()}
        charges = [prior.potential(parts[k]) for k, prior in self.priors.items()]
        charges += [scalar("penalty", p, expanded) for p in self.penalties]
        return sum(charges, jnp.zeros(()))


def _slopes(
    objective: Objective, u: Fields, theta: Float[Array, " n"]
) -> tuple[tuple[Scalar, tuple[Scalar, Scalar]], tuple[Fields, Float[Array, " n"]]]:
    return jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(u, theta)


def _vjp(objective: Objective, theta: Float[Array, " n"], m_bar: Fields) -> Float[Array, " n"]:
    m, vjp = jax.vjp(objective.controls, theta)
    return vjp({k: jnp.asarray(m_bar[k], v.dtype) for k, v in m.items()})[0]


Slopes = tuple[Fields, Float[Array, " n"]]
"""Derivatives by u and by theta."""


def _direction(objective: Objective, theta: Float[Array, " n"], v: Float[Array, " n"]) -> Fields:
    return jax.jvp(objective.parameters, (theta,), (v,))[1]


def _curvature(
    objective: Objective,
    u: Fields,
    theta: Float[Array, " n"],
    du: Fields,
    v: Float[Array, " n"],
) -> Slopes:
    def slopes(u: Fields, theta: Float[Array, " n"]) -> Slopes:
        return _slopes(objective, u, theta)[1]

    return jax.jvp(slopes, (u, theta), (du, v))[1]


def _gauss_newton(
    objective: Objective,
    u: Fields,
    theta: Float[Array, " n"],
    du: Fields,
    v: Float[Array, " n"],
) -> Slopes:
    def slope(state: Fields) -> Fields:
        return jax.grad(objective.fit)(state, theta)

    state, change = jax.jvp(objective.state, (u, theta), (du, v))
    weighted = jax.jvp(slope, (state,), (change,))[1]
    _, transposed = jax.vjp(objective.state, u, theta)
    by_u, by_theta = transposed(weighted)
    by_theta = by_theta + objective.information(v)
    return by_u, by_theta + jax.jvp(jax.grad(objective.penalty), (theta,), (v,))[1]


def _vjp_change(
    objective: Objective,
    theta: Float[Array, " n"],
    m_bar: Fields,
    v: Float[Array, " n"],
    change: Fields,
) -> Float[Array, " n"]:
    def vjp(theta: Float[Array, " n"], m_bar: Fields) -> Float[Array, " n"]:
        return _vjp(objective, theta, m_bar)

    return jax.jvp(vjp, (theta, m_bar), (v, {k: change[k] for k in m_bar}))[1]


parameters = compiled(Objective.parameters)
"""All parameters of the objective's model at theta."""
slopes = compiled(_slopes)
"""(J, (misfit, penalty)), (partial J/partial u, partial J/partial theta) at u and theta."""
vjp = compiled(_vjp)
"""(dm/dtheta)^T m_bar at theta."""
direction = compiled(_direction)
"""dm = (dm/dtheta) v of all parameters at theta."""
curvature = compiled(_curvature)
"""Derivatives of partial J/partial u and partial J/partial theta along (du, v)."""
gauss_newton = compiled(_gauss_newton)
"""`curvature` with S^T (d^2 misfit/d state^2) S and the Fisher information of nuisances in place of
the misfit's part, S the derivative of the state, outputs included, by u and theta."""
vjp_change = compiled(_vjp_change)
"""The derivative of `vjp` along a change v of theta and a change of m_bar."""
# The same of many members along the first axis.
parameters_many = compiled(jax.vmap(Objective.parameters, in_axes=(None, 0)))
slopes_many = compiled(jax.vmap(_slopes, in_axes=(None, 0, 0)))
vjp_many = compiled(jax.vmap(_vjp, in_axes=(None, 0, 0)))
# The same of many directions at one theta.
directions = compiled(jax.vmap(_direction, in_axes=(None, None, 0)))
curvatures = compiled(jax.vmap(_curvature, in_axes=(None, None, None, 0, 0)))
gauss_newtons = compiled(jax.vmap(_gauss_newton, in_axes=(None, None, None, 0, 0)))
vjps = compiled(jax.vmap(_vjp, in_axes=(None, None, 0)))
vjp_changes = compiled(jax.vmap(_vjp_change, in_axes=(None, None, None, 0, 0)))
