"""Parts of theta: the unknowns of a problem, each a control or an unknown number of the data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import sigmoid
from jaxtyping import Array, Float

from ..core.checks import finite_array
from ..core.errors import DataError
from ..models.declarations import Variable
from ..statistics.densities import BoundPrior
from ..statistics.priors import Independent


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["bounds", "slopes"],
    meta_fields=["transform", "basis", "shape"],
)
@dataclass(frozen=True, eq=False)
class Transformation:
    """The map m = T(B theta) from a part of theta to its physical field, differentiable by JAX.

    Attributes
    ----------
    bounds : (float, float) or None
        Limits (a, b) of the transform "logistic".
    slopes : sequence of array
        For the basis "plane", the fields that multiply theta[1:]: columns of B.
    transform, basis : str
    shape : tuple of int
        The shape of m.
    """

    bounds: tuple[float, float] | None
    slopes: Sequence[Float[np.ndarray, "*shape"]]
    transform: str
    basis: str
    shape: tuple[int, ...]

    def expand(
        self, theta: Float[Array | np.ndarray, " ..."]
    ) -> Float[Array | np.ndarray, "*shape"]:
        """The transformed field B theta."""
        if self.basis == "field":
            return theta
        if self.basis == "constant":
            return jnp.broadcast_to(theta, self.shape)
        out = theta[0] + jnp.zeros(self.shape)
        for k, slope in enumerate(self.slopes):
            out = out + theta[1 + k] * slope
        return out

    def __call__(
        self, theta: Float[Array | np.ndarray, " ..."]
    ) -> Float[Array | np.ndarray, "*shape"]:
        field = self.expand(theta)
        if self.transform == "log":
            return jnp.exp(field)
        if self.transform == "logistic":
            assert self.bounds is not None
            low, high = self.bounds
            return low + (high - low) * sigmoid(field)
        return field


class Part(ABC):
    """One of the unknowns of a problem, which theta has one after another: conversions between its
    part of theta and the physical field.

    Attributes
    ----------
    name : str
    parameter : Variable
        Name, units and description of the physical field.
    initial, truth : array
        Physical fields (truth None if unknown).
    field_dims : tuple of str
        Their dimensions in a Dataset.
    coordinates : dict
        Coordinates of these dimensions, beside the cells' own.
    physical : Transformation
        The map from theta to the physical field.
    typical : float
        A typical change of theta, the optimiser's unit: 1 for transformed controls, else the root
        mean square of the start.
    prior : BoundPrior or None
        The density of theta.
    """

    name: str
    parameter: Variable
    initial: Float[np.ndarray, "*shape"]
    truth: Float[np.ndarray, "*shape"] | None = None
    field_dims: tuple[str, ...]
    coordinates: dict[str, Any]
    physical: Transformation
    typical: float = 1.0
    prior: BoundPrior | None = None

    @abstractmethod
    def field(self, value: Any) -> Float[np.ndarray, "*shape"]:
        """A physical field as an array, checked."""

    @property
    def units(self) -> str:
        """Units of theta."""
        return self.parameter.units if self.physical.transform == "identity" else "1"

    @property
    def theta(self) -> Float[np.ndarray, " ..."]:
        """theta at the start."""
        return self.coefficients(self.initial)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of theta."""
        sizes = {
            "field": self.physical.shape,
            "constant": (),
            "plane": (1 + len(self.physical.slopes),),
        }
        return sizes[self.physical.basis]

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of theta in a Dataset."""
        names = {"field": self.field_dims, "constant": (), "plane": (f"{self.name}_coefficient",)}
        return names[self.physical.basis]

    @property
    def weight(self) -> float:
        """Weight of one component of theta in the L2 inner product: a cell's share of the domain's
        volume, so that gradients and steps do not depend on the grid."""
        return 1.0 / math.prod(self.physical.shape) if self.physical.basis == "field" else 1.0

    @property
    def box(self) -> tuple[float, float]:
        """Bounds on theta."""
        if self.physical.bounds is None or self.physical.transform == "logistic":
            return -np.inf, np.inf
        low, high = self.physical.bounds
        return (np.log(low), np.log(high)) if self.physical.transform == "log" else (low, high)

    def transformed(self, field: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """T^-1 of a physical field, or a `DataError` if a value has none."""
        name, transform = self.name, self.physical.transform
        low, high = self.physical.bounds or (-np.inf, np.inf)
        if transform == "log" and not np.all(field > 0):
            raise DataError(
                f"{name}: smallest value {np.min(field):g}, expected > 0 under transform 'log'"
            )
        if transform == "logistic":
            outside = (field <= low) | (field >= high)
        else:
            outside = (field < low - 1e-12 * abs(low)) | (field > high + 1e-12 * abs(high))
        if np.any(outside):
            raise DataError(
                f"{name}: values from {np.min(field):g} to {np.max(field):g} leave the bounds"
                f" ({low:g}, {high:g})"
            )
        if transform == "log":
            return np.log(field)
        if transform == "logistic":
            return np.log((field - low) / (high - field))
        return field

    def coefficients(self, field: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, " ..."]:
        """theta of a physical field, or a `DataError` if the basis does not contain the field."""
        value = self.transformed(field)
        if self.physical.basis == "field":
            return value
        columns = [np.ones(value.size), *(np.ravel(s) for s in self.physical.slopes)]
        design = np.stack(columns, axis=1)
        theta = np.linalg.lstsq(design, value.ravel(), rcond=None)[0]
        if np.max(np.abs(design @ theta - value.ravel())) > 1e-9 * (1.0 + np.max(np.abs(value))):
            raise DataError(f"{self.name}: the field is not a {self.physical.basis}")
        return theta.reshape(self.shape)


class Nuisance(Part):
    """An unknown number > 0 of the data, such as the scale of their noise: theta is its logarithm,
    which has a Gaussian prior and starts at its mean."""

    field_dims = ()

    def __init__(self, parameter: Variable, prior: Independent, where: str):
        self.parameter, self.name = parameter, parameter.name
        self.coordinates = {}
        self.prior = bound = prior.on((), where=where)
        self.initial = np.exp(np.asarray(bound.mean))
        self.physical = Transformation(None, (), "log", "field", ())

    def field(self, value: Any) -> Float[np.ndarray, ""]:
        found = finite_array(self.name, value)
        if found.ndim:
            raise DataError(f"{self.name}: found shape {found.shape}, expected one number")
        return found
