"""What samplers draw from: a density of a whitened variable, its gradient, and its results.

    p(x) = exp(-Phi(x) - Psi(x)) / Z,    Phi = -ln L,

Psi that of a normalised density from which can be drawn, the prior, of roughly unit covariance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.optimize import minimize

from ..core.errors import DataError
from ..core.precision import compiled, double
from ..results.dataset import Variables

F = TypeVar("F", bound=Callable[..., Any])
Particles = Float[np.ndarray, "particles unknowns"]


class Points(NamedTuple):
    """Particles x, with Phi and Psi and their gradients, which were computed when x was
    proposed. Phi is infinite, and its gradient zero, where there is no likelihood."""

    x: Particles
    value: Float[np.ndarray, " particles"]
    slope: Particles
    prior: Float[np.ndarray, " particles"]
    prior_slope: Particles


FAR = 1000.0
"""Psi, beyond 10 a component, where no move is accepted from where there is density (a trajectory
counts as diverged when its energy has grown by as much)."""

SEARCH = {"maxiter": 500, "maxcor": 20}
"""Options of the search for a mode."""

Host = Callable[[Particles], tuple[Float[np.ndarray, " particles"], Particles]]
"""Values and gradients of Phi by theta, on the host; picklable for other processes."""


class Target(ABC):
    """A density to be sampled.

    Attributes
    ----------
    size : int
        Number of components of x, and of theta, the user's variable.
    host : callable or None
        Phi and its gradient at rows of theta, where only the host can compute it; else `misfit` is
        it.
    batch : int
        Rows that `host` computes at a time.
    has_prior : bool
        Whether Phi is minus a likelihood, and Psi belongs to the user's prior.
    gaussian : bool
        Whether Psi is |x|^2 / 2.
    """

    size: int
    host: Host | None = None
    batch: int = 32
    has_prior: bool = True
    gaussian: bool

    @abstractmethod
    def theta(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """theta of x, by JAX."""

    @abstractmethod
    def potential(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """Psi(x) up to a constant, by JAX."""

    def misfit(self, theta: Float[Array, " n"]) -> Float[Array, ""]:
        """Phi at theta, by JAX."""
        raise NotImplementedError

    @abstractmethod
    def drawn(self, generator: np.random.Generator, count: int) -> Particles:
        """Draws of x from the prior."""

    @abstractmethod
    def whitened(self, theta: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """x of theta; a `DataError` where there is none."""

    def starts(self, count: int) -> Particles | None:
        """x of so many chains, if the target says where they start."""
        return None

    @abstractmethod
    def log_density(
        self, theta: Float[np.ndarray, "*batch n"], value: Float[np.ndarray, "*batch"]
    ) -> Float[np.ndarray, "*batch"]:
        """ln of the density of theta, with all constants, where Phi is `value`."""

    @property
    @abstractmethod
    def log_normaliser(self) -> float:
        """ln of the prior's density of x, plus Psi."""

    @property
    def constant(self) -> float:
        """ln L + Phi."""
        return 0.0

    @abstractmethod
    def named(self, theta: Float[np.ndarray, " n"], which: np.ndarray) -> str:
        """Names of the components `which`, and their values, for messages."""

    @abstractmethod
    def variables(
        self,
        theta: Float[np.ndarray, "chains draws n"],
        value: Float[np.ndarray, "chains draws"],
        weight: Float[np.ndarray, " chains"],
    ) -> tuple[Variables, Variables]:
        """Variables and coordinates of a result, of theta and Phi; chains have weights."""

    @abstractmethod
    def describe(self, event: str, **attributes: Any) -> dict[str, Any]:
        """Global attributes of a result."""

    @abstractmethod
    def made_with(self) -> dict[str, Any]:
        """The inputs that determine the density, by name."""

    def energy(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """Phi + Psi at x, by JAX."""
        return guarded(lambda x: self.misfit(self.theta(x)) + self.potential(x))(x)

    def program(self, key: Hashable, make: Callable[[], F]) -> F:
        """Code of this density that is compiled once, whoever runs it."""
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]

    @cached_property
    def _programs(self) -> dict[Hashable, Any]:
        return {}

    @cached_property
    def _theta(self) -> Callable[..., Any]:
        return compiled(jax.vmap(self.theta))

    @cached_property
    def _priors(self) -> Callable[..., Any]:
        return compiled(jax.vmap(jax.value_and_grad(guarded(self.potential))))

    @cached_property
    def _pull(self) -> Callable[..., Any]:
        return compiled(jax.vmap(lambda x, slope: jax.vjp(self.theta, x)[1](slope)[0]))

    @cached_property
    def _misfits(self) -> Callable[..., Any]:
        return compiled(jax.vmap(jax.value_and_grad(guarded(self.misfit))))

    @double
    def thetas(self, x: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """theta of each x."""
        rows = np.reshape(x, (-1, self.size))
        return np.asarray(self._theta(rows)).reshape(np.shape(x))

    @double
    def pulled(self, x: Particles, slope: Particles) -> Particles:
        """Gradients by x of what has the gradients `slope` by theta."""
        return np.asarray(self._pull(x, slope))

    @double
    def priors(self, x: Particles) -> tuple[Float[np.ndarray, " particles"], Particles]:
        """Psi and its gradient at rows of x."""
        value, slope = self._priors(x)
        return np.asarray(value), np.asarray(slope)

    @double
    def evaluate(self, x: Particles, executor: Executor | None = None) -> Points:
        """Phi, Psi and their gradients at rows of x; errors as by `measured`."""
        prior, prior_slope = self.priors(x)
        near = prior < FAR + 10.0 * self.size
        value, slope = self.measured(self.thetas(x), executor, near)
        # Where the prior ends the derivatives of theta may, too.
        slope = np.where(np.isfinite(prior)[:, None], self.pulled(x, slope), 0.0)
        return Points(x, value, slope, prior, prior_slope)

    @double
    def measured(
        self,
        theta: Particles,
        executor: Executor | None = None,
        near: Bool[np.ndarray, " particles"] | bool = True,
    ) -> tuple[Float[np.ndarray, " particles"], Particles]:
        """Phi and its gradient at rows of theta; by `host` in other processes with an executor.

        Raises
        ------
        DataError
            If a gradient is not finite where the density is, `near` the bulk of the prior;
            elsewhere such a point counts as one without density.
        """
        if self.host is None:
            value, slope = map(np.asarray, self._misfits(theta))
        elif executor is None:
            value, slope = self.host(theta)
        else:
            parts = [theta[k : k + self.batch] for k in range(0, len(theta), self.batch)]
            found = list(executor.map(self.host, parts))
            value, slope = (np.concatenate(column) for column in zip(*found, strict=True))
        smooth = np.all(np.isfinite(slope), axis=1)
        for k in np.flatnonzero(np.isfinite(value) & ~smooth & near):
            self._refuse(theta[k], value[k], ~np.isfinite(slope[k]))
        good = np.isfinite(value) & smooth
        return np.where(good, value, np.inf), np.where(good[:, None], slope, 0.0)

    def mode(
        self, executor: Executor | None = None, start: Float[np.ndarray, " n"] | None = None
    ) -> Float[np.ndarray, " n"]:
        """x of a largest density: the one found from `start`, by default where the target says that
        chains start, or from the middle of the prior."""

        def objective(x: Float[np.ndarray, " n"]) -> tuple[float, Float[np.ndarray, " n"]]:
            at = self.evaluate(x[None], executor)
            # A large number in place of infinity, from which line searches come back.
            value = min(float((at.value + at.prior)[0]), 1e100)
            return value, (at.slope + at.prior_slope)[0]

        if start is None:
            given = self.starts(1)
            start = np.zeros(self.size) if given is None else given[0]
        search: Any = minimize
        found = search(objective, start, jac=True, method="L-BFGS-B", options=SEARCH)
        return np.asarray(found.x)

    def _refuse(self, theta: Float[np.ndarray, " n"], value: float, which: np.ndarray) -> None:
        what, log = "likelihood", -value
        if not self.has_prior:
            what, log = "density", float(self.log_density(theta, np.asarray(value)))
        raise DataError(
            f"the gradient is not finite by {self.named(theta, which)}, where the log {what} is"
            f" {log:.6g}; expected numbers"
        )


def guarded(
    function: Callable[[Float[Array, " n"]], Float[Array, ""]],
) -> Callable[[Float[Array, " n"]], Float[Array, ""]]:
    """A function that is infinite, with a gradient of zero, where `function` is not finite: a move
    there is refused, and spoils no number of others."""

    @jax.custom_vjp
    def phi(theta: Float[Array, " n"]) -> Float[Array, ""]:
        value = function(theta)
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    def forward(
        theta: Float[Array, " n"],
    ) -> tuple[Float[Array, ""], Float[Array, " n"]]:
        value, slope = jax.value_and_grad(function)(theta)
        good = jnp.isfinite(value)
        return jnp.where(good, value, jnp.inf), jnp.where(good, slope, 0.0)

    def backward(slope: Float[Array, " n"], by: Float[Array, ""]) -> tuple[Float[Array, " n"]]:
        return (by * slope,)

    phi.defvjp(forward, backward)
    return phi
