"""What a solver is given (an operator) and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..models.base import Fields, Model


@dataclass(frozen=True)
class Operator:
    """A residual r(u; args) to be driven to zero, derived from a model's R(u, c).

    ========== ======================================== ========================
    kind       r                                        args
    ========== ======================================== ========================
    "forward"  R(u, c)                                  ``(c,)``
    "adjoint"  (dR/du)^T u - source, at the state       ``(c, state, source)``
    "tangent"  (dR/du) u + source, at the state         ``(c, state, source)``
    ========== ======================================== ========================

    Instances compare by value, so that compiled code is shared between equal models.
    """

    model: Model
    kind: Literal["forward", "adjoint", "tangent"] = "forward"

    def __call__(self, u: Fields, args: tuple) -> Fields:
        if self.kind == "forward":
            return self.model.residual(u, args[0])
        c, state, source = args
        residual = partial(self.model.residual, c=c)
        if self.kind == "adjoint":
            _, pull = jax.vjp(residual, state)
            return jax.tree.map(jnp.subtract, pull(u)[0], source)
        _, change = jax.jvp(residual, (state,), (u,))
        return jax.tree.map(jnp.add, change, source)

    @property
    def affine(self) -> bool:
        return self.kind != "forward" or self.model.linear


@dataclass(frozen=True)
class Spectrum:
    """Smallest and largest eigenvalue of PC^-1 dR/du, as measured."""

    low: float
    high: float


@dataclass(frozen=True)
class Convergence:
    """How a solve went.

    Attributes
    ----------
    status : str
        "converged"; "round-off" (the residual stopped above the tolerance, at the limit of the
        arithmetic); "max_iterations"; or "diverged".
    residual : float
        Last ``||R||_max / ||R(u=0)||_max``.
    history : array, shape (checks, 2)
        Iteration and residual at every check.
    throughput : float
        Effective memory throughput in bytes/s: the traffic an iteration cannot avoid
        (unknowns and rates read and written, known fields read) over its time.
    """

    status: str
    iterations: int
    residual: float
    tolerance: float
    wall_time: float
    spectrum: Spectrum | None
    throughput: float
    history: np.ndarray = field(repr=False)

    @property
    def usable(self) -> bool:
        return self.status in ("converged", "round-off")

    @cached_property
    def message(self) -> str:
        reached = f"residual {self.residual:.1e} after {self.iterations} iterations"
        return {
            "converged": f"converged: {reached}",
            "round-off": f"stopped by round-off above the tolerance {self.tolerance:.1e}:"
            f" {reached}; a tolerance of {2 * self.residual:.0e} can be met",
            "max_iterations": f"did not converge to {self.tolerance:.1e}: {reached};"
            " raise max_iterations, or loosen the tolerance",
            "diverged": f"diverged: {reached}; the parameters or the residual are not"
            " what the model expects",
        }[self.status]
