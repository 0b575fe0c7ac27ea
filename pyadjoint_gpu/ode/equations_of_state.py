"""Equations of state of cold matter, as functions of the log-enthalpy.

With rho the density of rest mass, p the pressure and e the density of energy,

    h = integral of dp / (e + p) from p = 0,    e + p = rho exp(h),

so that rho(h) and p(h) say everything (Lindblom 1992, ApJ 398, 569). Units are G = c = M_sun = 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ..core.checks import finite, positive
from ..core.errors import ConfigError
from ..core.frozen import Frozen
from ..core.precision import double, traced

P = ParamSpec("P")
T = TypeVar("T")
Number = float | Float[Array, ""]
"""A number, or one that JAX traces."""


def exact(function: Callable[P, T]) -> Callable[P, T]:
    """`double(function)`, whose results are NumPy arrays unless JAX traces them: computing on with
    JAX's own would round them to single precision where that is the user's setting."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        out = double(function)(*args, **kwargs)
        return jax.tree.map(lambda x: x if traced(x) else np.asarray(x), out)

    return wrapper


class EquationOfState(Frozen, ABC):
    """An equation of state. Subclasses are frozen dataclasses, by whose fields, the parameters, JAX
    differentiates.

    It has one piece or several, counted from the surface inwards. It is smooth within each; where
    they meet, at the log-enthalpies `divisions`, density may jump.
    """

    def __init_subclass__(cls) -> None:
        # What JAX puts together again is not checked by `__post_init__`: it may hold anything.
        def taken(eos: Any) -> tuple[list[tuple[Any, Any]], None]:
            names = [f.name for f in fields(eos)]
            return [(jax.tree_util.GetAttrKey(n), getattr(eos, n)) for n in names], None

        def made(_: None, parameters: Any) -> Any:
            eos: Any = object.__new__(cls)
            names = [f.name for f in fields(eos)]
            eos._set(**dict(zip(names, parameters, strict=True)))
            return eos

        jax.tree_util.register_pytree_with_keys(cls, taken, made)

    @abstractmethod
    def at(
        self, h: Float[Array, "*shape"], piece: Any
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Density of rest mass and pressure at log-enthalpies h >= 0 of one piece, given its
        constants from `pieces`."""

    @abstractmethod
    def log_enthalpy(
        self, *, density: ArrayLike | None = None, pressure: ArrayLike | None = None
    ) -> Float[Array, "*shape"]:
        """Log-enthalpy at a density of rest mass or at a pressure, whichever is given."""

    @property
    @exact
    def divisions(self) -> Float[Array, " divisions"]:
        """Log-enthalpies where pieces meet, ascending."""
        return jnp.zeros(0)

    def pieces(self) -> Any:
        """Constants of the pieces: a pytree whose arrays have one row a piece."""
        return ()

    def number(self, h: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
        """The numbers of the pieces in which log-enthalpies lie."""
        return jnp.searchsorted(self.divisions, h, side="right")

    @exact
    def density(self, h: ArrayLike) -> Float[Array, "*shape"]:
        """Density of rest mass at log-enthalpies h >= 0."""
        return self._both(h)[0]

    @exact
    def pressure(self, h: ArrayLike) -> Float[Array, "*shape"]:
        """Pressure at log-enthalpies h >= 0."""
        return self._both(h)[1]

    @exact
    def energy_density(self, h: ArrayLike) -> Float[Array, "*shape"]:
        """Density of energy at log-enthalpies h >= 0."""
        rho, p = self._both(h)
        return rho * jnp.exp(floats(h)) - p

    def _both(self, h: ArrayLike) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        h = floats(h)
        return self.at(h, rows(self.pieces(), self.number(h)))


@dataclass(frozen=True, eq=False)
class Polytrope(EquationOfState):
    """p = K rho^gamma, e = rho + p / (gamma - 1):

        rho = ((exp(h) - 1) (gamma - 1) / (K gamma))^(1 / (gamma - 1)).

    Parameters
    ----------
    K : float
        Positive, in G = c = M_sun = 1.
    gamma : float
        Adiabatic index > 1.

    Raises
    ------
    ConfigError
        If a parameter is impossible.
    """

    K: Number
    gamma: Number

    def __post_init__(self) -> None:
        if not traced(self.K):
            self._set(K=positive("K", self.K))
        if not traced(self.gamma):
            gamma = finite("gamma", self.gamma)
            if gamma <= 1.0:
                raise ConfigError(f"gamma: found {gamma:g}, expected an adiabatic index > 1")
            self._set(gamma=gamma)

    def at(
        self, h: Float[Array, "*shape"], piece: Any
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        K, gamma = floats(self.K), floats(self.gamma)
        x = jnp.expm1(h) * (gamma - 1.0) / (K * gamma)
        # At the surface the power may have no derivative.
        inside = x > 0.0
        rho = jnp.where(inside, jnp.where(inside, x, 1.0) ** (1.0 / (gamma - 1.0)), 0.0)
        return rho, K * x * rho

    @exact
    def log_enthalpy(
        self, *, density: ArrayLike | None = None, pressure: ArrayLike | None = None
    ) -> Float[Array, "*shape"]:
        K, gamma = floats(self.K), floats(self.gamma)
        rho, p = one_of(density, pressure)
        if rho is None:
            rho = (p / K) ** (1.0 / gamma)
        return jnp.log1p(K * gamma / (gamma - 1.0) * rho ** (gamma - 1.0))


@dataclass(frozen=True, eq=False)
class Incompressible(EquationOfState):
    """A fluid of one density, of rest mass and of energy: p = rho (exp(h) - 1).

    Parameters
    ----------
    rho : float
        Positive, in G = c = M_sun = 1.

    Raises
    ------
    ConfigError
        If it is not positive.
    """

    rho: Number

    def __post_init__(self) -> None:
        if not traced(self.rho):
            self._set(rho=positive("rho", self.rho))

    def at(
        self, h: Float[Array, "*shape"], piece: Any
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        return jnp.broadcast_to(floats(self.rho), h.shape), floats(self.rho) * jnp.expm1(h)

    @exact
    def log_enthalpy(
        self, *, density: ArrayLike | None = None, pressure: ArrayLike | None = None
    ) -> Float[Array, "*shape"]:
        if density is not None:
            raise ConfigError("density: an incompressible fluid has only one; give the pressure")
        return jnp.log1p(one_of(None, pressure)[1] / floats(self.rho))


def floats(value: Any) -> Float[Array, "*shape"]:
    """`value` as an array in double precision."""
    return jnp.asarray(value, jnp.float64)


def rows(table: Any, number: Int[Array, "*shape"]) -> Any:
    """Rows of the arrays of a pytree."""
    return jax.tree.map(lambda column: column[number], table)


def one_of(density: ArrayLike | None, pressure: ArrayLike | None) -> tuple[Any, Any]:
    """Density and pressure as arrays, of which one is given and the other None."""
    if (density is None) == (pressure is None):
        found = "neither" if density is None else "both"
        raise ConfigError(f"density, pressure: found {found}, expected one of them")
    return (None, floats(pressure)) if density is None else (floats(density), None)
