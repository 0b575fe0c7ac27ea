"""The variables of optimisers: affine maps from x to theta, and their derivatives."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import numpy as np
from jaxtyping import Float

from ..core.errors import ConfigError
from ..problem.problem import Problem
from ..problem.whiten import JointPrior

Vector = Float[np.ndarray, " n"]


class Variables(Protocol):
    """An affine map from an optimiser's variables x to theta.

    Attributes
    ----------
    low, high : array
        Bounds on x.
    """

    low: Vector
    high: Vector

    def of(self, theta: Vector) -> Vector:
        """x of theta."""
        ...

    def theta(self, x: Vector) -> Vector:
        """theta of x."""
        ...

    def change(self, p: Vector) -> Vector:
        """The change of theta along p."""
        ...

    def gradient(self, by_theta: Vector) -> Vector:
        """A derivative by x from one by theta."""
        ...

    def unit(self, by_theta: Vector) -> float:
        """The unit of J in which the first step along its negative gradient is a typical change."""
        ...


def variables(problem: Problem, *, smooth: bool = False) -> Variables:
    """`Whitened` where all of theta has a prior, or with `smooth` a `Smoothness`, and none has
    bounds on theta; else `Scaled`."""
    if np.any(np.isfinite(problem.box)):
        return Scaled(problem)
    if smooth:
        with suppress(ConfigError):  # raised where a part has neither
            return Whitened(problem.prior)
    priors = {c.name: c.prior for c in problem.parts if c.prior is not None}
    if len(priors) < len(problem.parts):
        return Scaled(problem)
    return Whitened(JointPrior(priors, problem.objective.shapes))


class Whitened:
    """The whitened variable of a prior, theta = mu + R x (see `JointPrior`)."""

    def __init__(self, prior: JointPrior):
        self.prior = prior
        self.high = np.full(prior.size, np.inf)
        self.low = -self.high

    def of(self, theta: Vector) -> Vector:
        return self.prior.white(theta)

    def theta(self, x: Vector) -> Vector:
        return self.prior.theta(x)

    def change(self, p: Vector) -> Vector:
        return self.prior.root(p)

    def gradient(self, by_theta: Vector) -> Vector:
        return self.prior.root_transposed(by_theta)

    def unit(self, by_theta: Vector) -> float:
        return float(np.max(np.abs(self.gradient(by_theta)))) or 1.0


class Scaled:
    """x = sqrt(weight) theta / typical, whose Euclidean inner product is the controls' L2 inner
    product."""

    def __init__(self, problem: Problem):
        self.root = np.sqrt(problem.weight)
        self.scale = self.root / problem.typical
        self.low, self.high = (self.of(bound) for bound in problem.box)

    def of(self, theta: Vector) -> Vector:
        return theta * self.scale

    def theta(self, x: Vector) -> Vector:
        return x / self.scale

    def change(self, p: Vector) -> Vector:
        return p / self.scale

    def gradient(self, by_theta: Vector) -> Vector:
        return by_theta / self.scale

    def unit(self, by_theta: Vector) -> float:
        """That in which the first step changes no component of theta by more than its typical
        change."""
        return float(np.max(np.abs(self.gradient(by_theta)) / self.root)) or 1.0
