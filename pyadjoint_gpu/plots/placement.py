"""Plots of sensor placements and of their information."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from ..core.errors import DataError
from .figure import Panel, arranged, new_figure
from .maps import length_unit
from .sites import draw_sites, finish_plane
from .style import INK, RED, color_bar, data_used, forecast, open_axes, titled, units_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec
    from matplotlib.lines import Line2D

RANDOM, TRUE, PLACED = "#c9c9c9", "#222222", "#f2c14e"
WIDTH = 3.5
"""Approximate width of a map, in inches."""


def plot_placement(result: xr.Dataset) -> Figure:
    """Draw a result of `place_sensors` or ``pyadjoint-gpu place``: candidates and the order of
    those chosen, on the medium if there is one, the standard deviation of the source over all
    time before and after, the information against that of random networks; and for a test
    rupture, its final uplift, true and recovered, and forecasts with 90 % intervals."""
    if "order" not in result or "integral_sd" not in result:
        raise DataError("not a result of a placement: it has no 'order' and 'integral_sd'")
    if "medium" not in result.attrs:
        drawn: list[Panel] = [
            lambda ax: _candidates(ax, result),
            lambda ax: _spread(ax, result, 0, "before"),
            lambda ax: _spread(ax, result, -1, "after"),
            lambda ax: _information(ax, result),
        ]
        return arranged(drawn, 1.3, str(result.attrs.get("title", "")))
    basin = _Basin(result)
    waves = "forecast_true" in result
    height = float(np.clip(WIDTH / basin.aspect, 2.2, 4.6))
    rows = [height + 0.3, height, *([2.3] if waves else [])]
    figure = new_figure(3 * (WIDTH + 1.5), sum(rows) + 0.7 * len(rows) + 0.5, between=0.1)
    cells = figure.add_gridspec(len(rows), 3, height_ratios=rows)
    panels: list[Panel] = [
        lambda ax: _network(ax, basin),
        lambda ax: _deviation(ax, basin, 0, "before"),
        lambda ax: _deviation(ax, basin, -1, "after"),
        lambda ax: _information(ax, result, basin.aspect),
    ]
    if "integral_true" in result:
        error = f"{result.attrs['integral_error']:.2g} {units_of(result['integral'])}".rstrip()
        panels += [
            lambda ax: _total(ax, basin, "integral_true", ""),
            lambda ax: _total(ax, basin, "integral", f" (rms error {error})"),
        ]
    for k, panel in enumerate(panels):
        panel(figure.add_subplot(cells[divmod(k, 3)]))
    if waves:
        _forecasts(figure, cells[2, :], result)
    figure.suptitle(str(result.attrs.get("title", "")), fontsize=14, color=INK)
    return figure


class _Basin:
    """Maps of a result on its grid."""

    def __init__(self, result: xr.Dataset):
        self.result = result
        self.unit, self.suffix = length_unit(result)
        self.edges = [result[f"{d}_face"].values / self.unit for d in ("x", "y")]
        self.aspect = float(np.ptp(self.edges[0]) / np.ptp(self.edges[1]))
        self.medium = result[result.attrs["medium"]]

    def at(self, kind: str) -> tuple[Float[np.ndarray, " sites"], Float[np.ndarray, " sites"]]:
        """x and y of candidates, points or sources."""
        x, y = (self.result[f"{kind}_{d}"].values / self.unit for d in ("x", "y"))
        return x, y

    def spread(self, field: xr.DataArray) -> Float[np.ndarray, "ny nx"]:
        """Values at the sites of the source on the whole grid, NaN elsewhere."""
        if "source" not in field.dims:
            return field.values
        out = np.full(self.medium.shape, np.nan)
        cells = [
            np.searchsorted(self.result[f"{d}_face"].values, self.result[f"source_{d}"].values) - 1
            for d in ("y", "x")
        ]
        out[tuple(cells)] = field.values
        return out

    def outline(self, ax: Axes) -> None:
        """Outline the sites of the source, where these are not all cells."""
        from matplotlib.collections import LineCollection

        if "source_x" not in self.result.coords:
            return
        inside = np.pad(~np.isnan(self.spread(xr.ones_like(self.result["source_x"]))), 1)
        x, y = self.edges
        sides = []
        for j, i in np.argwhere(inside[1:-1, 1:] != inside[1:-1, :-1]):
            sides.append([(x[i], y[j]), (x[i], y[j + 1])])
        for j, i in np.argwhere(inside[1:, 1:-1] != inside[:-1, 1:-1]):
            sides.append([(x[i], y[j]), (x[i + 1], y[j])])
        ax.add_collection(LineCollection(sides, colors=INK, linewidths=1.0))

    def contours(self, ax: Axes) -> None:
        """Draw contours of the medium."""
        values = self.medium.values
        low, high = float(values.min()), float(values.max())
        if high - low > 1e-9 * abs(high):
            x, y = (self.result[d].values / self.unit for d in ("x", "y"))
            levels = np.linspace(low, high, 7)[1:-1]
            ax.contour(x, y, values, levels, colors="k", linewidths=0.5, alpha=0.3)

    def finish(self, ax: Axes, text: str) -> None:
        ax.set_aspect("equal")
        ax.set_xlabel("x" + self.suffix)
        ax.set_ylabel("y" + self.suffix)
        titled(ax, textwrap.fill(text, 54), 10.5)
        ax.locator_params(nbins=6)

    def map(
        self, ax: Axes, field: xr.DataArray, text: str, limits: tuple[float, float], colors: str
    ) -> None:
        """Draw a map around the sites of the source and the sensors."""
        ax.set_facecolor("#f3f3f3")
        values = self.spread(field)
        image = ax.pcolormesh(
            *self.edges, values, vmin=limits[0], vmax=limits[1], cmap=colors, rasterized=True
        )
        color_bar(ax, image, units_of(field))
        x, y = (p[self.network] for p in self.at("candidate"))
        ax.plot(x, y, "o", ms=4, mfc="white", mec="k", mew=0.7)
        self.finish(ax, text)
        rows, columns = (np.flatnonzero(np.any(~np.isnan(values), axis=a)) for a in (1, 0))
        for set_limits, edges, inside, at in (
            (ax.set_xlim, self.edges[0], columns, x),
            (ax.set_ylim, self.edges[1], rows, y),
        ):
            ends = [edges[inside[0]], edges[inside[-1] + 1], *at]
            margin = 0.06 * (max(ends) - min(ends))
            low, high = min(ends) - margin, max(ends) + margin
            set_limits(max(low, edges[0]), min(high, edges[-1]))

    @property
    def network(self) -> Int[np.ndarray, " sensors"]:
        """Existing sensors, and those chosen."""
        existing = np.flatnonzero(self.result["candidate_kind"].values == 1)
        return np.concatenate([existing, self.result["order"].values])


def _network(ax: Axes, basin: _Basin) -> None:
    """Draw candidates, and the order of those chosen."""
    result, medium = basin.result, basin.medium
    image = ax.pcolormesh(*basin.edges, medium.values, cmap="Blues", rasterized=True, alpha=0.75)
    color_bar(ax, image, f"{medium.attrs['long_name']} ({medium.attrs['units']})")
    basin.contours(ax)
    basin.outline(ax)
    handles = _marked(ax, *basin.at("candidate"), result)
    if result.sizes.get("point"):
        mark = {"ms": 8, "mfc": PLACED, "mec": "k", "mew": 0.8, "clip_on": False, "zorder": 5}
        handles += ax.plot(*basin.at("point"), "^", label="forecast", **mark)
    basin.finish(ax, _chosen(result))
    ax.set_xlim(basin.edges[0][0], basin.edges[0][-1])
    ax.set_ylim(basin.edges[1][0], basin.edges[1][-1])
    _legend_below(ax, WIDTH / basin.aspect, handles=handles)


def _chosen(result: xr.Dataset) -> str:
    return f"{result.sizes['step']} of {result.sizes['candidate']} candidates, in order"


def _marked(ax: Axes, x: np.ndarray, y: np.ndarray, result: xr.Dataset) -> list[Line2D]:
    """Draw candidates by kind, chosen ones with their numbers; return the legend's handles."""
    kind, order = result["candidate_kind"].values, result["order"].values
    free = np.setdiff1d(np.flatnonzero(kind == 0), order)
    marks: list[tuple[Any, str, str, dict[str, Any]]] = [
        (free, "o", "candidate", {"ms": 4.5, "mfc": "white", "mec": "#555555"}),
        (kind < 0, "x", "forbidden", {"ms": 5, "mec": "#555555"}),
        (kind == 1, "s", "in place", {"ms": 7, "mfc": PLACED, "mec": "k"}),
        (order, "o", "chosen", {"ms": 12, "mfc": RED, "mec": "white"}),
    ]
    handles = []
    for which, mark, label, options in marks:
        if x[which].size:
            ax.plot(x[which], y[which], mark, mew=0.8, **options)
            small = options | {"ms": min(options["ms"], 7)}
            handles += ax.plot([], [], mark, label=label, **small)
    for k, at in enumerate(zip(x[order].tolist(), y[order].tolist(), strict=True)):
        ax.text(*at, str(k + 1), color="white", size=7.5, ha="center", va="center_baseline")
    return handles


def _candidates(ax: Axes, result: xr.Dataset) -> None:
    """Draw candidates in the plane, or without positions the gains of those chosen."""
    if {"candidate_x", "candidate_y"} <= set(result.coords):
        handles = _marked(ax, result["candidate_x"].values, result["candidate_y"].values, result)
        ax.margins(0.12)
        finish_plane(ax, result)
        _legend_below(ax, WIDTH / 1.3, handles=handles)
    else:
        order = result["order"].values
        ax.bar(np.arange(1, len(order) + 1), result["gain"], color=RED)
        ax.set_xticks(np.arange(1, len(order) + 1), [str(p) for p in order])
        ax.set_xlabel("candidate")
        ax.set_ylabel("information gained (nats)")
        open_axes(ax)
    titled(ax, _chosen(result), 10.5)


def _spread(ax: Axes, result: xr.Dataset, addition: int, when: str) -> None:
    """Draw the standard deviation of the source's time integral, where there is no medium."""
    field, most = result["integral_sd"].isel(addition=addition), float(result["integral_sd"].max())
    text = f"standard deviation of the time integral, {when}"
    draw_sites(ax, result, field, text=text, limits=(0.0, 1.05 * most))


def _legend_below(ax: Axes, height: float, **options: Any) -> None:
    """Draw a legend below axes about so many inches high."""
    ax.legend(fontsize=8, frameon=False, ncols=4, handletextpad=0.3, columnspacing=1.0,
              loc="upper center", bbox_to_anchor=(0.5, -0.46 / height), **options)  # fmt: skip


def _deviation(ax: Axes, basin: _Basin, addition: int, when: str) -> None:
    """Draw the standard deviation of the source's time integral after so many sensors, in the
    colours of both maps."""
    fields = basin.result["integral_sd"].isel(addition=[0, -1])
    field = fields.isel(addition=addition)
    text = f"{field.attrs['long_name']}, {when}"
    basin.map(ax, field, text, (0.0, float(fields.max())), "magma")


def _total(ax: Axes, basin: _Basin, name: str, more: str) -> None:
    most = float(abs(basin.result["integral_true"]).max())
    text = basin.result[name].attrs["long_name"] + more
    basin.map(ax, basin.result[name], text, (-most, most), "RdBu_r")


def _information(ax: Axes, result: xr.Dataset, aspect: float = 1.3) -> None:
    start = result.attrs["existing_information"]  # of sensors in place
    for k, one in enumerate(result["random_information"].values):
        label = f"{result.sizes['design']} random networks" if k == 0 else None
        ax.plot(np.arange(one.size + 1), [start, *one], color=RANDOM, lw=0.7, label=label)
    chosen = [start, *result["information"].values]
    ax.plot(np.arange(len(chosen)), chosen, "o-", ms=4, color=RED, lw=1.8, label="chosen")
    ax.set_box_aspect(1.0 / aspect)
    ax.set_xlim(0, None)
    ax.set_ylim(0, None)
    ax.set_xlabel("sensors chosen")
    ax.set_ylabel("expected information gain (nats)")
    titled(ax, "what the data are expected to tell", 10.5)
    ax.locator_params(axis="x", integer=True)
    ax.grid(alpha=0.2)
    ax.legend(frameon=False, fontsize=8.5, loc="upper left")
    open_axes(ax)


def _forecasts(figure: Figure, place: SubplotSpec, result: xr.Dataset) -> None:
    """Draw forecasts at up to three points."""
    shown = range(min(3, result.sizes["point"]))
    length, unit = _clock(result["time"])
    time, until = result["time"].values / length, result.attrs["forecast_until"] / length
    inner = place.subgridspec(1, len(shown))
    first: Axes | None = None
    for k in shown:
        ax = figure.add_subplot(inner[k], sharey=first)
        mean, sd = (result[n].values[:, k] for n in ("forecast", "forecast_sd"))
        forecast(ax, time, mean, sd)
        ax.plot(time, result["forecast_true"].values[:, k], ":", color=TRUE, lw=1.6, label="true")
        if until < time[-1]:
            data_used(ax, until)
        ax.set_xlabel(f"time ({unit})")
        titled(ax, f"waves ahead: {result['point_name'].values[k]}", 10.5)
        if first is None:
            first = ax
            text, units = (result["forecast"].attrs[a] for a in ("long_name", "units"))
            ax.set_ylabel(f"{text.split(',')[0]} ({units})")
            _legend_below(ax, 1.7)


def _clock(time: xr.DataArray) -> tuple[float, str]:
    """Divisor of times, and the resulting unit."""
    units = str(time.attrs.get("units", "1"))
    if units == "s" and float(time[-1]) > 600.0:
        return 60.0, "min"
    return 1.0, units
