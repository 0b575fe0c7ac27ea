"""Plots of samplers' results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from ..core.errors import DataError
from ..results.dataset import Variables, named
from ..results.samples import samples_of, scalars
from .corner import LIGHT, corner_size, draw_corner
from .figure import Panel, new_figure
from .maps import aspect, draw_map, value_range
from .numbers import MOST, numbers
from .style import BLUE, FAINT, INK, labelled, legend, name_of, open_axes, symmetric, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, GAP = 3.5, 1.75
"""Width of a map and the space to the next, for its colour bar, in inches."""

Row = tuple[list[Panel], float]
"""Panels in a row, and their height in inches."""


def plot_samples(result: xr.Dataset) -> Figure:
    """Draw a sampler's result: its unknown numbers in a corner plot (the first twelve), mean and
    standard deviation of slip and of fields as maps, and the stages of tempering.

    Slip is mapped on its fault if its components have coordinates (`Fault.coordinates`). Fields are
    variables ``<name>_mean`` and ``<name>_sd`` on a grid, with ``<name>_true`` if it is known."""
    shown = scalars(samples_of(result))[:MOST]
    rows = [*_slip(result), *_fields(result), *_progress(result)]
    if not shown and not rows:
        raise DataError("nothing to draw: no numbers, no slip and no fields with mean and sd")
    widths = [_width(len(panels)) for panels, _ in rows]
    heights = [height + 1.1 for _, height in rows]
    size = corner_size(len(shown)) if shown else (0.0, 0.0)
    if shown:
        widths, heights = [size[0], *widths], [size[1], *heights]
    width, height = max(widths), sum(heights) + 0.5
    figure = new_figure(width, height)
    figure.suptitle(_title(result), fontsize=13, color=INK, y=1 - 0.2 / height)
    made: Any = figure.subfigures(len(heights) + 1, 1, height_ratios=[0.5, *heights])
    parts = list(made[1:])
    if shown:
        draw_corner(parts.pop(0), (width, size[1]), numbers(result, shown), {}, {}, size[0])
    for part, (panels, height) in zip(parts, rows, strict=True):
        axes = part.subplots(1, len(panels), squeeze=False)[0]
        aside = 0.5 * (width - _width(len(panels))) if len(panels) > 1 else 0.0
        part.subplots_adjust(
            left=(aside + 0.8) / width,
            right=1 - (aside + 1.0) / width,
            bottom=0.65 / (height + 1.1),
            top=1 - 0.45 / (height + 1.1),
            wspace=GAP / PANEL,
        )
        for ax, panel in zip(axes, panels, strict=True):
            panel(ax)
    return figure


def _width(count: int) -> float:
    """Width of so many maps, with their labels and colour bars."""
    return 0.8 + count * PANEL + (count - 1) * GAP + 1.0


def _title(result: xr.Dataset) -> str:
    text = str(result.attrs.get("title", ""))
    if "log_evidence" not in result.attrs:
        return text
    error = result.attrs.get("log_evidence_error")
    digits = 1 if error is None else int(np.clip(1 - np.floor(np.log10(error)), 0, 6))
    said = f"{text}, ln Z = {result.attrs['log_evidence']:.{digits}f}".replace("= -", "= −")
    return said if error is None else f"{said} ± {error:.{digits}f}"


# Slip


def _slip(result: xr.Dataset) -> list[Row]:
    if "slip_mean" not in result or "slip_sd" not in result:
        return []
    if not {"slip_kind", "along", "down"} <= set(result["slip_mean"].coords):
        return [([lambda ax: _bars(ax, result)], 2.2)]
    rows: list[Row] = []
    for kind in dict.fromkeys(result["slip_kind"].values.tolist()):
        plane = _on_fault(result, kind)
        height = float(np.clip(PANEL / aspect(plane), 0.8, PANEL))
        rows.append(([_map_panel(plane, name, _fault_axes) for name in ("mean", "sd")], height))
    return rows


def _on_fault(result: xr.Dataset, kind: str) -> xr.Dataset:
    """Mean and standard deviation of one kind of slip, down dip (y) and along strike (x)."""
    part = result[["slip_mean", "slip_sd"]].isel(component=result["slip_kind"].values == kind)
    (x, along), (y, down) = (_patches(part[n]) for n in ("along", "down"))
    edges, units = {"x": x, "y": y}, str(part["along"].attrs.get("units", "1"))
    variables = {}
    for name, said in (("mean", "mean of"), ("sd", "standard deviation of")):
        field = part[f"slip_{name}"]
        values = np.full((len(edges["y"]) - 1, len(edges["x"]) - 1), np.nan)
        values[down, along] = field.values
        text = named(f"{said} {kind} slip", field.attrs.get("units", "1"))
        variables[name] = (("y", "x"), values, text)
    coordinates: Variables = {}
    for d, e in edges.items():
        coordinates[d] = (d, 0.5 * (e[1:] + e[:-1]), {"units": units})
        coordinates[f"{d}_face"] = (f"{d}_face", e, {"units": units})
    return xr.Dataset(variables, coordinates)


def _patches(
    at: xr.DataArray,
) -> tuple[Float[np.ndarray, " edges"], Int[np.ndarray, " components"]]:
    """Edges of patches along one direction, and the patch of each component."""
    middles, which = np.unique(at.values, return_inverse=True)
    size = float(at.attrs.get("patch_length", middles[1] - middles[0] if len(middles) > 1 else 1.0))
    return middles[0] + size * (np.arange(len(middles) + 1) - 0.5), which


def _fault_axes(ax: Axes) -> None:
    """Set up axes in which depth increases downwards."""
    ax.invert_yaxis()
    ax.set_xlabel("along strike" + ax.get_xlabel().removeprefix("x"))
    ax.set_ylabel("down dip" + ax.get_ylabel().removeprefix("y"))


def _bars(ax: Axes, result: xr.Dataset) -> None:
    mean, sd = result["slip_mean"], result["slip_sd"]
    at = np.arange(mean.size)
    ax.axhline(0.0, color=FAINT, lw=0.8, zorder=0)
    ax.errorbar(at, mean, yerr=sd, fmt="o", ms=3.5, color=BLUE, ecolor=LIGHT, elinewidth=1.6)
    ax.set_xlabel("component")
    ax.set_ylabel(labelled("slip", mean))
    titled(ax, "mean and standard deviation of slip")
    ax.locator_params(axis="x", integer=True)
    open_axes(ax)


# Fields


def _fields(result: xr.Dataset) -> list[Row]:
    rows: list[Row] = []
    for key in result.data_vars:
        name = str(key).removesuffix("_mean")
        field = result[key]
        if name == key or f"{name}_sd" not in result or not set(field.dims) <= {"z", "y", "x"}:
            continue
        if field.ndim == 1:
            rows.append(([lambda ax, name=name: _band(ax, result, name)], 2.2))
        elif field.ndim > 1:
            names = [n for n in (f"{name}_true", f"{name}_mean", f"{name}_sd") if n in result]
            height = float(np.clip(PANEL / aspect(result), 0.8, 1.5 * PANEL))
            both = [result[n].values.ravel() for n in names if not n.endswith("_sd")]
            shared = value_range(np.concatenate(both))
            rows.append(([_map_panel(result, n, shared=shared) for n in names], height))
    return rows


def _map_panel(
    result: xr.Dataset,
    name: str,
    finish: Callable[[Axes], None] | None = None,
    *,
    shared: tuple[tuple[float, float], bool] | None = None,
) -> Panel:
    """Panel of a map in the colours for a spread, for values of both signs, or for others; limits,
    and whether they are logarithmic, may be shared by mean and truth."""

    def panel(ax: Axes) -> None:
        limits, log, colors = value_range(result[name].values, 0.0)[0], False, "viridis"
        if name.endswith("sd"):
            colors = "magma"
        else:
            if shared is not None:
                limits, log = shared
            if limits[0] < 0 < limits[1]:
                limits, colors = symmetric(limits), "RdBu_r"
        draw_map(ax, result, name, limits=limits, log=log, points=True, colors=colors)
        ax.locator_params(axis="x", nbins=5)
        if finish is not None:
            finish(ax)

    return panel


def _band(ax: Axes, result: xr.Dataset, name: str) -> None:
    """Draw a field along one axis, with a band of one standard deviation."""
    mean, sd = result[f"{name}_mean"], result[f"{name}_sd"]
    x = result[mean.dims[0]]
    ax.fill_between(x, mean - sd, mean + sd, color=LIGHT, lw=0, label="± standard deviation")
    ax.plot(x, mean, color=BLUE, lw=1.5, label="mean")
    if f"{name}_true" in result:
        ax.plot(x, result[f"{name}_true"], "k:", lw=1.5, label="true")
    ax.set_xlabel(labelled(str(mean.dims[0]), x))
    ax.set_ylabel(labelled(name.replace("_", " "), mean))
    legend(ax)
    open_axes(ax)


# Stages


def _progress(result: xr.Dataset) -> list[Row]:
    names = [n for n in ("gamma", "acceptance") if n in result and "stage" in result[n].dims]
    if not names or result.sizes["stage"] == 0:
        return []
    return [([lambda ax, n=n: _stages(ax, result, n) for n in names], 1.7)]


def _stages(ax: Axes, result: xr.Dataset, name: str) -> None:
    """Draw a variable by stage, one line a run."""
    values = result[name]
    for path in values.values.reshape(-1, values.sizes["stage"]):
        ax.plot(np.arange(1, len(path) + 1), path, "o-", ms=3, lw=1.0, color=BLUE, alpha=0.7)
    if name == "gamma":
        ax.set_yscale("log")
    else:
        ax.set_ylim(0.0, 1.03)
    ax.set_xlabel("stage")
    titled(ax, name_of(values))
    ax.locator_params(axis="x", integer=True)
    ax.grid(axis="y", alpha=0.25)
    open_axes(ax)
