"""Plots of the residuals of inversions: whether the errors of the data were right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.stats import chi2 as chi_squared

from ..core.errors import DataError
from ..statistics.residuals import BAND, chi2_p, normal_quantiles, runs_test, series_order
from .figure import Panel, arranged
from .maps import length_unit, mark
from .style import BLUE, FAINT, GREY, INK, PALE, RED, color_bar, legend, name_of, open_axes, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "residual_whitened"
LABEL = "whitened residual"
NAMED = 30
"""Most data sets that are labelled with their names."""
POINTWISE = f"pointwise {100 * BAND:g} %"
SHOWN = 4.0
"""Whitened residuals beyond which the colours of a map are the same."""


def plot_residuals(result: xr.Dataset) -> Figure:
    """Draw the whitened residuals of a result of `invert`: their quantiles beside those of the
    normal distribution, in the order in which they are tested for runs, on a map, and chi2 by data
    set. If sigma is right, they are independent and of variance one; most lie in the shaded
    intervals."""
    if NAME not in result:
        raise DataError(f"no residuals to draw: the result has no {NAME!r}")
    panels: list[Panel] = [lambda ax: _quantiles(ax, result), lambda ax: _in_order(ax, result)]
    if {"observation_x", "observation_y"} <= set(result.coords) and not _times(result):
        panels.append(lambda ax: _map(ax, result))
    if "observation_set_chi2" in result:
        panels.append(lambda ax: _by_set(ax, result))
    return arranged(panels, 1.3, str(result.attrs.get("title", "")))


def _quantiles(ax: Axes, result: xr.Dataset) -> None:
    w = np.sort(result[NAME].values)
    middle, low, high = normal_quantiles(w.size)
    ax.fill_between(middle, low, high, color=PALE, lw=0, alpha=0.6, label=POINTWISE)
    ax.plot(middle, middle, color=FAINT, lw=1.0)
    ax.plot(middle, w, "o", ms=3.0, color=BLUE, rasterized=True)
    ax.set_xlabel("quantile of the normal distribution")
    ax.set_ylabel(LABEL)
    chi2 = float(np.mean(w**2))
    titled(ax, f"{w.size} observations, chi² {chi2:.3g} ({_p(chi2_p(chi2, w.size))})")
    legend(ax)
    open_axes(ax)


def _in_order(ax: Axes, result: xr.Dataset) -> None:
    """Draw the residuals in the order of the runs test, by their signs."""
    places = [result[n].values for n in _coordinates(result) if n != "observation_time"]
    times = result["observation_time"].values if _times(result) else None
    w = result[NAME].values[series_order(np.stack(places, axis=1), times)]
    number = np.arange(w.size)
    half = float(normal_quantiles(1)[2, 0])
    ax.axhspan(-half, half, color=PALE, lw=0, alpha=0.4, zorder=0)
    ax.axhline(0.0, color=GREY, lw=0.8)
    height = 1.15 * max(float(np.max(np.abs(w))), half)
    ax.set_ylim(-height, height)
    for sign, color in ((w > 0, RED), (w <= 0, BLUE)):
        if w.size <= 200:
            ax.vlines(number[sign], 0.0, w[sign], color=color, lw=0.8, alpha=0.6)
        ax.plot(number[sign], w[sign], "o", ms=3.0, color=color, rasterized=True)
    ax.set_xlabel("observation" if times is None else "observation, by place and time")
    ax.set_ylabel(LABEL)
    titled(ax, f"in order, runs test {_p(runs_test(w))}")
    open_axes(ax)


def _map(ax: Axes, result: xr.Dataset) -> None:
    from matplotlib.colors import Normalize

    unit, suffix = length_unit(result)
    w = result[NAME].values
    largest = float(np.max(np.abs(w)))
    limit = min(max(largest, 1.0), SHOWN)
    marks = mark(
        ax,
        result,
        w,
        unit,
        26.0 if w.size < 500 else 6.0,
        cmap="RdBu_r",
        norm=Normalize(-limit, limit),
        edgecolors=INK,
        linewidths=0.4 if w.size < 500 else 0.0,
        rasterized=True,
    )
    color_bar(ax, marks, LABEL, extend="both" if largest > limit else "neither")
    ax.set_aspect("equal")
    ax.margins(0.1)
    ax.set_xlabel(f"x{suffix}")
    ax.set_ylabel(f"y{suffix}")
    titled(ax, "by position")


def _by_set(ax: Axes, result: xr.Dataset) -> None:
    """Draw chi2 of the data sets over the intervals that it has by chance."""
    from matplotlib.ticker import LogLocator

    chi2, sizes = result["observation_set_chi2"].values, result["observation_set_size"].values
    number = np.arange(chi2.size)
    low, high = (chi_squared.ppf(0.5 * (1.0 + s * BAND), sizes) / sizes for s in (-1, 1))
    ax.bar(number, high - low, 0.7, low, color=PALE, alpha=0.6, label=POINTWISE)
    ax.plot(number, chi2, "o", ms=4.0, color=BLUE)
    ax.axhline(1.0, color=GREY, lw=0.8, zorder=0)
    ax.set_yscale("log")
    bottom, top = 0.7 * min(low.min(), chi2.min()), 1.4 * max(high.max(), chi2.max())
    ax.set_ylim(bottom, top)
    ax.yaxis.set_major_formatter("{x:g}")
    if top < 100 * bottom:  # few powers of ten to label
        ax.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        ax.yaxis.set_minor_formatter("{x:g}")
    ax.set_ylabel("chi²")
    ax.set_xlabel(name_of(result["observation_set"]))
    if chi2.size <= NAMED:
        names = zip(result["observation_set"].values, sizes, strict=True)
        texts = [f"{name} ({size})" for name, size in names]
        ax.set_xticks(number, texts, rotation=40, ha="right", rotation_mode="anchor")
    titled(ax, "by data set")
    legend(ax)
    open_axes(ax)


def _p(p: float) -> str:
    """A probability as a title shows it."""
    return f"p {p:.2g}" if p >= 1e-3 else "p < 0.001"


def _coordinates(result: xr.Dataset) -> list[str]:
    """Names of the positions of the observations in space and time."""
    names = (f"observation_{d}" for d in ("time", "z", "y", "x"))
    return [n for n in names if n in result.coords]


def _times(result: xr.Dataset) -> bool:
    """Whether the observations have times."""
    return "observation_time" in result.coords
