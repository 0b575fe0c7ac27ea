"""Covariances of candidates' data, in memory or in a file, and given quantities of interest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float

from ..lti.covariance import FormedCovariance, covariance
from ..lti.store import CovarianceFile
from ..lti.toeplitz import ToeplitzMap
from ..statistics.covariance import DenseCovariance
from ..statistics.space_time import SpaceTimePrior
from .communicator import Communicator, safely
from .record import Recorded

LARGEST = 2**31
"""Most bytes of a covariance in memory; blocks of a larger one are formed on request."""

NEGLIGIBLE = 1e-12
"""Fraction of the largest variance of quantities of interest that counts as zero."""


@dataclass(frozen=True)
class Storage:
    """Memory for covariances, or a file, which one rank writes while the others wait.

    Attributes
    ----------
    path : path, optional
        The file.
    comm : communicator
    progress, overwrite : bool
        As for `CovarianceFile.make`.
    """

    path: Path | None
    comm: Communicator
    progress: bool | None
    overwrite: bool

    def covariance(self, of: ToeplitzMap, prior: SpaceTimePrior, ending: str = "") -> Recorded:
        """F Gamma F^T; `ending` is appended to the name of the file."""
        if self.path is None:
            if 8 * (of.sensors * of.steps) ** 2 > LARGEST:
                return FormedCovariance(of, prior)
            return DenseCovariance(covariance(of, prior))
        path = self.path.with_name(f"{self.path.stem}{ending}{self.path.suffix}")

        def make() -> None:
            if self.comm.Get_rank() == 0:
                CovarianceFile.make(
                    path, of, prior, overwrite=self.overwrite, progress=self.progress
                )

        safely(self.comm, make)
        return CovarianceFile(path)

    def conditional(
        self,
        base: Recorded,
        of: ToeplitzMap,
        prior: SpaceTimePrior,
        goal: ToeplitzMap | Bool[np.ndarray, "*sites"],
    ) -> Recorded:
        """The covariance `base` of data conditional on a goal, sites or a map."""
        if isinstance(goal, ToeplitzMap):
            return ConditionalCovariance(base, of, prior, goal)
        return self.covariance(of, prior.given(goal), "-goal")


class ConditionalCovariance:
    """The covariance X conditional on quantities of interest q,

        X' = X - R Q^+ R^T = X - A A^T,

    Q the covariance of q, R that of data with q. Q may be singular: before a wave arrives there is
    nothing to know.
    """

    def __init__(self, base: Recorded, of: ToeplitzMap, prior: SpaceTimePrior, goal: ToeplitzMap):
        self.base, self.candidates, self.steps = base, base.candidates, base.steps
        size = goal.sensors * goal.steps
        values, vectors = scipy.linalg.eigh(covariance(goal, prior).reshape(size, size))
        kept = values > NEGLIGIBLE * values[-1]
        cross = covariance(of, prior, goal).reshape(self.candidates, self.steps, size)
        self._roots = cross @ (vectors[:, kept] / np.sqrt(values[kept]))  # A, by candidate

    @property
    def made_with(self) -> Any:
        return self.base.made_with, self._roots

    def diagonal(self, which: slice) -> Float[np.ndarray, "some times times"]:
        roots = self._roots[which]
        return self.base.diagonal(which) - roots @ roots.swapaxes(1, 2)

    def row(self, p: int, which: slice) -> Float[np.ndarray, "times some times"]:
        return self.base.row(p, which) - np.tensordot(self._roots[p], self._roots[which], (1, 2))
