"""What engines return: states, adjoints, tangents, and many of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool

from ..models.base import Fields
from ..solvers.base import Convergence


@dataclass(frozen=True)
class Solution:
    """A state u with R(u, m) = 0.

    Attributes
    ----------
    fields : dict
        u, an array of shape `Model.shape` for each unknown.
    convergence : Convergence
    cache : object
        A preconditioner or factorisation, say, that an adjoint solve at this state can use again,
        or a solve of the same dR/du (for a nonlinear model, one near by) that starts here. None,
        or the engine's own: nobody else looks into it.
    """

    fields: Fields
    convergence: Convergence
    cache: Any = None


@dataclass(frozen=True)
class Adjoint:
    """The solution of (dR/du)^T lambda = dJ/du, and the gradient that follows from it.

    Attributes
    ----------
    gradient : dict
        -(dR/dm)^T lambda, an array of the parameter's shape for each parameter.
    multiplier : dict
        lambda, an array of shape `Model.shape` for each unknown.
    convergence : Convergence
    cache : object
        For `Engine.second_order`; the engine's own.
    """

    gradient: Fields
    multiplier: Fields
    convergence: Convergence
    cache: Any = None


class Tangent(NamedTuple):
    """The derivative du of a state along a direction dm.

    Attributes
    ----------
    fields : dict
        du, an array of shape `Model.shape` for each unknown.
    convergence : Convergence
    cache : object
        For `Engine.second_order`; the engine's own.
    """

    fields: Fields
    convergence: Convergence
    cache: Any = None


class Many(NamedTuple):
    """The results of N solves.

    Attributes
    ----------
    fields : dict
        Arrays with a first axis of N: states of `Engine.solve_many`, gradients -(dR/dm)^T lambda of
        `Engine.adjoint_many` and `Engine.adjoints`, their derivatives of `Engine.second_orders`,
        du of `Engine.tangents`.
    usable : array of bool, shape (N,)
        True where the solve met its tolerance.
    cache : object
        For the adjoints of these states, or the second orders of these tangents; the engine's own.
    """

    fields: Fields
    usable: Bool[Array | np.ndarray, " members"]
    cache: Any = None
