"""Gaussian priors in space and time: a Toeplitz matrix of times and any prior in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.checks import check_kind, positive
from ..core.errors import ConfigError, shown
from ..core.frozen import Frozen
from ..models.forcing import ForcingSpace
from .densities import BoundPrior
from .priors import Placed, Prior
from .separable import Separable


@dataclass(frozen=True, eq=False, repr=False)
class SpaceTime(Prior, Frozen):
    """N(mean, T (x) C) of arrays (steps, *sites): C the covariance of a prior in space, T the
    Toeplitz matrix of correlations of times.

    Parameters
    ----------
    space : Prior
        A Gaussian prior at any one time.
    duration : float, optional
        Correlation time, in the model's unit of time: T_ij = exp(-|t_i - t_j| / duration). Times
        are independent without one.
    correlation : array, shape (steps,), optional
        The first column of T instead, which begins with 1.
    mean : number, array, DataArray or function, optional
        See `Prior`; that of `space` unless given.

    Raises
    ------
    ConfigError
        If `space` is not a prior in space, or there are both a duration and a correlation.
    """

    space: Prior
    duration: float | None = None
    correlation: Any = None

    def __post_init__(self) -> None:
        check_kind("prior.space", self.space, Prior, ", such as Matern(sd=1.0, length=0.2)")
        if isinstance(self.space, SpaceTime):
            raise ConfigError(f"prior.space: found {shown(self.space)}, expected a prior in space")
        if self.duration is not None:
            positive("prior.duration", self.duration)
            if self.correlation is not None:
                raise ConfigError("prior: found both duration and correlation, expected one")
        if self.mean is None:
            self._set(mean=self.space.mean)

    def _on(self, at: Placed) -> BoundPrior:
        space, mean, where = at.space, at.mean, at.where
        if mean.ndim < 2:
            raise ConfigError(
                f"{where}: found an array of shape {mean.shape}, expected (steps, *sites) for a"
                " prior in space and time"
            )
        correlation = self.correlation
        if self.duration is not None:
            if not isinstance(space, ForcingSpace):
                raise ConfigError(
                    f"{where}.duration: the unknowns have no times; give the correlation, or bind"
                    ' the prior to a space that has some, prior.on(model.space("source"))'
                )
            rate = space.interval / self.duration
            correlation = np.exp(-rate * np.arange(space.count))
        sites = space.spatial if isinstance(space, ForcingSpace) else mean.shape[1:]
        spatial = self.space.on(sites, mean=0.0, units=at.units, where=where)
        if not spatial.gaussian:
            raise ConfigError(f"{where}: found {shown(self.space)}, expected a Gaussian prior")
        return Separable.of(mean, spatial, correlation, where)
