"""Densities whose evidence and weights of modes are known, as JAX functions of theta, with priors.

The Rosenbrock is of five pairs, each exp(-(1 - x)^2 - 10 (y - x^2)^2), its ln Z by quadrature. The
dual moon is the target of flowMC's tutorial in five dimensions, a thin shell with four equal modes;
it has no prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

import pyadjoint_gpu as pag

LN_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Density:
    """A density of theta, of which the integral is known.

    Attributes
    ----------
    n
        Components of theta.
    likelihood
        ln L, or the whole log density where there is no prior.
    scale
        Standard deviation of the prior N(0, scale^2), and of what chains start from.
    has_prior
    log_evidence
    modes
        Number of the mode of each row of theta; None where there is one.
    weights
        Weights of the modes.
    """

    n: int
    likelihood: Callable[[Any], Any]
    scale: float
    has_prior: bool
    log_evidence: float
    modes: Callable[[np.ndarray], np.ndarray] | None = None
    weights: tuple[float, ...] = ()

    def log_density(self, theta: Any) -> Any:
        """ln of prior and likelihood."""
        if not self.has_prior:
            return self.likelihood(theta)
        normaliser = self.n * (0.5 * LN_2PI + np.log(self.scale))
        return self.likelihood(theta) - 0.5 * jnp.sum((theta / self.scale) ** 2) - normaliser

    def starts(self, seed: int, chains: int) -> np.ndarray:
        """Draws of the prior."""
        return self.scale * np.random.default_rng(seed).standard_normal((chains, self.n))

    def target(self) -> pag.LogDensity:
        """The same for `sample`."""
        names = [f"x{k}" for k in range(self.n)]
        if self.has_prior:
            return pag.LogDensity(self.likelihood, names, pag.Independent(self.scale))
        return pag.LogDensity(self.likelihood, names, start=self.starts(0, 64))


def _rosenbrock(x: Any) -> Any:
    return -jnp.sum(10.0 * (x[::2] ** 2 - x[1::2]) ** 2 + (x[::2] - 1.0) ** 2)


def _mixture() -> Density:
    """Five unit Gaussians in 20 dimensions under a prior N(0, 4^2): each mode has the mass
    w N(c; 0, 1 + 4^2)."""
    n, scale = 20, 4.0
    centres = np.random.default_rng(0).uniform(-4.0, 4.0, (5, n))
    logs = np.log([0.1, 0.15, 0.2, 0.25, 0.3])

    def likelihood(x: Any) -> Any:
        return logsumexp(logs - 0.5 * jnp.sum((x - centres) ** 2, axis=1)) - 0.5 * n * LN_2PI

    variance = 1.0 + scale**2
    mass = logs - 0.5 * np.sum(centres**2, axis=1) / variance
    mass -= 0.5 * n * (LN_2PI + np.log(variance))
    log_evidence = float(np.logaddexp.reduce(mass))

    def modes(x: np.ndarray) -> np.ndarray:
        return np.argmin(np.sum((x[:, None] - centres) ** 2, axis=2), axis=1)

    weights = tuple(np.exp(mass - log_evidence).tolist())
    return Density(n, likelihood, scale, True, log_evidence, modes, weights)


def _moon(x: Any) -> Any:
    def pair(a: Any, s: float) -> Any:
        return jnp.logaddexp(-0.5 * ((a - 3.0) / s) ** 2, -0.5 * ((a + 3.0) / s) ** 2)

    shell = -0.5 * ((jnp.sqrt(jnp.sum(x**2)) - 2.0) / 0.1) ** 2
    return shell + pair(x[0], 0.8) + pair(x[1], 0.6)


def _quadrant(x: np.ndarray) -> np.ndarray:
    return (x[:, 0] > 0) + 2 * (x[:, 1] > 0)


DENSITIES = {
    "Rosenbrock, 10-D": Density(10, _rosenbrock, 3.0, True, -21.402087),
    "five modes, 20-D": _mixture(),
    "dual moon, 5-D": Density(5, _moon, 2.0, False, -3.684231071, _quadrant, (0.25,) * 4),
}


@dataclass(frozen=True)
class Two:
    """Gaussians of standard deviation 1/2 and weights 0.1, 0.9 about +3 and -3 in every one of n
    components, of which the prior is uniform on (-10, 10): ln Z = -n ln 20."""

    n: int

    @property
    def log_evidence(self) -> float:
        return -self.n * float(np.log(20.0))

    def __call__(self, x: Any, numbers: Any = jnp) -> Any:
        """ln L, in the arithmetic of `numbers`: jax.numpy or numpy."""
        light = np.log(0.1) - 2.0 * numbers.sum((x - 3.0) ** 2)
        heavy = np.log(0.9) - 2.0 * numbers.sum((x + 3.0) ** 2)
        return numbers.logaddexp(light, heavy) - 0.5 * self.n * np.log(0.5 * np.pi)

    def target(self) -> pag.LogDensity:
        """The same for `sample`."""
        return pag.LogDensity(self, [f"x{k}" for k in range(self.n)], pag.Uniform(-10.0, 10.0))
