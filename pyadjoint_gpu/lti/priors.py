"""Priors of a map's forcing."""

from __future__ import annotations

import numpy as np

from ..core.errors import ConfigError, DataError, shown
from ..core.precision import double
from ..statistics.densities import BoundPrior, Diagonal
from ..statistics.priors import Prior
from ..statistics.separable import Separable
from ..statistics.space_time import SpaceTime
from .toeplitz import ToeplitzMap

EXPECTED = "expected a prior, such as SpaceTime(Matern(sd=1.0, length=0.2), duration=60.0)"


@double
def fitting(of: object, prior: object, name: str = "of") -> Separable:
    """The prior of the forcing of a map, on its space, in its units.

    Parameters
    ----------
    of : ToeplitzMap
    prior : Prior or BoundPrior
        One in space has independent times.
    name : str
        The map's, in messages.

    Raises
    ------
    ConfigError, DataError
        If these are not a map and a prior, or of other times or sites, or the prior is not
        separable in space and time.
    """
    if not isinstance(of, ToeplitzMap):
        raise ConfigError(
            f"{name}: found {shown(of)}, expected a ToeplitzMap; ToeplitzMap.of makes one of a"
            " block column"
        )
    shape = of.steps, *of.sites
    if isinstance(prior, Prior):
        given = prior if isinstance(prior, SpaceTime) else SpaceTime(prior)
        prior = given.on(of.space or shape, units=of.units[1])
    if not isinstance(prior, BoundPrior):
        raise ConfigError(f"prior: found {shown(prior)}, {EXPECTED}")
    if prior.shape == of.sites and prior.gaussian:
        mean = np.broadcast_to(prior.mean, shape)
        prior = Separable.of(mean, prior)
    if prior.shape != shape:
        other = "the map" if name == "of" else f"{name!r}"
        times, *sites = prior.shape or (0,)
        raise DataError(
            f"prior: found {times} times and places {tuple(sites)}, {other} has {of.steps} and"
            f" {of.sites}"
        )
    if isinstance(prior, Diagonal) and np.all(prior.sd == prior.sd[0]):
        prior = Separable.of(np.asarray(prior.mean), Diagonal(np.zeros(of.sites), prior.sd[0]))
    if not isinstance(prior, Separable):
        raise ConfigError(
            f"prior: found {shown(prior)}, which is not separable in space and time; {EXPECTED}"
        )
    return prior
