"""Declarations of a model: its variables and parameters, elliptic coefficients and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float

from ..core.spaces import Space


@dataclass(frozen=True)
class Variable:
    """Name, units and description of a field.

    Attributes
    ----------
    name, units, long_name : str
    standard_name : str or None
        The name in the CF conventions.
    density : float or None
        In kg m-3, if values may be given as a mass instead of a volume: ``kg m-2 year-1`` for
        ``m year-1``.
    """

    name: str
    units: str = "1"
    long_name: str = ""
    standard_name: str | None = None
    density: float | None = None

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of the variable in a Dataset, by the CF conventions."""
        out = {"units": self.units, "long_name": self.long_name or self.name.replace("_", " ")}
        return out | ({"standard_name": self.standard_name} if self.standard_name else {})


Described = tuple[Variable, tuple[str, ...]]
"""The description of a field of a state, and the names of its dimensions."""


def components(name: str, units: str, text: str, dims: Sequence[str]) -> tuple[Described, ...]:
    """Descriptions of the normal components of a vector field, ``<name>_<dim>``, each on the faces
    along its axis; `text` is the `long_name` without the axis."""
    return tuple(
        (
            Variable(f"{name}_{d}", units, f"{text} along {d}"),
            tuple(f"{d}_face" if k == d else k for k in dims),
        )
        for d in dims
    )


@dataclass(frozen=True)
class Parameter(Variable):
    """A parameter field m of the residual R(u, m).

    Attributes
    ----------
    positive : bool
        Whether its values must be > 0.
    default : float or array or None
        The value used if none is given; without a default the parameter must be given.
    optional : bool
        Whether it may be left out.
    space : Space or None
        Where its values live; None for one value a cell.
    """

    positive: bool = False
    default: float | np.ndarray | None = None
    optional: bool = False
    space: Space | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Elliptic:
    """A linear operator that couples the cells of one unknown through their faces:

        (A u)_i = sum_faces k_f (u_i - u_neighbour) + s_i u_i,    k_f > 0, s_i >= 0.

    Attributes
    ----------
    faces : tuple of array
        k_f on the inner faces along each axis, one fewer than cells there.
    sink : array or float
        s_i, one value a cell: boundary faces with fixed values, reaction.
    """

    faces: tuple[Float[Array, " ..."], ...]
    sink: Float[Array, "*shape"] | float


@dataclass(frozen=True)
class Bound:
    """A lower bound on an unknown: R <= 0 where u equals it, R = 0 where u is above.

    Attributes
    ----------
    value : float
    rate : float
        Scale of -dR/du, > 0. It weighs R against u in `Model.equations`: the course of a solve
        depends on it, the result does not.
    """

    value: float
    rate: float
