"""Newton's method with a trust region, from products with the Hessian alone.

A step minimises the quadratic model of J,

    m(s) = g^T s + s^T H s / 2    over |s| <= radius,

in the Krylov space of H and g, by Lanczos' method, where it is a problem of a tridiagonal matrix
(Gould, Lucidi, Roma and Toint 1999, SIAM J. Optim. 9, 504). One space serves every radius: a step
that J refuses is tried again shorter, and one that J follows longer, by an evaluation of J alone;
products are most of the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float

Vector = Float[np.ndarray, " n"]
Objective = Callable[[Vector], tuple[float, Vector]]

LARGEST = 100
"""Largest dimension of a Krylov space, whose vectors are kept."""
FORCING = 0.3
"""Largest residual of H s = -g, relative to g; it falls with the root of g (Eisenstat and Walker
1996, SIAM J. Sci. Comput. 17, 16)."""
GROWTH = 0.1
"""Part of the predicted decrease that a further product must add while the radius limits a step."""
ACCEPTED, POOR, GOOD, EXCELLENT = 1e-4, 0.25, 0.75, 0.9
"""Ratios of the decrease of J to the predicted one: of an accepted step, those below and above
which the next radius is half and twice the length of the step, and that above which a longer step
is tried at once."""
DEAR = 8
"""Number of products in a space from which a longer step is tried at once: where it fails, two
evaluations are lost."""
WORST = 100.0
"""Largest increase of J, in units of the predicted decrease, from which a step is corrected."""
ROUND_OFF = 1e-12
"""Relative error of J, below which the ratio is not judged."""
TRIALS = 12
"""Number of radii tried in one Krylov space: after four refusals they fall by ten, not by two."""


def newton(
    objective: Objective,
    product: Callable[[Vector, Vector], Vector],
    start: Vector,
    accept: Callable[[Vector], object],
) -> str:
    """Minimise `objective` from `start`, until `accept` raises.

    Parameters
    ----------
    objective : callable
        J and its gradient at x, in a unit of J in which the first step -g is a typical change.
    product : callable
        The Hessian at x times a vector.
    start : array, shape (n,)
        In units in which a typical change has at most length 1. The first radius is the smaller of
        1 and |g|.
    accept : callable
        Called with each iterate.

    Returns
    -------
    str
        Why no further step lowers J.
    """
    x = start
    value, gradient = objective(x)
    first = float(np.linalg.norm(gradient))
    radius = min(1.0, first)
    while np.any(gradient):
        space = _Krylov(gradient, lambda v, x=x: product(x, v))
        space.grow(radius, min(FORCING, (float(np.linalg.norm(gradient)) / first) ** 0.5))
        found = _trial(objective, space, x, value, radius)
        if found is None:
            return "no step of any length lowers J"
        x, value, gradient, radius = found.x, found.value, found.gradient, found.radius
        accept(x)
    return "the gradient is zero"


@dataclass(frozen=True)
class _Trial:
    """An evaluation, the decrease of J there relative to the predicted one, and the next radius."""

    x: Vector
    value: float
    gradient: Vector
    ratio: float
    radius: float = 0.0


def _trial(
    objective: Objective, space: _Krylov, x: Vector, value: float, radius: float
) -> _Trial | None:
    """The best of steps in one Krylov space, shorter until J falls, or longer while the model
    predicts J well."""
    best, refused = None, False
    for k in range(TRIALS):
        model = space.minimum(radius)
        found = _evaluated(objective, space, x, value, model)
        length = model.length
        if best is not None and not found.value < best.value:
            return best
        if found.ratio <= ACCEPTED:
            radius, refused = (0.5 if k < 4 else 0.1) * length, True
            continue
        after = 0.5 * length if found.ratio < POOR else max(radius, length)
        limited = not (model.inside or refused)
        if limited and found.ratio > GOOD:
            after = 2.0 * length
        best = replace(found, radius=after)
        if not limited or found.ratio <= EXCELLENT or space.size < DEAR:
            return best
        radius = after
    return best


def _evaluated(
    objective: Objective, space: _Krylov, x: Vector, value: float, model: _Minimum
) -> _Trial:
    """J at the model's minimum; where the model predicts it badly, after a correction no longer
    than half the step, if that lowers J. A curved valley is followed by much longer steps so."""
    noise = ROUND_OFF * abs(value)

    def at(x: Vector) -> _Trial:
        found, gradient = objective(x)
        return _Trial(x, found, gradient, (value - found + noise) / (model.decrease + noise))

    trial = at(x + model.step)
    if model.inside or not -WORST < trial.ratio < GOOD:
        return trial
    correction = space.correction(trial.gradient, model.shift)
    if np.linalg.norm(correction) > 0.5 * model.length:
        return trial
    corrected = at(trial.x + correction)
    return corrected if corrected.value < trial.value else trial


@dataclass(frozen=True)
class _Minimum:
    """The minimum of the model, by its coordinates in the basis of the space, the decrease that it
    predicts, the residual of H s = -g, and the shift of H that holds it within the radius, if it
    is not inside."""

    coordinates: Float[np.ndarray, " k"]
    basis: Float[np.ndarray, "k n"]
    decrease: float
    residual: float
    shift: float
    inside: bool

    @property
    def step(self) -> Vector:
        return self.coordinates @ self.basis

    @property
    def length(self) -> float:
        """|step|, the basis being orthonormal."""
        return float(np.linalg.norm(self.coordinates))


class _Krylov:
    """The model in the space of g, H g, H^2 g, ...: H = Q T Q^T with T tridiagonal."""

    def __init__(self, gradient: Vector, product: Callable[[Vector], Vector]):
        self.product = product
        self.norm = float(np.linalg.norm(gradient))
        self.basis = np.empty((LARGEST + 1, gradient.size))
        self.basis[0] = gradient / self.norm
        self.diagonal: list[float] = []
        self.beside: list[float] = []
        # Eigenvalues, ascending, and eigenvectors of T.
        self.spectrum: tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k k"]]

    @property
    def size(self) -> int:
        return len(self.diagonal)

    def grow(self, radius: float, forcing: float) -> None:
        """Extend the space until the model's minimum within the radius is known well enough."""
        decrease = 0.0
        while self.size < min(LARGEST, self.basis.shape[1]):
            self._extend()
            found = self.minimum(radius)
            if found.residual <= forcing * self.norm:
                return
            gained = found.decrease - decrease
            if not found.inside and decrease and gained < GROWTH * found.decrease:
                return
            decrease = found.decrease

    def _extend(self) -> None:
        k = self.size
        v = self.product(self.basis[k])
        self.diagonal.append(float(self.basis[k] @ v))
        known = self.basis[: k + 1]
        for _ in range(2):  # once more against round-off
            v = v - (known @ v) @ known
        norm = float(np.linalg.norm(v))
        self.beside.append(norm)
        self.basis[k + 1] = v / norm if norm else 0.0
        self.spectrum = scipy.linalg.eigh_tridiagonal(self.diagonal, self.beside[:-1])

    def minimum(self, radius: float) -> _Minimum:
        """The minimum of the model in the space within a radius."""
        values, vectors = self.spectrum
        slope = self.norm * vectors[0]

        def excess(shift: float) -> float:
            """1/|s| - 1/radius of the minimum of the model with H + shift."""
            return 1.0 / float(np.linalg.norm(slope / (values + shift))) - 1.0 / radius

        shift = max(0.0, -float(values[0])) + np.finfo(float).eps * float(np.max(np.abs(values)))
        short = excess(shift) >= 0.0
        if not short:
            above = shift + self.norm / radius
            shift = float(scipy.optimize.brentq(excess, shift, above, rtol=1e-12))
        along = -slope / (values + shift)
        y = vectors @ along
        return _Minimum(
            coordinates=y,
            basis=self.basis[: self.size],
            decrease=-float(slope @ along + 0.5 * values @ along**2),
            residual=self.beside[-1] * abs(float(y[-1])),
            shift=shift,
            inside=bool(short and values[0] > 0),
        )

    def correction(self, gradient: Vector, shift: float) -> Vector:
        """The Newton step in the space from a point nearby, with the Hessian of here."""
        values, vectors = self.spectrum
        basis = self.basis[: self.size]
        stiff = np.maximum(values + shift, 1e-3 * values[-1])
        return -(vectors @ ((vectors.T @ (basis @ gradient)) / stiff)) @ basis
