"""What a solver is given (an operator) and what it reports."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..core.errors import ConvergenceError, ConvergenceWarning
from ..models.base import Fields, Model

ERROR = 100.0  # largest estimated error of u, in units of the tolerance
NOTHING = 0.1  # residual above which nothing is solved, whatever the precision
TINY = 1e-300  # no more than a guard against 0/0


@partial(jax.tree_util.register_dataclass, data_fields=["model"], meta_fields=["kind"])
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

    It is an argument of compiled code, which models of the same structure share.
    """

    model: Model
    kind: Literal["forward", "adjoint", "tangent"] = "forward"

    def __call__(self, u: Fields, args: tuple) -> Fields:
        if self.kind == "forward":
            return self.model.equations(u, args[0])
        c, state, source = args
        residual = partial(self.model.equations, c=c)
        if self.kind == "adjoint":
            _, vjp = jax.vjp(residual, state)
            return jax.tree.map(jnp.subtract, vjp(u)[0], source)
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
        arithmetic); "max_iterations"; "stagnated" (not pseudo-transient: the residual does not
        fall any more); or "diverged".
    residual : float
        Last ``||R||_max / ||R(u=0)||_max``.
    history : array, shape (checks, 2)
        Iteration and residual at every check.
    throughput : float
        Effective memory throughput in bytes/s: the traffic an iteration cannot avoid
        (unknowns and rates read and written, known fields read) over its time.
    method : str
        "pseudo-transient", "multigrid" (conjugate gradients or BiCGStab), "newton" or
        "continuation".
    work : float
        Applications of the operator, those on coarse grids in proportion to their cells.
    """

    status: str
    iterations: int
    residual: float
    tolerance: float
    wall_time: float
    spectrum: Spectrum | None
    throughput: float
    history: np.ndarray = field(repr=False)
    method: str = "pseudo-transient"
    work: float = 0.0

    def following(self, earlier: Convergence) -> Convergence:
        """Of a solve that went on from where an earlier one stood: both together."""
        return replace(
            self,
            iterations=self.iterations + earlier.iterations,
            wall_time=self.wall_time + earlier.wall_time,
            work=self.work + earlier.work,
            method=f"{earlier.method}, then {self.method}",
        )

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
            "stagnated": f"stagnated: {reached}",
            "diverged": f"diverged: {reached}; the parameters or the residual are not"
            " what the model expects",
        }[self.status]


def summary(
    method: str,
    status: str,
    history: list[tuple[int, float]],
    u: Fields,
    args: tuple,
    *,
    tolerance: float,
    start: float,
    work: float,
    spectrum: Spectrum | None = None,
) -> Convergence:
    """Of a solve that began at `start` and ends now."""
    wall = time.perf_counter() - start
    if status == "round-off" and history[-1][1] > NOTHING:
        status = "diverged"  # to where one unit of round-off is as large as R(u=0)
    return Convergence(
        status=status,
        iterations=history[-1][0],
        residual=history[-1][1],
        tolerance=tolerance,
        wall_time=wall,
        spectrum=spectrum,
        throughput=work * traffic(u, args) / wall,
        history=np.array(history),
        method=method,
        work=work,
    )


def gauged(model: Model, u: Fields) -> Fields:
    """u with zero mean, where the model leaves a constant free."""
    return jax.tree.map(lambda a: a - jnp.mean(a), u) if model.null_space else u


def disorder(u: Fields) -> Fields:
    """Numbers between -1 and 1 in no order, other ones for each unknown."""
    out = {}
    for number, (k, a) in enumerate(u.items()):
        bits = (jnp.arange(a.size, dtype=jnp.uint32) + jnp.uint32(number * a.size)) * jnp.uint32(
            2654435769
        )
        bits = (bits ^ (bits >> 15)) * jnp.uint32(2246822519)
        out[k] = ((bits >> 8).astype(a.dtype) / 2.0**23 - 1.0).reshape(a.shape)
    return out


def round_off(product: Any, u: Fields) -> Any:
    """What u's own rounding, a unit of it in every cell and in no order, does to a residual whose
    derivative's product with a vector is `product`. It is 0 where u is: a residual cannot be had
    better than to a unit of round-off of R(u=0) either."""
    change = largest(product(jax.tree.map(jnp.multiply, u, disorder(u))))
    return jnp.finfo(change.dtype).eps * change


def fold(reduce: Any, array: Any) -> Any:
    """A reduction to one number, along the first axis first: XLA vectorises that."""
    return reduce(lax.optimization_barrier(reduce(array, axis=0)))


def largest(tree: Any) -> Any:
    """The max norm over all arrays; infinite where a value is NaN, which XLA's reduction on the
    CPU passes over."""
    size = [jnp.where(jnp.isnan(a), jnp.inf, jnp.abs(a)) for a in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack([fold(jnp.max, a) for a in size]))


def dot(a: Any, b: Any) -> Any:
    """The inner product over all arrays."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(fold(jnp.sum, x * y) for x, y in pairs)


def traffic(u: Fields, args: tuple) -> int:
    """Bytes an iteration cannot avoid moving: u and V read and written, PC and args read."""
    unknown = sum(a.nbytes for a in jax.tree.leaves(u))
    known = sum(a.nbytes for a in jax.tree.leaves(args[:1]))
    return 5 * unknown + known


def default_iterations(model: Model) -> int:
    """A bound that only a solve in trouble reaches: the hard cases take 15 to 45 per cell."""
    return 1000 * max(model.grid.shape)


def require(convergence: Convergence, what: str, result: Any = None) -> None:
    """Raise or warn where a solve did not meet its tolerance."""
    if convergence.status == "round-off":
        warnings.warn(f"{what} {convergence.message}", ConvergenceWarning, stacklevel=3)
    elif not convergence.usable:
        raise ConvergenceError(f"{what} {convergence.message}", result)


def parameter_gradient(model: Model, m: Fields, state: Fields, multiplier: Fields) -> Fields:
    """-(dR/dm)^T lambda."""
    _, vjp = jax.vjp(lambda m: model.equations(state, model.prepare(m)), m)
    return jax.tree.map(jnp.negative, vjp(multiplier)[0])
