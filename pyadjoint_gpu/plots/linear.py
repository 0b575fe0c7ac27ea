"""Plots of linear time-invariant systems: responses at sensors, inversions, sites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..core.errors import DataError
from ..results.dataset import NINETY
from .fields import INK, Panel, arranged, edges, units_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK, BAND, MARK = "#1f6f8b", "#9ec9d6", "#c8553d"
SHOWN = 3
"""Most sensors, or points of a forecast, that are drawn."""


def plot_block_column(column: xr.Dataset, path: str | Path | None = None) -> Figure:
    """Draw a result of `block_column`: responses of three sensors, in space and by lag.

    Parameters
    ----------
    column : Dataset
    path : path, optional
        File to save to, in the format of its ending, whole or not at all.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError
        If the Dataset is not a block column.
    EngineError
        If matplotlib is missing.
    """
    if "response" not in column:
        raise DataError("not a block column: it has no 'response'")
    sensors = column.sizes["sensor"]
    shown = np.unique(np.linspace(0, sensors - 1, min(sensors, SHOWN)).astype(int)).tolist()
    panels: list[Panel] = [lambda ax, k=k: _response_map(ax, column, k) for k in shown]
    panels.append(lambda ax: _lags(ax, column, shown))
    return arranged(panels, 1.3, str(column.attrs.get("title", "")), path)


def plot_linear_inversion(answer: xr.Dataset, path: str | Path | None = None) -> Figure:
    """Draw a result of `LinearInversion`: the integral of m over time with its standard
    deviation, and forecasts, at up to three points, with 90 % intervals.

    Parameters
    ----------
    answer : Dataset
    path : path, optional
        File to save to, in the format of its ending, whole or not at all.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError
        If the Dataset is not such a result.
    EngineError
        If matplotlib is missing.
    """
    if "integral" not in answer or "integral_sd" not in answer:
        raise DataError("not a linear inversion: it has no 'integral' with 'integral_sd'")
    panels: list[Panel]
    if _line_like(answer, answer["integral"]):
        panels = [lambda ax: _band_of_sites(ax, answer)]
    else:
        panels = [lambda ax, n=n: draw_sites(ax, answer, answer[n]) for n in
                  ("integral", "integral_sd")]  # fmt: skip
    for k in range(min(SHOWN, answer.sizes["point"] if "forecast" in answer else 0)):
        panels.append(lambda ax, k=k: _forecast(ax, answer, k))
    title = f"posterior from the first {answer.attrs.get('known', 'all')} times"
    return arranged(panels, 1.3, str(answer.attrs.get("title", title)), path)


def draw_sites(
    ax: Axes,
    result: xr.Dataset,
    field: xr.DataArray,
    *,
    text: str | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Values at the sites of a forcing: a map where they are cells or have positions in the plane,
    else along their numbers."""
    title = text or str(field.attrs.get("long_name", field.name))
    ax.set_title(title, fontsize=10, color=INK)
    if _line_like(result, field):
        x, label = _along(result, field)
        ax.plot(x, field.values.ravel(), "o-", ms=3.5, lw=1.2, color=DARK)
        ax.set_xlabel(label)
        ax.set_ylabel(units_of(field))
        ax.spines[["top", "right"]].set_visible(False)
        if limits is not None:
            ax.set_ylim(*limits)
        return
    values = field.values
    if limits is None:
        low, high = float(values.min()), float(values.max())
        if low < 0.0 < high:
            low, high = -max(-low, high), max(-low, high)
        limits = low, high if high > low else low + 1.0
    options: dict[str, Any] = {"vmin": limits[0], "vmax": limits[1]}
    options["cmap"] = "RdBu_r" if limits[0] < 0 else "magma"
    x, y = _positions(result, field)
    mesh = _lattice(x, y, values.ravel())
    if mesh is None:
        image: Any = ax.scatter(x, y, c=values.ravel(), s=60, edgecolors="#888888", **options)
        ax.margins(0.15)
    else:
        ax.set_facecolor("#f3f3f3")
        image = ax.pcolormesh(*mesh, rasterized=True, **options)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.03, 0.0, 0.04, 1.0)))
    bar.set_label(units_of(field))
    finish_plane(ax, result)


def finish_plane(ax: Axes, result: xr.Dataset) -> None:
    units = next(
        (
            str(result[n].attrs.get("units", "1"))
            for n in ("x", "source_x", "sensor_x", "candidate_x")
            if n in result.coords
        ),
        "1",
    )
    suffix = "" if units == "1" else f" ({units})"
    ax.set_aspect("equal")
    ax.set_xlabel("x" + suffix)
    ax.set_ylabel("y" + suffix)
    ax.locator_params(nbins=6)


def _line_like(result: xr.Dataset, field: xr.DataArray) -> bool:
    """Whether the sites have no positions in the plane."""
    if field.ndim == 2:
        return False
    return field.ndim != 1 or not {f"{field.dims[0]}_{d}" for d in "xy"} <= set(result.coords)


def _along(result: xr.Dataset, field: xr.DataArray) -> tuple[np.ndarray, str]:
    dim = str(field.dims[0])
    for name in (dim, f"{dim}_x"):
        if field.ndim == 1 and name in result.coords:
            units = str(result[name].attrs.get("units", "1"))
            return result[name].values, name.replace("_", " ") + (
                "" if units == "1" else f" ({units})"
            )
    return np.arange(field.size), "place"


def _positions(result: xr.Dataset, field: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the sites, flat."""
    if field.ndim == 1:
        dim = field.dims[0]
        return result[f"{dim}_x"].values, result[f"{dim}_y"].values
    rows, columns = (
        result[d].values if d in result.coords else np.arange(field.sizes[d]) for d in field.dims
    )
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return x.ravel(), y.ravel()


def _lattice(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...] | None:
    """Edges and values on the smallest lattice with all sites, None where most of it is empty."""
    (at_x, i), (at_y, j) = (np.unique(c, return_inverse=True) for c in (x, y))
    if min(len(at_x), len(at_y)) < 2 or len(at_x) * len(at_y) > 2.5 * len(values):
        return None
    out = np.full((len(at_y), len(at_x)), np.nan)
    out[j, i] = values
    return edges(at_x), edges(at_y), out


def _response_map(ax: Axes, column: xr.Dataset, k: int) -> None:
    """Draw the response of one sensor, over all lags."""
    response = column["response"]
    field = response.isel(sensor=k).sum("lag")
    field.attrs = response.attrs
    draw_sites(ax, column, field, text=f"sensor {k}: response, sum over all lags")
    if {"sensor_x", "sensor_y"} <= set(column.coords) and not _line_like(column, field):
        x, y = (column[f"sensor_{d}"].values for d in "xy")
        ax.plot(x[k], y[k], "o", ms=8, mfc=MARK, mec="white")
        # The same scale for all sensors.
        ax.update_datalim(np.stack([x, y], axis=1))
        ax.autoscale()
        ax.margins(0.06)


def _lags(ax: Axes, column: xr.Dataset, shown: list[int]) -> None:
    response = column["response"]
    sites: Any = response.dims[2:]
    lag = column["lag"] if "lag" in column.coords else xr.DataArray(np.arange(len(response)))
    for n, k in enumerate(shown):
        size = np.sqrt(np.square(response.isel(sensor=k)).mean(sites))
        ax.plot(lag, size, "o-", ms=3, lw=1.2, color=f"C{n}", label=f"sensor {k}")
    units = str(lag.attrs.get("units", "1"))
    ax.set_xlabel("lag" + ("" if units == "1" else f" ({units})"))
    ax.set_ylabel(units_of(response))
    ax.set_title("rms response of all sites, by lag", fontsize=10, color=INK)
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _band_of_sites(ax: Axes, answer: xr.Dataset) -> None:
    mean, sd = answer["integral"], answer["integral_sd"]
    x, label = _along(answer, mean)
    flat, spread = mean.values.ravel(), sd.values.ravel()
    ax.axhline(0.0, color="#bbbbbb", lw=0.7, zorder=0)
    ax.errorbar(x, flat, yerr=spread, fmt="o", ms=4, color=DARK, ecolor=BAND, elinewidth=1.8)
    ax.set_xlabel(label)
    ax.set_ylabel(units_of(mean))
    text = "time integral, mean and standard deviation"
    ax.set_title(text, fontsize=10, color=INK)
    ax.spines[["top", "right"]].set_visible(False)


def _forecast(ax: Axes, answer: xr.Dataset, k: int) -> None:
    time = answer["time"]
    mean, sd = (answer[n].values[:, k] for n in ("forecast", "forecast_sd"))
    ax.axhline(0.0, color="#bbbbbb", lw=0.7, zorder=0)
    ax.fill_between(time, mean - NINETY * sd, mean + NINETY * sd, color=BAND, lw=0, alpha=0.7,
                    label="90 % interval")  # fmt: skip
    ax.plot(time, mean, color=DARK, lw=1.6, label="forecast")
    known = int(answer.attrs.get("known", time.size))
    if known < time.size:
        ax.axvspan(0, float(time[known - 1]), color="#c9c9c9", alpha=0.35, lw=0, label="data used")
    ax.set_xlim(0, float(time[-1]))
    units = str(time.attrs.get("units", "1"))
    ax.set_xlabel("time" + ("" if units == "1" else f" ({units})"))
    ax.set_ylabel(units_of(answer["forecast"]))
    ax.set_title(f"forecast at point {k}", fontsize=10, color=INK)
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
