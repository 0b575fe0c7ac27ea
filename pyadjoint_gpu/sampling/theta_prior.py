"""Prior of a few parameters theta: independent distributions of `scipy.stats`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.errors import ConfigError
from ..statistics.marginals import drawn
from .options import check_names

Theta = Float[np.ndarray, "particles parameters"]


@dataclass(frozen=True)
class ThetaPrior:
    """Independent distributions of one number each, by name."""

    distributions: Mapping[str, Any]

    @classmethod
    def of(cls, given: Any, taken: Iterable[str]) -> ThetaPrior:
        """The checked prior; no name may be reserved, or one of `taken`."""
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"theta_prior: found {type(given).__name__}, expected a dict of"
                " distributions of scipy.stats by name"
            )
        if not given:
            raise ConfigError("theta_prior: it is empty; LinearSMC takes one G")
        check_names("theta_prior", given, taken)
        for name, distribution in given.items():
            if not (hasattr(distribution, "rvs") and hasattr(distribution, "logpdf")):
                raise ConfigError(
                    f"theta_prior.{name}: found {distribution!r}, expected a distribution of"
                    " scipy.stats"
                )
            shape = np.shape(distribution.rvs(size=2, random_state=np.random.default_rng(0)))
            if shape != (2,):
                raise ConfigError(
                    f"theta_prior.{name}: found a distribution of arrays of shape {shape[1:]},"
                    " expected a distribution of one number"
                )
        return cls(given)

    def draw(self, generator: np.random.Generator, count: int) -> Theta:
        """`count` samples of theta."""
        return drawn(self.distributions, generator, count)

    def log_density(self, theta: Theta) -> Float[np.ndarray, " particles"]:
        """ln p(theta) of each row."""
        each = self.distributions.values()
        logs = [d.logpdf(column) for d, column in zip(each, theta.T, strict=True)]
        return np.sum(logs, axis=0)
