"""Evaluations of an objective: at one theta, and at many side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..engines.solutions import Adjoint, Solution

Member = tuple[float, float, float, Float[np.ndarray, " n"]]
"""J, misfit, penalty and gradient at one theta."""


@dataclass(frozen=True)
class Evaluation:
    """J and its gradient at one theta, with the solves behind them, from which others can start.

    Attributes
    ----------
    objective, misfit, penalty : float
        J and its parts.
    gradient : array
        dJ/dtheta; empty if it was not asked for.
    solution : Solution
    adjoint : Adjoint or None
        None if no gradient was asked for.
    tolerance : float
        With adaptive tolerances, the first one that the next evaluation tries.
    """

    objective: float
    misfit: float
    penalty: float
    gradient: Float[np.ndarray, " n"]
    solution: Solution
    adjoint: Adjoint | None
    tolerance: float = 0.0


class Evaluations(NamedTuple):
    """J, its parts and its gradients at many theta; J is infinite and the gradient zero where a
    solve failed."""

    objective: Float[np.ndarray, " members"]
    misfit: Float[np.ndarray, " members"]
    penalty: Float[np.ndarray, " members"]
    gradient: Float[np.ndarray, "members n"]

    @classmethod
    def of(cls, members: Sequence[Member]) -> Evaluations:
        return cls(*(np.array(column) for column in zip(*members, strict=True)))
