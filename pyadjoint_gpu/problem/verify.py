"""Tests of derivatives: Taylor remainders and the adjoint (dot-product) identity."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..core.checks import check_kind, count, positive
from ..core.errors import ConvergenceWarning
from ..core.precision import double
from ..engines.base import Engine
from ..engines.choose import get_engine, running
from ..engines.embedded import EmbeddedEngine
from ..models.base import Fields, Model
from ..solvers.base import require
from .forward import limits
from .problem import Problem

HALVINGS = {2: 6, 3: 8}
"""Number of steps after the first, by the order of the remainders."""
SLOPE = {2: 1.9, 3: 2.75}
"""Smallest slope of the remainders that passes, by their order."""
DERIVATIVE_ERROR = (1e-6, 5e-4)
"""Largest relative errors of g.d that pass, at tolerances up to 1e-11 and from 5e-9 on; and of
d.Hd, and of w.Hd - d.Hw."""
TIGHT = 1e-12
"""Tolerance of the solves behind J."""
_UNITS = 8.0  # units of round-off in a value of J
_ROOM = 10.0  # times the noise that a remainder must exceed to be used


@dataclass(frozen=True)
class TaylorReport:
    """Result of `taylor_test`; its repr is a table.

    Attributes
    ----------
    passed : bool
    message : str
        Why it passed or failed.
    steps, remainders, slopes, errors : array
        h; \\|J(theta + h d) - J - h g.d\\|, less h^2/2 d.Hd in a test of the Hessian; log2 ratios
        of successive remainders (NaN where one is below the noise); relative error of g.d, or d.Hd,
        against the central difference at h.
    slope : float
        The smaller of the last two slopes above the noise; the order, for right derivatives.
    derivative, derivative_error : float
        g.d, or d.Hd, and its smallest relative error against a central difference.
    noise : float
        Uncertainty of J, from solves at other tolerances and starts; at least its round-off.
    order : int
        2 for a test of the gradient, 3 for one of the Hessian.
    asymmetry : float
        \\|w.Hd - d.Hw\\| for another direction w, relative to the larger product; 0 in a test of
        the gradient.
    """

    passed: bool
    message: str
    steps: Float[np.ndarray, " steps"]
    remainders: Float[np.ndarray, " steps"]
    slopes: Float[np.ndarray, " steps"]
    errors: Float[np.ndarray, " steps"]
    slope: float
    derivative: float
    derivative_error: float
    noise: float
    order: int = 2
    asymmetry: float = 0.0

    def __repr__(self) -> str:
        first, what = self.order == 2, "g.d" if self.order == 2 else "d.Hd"
        lines = [
            f"Taylor test: {'passed' if self.passed else 'FAILED'} ({self.message})",
            f"{what} = {self.derivative:.9e}, noise of J {self.noise:.1e}",
            "         h   |J(h)-J-h g.d|   slope   |D(h)-g.d|/|g.d|"
            if first
            else "         h   |..-h^2/2 d.Hd|   slope   |D(h)-d.Hd|/|d.Hd|",
        ]
        for h, r, s, e in zip(self.steps, self.remainders, self.slopes, self.errors, strict=True):
            slope = "    -" if np.isnan(s) else f"{s:5.2f}"
            flag = "" if r > _ROOM * self.noise else "   (noise)"
            lines.append(f"{h:10.3e}   {r:13.3e}   {slope}   {e:12.1e}{flag}")
        return "\n".join(lines)


@double
def taylor_test(
    problem: Problem,
    controls: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    step: float = 0.1,
    hessian: bool = False,
) -> TaylorReport:
    """Compare the gradient of a problem, or its Hessian, with its objective along a random
    direction d.

    The remainders of Taylor's formula with the exact gradient g, and the exact Hessian H,

        |J(theta + h d) - J(theta) - h g.d|,
        |J(theta + h d) - J(theta) - h g.d - h^2/2 d.Hd|,

    fall as h^2 and as h^3, and g.d and d.Hd agree with central differences D(h), extrapolated to
    h = 0. The test passes if the slope of the remainders is near 2 (3) and g.d (d.Hd) is right to
    1e-6, or to 1e5 times a looser tolerance; and, with ``hessian=True``, if w.Hd = d.Hw as nearly
    for another random direction w. Remainders at the level of the noise (round-off, the tolerance
    of the solves) are left out; if fewer than two slopes remain, the test fails, unless J is
    quadratic and its Hessian tested.

    The derivatives are evaluated at the problem's own tolerance, J with solves to 1e-12 (or the
    problem's tolerance, if that is tighter).

    Parameters
    ----------
    problem : Problem
    controls : mapping, optional
        Physical fields at which to test; by default the start.
    seed : int
        Seed of the direction: Gaussian, scaled by the size of theta for untransformed controls.
    step : float
        The largest h; the others are halves of it. Near kinks of J (margins of ice, say), choose a
        step that does not reach them.
    hessian : bool
        Test the Hessian, and with it the gradient.
    """
    check_kind("problem", problem, Problem)
    step, seed = positive("step", step), count("seed", seed, 0)
    theta = problem.theta(controls)
    direction = _direction(problem, theta, seed)
    tight = min(problem.tolerance, TIGHT)
    evaluate = partial(problem.evaluate, gradient=False, tolerance=tight)
    order, asymmetry, curvature = 3 if hessian else 2, 0.0, 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        evaluation = problem.evaluate(theta)
        gradient = evaluation.gradient
        slope_along = float(gradient @ direction)
        if hessian:
            other = _direction(problem, theta, seed + 1)
            linear = problem.hessian(theta, evaluation)
            along, across = (linear.product(v).vector for v in (direction, other))
            curvature = float(along @ direction)
            pair = abs(float(along @ other)), abs(float(across @ direction))
            asymmetry = abs(float(along @ other - across @ direction)) / (max(pair) or 1.0)
        steps = step * 0.5 ** np.arange(HALVINGS[order] + 1)
        base = evaluate(theta).objective
        plus = np.array([evaluate(theta + h * direction).objective for h in steps])
        minus = np.array([evaluate(theta - h * direction).objective for h in steps])
        near = evaluate(theta + steps[-1] * direction)
        others = (
            evaluate(theta, tolerance=10.0 * tight).objective,
            evaluate(theta, initial=near).objective,
        )
    floor = _round_off(problem, [base, *plus, *minus], step * gradient * direction)
    noise = max(abs(v - base) for v in others) + floor
    remainders = np.abs(plus - base - steps * slope_along - 0.5 * steps**2 * curvature)
    if hessian:
        derivative, central = curvature, (plus - 2.0 * base + minus) / steps**2
    else:
        derivative, central = slope_along, (plus - minus) / (2 * steps)
    # Richardson's extrapolation over each pair of steps takes the h^2 error out.
    central[1:] = (4 * central[1:] - central[:-1]) / 3
    errors = np.abs(central - derivative) / max(abs(derivative), 1e-300)
    usable = remainders > _ROOM * noise
    slopes = np.full(len(steps), np.nan)
    both = usable[1:] & usable[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes[1:] = np.where(both, np.log2(remainders[:-1] / remainders[1:]), np.nan)
    known = slopes[~np.isnan(slopes)]
    slope = float(np.min(known[-2:])) if len(known) >= 2 else np.nan
    error = float(np.min(errors))
    allowed = float(np.clip(1e5 * problem.tolerance, *DERIVATIVE_ERROR))
    # Remainders of a quadratic J are nothing but noise, though its second differences are not.
    quadratic = hessian and not np.any(usable) and error <= allowed
    what = "Hessian" if hessian else "gradient"
    lever = f"the {what} is wrong, or tighten the problem's tolerance ({problem.tolerance:.0e})"
    passed = False
    if not np.any(direction) or not np.isfinite(slope_along + derivative):
        message = f"the {what} is not finite"
    elif len(known) < 2 and not quadratic:
        message = (
            "the remainders only show round-off or the tolerance of the solves: test elsewhere"
        )
    elif slope < SLOPE[order]:  # not where it is NaN, of a quadratic J
        message = f"slope {slope:.2f}, expected {order}: {lever}"
    elif error > allowed:
        message = f"off the central difference by {error:.1e}: {lever}"
    elif asymmetry > allowed:
        message = f"not symmetric, by {asymmetry:.1e}: {lever}"
    else:
        found = "J is quadratic" if quadratic else f"slope {slope:.2f}"
        passed, message = True, f"{found}, derivative right to {error:.1e}"
    return TaylorReport(
        passed,
        message,
        steps,
        remainders,
        slopes,
        errors,
        slope,
        derivative,
        error,
        noise,
        order,
        asymmetry,
    )


def _round_off(
    problem: Problem, values: Sequence[float], changes: Float[np.ndarray, " n"]
) -> float:
    """The round-off of J, never 0: of its values in the precision of the solves, and of the terms
    of g.d, which may cancel, in double precision."""
    solves = np.finfo(problem.engine.info().get("dtype", "float64"))
    size = np.max(np.abs(values)) + solves.tiny
    return _UNITS * float(solves.eps * size + np.finfo(float).eps * np.sum(np.abs(changes)))


def _direction(
    problem: Problem, theta: Float[np.ndarray, " n"], seed: int
) -> Float[np.ndarray, " n"]:
    generator = np.random.default_rng(seed)
    out: list[np.ndarray] = []
    parts = problem.split(theta)
    for c in problem.parts:
        part, size = np.asarray(parts[c.name]), 1.0
        if c.physical.transform == "identity":
            size = float(np.sqrt(np.mean(np.square(part)))) or 1.0
        out.append(size * generator.standard_normal(part.size))
    return np.concatenate(out)


@dataclass(frozen=True)
class AdjointReport:
    """Result of `adjoint_test`; its repr compares the products.

    Attributes
    ----------
    passed : bool
    message : str
    forward, backward : float
        <J v, w> and <v, J^T w>.
    error : float
        Their relative difference.
    """

    passed: bool
    message: str
    forward: float
    backward: float
    error: float

    def __repr__(self) -> str:
        return (
            f"adjoint test: {'passed' if self.passed else 'FAILED'} ({self.message})\n"
            f"<J v, w>   = {self.forward:+.15e}\n"
            f"<v, J^T w> = {self.backward:+.15e}"
        )


@double
def adjoint_test(
    model: Model,
    parameters: Mapping[str, Any],
    *,
    seed: int = 0,
    engine: str | Engine = "auto",
    tolerance: float = 1e-16,
    bound: float = 1e-10,
) -> AdjointReport:
    """Compare <J v, w> with <v, J^T w> for J = du/dm and random v and w (the dot-product test).

    J v is a tangent solve by forward-mode derivatives of the residual, J^T w the engine's adjoint.
    They share no derivative code.

    Parameters
    ----------
    model, parameters
        As for `solve`; the equations are linearised at these parameters.
    seed : int
        Seed of v and w.
    engine : str or Engine
        The engine whose adjoint is tested.
    tolerance : float
        Tolerance of the solves. The default takes them to round-off: their errors are errors of the
        products, times the condition number of the operator.
    bound : float
        Largest relative difference that passes.
    """
    check_kind("model", model, Model)
    seed = count("seed", seed, 0)
    tested = running(get_engine(engine, model), model)
    m: Fields = {k: jnp.asarray(v) for k, v in model.fields(parameters).items()}
    options = limits(model, tolerance, None)
    generator = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = tested.solve(model, m, **options)
        require(solution.convergence, "the forward solve", solution)
        noise = {k: generator.standard_normal(np.shape(a)) for k, a in m.items()}
        linearised = running(EmbeddedEngine(), model)
        v: Fields = {k: a * noise[k] for k, a in m.items()}
        jv, tangent, _ = linearised.tangent(model, m, solution, v, **options)
        if not any(np.any(a) for a in jv.values()):
            # u does not respond: parameters that are zero everywhere change by one instead.
            v = {k: v[k] if np.any(a) else noise[k] for k, a in m.items()}
            jv, tangent, _ = linearised.tangent(model, m, solution, v, **options)
        require(tangent, "the tangent solve")
        # A part of w along J v keeps the products well above their round-off.
        w: Fields = {}
        for name, value in jv.items():
            other = generator.standard_normal(np.shape(value))
            # JAX leaves the type of norm open.
            length = float(jnp.linalg.norm(value))  # pyright: ignore[reportUnknownArgumentType]
            along = np.asarray(value) / (length or 1.0)
            w[name] = jnp.asarray(along + other / np.linalg.norm(other))
        adjoint = tested.adjoint(model, m, solution, w, **options)
        require(adjoint.convergence, "the adjoint solve", adjoint)
    forward = float(sum(jnp.sum(jv[k] * w[k]) for k in jv))
    backward = float(sum(jnp.sum(v[k] * jnp.asarray(adjoint.gradient[k])) for k in v))
    size = max(abs(forward), abs(backward))
    error = abs(forward - backward) / size if size > 0 else np.inf
    if not size > 0 or not np.isfinite(size):
        return AdjointReport(False, "the state does not respond", forward, backward, np.inf)
    return AdjointReport(
        bool(error <= bound),
        f"relative difference {error:.1e}, at most {bound:.0e} passes",
        forward,
        backward,
        error,
    )
