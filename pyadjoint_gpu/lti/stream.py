"""Inversion of data as they arrive."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..core.errors import DataError
from .offline import solve_lower
from .online import Online, gaps_filled


class Stream:
    """Inversion of data as they arrive: each update solves with the new rows of L only.

    Attributes
    ----------
    known : int
        Number of times so far.
    """

    def __init__(self, online: Online):
        self._online = online
        self._white = np.zeros(len(online.offline.factor))
        self._observed = np.zeros((0, online.map.sensors), dtype=bool)

    @property
    def known(self) -> int:
        return len(self._observed)

    def update(self, rows: ArrayLike | xr.DataArray) -> xr.Dataset:
        """The posterior given these rows and all before.

        Parameters
        ----------
        rows : array, shape (k, C) or (C,)
            Data of the next k times; missing values (NaN, or masked) are not observed.

        Returns
        -------
        Dataset
            As `LinearInversion.infer`.

        Raises
        ------
        DataError
            If there are more rows than times left, or a value is infinite.
        """
        of, factor = self._online.map, self._online.offline.factor
        array, observed = gaps_filled(np.atleast_2d(self._online.rows(rows)))
        left = of.steps - self.known
        if array.ndim != 2 or array.shape[1] != of.sensors or not 0 < len(array) <= left:
            raise DataError(
                f"data: found shape {array.shape}, expected (k, {of.sensors}), k from 1 to {left}"
            )
        first = self.known * of.sensors
        new = slice(first, first + array.size)
        array = array - self._online.expected[self.known : self.known + len(array)]
        misfit = array.ravel() - factor[new, :first] @ self._white[:first]
        self._white[new] = solve_lower(factor[new, new], misfit)
        self._observed = np.concatenate([self._observed, observed])
        return self._online.posterior(self._white, self._observed)
