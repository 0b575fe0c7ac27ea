"""The interface of solvers: their call, the operator that they take, the convergence that they
report, and the arithmetic that they share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, Protocol, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..core.errors import ConvergenceError, ConvergenceWarning, warn
from ..models.base import Fields, Model

ERROR = 100.0
"""Largest estimated relative error of u, in units of the tolerance."""
NOTHING = 0.1
"""Residual, over that of u = 0, above which a solve at the limit of round-off has diverged."""
TINY = 1e-300
"""A guard against 0/0."""


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

    It is a pytree, so that models of the same structure share compiled code.
    """

    model: Model
    kind: Literal["forward", "adjoint", "tangent"] = "forward"

    def __call__(self, u: Fields, args: tuple) -> Fields:
        """The residual at u."""
        if self.kind == "forward":
            return self.model.equations(u, args[0])
        c, state, source = args
        residual = partial(self.model.equations, c=c)
        if self.kind == "adjoint":
            _, vjp = jax.vjp(residual, state)
            return jax.tree.map(jnp.subtract, vjp(u)[0], source)
        _, change = jax.jvp(residual, (state,), (u,))
        return jax.tree.map(jnp.add, change, source)

    def product(self, u: Fields, args: tuple, v: Fields) -> Fields:
        """(dr/du) v, the Jacobian-vector product at u."""
        return jax.jvp(lambda u: self(u, args), (u,), (v,))[1]

    @property
    def affine(self) -> bool:
        """Whether r is affine in u."""
        return self.kind != "forward" or self.model.linear


class Limits(TypedDict):
    """When to stop a solve: see `Solver`."""

    tolerance: float
    max_iterations: int


class Solver(Protocol):
    """The call of all solvers: the functions `solve` of the modules of this package."""

    def __call__(
        self,
        operator: Operator,
        args: tuple,
        initial: Fields,
        *,
        tolerance: float,
        max_iterations: int,
    ) -> tuple[Fields, Convergence, *tuple[Any, ...]]:
        """Drive ``operator(u, args)`` to zero, starting from ``u = initial``.

        Parameters
        ----------
        operator, args
            The residual r(u) = ``operator(u, args)``.
        initial : dict of array
        tolerance : float
            On ``||r(u)||_max / ||r(0)||_max``, and (times `ERROR`) on the estimated relative error
            of u in the max norm. Where r(0) is zero, u = 0 being another solution, the largest term
            in r(u) replaces it.
        max_iterations : int
            A limit, checked between the steps that a solver takes at a time.

        Returns
        -------
        u : dict of array
        convergence : Convergence
            Failure is a value: see `Convergence.status`.
        *state
            What a later solve with the same operator may start from, such as a preconditioner.
        """
        ...


@dataclass(frozen=True)
class Spectrum:
    """Estimates of the smallest and largest eigenvalue of PC^-1 dR/du."""

    low: float
    high: float


@dataclass(frozen=True)
class Convergence:
    """Outcome of a solve.

    Attributes
    ----------
    status : str
        "converged"; "round-off" (the residual stopped above the tolerance, at the limit of the
        arithmetic); "max_iterations"; "stagnated" (the residual has stopped falling; never from
        pseudo-transient iterations); or "diverged".
    iterations : int
    residual : float
        Last ``||R||_max / ||R(u=0)||_max``.
    tolerance : float
    wall_time : float
        In seconds.
    spectrum : Spectrum or None
        The last estimates of pseudo-transient iterations.
    history : array, shape (checks, 2)
        Iteration number and residual at every check.
    throughput : float
        Effective memory throughput in bytes/s: the unavoidable traffic of an iteration
        (unknowns and rates read and written, known fields read) over its time.
    method : str
        "pseudo-transient", "multigrid" (conjugate gradients or BiCGStab), "newton" or
        "continuation".
    work : float
        Applications of the operator; those on coarse grids count in proportion to their cells.
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
        """The outcome of this solve and an earlier one, which it continued, together."""
        return replace(
            self,
            iterations=self.iterations + earlier.iterations,
            wall_time=self.wall_time + earlier.wall_time,
            work=self.work + earlier.work,
            method=f"{earlier.method}, then {self.method}",
        )

    @property
    def usable(self) -> bool:
        """Whether u is a solution, if only to round-off."""
        return self.status in ("converged", "round-off")

    @cached_property
    def message(self) -> str:
        """The outcome in a sentence, with what to do about a failure."""
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
    """The `Convergence` of a solve that began at time `start` and ends now."""
    wall = time.perf_counter() - start
    if status == "round-off" and history[-1][1] > NOTHING:
        status = "diverged"  # u is so large that its round-off is comparable to R(u=0)
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
    """u, with zero mean if the model has a null space."""
    return jax.tree.map(lambda a: a - jnp.mean(a), u) if model.null_space else u


def pseudo_random(u: Fields) -> Fields:
    """Pseudo-random numbers between -1 and 1, different for each unknown and always the same."""
    out = {}
    for number, (k, a) in enumerate(u.items()):
        bits = (jnp.arange(a.size, dtype=jnp.uint32) + jnp.uint32(number * a.size)) * jnp.uint32(
            2654435769
        )
        bits = (bits ^ (bits >> 15)) * jnp.uint32(2246822519)
        out[k] = ((bits >> 8).astype(a.dtype) / 2.0**23 - 1.0).reshape(a.shape)
    return out


def round_off(product: Callable[[Fields], Fields], u: Fields) -> Float[Array, ""]:
    """The round-off of a residual: its change, by the Jacobian-vector product `product`, under
    relative perturbations of u by pseudo-random units of round-off. It is 0 for u = 0; round-off of
    R(u=0) limits a residual too."""
    change = largest(product(jax.tree.map(jnp.multiply, u, pseudo_random(u))))
    return jnp.finfo(change.dtype).eps * change


def unit_round_off(u: Fields) -> float:
    """The unit of round-off (machine epsilon) of the arithmetic of u."""
    return float(jnp.finfo(jax.tree.leaves(u)[0].dtype).eps)


def fold(
    reduce: Callable[..., Float[Array, " ..."]], array: Float[Array, " ..."]
) -> Float[Array, ""]:
    """A reduction to a number, first along the first axis, which XLA vectorises."""
    return reduce(lax.optimization_barrier(reduce(array, axis=0)))


def largest(tree: Any) -> Float[Array, ""]:
    """The max norm over all arrays; infinite if a value is NaN, which XLA's max on CPUs ignores."""
    size = [jnp.where(jnp.isnan(a), jnp.inf, jnp.abs(a)) for a in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack([fold(jnp.max, a) for a in size]))


def dot(a: Fields, b: Fields) -> Any:
    """The inner product over all arrays."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(fold(jnp.sum, x * y) for x, y in pairs)


def traffic(u: Fields, args: tuple) -> int:
    """Bytes that an iteration has to move: u and V read and written, PC and args read."""
    unknown = sum(a.nbytes for a in jax.tree.leaves(u))
    known = sum(a.nbytes for a in jax.tree.leaves(args[:1]))
    return 5 * unknown + known


def default_iterations(model: Model) -> int:
    """A limit that only failing solves reach: hard cases take 15 to 45 iterations per cell along
    the longest axis."""
    return 1000 * max(model.grid.shape)


def require(convergence: Convergence, what: str, result: Any = None) -> None:
    """Raise a `ConvergenceError`, or warn, if a solve did not meet its tolerance."""
    if convergence.status == "round-off":
        warn(f"{what} {convergence.message}", ConvergenceWarning)
    elif not convergence.usable:
        raise ConvergenceError(f"{what} {convergence.message}", result)


def parameter_gradient(model: Model, m: Fields, state: Fields, multiplier: Fields) -> Fields:
    """-(dR/dm)^T lambda, the gradient with respect to the parameters, for a multiplier lambda."""
    _, vjp = jax.vjp(lambda m: model.equations(state, model.prepare(m)), m)
    return jax.tree.map(jnp.negative, vjp(multiplier)[0])


def response(model: Model, m: Fields, state: Fields, direction: Fields) -> Fields:
    """-(dR/dm) dm, the source of the tangent equation along a direction dm."""
    change = jax.jvp(lambda m: model.equations(state, model.prepare(m)), (m,), (direction,))[1]
    return jax.tree.map(jnp.negative, change)


def curvature(
    model: Model,
    m: Fields,
    state: Fields,
    multiplier: Fields,
    direction: Fields,
    change: Fields,
) -> tuple[Fields, Fields]:
    """Derivatives of (dR/du)^T lambda and (dR/dm)^T lambda along (du, dm) = (change, direction),
    with a multiplier lambda that does not change."""

    def transposed(u: Fields, m: Fields) -> tuple[Fields, Fields]:
        _, vjp = jax.vjp(lambda u, m: model.equations(u, model.prepare(m)), u, m)
        return vjp(multiplier)

    return jax.jvp(transposed, (state, m), (change, direction))[1]
