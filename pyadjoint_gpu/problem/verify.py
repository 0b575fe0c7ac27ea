"""Tests of gradients: Taylor remainders and the adjoint (dot-product) identity."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core.checks import check_kind, check_tolerance, count, positive
from ..core.errors import ConvergenceWarning
from ..core.precision import double
from ..engines.base import Engine
from ..engines.choose import get_engine, running
from ..engines.embedded import EmbeddedEngine
from ..models.base import Fields, Model
from ..solvers.base import default_iterations, require
from .problem import Problem

STEP = 0.1
HALVINGS = 6
SLOPE = 1.9
DERIVATIVE_ERROR = (1e-6, 5e-4)  # allowed at tolerances up to 1e-11, and from 5e-9 on
TIGHT = 1e-12  # of the solves behind J
_UNITS = 8.0  # of round-off in a value of J
_ROOM = 10.0  # by which a number must exceed the noise to mean anything


@dataclass(frozen=True)
class TaylorReport:
    """Result of `taylor_test`; its repr is the table.

    Attributes
    ----------
    passed : bool
    message : str
        What decided.
    steps, remainders, slopes, errors : array
        h; \\|J(theta + h d) - J - h g.d\\|; log2 ratios of successive remainders (NaN where one is
        below the noise); relative error of g.d against the central difference at h.
    slope : float
        The smaller of the last two slopes above the noise; 2 for a right gradient.
    derivative, derivative_error : float
        g.d, and the best agreement with a central difference.
    noise : float
        How well J is known, from solves at other tolerances and starts; at least its round-off.
    """

    passed: bool
    message: str
    steps: np.ndarray
    remainders: np.ndarray
    slopes: np.ndarray
    errors: np.ndarray
    slope: float
    derivative: float
    derivative_error: float
    noise: float

    def __repr__(self) -> str:
        lines = [
            f"Taylor test: {'passed' if self.passed else 'FAILED'} ({self.message})",
            f"g.d = {self.derivative:.9e}, noise of J {self.noise:.1e}",
            "         h   |J(h)-J-h g.d|   slope   |D(h)-g.d|/|g.d|",
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
    step: float = STEP,
) -> TaylorReport:
    """Compare the gradient of a problem with the objective itself, along a random direction d.

    The gradient is taken as the problem gives it, at its own tolerance; J with solves at 1e-12 (or
    the problem's, if that is tighter). A right gradient leaves remainders
    |J(theta + h d) - J(theta) - h g.d| that fall as h^2, and agrees with (extrapolated) central
    differences D(h) to 1e-6, or to 1e5 times a looser tolerance. Remainders at the noise
    (round-off, the tolerance of the solves) say nothing: too few others is a failure.

    Parameters
    ----------
    problem : Problem
    controls : mapping, optional
        Physical fields at which to test; the start where not given.
    seed : int
        Of the direction: Gaussian, of the size of theta for untransformed controls, else 1.
    step : float
        The largest h, from which it is halved. Where J has kinks (margins of ice, say) near by,
        smaller ones stay between them.
    """
    check_kind("problem", problem, Problem)
    step, seed = positive("step", step), count("seed", seed, 0)
    theta = problem.theta(controls)
    direction = _direction(problem, theta, seed)
    exact = copy.copy(problem)
    exact.tolerance = min(problem.tolerance, TIGHT)
    looser = copy.copy(problem)
    looser.tolerance = 10.0 * exact.tolerance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        gradient = problem.evaluate(theta).gradient
        derivative = float(gradient @ direction)

        def value(h: float) -> float:
            return exact.evaluate(theta + h * direction, gradient=False).objective

        steps = step * 0.5 ** np.arange(HALVINGS + 1)
        base = value(0.0)
        plus = np.array([value(h) for h in steps])
        minus = np.array([value(-h) for h in steps])
        near = exact.evaluate(theta + steps[-1] * direction, gradient=False)
        others = (
            looser.evaluate(theta, gradient=False).objective,
            exact.evaluate(theta, initial=near, gradient=False).objective,
        )
    floor = _round_off(problem, [base, *plus, *minus], step * gradient * direction)
    noise = max(abs(v - base) for v in others) + floor
    remainders = np.abs(plus - base - steps * derivative)
    central = (plus - minus) / (2 * steps)
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
    best = int(np.argmin(errors))
    error = float(errors[best])
    allowed = float(np.clip(1e5 * problem.tolerance, *DERIVATIVE_ERROR))
    lever = f"the gradient is wrong, or tighten the problem's tolerance ({problem.tolerance:.0e})"
    if not np.any(direction) or not np.isfinite(derivative):
        passed, message = False, "the gradient is not finite"
    elif len(known) < 2:
        passed = False
        message = (
            "the remainders only show round-off or the tolerance of the solves: test elsewhere"
        )
    elif slope < SLOPE:
        passed, message = False, f"slope {slope:.2f}, expected 2: {lever}"
    elif error > allowed:
        passed, message = False, f"off the central difference by {error:.1e}: {lever}"
    else:
        passed = True
        message = f"slope {slope:.2f}, derivative right to {error:.1e}"
    return TaylorReport(
        passed, message, steps, remainders, slopes, errors, slope, derivative, error, noise
    )


def _round_off(problem: Problem, values: Sequence[float], changes: np.ndarray) -> float:
    """What arithmetic leaves of values of J, never 0: units of round-off of J in the precision of
    the solves, and of the terms of g.d, which may cancel, in double."""
    solves = np.finfo(problem.engine.info().get("dtype", "float64"))
    size = np.max(np.abs(values)) + solves.tiny
    return _UNITS * float(solves.eps * size + np.finfo(float).eps * np.sum(np.abs(changes)))


def _direction(problem: Problem, theta: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    parts = problem.split(theta)
    out = []
    for c in problem.controls:
        size = 1.0
        if c.control.transform == "identity":
            size = float(np.sqrt(np.mean(np.square(parts[c.name])))) or 1.0
        out.append(size * generator.standard_normal(parts[c.name].size))
    return np.concatenate(out)


@dataclass(frozen=True)
class AdjointReport:
    """Result of `adjoint_test`; its repr is the comparison.

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
    """Compare <J v, w> with <v, J^T w> for J = du/dm and random v, w.

    J v is a tangent-linear solve by forward-mode derivatives of the residual; J^T w is the
    engine's adjoint. They share no derivative code.

    Parameters
    ----------
    model, parameters
        As for `solve`: where to linearise.
    seed : int
    engine : str or Engine
        Whose adjoint is tested.
    tolerance : float
        Of the solves. The default takes them to round-off: an error of the solves is one of the
        products, enlarged by the condition of the operator.
    bound : float
        Largest relative difference that passes.
    """
    check_kind("model", model, Model)
    seed = count("seed", seed, 0)
    tested = running(get_engine(engine, model), model)
    m: Fields = {k: jnp.asarray(v) for k, v in model.fields(parameters).items()}
    options: dict[str, Any] = {
        "tolerance": check_tolerance("tolerance", tolerance),
        "max_iterations": default_iterations(model),
    }
    generator = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = tested.solve(model, m, **options)
        require(solution.convergence, "the forward solve", solution)
        noise = {k: generator.standard_normal(a.shape) for k, a in m.items()}
        linearised = running(EmbeddedEngine(), model)
        v = {k: a * noise[k] for k, a in m.items()}
        jv, tangent = linearised.tangent(model, m, solution, v, **options)
        if not any(np.any(a) for a in jv.values()):
            # Nothing moves yet: what is zero everywhere has no size of its own, so by one.
            v = {k: v[k] if np.any(a) else noise[k] for k, a in m.items()}
            jv, tangent = linearised.tangent(model, m, solution, v, **options)
        require(tangent, "the tangent solve")
        # A part of w along J v: the products then stand well above their round-off.
        w = {}
        for name, value in jv.items():
            other = generator.standard_normal(value.shape)
            along = np.asarray(value) / (float(jnp.linalg.norm(value)) or 1.0)
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
