"""Covariances of candidates' data, in memory or in a file, and given quantities of interest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ..lti.covariance import FormedCovariance, covariance
from ..lti.store import CovarianceFile
from ..lti.toeplitz import ToeplitzMap
from ..statistics.covariance import DenseCovariance
from ..statistics.separable import Separable
from .communicator import Communicator, safely
from .record import Recorded

LARGEST = 2**31
"""Most bytes of a covariance in memory; blocks of a larger one are formed on request."""

NEGLIGIBLE = 1e-12
"""Fraction of the largest variance of quantities of interest that counts as zero."""


def data_covariance(
    of: ToeplitzMap,
    prior: Separable,
    path: Path | None,
    comm: Communicator,
    *,
    overwrite: bool,
    progress: bool | None,
) -> Recorded:
    """F Gamma F^T in memory, or in a file, which one rank writes while the others wait."""
    if path is None:
        if 8 * (of.sensors * of.steps) ** 2 > LARGEST:
            return FormedCovariance(of, prior)
        return DenseCovariance(covariance(of, prior))

    def make() -> None:
        if comm.Get_rank() == 0:
            CovarianceFile.make(path, of, prior, overwrite=overwrite, progress=progress)

    safely(comm, make)
    return CovarianceFile(path)


class ConditionalCovariance:
    """The covariance X conditional on quantities of interest q,

        X' = X - R Q^+ R^T = X - A A^T,

    Q the covariance of q, R that of data with q. Q may be singular: before a wave arrives there is
    nothing to know.
    """

    def __init__(self, base: Recorded, of: ToeplitzMap, prior: Separable, goal: ToeplitzMap):
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
