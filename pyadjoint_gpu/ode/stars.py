"""Stars of one equation of state: as many as wanted at once, the mass-radius curve and its end."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ..core.checks import check_kind, count, finite_array
from ..core.errors import ConfigError, ConvergenceError, DataError
from ..core.precision import compiled, double
from ..results.dataset import named, provenance
from .equations_of_state import EquationOfState
from .structure import Star, structure
from .units import DENSITY, KILOMETRES

KIND = "stars"
_LOWEST, _HIGHEST = 0.01, 5.0
"""Central log-enthalpies between which the maximum mass is looked for: it is at less than 1 even
for matter in which sound travels like light."""
_SECTIONS, _CLOSE = 32, 1e-12
"""Stars at once in the search, and the relative distance at which it ends."""
_LEAST = 0.05
"""The lowest central log-enthalpy of a mass-radius curve, over that at the maximum mass."""


def _structures(eos: EquationOfState, log_enthalpy: Float[Array, " stars"]) -> Star:
    return jax.vmap(structure, (None, 0))(eos, log_enthalpy)


def _masses(
    log_enthalpy: Float[Array, " stars"], eos: EquationOfState
) -> tuple[Float[Array, ""], Float[Array, " stars"]]:
    """The sum of the masses, whose derivatives are those of each, and the masses."""
    mass = _structures(eos, log_enthalpy).mass
    return mass.sum(), mass


_many: Any = double(compiled(_structures))
_slopes = double(compiled(jax.grad(_masses, has_aux=True)))


def stars(
    eos: EquationOfState,
    *,
    log_enthalpy: ArrayLike | None = None,
    density: ArrayLike | None = None,
    pressure: ArrayLike | None = None,
) -> xr.Dataset:
    """Stars of given centres, all in one compiled call.

    Parameters
    ----------
    eos : EquationOfState
    log_enthalpy, density, pressure : array_like
        One of them, at the centres: a positive number, or one for each star; density of rest mass
        and pressure in G = c = M_sun = 1.

    Returns
    -------
    Dataset
        By ``star``: ``central_log_enthalpy``, ``central_density`` (g cm-3), ``mass`` and
        ``baryon_mass`` (over that of the Sun), ``radius`` (km), ``compactness`` (G M / (c^2 R)),
        ``love_number`` and ``tidal_deformability``.

    Raises
    ------
    ConfigError, DataError
        If the centres are not one row of positive numbers.
    ConvergenceError
        If a star cannot be solved to the tolerance.
    EngineError
        If diffrax is missing.
    """
    check_kind("eos", eos, EquationOfState)
    given = {"log_enthalpy": log_enthalpy, "density": density, "pressure": pressure}
    found = [name for name, value in given.items() if value is not None]
    if len(found) != 1:
        raise ConfigError(
            f"stars: found {' and '.join(found) or 'none'}, expected one of {', '.join(given)}"
        )
    name = found[0]
    values = np.atleast_1d(finite_array(name, given[name]))
    if values.ndim != 1 or not len(values):
        raise DataError(f"{name}: found shape {values.shape}, expected one number a star")
    if np.any(values <= 0):
        raise DataError(f"{name}: found {values.min():g}, expected positive numbers")
    if name != "log_enthalpy":
        values = np.asarray(eos.log_enthalpy(**{name: values}))
    return _dataset(eos, values, f"{len(values)} stars of {type(eos).__name__}")


def mass_radius(eos: EquationOfState, n: int = 200) -> xr.Dataset:
    """The mass-radius curve up to the maximum mass, beyond which stars are unstable.

    Parameters
    ----------
    eos : EquationOfState
    n : int
        Stars, at equal distances in central log-enthalpy from a twentieth of that of the last,
        which has the maximum mass.

    Returns
    -------
    Dataset
        As from `stars`.

    Raises
    ------
    ConfigError
        If an argument cannot be used.
    ConvergenceError
        If there is no maximum mass, or a star cannot be solved.
    EngineError
        If diffrax is missing.
    """
    n = count("n", n, least=2)
    top = _heaviest(eos)
    return _dataset(eos, top * np.linspace(_LEAST, 1.0, n), f"mass-radius curve of {n} stars")


def maximum_mass(eos: EquationOfState) -> xr.Dataset:
    """The star of maximum mass, where dM/dh_c = 0. There the derivative of the mass by a parameter
    is the one at fixed h_c: `jax.grad` of `structure` gives it.

    Parameters
    ----------
    eos : EquationOfState

    Returns
    -------
    Dataset
        As from `stars`, of one star, without the dimension.

    Raises
    ------
    ConfigError
        If it is no equation of state.
    ConvergenceError
        If there is no maximum mass, as of an incompressible fluid, or a star cannot be solved.
    EngineError
        If diffrax is missing.
    """
    return _dataset(eos, np.array([_heaviest(eos)]), "star of maximum mass").isel(star=0)


def _heaviest(eos: EquationOfState) -> float:
    """The central log-enthalpy of the star of maximum mass."""
    check_kind("eos", eos, EquationOfState)
    tried = np.geomspace(_LOWEST, _HIGHEST, _SECTIONS)
    k = int(np.argmax(_slopes(tried, eos)[1]))
    if k in (0, _SECTIONS - 1):
        raise ConvergenceError(
            f"{type(eos).__name__}: found no maximum mass, expected one at a central log-enthalpy"
            f" between {_LOWEST:g} and {_HIGHEST:g}; the mass is largest at"
            f" the {'last' if k else 'first'}"
        )
    low, high = tried[k - 1], tried[k + 1]
    while high - low > _CLOSE * high:
        tried = np.linspace(low, high, _SECTIONS)
        k = int(np.argmax(np.asarray(_slopes(tried, eos)[0]) <= 0.0))
        low, high = tried[k - 1], tried[k]
    return float(low)


def _dataset(eos: EquationOfState, centre: Float[np.ndarray, " stars"], event: str) -> xr.Dataset:
    found = jax.tree.map(np.array, _many(eos, centre))
    failed = np.flatnonzero(~np.isfinite(found.mass))
    if failed.size:
        raise ConvergenceError(
            f"star {failed[0]} of central log-enthalpy {centre[failed[0]]:g} was not solved to the"
            " tolerance; check that its equation of state is smooth between its divisions"
        )
    columns: dict[str, tuple[Any, dict[str, str]]] = {
        "central_log_enthalpy": (centre, named("log-enthalpy at the centre")),
        "central_density": (
            np.asarray(eos.density(centre)) * DENSITY,
            named("density of rest mass at the centre", "g cm-3"),
        ),
        "mass": (found.mass, named("gravitational mass, over that of the Sun")),
        "radius": (found.radius * KILOMETRES, named("circumferential radius", "km")),
        "baryon_mass": (found.baryon_mass, named("baryon mass, over the mass of the Sun")),
        "compactness": (found.compactness, named("compactness G M / (c2 R)")),
        "love_number": (found.love_number, named("quadrupolar tidal Love number k2")),
        "tidal_deformability": (
            found.tidal_deformability,
            named("dimensionless tidal deformability 2/3 k2 / compactness5"),
        ),
    }
    return xr.Dataset(
        {name: ("star", values, about) for name, (values, about) in columns.items()},
        attrs=provenance(
            event, kind=KIND, title="pyadjoint_gpu stars", equation_of_state=_described(eos)
        ),
    )


def _described(eos: EquationOfState) -> dict[str, Any]:
    """The kind and the parameters, as an attribute holds them."""
    parameters = {f.name: np.asarray(getattr(eos, f.name)).tolist() for f in fields(eos)}  # pyright: ignore[reportArgumentType]
    return {"kind": type(eos).__name__, **parameters}
