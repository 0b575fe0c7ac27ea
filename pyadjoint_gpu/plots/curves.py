"""Curves of controls: along one axis or a boundary, and over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from .maps import length_unit
from .style import BLUE, FAINT, labelled, legend, name_of, open_axes, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def profile(ax: Axes, result: xr.Dataset, name: str) -> None:
    """Draw a boundary control by face, with gaps between sides."""
    label = str(result[name].dims[0]).removesuffix("_face")
    names = [f"{label}_{d}" for d in ("z", "y", "x")]
    where = np.stack([result[n].values for n in names if n in result])
    step = np.linalg.norm(np.diff(where, axis=1), axis=0)
    ends = np.flatnonzero(step > 1.5 * np.median(step)) + 1
    _curves(ax, result, name, np.arange(where.shape[1], dtype=float), ends)
    ax.set_xlabel("boundary face")


def line(ax: Axes, result: xr.Dataset, name: str) -> None:
    """Draw a field along the only axis of the grid."""
    unit, suffix = length_unit(result)
    _curves(ax, result, name, result["x"].values / unit, np.empty(0, int))
    ax.set_xlabel(f"x{suffix}")


def series(ax: Axes, result: xr.Dataset, name: str) -> None:
    """Draw a forcing over time, at the sites where it is largest."""
    size = np.max(np.abs(result[name].values), axis=0)
    times = result["interval"]
    for k, site in enumerate(np.argsort(size, kind="stable")[::-1][:4]):
        color = f"C{k}"
        for key, style in ((f"{name}_true", ":"), (name, "-")):
            if key in result:
                label = f"source {site}" if style == "-" else None
                values = result[key].values[:, site]
                ax.step(times, values, style, where="mid", color=color, label=label, lw=1.5)
    ax.set_xlabel(labelled("time", times))
    _finished(ax, result[name])


def _curves(
    ax: Axes,
    result: xr.Dataset,
    name: str,
    x: Float[np.ndarray, " values"],
    gaps: Int[np.ndarray, " gaps"],
) -> None:
    """Draw true, first and recovered values over x, with breaks before the entries `gaps`."""
    for key, style, color, label in (
        (f"{name}_true", ":", "k", "true"),
        (f"{name}_initial", "-", FAINT, "start"),
        (name, "-", BLUE, "recovered"),
    ):
        if key in result:
            across, values = (np.insert(v, gaps, np.nan) for v in (x, result[key].values))
            ax.plot(across, values, style, color=color, label=label, lw=1.5)
    _finished(ax, result[name])


def _finished(ax: Axes, field: xr.DataArray) -> None:
    ax.set_ylabel(str(field.attrs.get("units", "")))
    titled(ax, name_of(field))
    legend(ax)
    open_axes(ax)
