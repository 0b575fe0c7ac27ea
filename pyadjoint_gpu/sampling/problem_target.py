"""The posterior of a `Problem` as a target of samplers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.pickling import AsGiven
from ..problem.problem import Problem
from ..problem.specification import problem_parts
from ..problem.variables import transformed_attributes
from ..results.dataset import Variables, describe, grid_coordinates, named
from ..results.samples import DIMS, KIND, TITLE, TRANSFORM, UNKNOWNS
from .options import check_names
from .runs import pooled
from .target import Particles, Target


@dataclass(frozen=True)
class Solved(AsGiven):
    """Phi, the misfit, by a forward and an adjoint solve a row."""

    problem: Problem
    batch: int

    @cached_property
    def _likelihood(self) -> Problem:
        return self.problem.likelihood

    def __call__(self, theta: Particles) -> tuple[Float[np.ndarray, " particles"], Particles]:
        found = self._likelihood.evaluate_many(theta, batch=self.batch)
        return found.misfit, found.gradient


class ProblemTarget(Target):
    """p(theta | d) = p(d | u(theta)) p(theta) / Z ~ exp(-J(theta)), theta = mu + R x with the
    covariance R R^T of the prior."""

    def __init__(self, problem: Problem, batch: int):
        self.problem, self.size, self.batch = problem, problem.size, batch
        self.prior, self.gaussian = problem.prior, problem.prior.gaussian
        self.host = Solved(problem, batch)
        self._check_names()

    def _check_names(self) -> None:
        """Check that no two variables, coordinates or dimensions of results have the same name."""
        taken = {"turn", *grid_coordinates(self.problem.model.grid)}
        for c in self.problem.parts:
            taken |= {*c.field_dims, *c.coordinates}
        for c in self.problem.parts:
            label = _label(c)
            ends = "mean", "sd", "true", "coefficients"
            names = [c.name, *(f"{label}_{end}" for end in ends)]
            check_names("controls", names, taken)
            taken |= set(names)

    def theta(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.prior.mapped("of_white", x)

    def potential(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        if self.prior.gaussian:
            return 0.5 * jnp.sum(jnp.square(x))
        return self.prior.energy(self.theta(x))

    # On the host by code that problems of the same shapes share.

    def thetas(self, x: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        return self.prior.theta(x)

    def pulled(self, x: Particles, slope: Particles) -> Particles:
        return self.prior.root_transposed(slope)

    def priors(self, x: Particles) -> tuple[Float[np.ndarray, " particles"], Particles]:
        if self.prior.gaussian:
            return 0.5 * np.sum(x**2, axis=1), x
        value, slope = self.prior.potential(self.prior.theta(x))
        return value, self.prior.root_transposed(slope)

    def drawn(self, generator: np.random.Generator, count: int) -> Particles:
        z = generator.standard_normal((count, self.size))
        return z if self.prior.gaussian else self.prior.white(self.prior.of_normal(z))

    def whitened(self, theta: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        return self.prior.white(theta)

    def log_density(
        self, theta: Float[np.ndarray, "*batch n"], value: Float[np.ndarray, "*batch"]
    ) -> Float[np.ndarray, "*batch"]:
        potential, _ = self.prior.potential(theta)
        return self.constant - value - potential + self.prior.log_normaliser

    @property
    def log_normaliser(self) -> float:
        return self.prior.log_normaliser + self.prior.log_determinant

    @property
    def constant(self) -> float:
        return self.problem.log_normaliser

    def named(self, theta: Float[np.ndarray, " n"], which: np.ndarray) -> str:
        bad = self.problem.split(which.astype(float))
        names = [c.name for c in self.problem.parts if np.any(bad[c.name])]
        return f"{', '.join(names)} at {int(np.sum(which))} of {self.size} components of theta"

    def variables(
        self,
        theta: Float[np.ndarray, "chains draws n"],
        value: Float[np.ndarray, "chains draws"],
        weight: Float[np.ndarray, " chains"],
    ) -> tuple[Variables, Variables]:
        variables: Variables = {}
        coordinates: Variables = grid_coordinates(self.problem.model.domain)
        rows = theta.reshape(-1, self.size)
        physical = [self.problem.physical(row) for row in rows]
        parts = self.problem.split(theta)
        for c in self.problem.parts:
            of, label, own = transformed_attributes(c), _label(c), np.asarray(parts[c.name])
            coordinates |= c.coordinates
            mean, variance = pooled(own, weight)
            columns = {
                "mean": (mean, "mean of {}"),
                "sd": (np.sqrt(variance), "standard deviation of {}"),
            }
            if c.truth is not None and c.physical.basis == "field":
                columns["true"] = c.transformed(c.truth), "true {}"
            variables |= {
                f"{label}_{k}": (c.dims, a, of | {"long_name": text.format(of["long_name"])})
                for k, (a, text) in columns.items()
            }
            fields = np.stack([p[c.name] for p in physical])
            fields = fields.reshape(*theta.shape[:2], *fields.shape[1:])
            about = c.parameter.attributes | _bounds(c)
            variables[c.name] = ((*DIMS, *c.field_dims), fields, about)
            if c.physical.basis != "field":
                text = named(f"coefficients of {of['long_name']}", of["units"])
                variables[_holder(c)] = (*DIMS, *c.dims), own, text
        variables["misfit"] = DIMS, value, named("misfit of the data")
        return variables, coordinates

    def describe(self, event: str, **attributes: Any) -> dict[str, Any]:
        names = ", ".join(c.name for c in self.problem.controls)
        attributes[UNKNOWNS] = json.dumps([_holder(c) for c in self.problem.parts])
        return describe(
            f"{event} of {names}", self.problem.engine, kind=KIND, title=TITLE, **attributes
        )

    def made_with(self) -> dict[str, Any]:
        x = self.drawn(np.random.default_rng(0), 2)
        return {
            **problem_parts(self.problem),
            "prior": self.thetas(x),
            "values": self.evaluate(x).value,
        }


def _label(part: Any) -> str:
    return transformed_attributes(part)["long_name"].replace(" ", "_")


def _holder(part: Any) -> str:
    """Name of the variable of samples that holds theta, or the field that theta is a transform
    of."""
    return part.name if part.physical.basis == "field" else f"{_label(part)}_coefficients"


def _bounds(part: Any) -> dict[str, Any]:
    """Attributes of a field of which theta is a transform."""
    if part.physical.basis != "field" or part.physical.transform == "identity":
        return {}
    bounds = part.physical.bounds if part.physical.transform == "logistic" else None
    ends = {} if bounds is None else {"valid_min": bounds[0], "valid_max": bounds[1]}
    return {TRANSFORM: part.physical.transform} | ends
