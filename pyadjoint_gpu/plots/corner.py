"""Corner plots: marginal distributions of sampled numbers and of their pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

from ..core.checks import check_keys, finite
from ..core.errors import ConfigError, DataError, nearest
from ..results.samples import ABOUT, samples_of, scalars, weights_of
from .fields import INK, new_figure, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

LONGEST = 18
"""Most letters of a label beside another."""
MOST = 12
"""Most numbers in one figure."""
INSIDE = (0.5, 0.9)
"""Fractions of the samples inside the contours."""
CELLS = 100
"""Cells along a side of the grid on which densities of pairs are smoothed."""
DARK, LIGHT, TRUTH, PRIOR = "#1f6f8b", "#b7d7e0", "#c8553d", "#8a8a8a"
SIGNS = {"degree": "°", "degrees": "°", "m2": "m²", "1": ""}


@dataclass(frozen=True)
class Number:
    """A sampled number, with its label: `text`, in `units` times `factor`."""

    name: str
    text: str
    units: str
    values: np.ndarray
    weights: np.ndarray
    factor: float = 1.0

    @property
    def shown(self) -> np.ndarray:
        return self.values / self.factor

    @property
    def unit(self) -> str:
        sign = SIGNS.get(self.units, self.units)
        if self.factor == 1.0:
            return sign
        if (self.units, self.factor) == ("m", 1e3):
            return "km"
        return f"$10^{{{round(np.log10(self.factor))}}}$ {sign}".rstrip()

    @property
    def label(self) -> str:
        return f"{self.text} ({self.unit})" if self.unit else self.text

    def quantiles(self, *at: float) -> list[float]:
        found = np.quantile(self.shown, at, weights=self.weights, method="inverted_cdf")
        return [float(v) for v in found]

    @property
    def spread(self) -> float:
        mean = np.average(self.shown, weights=self.weights)
        return float(np.sqrt(np.average((self.shown - mean) ** 2, weights=self.weights)))

    @property
    def scale(self) -> float:
        """The standard deviation of a normal distribution whose middle half is as wide as the
        shortest interval with half of the samples, if that is less: the width of one mode."""
        order = np.argsort(self.shown)
        x, below = self.shown[order], np.cumsum(self.weights[order])
        ends = np.searchsorted(below, below - self.weights[order] + 0.5)
        inside = ends < len(x)
        shortest = np.min(x[ends[inside]] - x[inside]) / 1.349
        return min(float(shortest), self.spread) or self.spread

    @property
    def interval(self) -> str:
        """The median and the 90 % interval as a text, to two digits of its smaller side."""
        low, middle, high = self.quantiles(0.05, 0.5, 0.95)
        sides = [s for s in (high - middle, middle - low) if s > 0]
        unit = f" {self.unit}".rstrip().replace(" $10^", " × $10^")
        if not sides:
            return f"{middle:.6g}{unit}"
        digits = 1 - int(np.floor(np.log10(min(sides))))
        middle, up, down = (
            f"{np.round(v, digits):.{max(digits, 0)}f}"
            for v in (middle, high - middle, middle - low)
        )
        return f"${middle}_{{-{down}}}^{{+{up}}}${unit}"


def corner(
    result: xr.Dataset,
    names: str | Iterable[str] | None = None,
    truth: Mapping[str, float] | None = None,
    prior: Mapping[str, Any] | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Corner plot: the distribution of each scalar and of each pair of them.

    On the diagonal are histograms, with the median and the 90 % interval as titles and dashed
    lines; below it contours that contain 50 % and 90 % of the samples. Labels are the variables'
    `long_name` (if it is long, the name) and `units` (``result["strike"].attrs["units"] =
    "degree"``). Samples are weighted by the variable ``weight``, if there is one.

    Parameters
    ----------
    result : Dataset
        A sampler's result: variables with a dimension ``sample``. Of several draws of slip for each
        theta the first counts.
    names : str or sequence of str, optional
        Variables, with all components of those with further dimensions. By default all scalars, or
        if there are none, all variables.
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
    shown = numbers(result, names)
    size = corner_size(len(shown))
    figure = new_figure(*size)
    draw_corner(figure, size, shown, truth or {}, prior or {})
    return saved(figure, path)


def numbers(result: xr.Dataset, names: str | Iterable[str] | None = None) -> list[Number]:
    """The sampled numbers of these variables."""
    samples = samples_of(result)
    known = [str(n) for n in samples.data_vars if n not in ABOUT]
    if names is None:
        names = scalars(samples) or known
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ConfigError("names: expected one or more")
    size, weights = samples.sizes["sample"], weights_of(samples)
    out: list[Number] = []
    for name in names:
        if name not in known:
            raise ConfigError(f"names: {name!r} is not among the samples{nearest(name, known)}")
        field = samples[name]
        text, units = str(field.attrs.get("long_name", name)), str(field.attrs.get("units", "1"))
        if len(text) > LONGEST:
            text = name.replace("_", " ")
        columns = field.transpose("sample", ...).values.reshape(size, -1)
        if len(out) + columns.shape[1] > MOST:
            raise ConfigError(
                f"names: found {len(out) + columns.shape[1]} numbers, a figure shows {MOST} at"
                " most: select a part of the Dataset, for example with isel"
            )
        if not np.all(np.isfinite(columns)):
            raise DataError(f"{name}: some samples are not finite")
        for k, values in enumerate(columns.T.astype(float)):
            one = field.ndim == 1
            out.append(
                Number(
                    name if one else f"{name}[{k}]",
                    text if one else f"{name.replace('_', ' ')} {k}",
                    units,
                    values,
                    weights,
                    _factor(values),
                )
            )
    return out


def _factor(values: np.ndarray) -> float:
    """A power of 1000 that makes labels short, or 1."""
    most, range_ = float(np.max(np.abs(values))), float(np.ptp(values))
    if most == 0.0:
        return 1.0
    best = 1000.0 ** np.floor(np.log10(most) / 3)

    def length(factor: float) -> int:
        whole = max(1, 1 + int(np.floor(np.log10(most / factor))))
        return whole + (max(0, 1 - int(np.floor(np.log10(range_ / factor)))) if range_ else 0)

    return float(best) if length(1.0) > 5 and length(best) <= 4 else 1.0


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
                line(truth[names[place]] / shown[place].factor, color=TRUTH, lw=1.1)
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


def _effective(number: Number) -> float:
    """Effective sample size of the weights."""
    return 1.0 / float(np.sum(number.weights**2))


def _marginal(ax: Axes, number: Number, prior: Any) -> None:
    values, low, high = number.shown, float(np.min(number.shown)), float(np.max(number.shown))
    if high > low:
        width = 3.49 * number.scale * _effective(number) ** (-1 / 3)  # Scott 1979
        bins = int(np.clip(np.ceil((high - low) / width), 5, 60))
        options: dict[str, Any] = {"bins": bins, "weights": number.weights, "density": True}
        ax.hist(values, histtype="stepfilled", color=LIGHT, **options)
        top = float(np.max(ax.hist(values, histtype="step", color=DARK, lw=1.2, **options)[0]))
        ax.set_ylim(0.0, 1.08 * top)
        for edge in number.quantiles(0.05, 0.95):
            ax.axvline(edge, color=DARK, lw=0.9, ls=(0, (4, 3)))
    else:
        ax.axvline(low, color=DARK, lw=1.2)
    if prior is not None:
        x = np.linspace(*ax.get_xlim(), 300)
        ax.plot(x, prior.pdf(x * number.factor) * number.factor, color=PRIOR, lw=1.2)
    ax.set_title(f"{number.text}\n{number.interval}", fontsize=9, color=INK, pad=6)


def _pair(ax: Axes, across: Number, up: Number) -> None:
    x, y = across.shown, up.shown
    size = min(9.0, 1500.0 / len(x))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        ax.scatter(x, y, s=size, color=DARK, lw=0, rasterized=True)
        return
    density, centres, values = _density(across, up)
    levels = np.quantile(
        values, 1.0 - np.array(INSIDE), weights=across.weights, method="inverted_cdf"
    )
    outside = values < levels[-1]
    ax.scatter(x[outside], y[outside], s=size, color=DARK, lw=0, alpha=0.5, rasterized=True)
    levels = np.unique(levels)
    shades = [LIGHT, DARK][-len(levels) :]
    ax.contourf(*centres, density.T, [*levels, 1.01 * np.max(density)], colors=shades)
    ax.contour(*centres, density.T, levels, colors=DARK, linewidths=0.9)


def _density(across: Number, up: Number) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Kernel density of a pair on a grid, the grid's cells, and its values at the samples.

    Reflected at the outermost samples, so that it does not fall off at bounds. The kernel is
    narrower where the two are correlated, since it is aligned with the axes.
    """
    x, y = across.shown, up.shown
    counts, *edges = np.histogram2d(x, y, CELLS, weights=across.weights)
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

    handles: list[Any] = [Line2D([], [], color=DARK, lw=0.9, ls=(0, (4, 3)), label="90 % interval")]
    if count > 1:
        handles += [
            Patch(facecolor=color, edgecolor=DARK, label=f"{100 * inside:g} % of samples")
            for color, inside in zip((DARK, LIGHT), INSIDE, strict=True)
        ]
    if truth:
        handles.append(Line2D([], [], color=TRUTH, lw=1.1, label="truth"))
    if prior:
        handles.append(Line2D([], [], color=PRIOR, lw=1.2, label="prior"))
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(right, 0.985),
        frameon=False,
        fontsize=8.5,
    )
