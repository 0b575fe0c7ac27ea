"""Plots of linear time-invariant systems: responses at sensors, inversions, sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..core.errors import DataError
from .figure import Panel, arranged
from .sites import along, draw_sites, in_plane
from .style import (
    BLUE,
    FAINT,
    PALE,
    RED,
    data_used,
    forecast,
    labelled,
    legend,
    open_axes,
    titled,
    units_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 3
"""Most sensors, or points of a forecast, that are drawn."""


def plot_block_column(column: xr.Dataset) -> Figure:
    """Draw a result of `block_column`: responses of three sensors, in space and by lag."""
    if "response" not in column:
        raise DataError("not a block column: it has no 'response'")
    sensors = column.sizes["sensor"]
    shown = np.unique(np.linspace(0, sensors - 1, min(sensors, SHOWN)).astype(int)).tolist()
    panels: list[Panel] = [lambda ax, k=k: _response_map(ax, column, k) for k in shown]
    panels.append(lambda ax: _lags(ax, column, shown))
    return arranged(panels, 1.3, str(column.attrs.get("title", "")))


def plot_linear_inversion(answer: xr.Dataset) -> Figure:
    """Draw a result of `LinearInversion`: the integral of m over time with its standard
    deviation, and forecasts, at up to three points, with 90 % intervals."""
    if "integral" not in answer or "integral_sd" not in answer:
        raise DataError("not a linear inversion: it has no 'integral' with 'integral_sd'")
    panels: list[Panel]
    if in_plane(answer, answer["integral"]):
        names = "integral", "integral_sd"
        panels = [lambda ax, n=n: draw_sites(ax, answer, answer[n]) for n in names]
    else:
        panels = [lambda ax: _band_of_sites(ax, answer)]
    for k in range(min(SHOWN, answer.sizes["point"] if "forecast" in answer else 0)):
        panels.append(lambda ax, k=k: _forecast(ax, answer, k))
    title = f"posterior from the first {answer.attrs.get('known', 'all')} times"
    return arranged(panels, 1.3, str(answer.attrs.get("title", title)))


def _response_map(ax: Axes, column: xr.Dataset, k: int) -> None:
    """Draw the response of one sensor, over all lags."""
    response = column["response"]
    field = response.isel(sensor=k).sum("lag")
    field.attrs = response.attrs
    draw_sites(ax, column, field, text=f"sensor {k}: response, sum over all lags")
    if {"sensor_x", "sensor_y"} <= set(column.coords) and in_plane(column, field):
        x, y = (column[f"sensor_{d}"].values for d in "xy")
        ax.plot(x[k], y[k], "o", ms=8, mfc=RED, mec="white")
        # The same scale for all sensors.
        ax.update_datalim(np.stack([x, y], axis=1))
        ax.autoscale()
        ax.margins(0.06)


def _lags(ax: Axes, column: xr.Dataset, shown: list[int]) -> None:
    response = column["response"]
    sites = list(response.dims[2:])
    lag = column["lag"] if "lag" in column.coords else xr.DataArray(np.arange(len(response)))
    for n, k in enumerate(shown):
        size = np.sqrt((response.isel(sensor=k) ** 2).mean(sites))
        ax.plot(lag, size, "o-", ms=3, lw=1.2, color=f"C{n}", label=f"sensor {k}")
    ax.set_xlabel(labelled("lag", lag))
    ax.set_ylabel(units_of(response))
    titled(ax, "rms response of all sites, by lag")
    legend(ax)
    open_axes(ax)


def _band_of_sites(ax: Axes, answer: xr.Dataset) -> None:
    mean, sd = answer["integral"], answer["integral_sd"]
    x, label = along(answer, mean)
    flat, spread = mean.values.ravel(), sd.values.ravel()
    ax.axhline(0.0, color=FAINT, lw=0.7, zorder=0)
    ax.errorbar(x, flat, yerr=spread, fmt="o", ms=4, color=BLUE, ecolor=PALE, elinewidth=1.8)
    ax.set_xlabel(label)
    ax.set_ylabel(units_of(mean))
    titled(ax, "time integral, mean and standard deviation")
    open_axes(ax)


def _forecast(ax: Axes, answer: xr.Dataset, k: int) -> None:
    time = answer["time"]
    mean, sd = (answer[n].values[:, k] for n in ("forecast", "forecast_sd"))
    known = int(answer.attrs.get("known", time.size))
    forecast(ax, time.values, mean, sd)
    if known < time.size:
        data_used(ax, float(time[known - 1]))
    ax.set_xlabel(labelled("time", time))
    ax.set_ylabel(units_of(answer["forecast"]))
    titled(ax, f"forecast at point {k}")
    legend(ax)
