"""Corner plots: marginal distributions of sampled numbers and of their pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from ..core.checks import check_keys, finite
from ..core.errors import ConfigError
from .figure import new_figure
from .numbers import Number, numbers
from .style import BLUE, GREY, INK, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

INSIDE = (0.5, 0.9)
"""Fractions of the samples inside the contours."""
CELLS = 100
"""Cells along a side of the grid on which densities of pairs are smoothed."""
LIGHT = "#b7d7e0"


def corner(
    result: xr.Dataset,
    names: str | Iterable[str] | None,
    truth: Mapping[str, float] | None,
    prior: Mapping[str, Any] | None,
) -> Figure:
    """Corner plot; see `PagAccessor.corner`."""
    shown = numbers(result, names)
    size = corner_size(len(shown))
    figure = new_figure(*size)
    draw_corner(figure, size, shown, truth or {}, prior or {})
    return figure


def corner_size(count: int) -> tuple[float, float]:
    """Size of the figure, in inches."""
    if count == 1:
        return 4.6, 3.0
    side = count * (1.9 if count < 6 else 1.55)
    return side + 1.1, side + 1.25


def draw_corner(
    figure: Figure | SubFigure,
    size: tuple[float, float],
    shown: list[Number],
    truth: Mapping[str, float],
    prior: Mapping[str, Any],
    own: float | None = None,
) -> None:
    """Draw into a figure, or a part of one, of this size in inches; `own` is the width to use, in
    the middle."""
    names = [n.name for n in shown]
    truth = {k: finite(f"truth.{k}", v) for k, v in check_keys(truth, names, "truth").items()}
    for name, distribution in check_keys(prior, names, "prior").items():
        if not hasattr(distribution, "pdf"):
            raise ConfigError(
                f"prior.{name}: found {distribution!r}, expected a distribution of scipy.stats"
            )
    count = len(shown)
    axes: Any = figure.subplots(count, count, squeeze=False)
    width, height = size
    aside = 0.0 if own is None else 0.5 * (width - own)
    figure.subplots_adjust(
        left=(aside + (0.9 if count > 1 else 0.4)) / width,
        right=1 - (aside + (0.2 if count > 1 else 1.3)) / width,
        bottom=0.8 / height,
        top=1 - 0.5 / height,
        wspace=0.07,
        hspace=0.07,
    )
    ranges = [_range(n, truth.get(n.name)) for n in shown]
    for i, j in np.ndindex(count, count):
        ax = axes[i, j]
        if j > i:
            ax.remove()
            continue
        ax.set_xlim(ranges[j])
        if i == j:
            _marginal(ax, shown[i], prior.get(names[i]))
        else:
            ax.set_ylim(ranges[i])
            _pair(ax, shown[j], shown[i])
        for place, line in ((j, ax.axvline), (i, ax.axhline)):
            if names[place] in truth and (line == ax.axvline or i != j):
                line(truth[names[place]] / shown[place].factor, color=RED, lw=1.1)
        _ticks(ax, left=j == 0 < i, bottom=i == count - 1, turned=count > 1)
        if i == count - 1:
            ax.set_xlabel(shown[j].label, fontsize=9, color=INK)
        if j == 0 < i:
            ax.set_ylabel(shown[i].label, fontsize=9, color=INK)
    figure.align_labels()
    _legend(figure, bool(truth), bool(prior), count, 1 - aside / width)


def _range(number: Number, truth: float | None) -> tuple[float, float]:
    """Range of an axis: all samples except extreme ones, and the truth."""
    low, high = number.quantiles(0.001, 0.999)
    if truth is not None:
        low, high = min(low, truth / number.factor), max(high, truth / number.factor)
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _extent(number: Number) -> tuple[float, float]:
    """Least and greatest sample on the axis, beyond which lie runs of hardly any weight."""
    low, high = _range(number, None)
    shown = number.shown[(low <= number.shown) & (number.shown <= high)]
    return float(np.min(shown)), float(np.max(shown))


def _effective(number: Number) -> float:
    """Effective sample size of the weights."""
    return 1.0 / float(np.sum(number.weights**2))


def _marginal(ax: Axes, number: Number, prior: Any) -> None:
    values, (low, high) = number.shown, _extent(number)
    if high > low:
        width = 3.49 * number.scale * _effective(number) ** (-1 / 3)  # Scott 1979
        bins = int(np.clip(np.ceil((high - low) / width), 5, 60))
        options: dict[str, Any] = {"bins": bins, "range": (low, high), "density": True}
        options["weights"] = number.weights
        ax.hist(values, histtype="stepfilled", color=LIGHT, **options)
        top = float(np.max(ax.hist(values, histtype="step", color=BLUE, lw=1.2, **options)[0]))
        ax.set_ylim(0.0, 1.08 * top)
        for edge in number.quantiles(0.05, 0.95):
            ax.axvline(edge, color=BLUE, lw=0.9, ls=(0, (4, 3)))
    else:
        ax.axvline(low, color=BLUE, lw=1.2)
    if prior is not None:
        x = np.linspace(*ax.get_xlim(), 300)
        ax.plot(x, prior.pdf(x * number.factor) * number.factor, color=GREY, lw=1.2)
    ax.set_title(f"{number.text}\n{number.interval}", fontsize=9, color=INK, pad=6)


def _pair(ax: Axes, across: Number, up: Number) -> None:
    x, y = across.shown, up.shown
    size = min(9.0, 1500.0 / len(x))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        ax.scatter(x, y, s=size, color=BLUE, lw=0, rasterized=True)
        return
    density, centres, values = _density(across, up)
    levels = np.quantile(
        values, 1.0 - np.array(INSIDE), weights=across.weights, method="inverted_cdf"
    )
    outside = values < levels[-1]
    ax.scatter(x[outside], y[outside], s=size, color=BLUE, lw=0, alpha=0.5, rasterized=True)
    levels = np.unique(levels)
    shades = [LIGHT, BLUE][-len(levels) :]
    ax.contourf(*centres, density.T, [*levels, 1.01 * np.max(density)], colors=shades)
    ax.contour(*centres, density.T, levels, colors=BLUE, linewidths=0.9)


def _density(
    across: Number, up: Number
) -> tuple[
    Float[np.ndarray, "cells cells"],
    list[Float[np.ndarray, " cells"]],
    Float[np.ndarray, " samples"],
]:
    """Kernel density of a pair on a grid, the grid's cells, and its values at the samples.

    Reflected at the outermost samples, so that it does not fall off at bounds. The kernel is
    narrower where the two are correlated, since it is aligned with the axes.
    """
    x, y = across.shown, up.shown
    extent = [_extent(across), _extent(up)]
    counts, *edges = np.histogram2d(x, y, CELLS, extent, weights=across.weights)
    correlation = np.cov(x, y, aweights=across.weights)[0, 1] / (across.spread * up.spread)
    across_ridge = np.sqrt(max(1.0 - correlation**2, 1e-2))
    width = _effective(across) ** (-1 / 6) * across_ridge
    kernel = [width * n.scale / (e[1] - e[0]) for n, e in zip((across, up), edges, strict=True)]
    density = gaussian_filter(counts, kernel, mode="reflect")
    cell = [
        np.clip(np.searchsorted(e, v, side="right") - 1, 0, CELLS - 1)
        for v, e in zip((x, y), edges, strict=True)
    ]
    return density, [0.5 * (e[1:] + e[:-1]) for e in edges], density[tuple(cell)]


def _ticks(ax: Axes, *, left: bool, bottom: bool, turned: bool) -> None:
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(3, prune="both", min_n_ticks=2))
        formatter = ScalarFormatter(useOffset=False)
        formatter.set_scientific(False)
        axis.set_major_formatter(formatter)
        axis.set_tick_params(direction="in", labelsize=8, colors=INK, width=0.6)
    ax.tick_params(labelleft=left, labelbottom=bottom)
    if bottom and turned:
        for text in ax.get_xticklabels():
            text.set(rotation=40, rotation_mode="anchor", ha="right")
    for spine in ax.spines.values():
        spine.set(linewidth=0.7, color=INK)
    if ax.get_title():  # a marginal, whose height is arbitrary
        ax.set_yticks([])


def _legend(figure: Figure | SubFigure, truth: bool, prior: bool, count: int, right: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=BLUE, lw=0.9, ls=(0, (4, 3)), label="90 % interval")]
    if count > 1:
        handles += [
            Patch(facecolor=color, edgecolor=BLUE, label=f"{100 * inside:g} % of samples")
            for color, inside in zip((BLUE, LIGHT), INSIDE, strict=True)
        ]
    if truth:
        handles.append(Line2D([], [], color=RED, lw=1.1, label="truth"))
    if prior:
        handles.append(Line2D([], [], color=GREY, lw=1.2, label="prior"))
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(right, 0.985),
        frameon=False,
        fontsize=8.5,
    )
