"""``Dataset.inversion``, ``Dataset.samples``, ``Dataset.placement``: what results can do. Imports
nothing but xarray until it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


@xr.register_dataset_accessor("samples")
class SamplesAccessor:
    """Methods of a sampler's result, also after it was saved and opened again."""

    def __init__(self, data: xr.Dataset):
        self._data = data

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw numbers, slip, fields and the way there; see `bayes.plots.plot_samples`."""
        from .bayes.plots import plot_samples

        return plot_samples(self._data, path)

    def corner(
        self,
        names: str | Iterable[str] | None = None,
        truth: Mapping[str, float] | None = None,
        prior: Mapping[str, Any] | None = None,
        path: str | Path | None = None,
    ) -> Figure:
        """Draw the distribution of each number and of each pair; see `bayes.corner.corner`."""
        from .bayes.corner import corner

        return corner(self._data, names, truth, prior, path)

    def to_datatree(self) -> xr.DataTree:
        """As ArviZ 1 has it; see `bayes.conversion.to_datatree`."""
        from .bayes.conversion import to_datatree

        return to_datatree(self._data)

    def to_arviz(self) -> Any:
        """As the ArviZ that is installed has it; see `bayes.conversion.to_arviz`."""
        from .bayes.conversion import to_arviz

        return to_arviz(self._data)

    def save(self, path: str | Path) -> None:
        """Write NetCDF-4, whole or not at all."""
        from .dataset import save

        save(self._data, path)


@xr.register_dataset_accessor("placement")
class PlacementAccessor:
    """Methods of a result of ``pyadjoint-gpu place``, also after it was saved and opened again."""

    def __init__(self, data: xr.Dataset):
        self._data = data

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw sensors, uncertainty, information and forecasts; see
        `placement.plots.plot_placement`."""
        from .placement.plots import plot_placement

        return plot_placement(self._data, path)

    def save(self, path: str | Path) -> None:
        """Write NetCDF-4, whole or not at all."""
        from .dataset import save

        save(self._data, path)
