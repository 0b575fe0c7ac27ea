"""``Dataset.inversion``: what a result can do. Imports nothing but xarray until it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@xr.register_dataset_accessor("inversion")
class InversionAccessor:
    """Methods of a result of `invert`, also after it was saved and opened again."""

    def __init__(self, data: xr.Dataset):
        self._data = data

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw observations, true and recovered fields and the misfit; see `plot.plot`."""
        from .plot import plot

        return plot(self._data, path)

    def save(self, path: str | Path) -> None:
        """Write NetCDF-4, whole or not at all."""
        from .dataset import save

        save(self._data, path)
