"""Maps of fields on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.quantities import power
from ..problem.cell_methods import bounds_name
from ..results.dataset import named
from .style import BLUE, color_bar, name_of, open_axes, titled, units_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection, QuadMesh
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Normalize

MOST = 1000
"""Most observations on a map."""


def draw_map(
    ax: Axes,
    result: xr.Dataset,
    name: str,
    *,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    points: bool = False,
    colors: str = "viridis",
) -> None:
    """Draw a field in the plane, within `limits` and in `colors`; without limits, as states are.
    With `points`, also the positions of the observations. A field along one axis is a curve."""
    from matplotlib.colors import LogNorm, Normalize

    field, text = cut(result, name)
    values = field.values
    unit, suffix = length_unit(result)
    titled(ax, text)
    if field.ndim == 1:
        ax.plot(result[field.dims[0]] / unit, values, color=BLUE)
        ax.set_xlabel(f"{field.dims[0]}{suffix}")
        open_axes(ax)
        return
    bounds = limits or (float(np.min(values)), float(np.max(values)))
    norm = LogNorm(*bounds) if log else Normalize(*bounds)
    image = ax.pcolormesh(
        result["x_face"] / unit,
        result["y_face"] / unit,
        np.clip(values, np.finfo(float).tiny, None) if log else values,
        norm=norm,
        cmap=colors if limits else "RdYlBu_r",
        rasterized=True,
    )
    over = _beyond(values, bounds) if limits else "neither"
    _scale(color_bar(ax, image, units_of(field), extend=over), bounds, log)
    if not limits:
        x, y = result["x"] / unit, result["y"] / unit
        ax.contour(x, y, values, 12, colors="k", linewidths=0.4, alpha=0.6)
    if "observation_x" in result and result["observed"].size <= MOST:
        _observations(ax, result, name, image, norm, points)
    ax.set_aspect("equal")
    ax.set_xlabel("x" + suffix)
    ax.set_ylabel("y" + suffix)


def _beyond(values: Float[np.ndarray, "ny nx"], bounds: tuple[float, float]) -> str:
    """The ends of a colour bar beyond which there are values, as matplotlib names them."""
    below = bool(np.min(values) < 0.999 * bounds[0])
    above = bool(np.max(values) > 1.001 * bounds[1])
    return ("both" if above else "min") if below else ("max" if above else "neither")


def _scale(bar: Colorbar, bounds: tuple[float, float], log: bool) -> None:
    """Set the ticks of a colour bar."""
    from matplotlib.ticker import LogLocator

    if log and bounds[1] < 100 * bounds[0]:  # few powers of ten, or none, to label
        if bounds[1] > 4 * bounds[0]:
            bar.ax.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter("{x:g}")


def _observations(
    ax: Axes, result: xr.Dataset, name: str, image: QuadMesh, norm: Normalize, points: bool
) -> None:
    """Mark the observations: of this field, in its colours; of another, with `points` alone."""
    observed = result["observed"]
    own = str(observed.attrs.get("long_name")) == f"observed {name}"
    own = own and "observation_time" not in result  # the map is at one time, these at many
    own = own and "sum" not in str(observed.attrs.get("cell_methods"))  # which has other units
    if own:
        shown = {"norm": norm, "cmap": image.cmap}
        mark(ax, result, observed.values, length_unit(result)[0], 16.0, linewidths=0.7, **shown)
    elif points:
        mark(ax, result, None, length_unit(result)[0], 10.0, linewidths=0.7)


def mark(
    ax: Axes,
    data: xr.Dataset,
    values: Float[np.ndarray, " n"] | None,
    unit: float,
    size: float,
    prefix: str = "observation_",
    **style: Any,
) -> Collection:
    """Mark observations by dots of `size`, or by rectangles where they have bounds, in the colours
    of `values`; white without these. The `style` is that of matplotlib's collections."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patheffects import withStroke

    x, y = (data[f"{prefix}{d}"] for d in ("x", "y"))
    bounds = [bounds_name(a) for a in (x, y)]
    style.setdefault("edgecolors", "black")
    if bounds == [None, None]:
        colours = "white" if values is None else values
        return ax.scatter(x / unit, y / unit, s=size, c=colours, **style)
    each = zip((x, y), bounds, strict=True)
    ends = [np.stack([a, a], axis=1) if name is None else data[name].values for a, name in each]
    (left, right), (low, high) = (e.T / unit for e in ends)
    corners = np.stack([left, low, right, low, right, high, left, high], axis=1)
    if values is None:  # so that the map is seen
        style |= {"facecolors": "none", "edgecolors": "white"}
        style["path_effects"] = [withStroke(linewidth=2.5, foreground="black")]
    marks = PolyCollection([*corners.reshape(-1, 4, 2)], array=values, **style)
    ax.add_collection(marks)
    ax.autoscale_view()
    return marks


def cut(result: xr.Dataset, name: str) -> tuple[xr.DataArray, str]:
    """A field at the last time, and through the middle of the first of three axes, with its
    title."""
    field = result[name]
    text = name_of(field)
    if "time" in field.dims:
        time = result["time"]
        text += f" at t = {float(time[-1]):g} {time.attrs.get('units', '')}".rstrip()
        field = field.isel(time=-1)
    if field.ndim == 3:
        middle = field.sizes["z"] // 2
        text += f" at z = {float(result['z'][middle]):g}"
        field = field.isel(z=middle)
    return field, text


def over_all_time(result: xr.Dataset) -> xr.Dataset:
    """A result with fields by interval and cell replaced by their integrals over time."""
    if "interval" not in result.coords:
        return result
    times = result["interval"]
    length, units = 2.0 * float(times[0]), str(times.attrs.get("units", ""))
    out = {}
    for name, field in result.data_vars.items():
        if field.dims[:1] == ("interval",) and set(field.dims[1:]) <= {"z", "y", "x"}:
            total = length * field.sum("interval")
            unit = power((field.attrs.get("units", "1"), 1), (units, 1))
            total.attrs = field.attrs | named(f"{name_of(field)}, over all time", unit)
            out[name] = total
    return result.assign(out)


def aspect(result: xr.Dataset) -> float:
    """Aspect ratio (width over height) of the maps."""
    if "y_face" not in result.coords or "x_face" not in result.coords:
        return 1.5
    width, height = np.ptp(result["x_face"].values), np.ptp(result["y_face"].values)
    return float(np.clip(width / height, 0.5, 4.0))


def value_range(
    values: Float[np.ndarray, "*shape"], beyond: float = 0.2
) -> tuple[tuple[float, float], bool]:
    """Limits of a map's colours, with `beyond` percent of values outside, and whether a logarithmic
    scale is better."""
    low, high = (float(v) for v in np.percentile(values, [beyond, 100.0 - beyond]))
    log = bool(np.min(values) > 0 and high > 3 * low)
    if high - low < 1e-12 * max(abs(high), abs(low)):
        low, high = low - 0.5 * abs(low), high + 0.5 * abs(high)
    return (low, high), log


def length_unit(result: xr.Dataset) -> tuple[float, str]:
    """Divisor of coordinates, and the unit as a suffix of a label."""
    units = str(result["x"].attrs.get("units", "1"))
    if units == "m" and float(np.ptp(result["x_face"].values)) > 1e4:
        return 1e3, " (km)"
    return 1.0, "" if units == "1" else f" ({units})"


def edges(middles: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " faces"]:
    """Edges of cells from their middles."""
    if len(middles) < 2:
        return np.array([middles[0] - 0.5, middles[0] + 0.5])
    inner = 0.5 * (middles[1:] + middles[:-1])
    return np.concatenate([[2 * middles[0] - inner[0]], inner, [2 * middles[-1] - inner[-1]]])
