"""A `LogDensity` as a target of samplers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.errors import ConfigError, ConvergenceError, DataError
from ..core.precision import double
from ..results.dataset import Variables, named
from ..results.samples import DIMS, UNKNOWNS, attributes
from ..statistics.densities import BoundPrior, Diagonal
from ..statistics.marginals import Marginals
from .log_density import LogDensity
from .target import Particles, Target

PROBED = 2
"""Points at which a journal records the density."""


@dataclass(frozen=True)
class Returned:
    """Phi of a NumPy function that returns the log density and its gradient."""

    density: LogDensity

    def __call__(self, theta: Particles) -> tuple[Float[np.ndarray, " particles"], Particles]:
        values, slopes = np.full(len(theta), np.inf), np.zeros(theta.shape)
        for k, row in enumerate(theta):
            try:
                found = self.density.function(row)
            except (ArithmeticError, np.linalg.LinAlgError, ConvergenceError):
                continue  # no likelihood there
            values[k], slopes[k] = self._checked(found)
        return values, slopes

    def _checked(self, found: Any) -> tuple[float, Float[np.ndarray, " n"]]:
        try:
            value, slope = found
            value, slope = -float(value), -np.asarray(slope, float)
        except (TypeError, ValueError):
            raise DataError(
                f"function: found {found!r}, expected a pair of a number and its gradient"
            ) from None
        if slope.shape != (self.density.size,):
            raise DataError(
                f"function: found a gradient of shape {slope.shape}, expected"
                f" {(self.density.size,)}, a number for each of {', '.join(self.density.names)}"
            )
        return value, slope


class DensityTarget(Target):
    """A log density, relative to its prior, or, without one, to a Gaussian about its `start`."""

    def __init__(self, density: LogDensity, batch: int):
        self.density, self.size, self.batch = density, density.size, batch
        prior = density.density_of_prior()
        self.has_prior = prior is not None
        about = None
        if prior is None:
            prior = about = about_start(density)
        self.prior, self.gaussian = prior, not isinstance(prior, Marginals) and prior.gaussian
        if density.gradient == "returned":
            self.host = Returned(density) if about is None else _Relative(density, about)

    def theta(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.prior.of_white(x)

    def potential(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        if isinstance(self.prior, Marginals):
            return self.prior.potential(x)
        return self.prior.potential(self.theta(x))

    def misfit(self, theta: Float[Array, " n"]) -> Float[Array, ""]:
        log = jnp.reshape(self.density.function(theta), ())
        return -log if self.has_prior else self.prior.log_density(theta) - log

    def drawn(self, generator: np.random.Generator, count: int) -> Particles:
        if isinstance(self.prior, Marginals):
            return np.asarray(self.prior.white(self.prior.draw(generator, count)))
        z = generator.standard_normal((count, self.size))
        return np.asarray(self.prior.white(self.prior.of_normal(z)))

    def whitened(self, theta: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        x = np.asarray(self.prior.white(theta))
        if not np.all(np.isfinite(x)):
            raise DataError("start: found values outside the support of the prior")
        return x

    def starts(self, count: int) -> Particles | None:
        if self.density.start is None:
            return None
        given = np.asarray(self.density.start)
        return self.whitened(given)[np.arange(count) % len(given)]

    def log_density(
        self, theta: Float[np.ndarray, "*batch n"], value: Float[np.ndarray, "*batch"]
    ) -> Float[np.ndarray, "*batch"]:
        return np.asarray(self.prior.log_density(theta)) - value

    @property
    def log_normaliser(self) -> float:
        if isinstance(self.prior, Marginals):
            return 0.0
        return float(self.prior.log_normaliser + self.prior.log_determinant)

    def named(self, theta: Float[np.ndarray, " n"], which: np.ndarray) -> str:
        names = [name for name, bad in zip(self.density.names, which, strict=True) if bad]
        pairs = zip(self.density.names, theta, strict=True)
        return f"{', '.join(names)} at {', '.join(f'{k} = {v:.6g}' for k, v in pairs)}"

    def variables(
        self,
        theta: Float[np.ndarray, "chains draws n"],
        value: Float[np.ndarray, "chains draws"],
        weight: Float[np.ndarray, " chains"],
    ) -> tuple[Variables, Variables]:
        variables: Variables = {}
        for k, name in enumerate(self.density.names):
            about = named(name.replace("_", " "))
            if isinstance(self.prior, Marginals):
                ends = ("valid_min", self.prior.lower[k]), ("valid_max", self.prior.upper[k])
                about |= {key: end for key, end in ends if np.isfinite(end)}
            variables[name] = DIMS, theta[..., k], about
        if self.has_prior:
            variables["log_likelihood"] = DIMS, -value, named("ln p(d | theta)")
        return variables, {}

    def describe(self, event: str, **more: Any) -> dict[str, Any]:
        names = self.density.names
        more[UNKNOWNS] = json.dumps(names)
        return attributes(f"{event} of {', '.join(names)}", **more)

    @double
    def made_with(self) -> dict[str, Any]:
        probes = self.drawn(np.random.default_rng(0), PROBED)
        found = self.evaluate(probes)
        return {
            "function": [self.density.function, found.value, found.slope],
            "names": self.density.names,
            "prior": [self.density.prior, self.thetas(probes), found.prior],
            "start": self.density.start,
            "gradient": self.density.gradient,
        }


@dataclass(frozen=True)
class _Relative:
    """Phi relative to the Gaussian about the start."""

    density: LogDensity
    prior: BoundPrior

    def __call__(self, theta: Particles) -> tuple[Float[np.ndarray, " particles"], Particles]:
        value, slope = Returned(self.density)(theta)
        good = np.isfinite(value)[:, None]
        more = np.asarray(self.prior.log_density(theta))
        return value + more, slope - good * np.asarray(
            self.prior.precision(theta - self.prior.mean)
        )


def about_start(density: LogDensity) -> Diagonal:
    """The Gaussian of the mean and the standard deviations of the start's points; of unit
    deviations by components in which they do not differ."""
    points = np.asarray(density.start)
    sd = np.std(points, axis=0)
    return Diagonal(np.mean(points, axis=0), np.where(sd > 0, sd, 1.0))


def check_spread(density: LogDensity) -> None:
    """Raise a `ConfigError` unless tempering can begin: from a prior, or points that differ."""
    if density.prior is None and np.any(np.std(np.asarray(density.start), axis=0) == 0.0):
        raise ConfigError(
            "start: tempering without a prior begins with a Gaussian about points that differ,"
            " found none that do; give a prior, or more points"
        )
