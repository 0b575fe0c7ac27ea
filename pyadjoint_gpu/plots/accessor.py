"""The accessor ``Dataset.pag`` of results. Imports nothing until it is used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import ModuleType

    import xarray as xr
    from matplotlib.figure import Figure

NAME = "pag"

_PLOTS = {
    "forward": (".states", "plot_state"),
    "gradient": (".states", "plot_state"),
    "inversion": (".fields", "plot"),
    "laplace": (".laplace", "plot_laplace"),
    "observations": (".states", "plot_observations"),
    "sampling": (".samples", "plot_samples"),
    "evidence": (".evidence", "plot_evidence"),
    "block-column": (".linear", "plot_block_column"),
    "linear-inversion": (".linear", "plot_linear_inversion"),
    "placement": (".placement", "plot_placement"),
    "stars": (".ode", "plot_stars"),
    "fit": (".ode", "plot_fit"),
}
"""Plotting functions by the attribute ``kind`` of a result."""

_OTHERS = {"residuals": (".residuals", "plot_residuals")}
"""Plotting functions by what they show, for results that have it."""


class PagAccessor:
    """Methods of every result, also one that was saved and opened again."""

    def __init__(self, data: xr.Dataset):
        self._data = data

    @property
    def kind(self) -> str:
        """The kind of result: its attribute ``kind``, or in older files that of its variables."""
        found = self._data.attrs.get("kind")
        return found if found in _PLOTS else _kind(self._data)

    def plot(self, path: str | Path | None = None, *, kind: str | None = None) -> Figure:
        """Draw the result in the way of its kind.

        Parameters
        ----------
        path : path, optional
            File to save to, in the format of its ending, whole or not at all.
        kind : str, optional
            "residuals" for the residuals of an inversion in place of the whole result: whether the
            errors of the data (sigma) were right.

        Returns
        -------
        matplotlib Figure

        Raises
        ------
        ConfigError
            If there is no such kind.
        DataError
            If it is not a result, or there is nothing to draw.
        EngineError
            If matplotlib is missing.

        See Also
        --------
        fields.plot, states.plot_state, states.plot_observations, samples.plot_samples,
        placement.plot_placement, linear.plot_block_column, linear.plot_linear_inversion,
        ode.plot_stars, ode.plot_fit, residuals.plot_residuals
        """
        from ..core.checks import check_choice
        from .figure import saved

        if kind is not None:
            check_choice("kind", kind, tuple(_OTHERS))
        module, name = _PLOTS[self.kind] if kind is None else _OTHERS[kind]
        draw = getattr(importlib.import_module(module, __package__), name)
        return saved(draw(self._data), path)

    def save(self, path: str | Path) -> None:
        """Write a NetCDF-4 file, whole or not at all."""
        from ..results.dataset import save

        save(self._data, path)

    def corner(
        self,
        names: str | Iterable[str] | None = None,
        truth: Mapping[str, float] | None = None,
        prior: Mapping[str, Any] | None = None,
        path: str | Path | None = None,
    ) -> Figure:
        """Corner plot: the distribution of each scalar and of each pair of them.

        On the diagonal are histograms, with the median and the 90 % interval as titles and dashed
        lines; below it contours that contain 50 % and 90 % of the samples. Labels are the
        variables' `long_name` (if it is long, the name) and `units` (``result["strike"].attrs[
        "units"] = "degree"``). Samples are the values along ``chain`` and ``draw``, weighted by
        the variable ``weight``, if there is one; of several draws of slip for each theta the first
        counts.

        Parameters
        ----------
        names : str or sequence of str, optional
            Variables, with all components of those with further dimensions. By default all
            scalars, or if there are none, all variables.
        truth : mapping, optional
            True values by name (``"slip[3]"`` for a component), drawn as lines.
        prior : mapping, optional
            Distributions of `scipy.stats` by name, such as those given to the sampler.
        path : path, optional
            File to save to, in the format of its ending, whole or not at all.

        Returns
        -------
        matplotlib Figure

        Raises
        ------
        ConfigError
            If a name is unknown, or there are too many numbers for a figure.
        DataError
            If there are no samples, or some are not finite.
        EngineError
            If matplotlib is missing.
        """
        from .corner import corner
        from .figure import saved

        return saved(corner(self._data, names, truth, prior), path)

    def to_datatree(self) -> xr.DataTree:
        """Samples in the type of ArviZ 1; see `results.arviz.to_datatree`."""
        from ..results.arviz import to_datatree

        return to_datatree(self._data)

    def to_arviz(self) -> Any:
        """Samples in the type of the installed ArviZ; see `results.arviz.to_arviz`."""
        from ..results.arviz import to_arviz

        return to_arviz(self._data)


def _kind(data: xr.Dataset) -> str:
    """The kind of a result, inferred from its variables and dimensions."""
    from ..core.errors import DataError

    names = {str(n) for n in data.data_vars}
    if {"chain", "draw"} <= set(data.dims) or "sample" in data.dims:  # of earlier versions
        return "sampling"
    if "candidate" in data.dims or {"order", "integral_sd"} <= names:
        return "placement"
    if "misfit" in names and any(n.endswith("_initial") for n in names):
        return "inversion"
    if "response" in names:
        return "block-column"
    if {"integral", "integral_sd"} <= names:
        return "linear-inversion"
    if "eigenvalue" in names:
        return "laplace"
    if "convergence" in names:
        return "forward"
    if any(f"{n}_sigma" in names for n in names):
        return "observations"
    raise DataError("not a result of pyadjoint_gpu: it has no attribute 'kind'")


# Registration


def register() -> None:
    """Register ``Dataset.pag`` now, or as soon as xarray is imported, which importing this package
    does not do."""
    if "xarray" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _Waiting())


def _register() -> None:
    from xarray import register_dataset_accessor

    register_dataset_accessor(NAME)(PagAccessor)


class _Waiting:
    """A module finder that finds nothing, but notices once that xarray is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "xarray":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            _then(spec.loader, _register)
        return spec


def _then(loader: Any, follow: Callable[[], None]) -> None:
    """Call `follow` after the loader has executed its module."""
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        loader.exec_module = run
        run(module)
        follow()

    loader.exec_module = exec_module
