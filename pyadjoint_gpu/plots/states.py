"""Plots of forward solves, gradients and observations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.errors import DataError
from .curves import profile, series
from .figure import Panel, arranged
from .maps import aspect, cut, draw_map, edges, mark, over_all_time, value_range
from .style import (
    GREY,
    RED,
    color_bar,
    integers,
    labelled,
    legend,
    open_axes,
    symmetric,
    titled,
    units_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_state(state: xr.Dataset) -> Figure:
    """Plot a result of `solve`, its fields on cells, unknowns first, and its convergence; or a
    gradient.

    Three-dimensional fields are cut through the middle of their first axis; fields at many times
    are shown at the last. Forcings in all cells are integrated over time, those at other sites
    drawn over time."""
    state = over_all_time(_with_faces(state))
    panels: list[Panel] = []
    for name, field in state.data_vars.items():
        dims = {str(d) for d in field.dims}
        if dims - {"z", "y", "x", "time"} == set() and dims != {"time"} and dims:
            panels.append(lambda ax, name=str(name): _field(ax, state, name))
        elif field.dims[:1] == ("interval",) and field.ndim == 2:
            panels.append(lambda ax, name=str(name): series(ax, state, name))
        elif field.ndim == 1 and f"{field.dims[0]}_x" in state.coords:
            panels.append(lambda ax, name=str(name): profile(ax, state, name))
    if not panels:
        raise DataError("nothing to draw: no field on the cells of a grid")
    if "convergence" in state and np.sum(state["convergence"] > 0) > 1:  # not in one step
        panels.append(lambda ax: _convergence(ax, state))
    return arranged(panels, aspect(state), str(state.attrs.get("title", "")))


def plot_observations(data: xr.Dataset) -> Figure:
    """Draw observations: positions and values, with errors along one axis or over time."""
    names = [str(n) for n in data.data_vars if f"{n}_sigma" in data and data[n].ndim == 1]
    if not names:
        raise DataError("nothing to draw: no variable '<name>' with '<name>_sigma'")
    axes = [d for d in ("time", "x", "y", "z") if d in data.coords]
    panels: list[Panel] = []
    for name in names:
        if {"x", "y"} <= set(axes) and "time" not in axes:
            panels.append(lambda ax, name=name: _seen_in_plane(ax, data, name))
        else:
            panels.append(lambda ax, name=name: _seen_along(ax, data, name, axes))
    return arranged(panels, 1.3, str(data.attrs.get("title", "")))


def _with_faces(state: xr.Dataset) -> xr.Dataset:
    """A gradient with coordinates of faces, from those of cells where it has none."""
    for d in ("z", "y", "x"):
        if d in state.coords and f"{d}_face" not in state.coords:
            faces = edges(state[d].values)
            state = state.assign_coords({f"{d}_face": (f"{d}_face", faces, state[d].attrs)})
    return state


def _field(ax: Axes, state: xr.Dataset, name: str) -> None:
    """Draw a field on cells, in sequential colours, or diverging ones for both signs."""
    field, _ = cut(state, name)
    if field.ndim == 1:
        draw_map(ax, state, name)
        ax.set_ylabel(units_of(field))
        return
    limits, log = value_range(field.values)
    colors = "RdBu_r" if limits[0] < 0.0 < limits[1] else "viridis"
    draw_map(ax, state, name, limits=symmetric(limits), log=log, colors=colors)


def _convergence(ax: Axes, state: xr.Dataset) -> None:
    residual = state["convergence"]
    ax.semilogy(state["convergence_iteration"], residual.where(residual > 0), "o-", ms=3, color=RED)
    ax.axhline(float(state.attrs["tolerance"]), color=GREY, ls="--", lw=1.0)
    ax.set_xlabel("iteration")
    titled(ax, f"{state.attrs['status']}: relative residual")
    integers(ax)
    ax.grid(axis="y", alpha=0.25)
    open_axes(ax)


def _seen_in_plane(ax: Axes, data: xr.Dataset, name: str) -> None:
    values = data[name]
    marks = mark(ax, data, values.values, 1.0, 36.0, "", linewidths=0.6)
    color_bar(ax, marks, labelled(name.replace("_", " "), values))
    ax.set_aspect("equal")
    ax.margins(0.1)
    ax.set_xlabel(labelled("x", data["x"]))
    ax.set_ylabel(labelled("y", data["y"]))
    sigma = data[f"{name}_sigma"].values
    titled(ax, f"{values.size} observations, standard deviation {_between(sigma)}")


def _between(values: Float[np.ndarray, "*shape"]) -> str:
    low, high = f"{values.min():.2g}", f"{values.max():.2g}"
    return low if low == high else f"{low} to {high}"


def _seen_along(ax: Axes, data: xr.Dataset, name: str, axes: list[str]) -> None:
    """Draw observations along the first of the axes; if that is time, with a line for each site."""
    along = axes[0] if axes else "observation"
    others = np.stack([data[d].values for d in axes[1:]] or [np.zeros(data[name].size)], axis=1)
    positions, which = np.unique(others, axis=0, return_inverse=True)
    x = data[along] if axes else np.arange(data[name].size)
    for k in range(min(len(positions), 8)):
        at = np.flatnonzero(which.ravel() == k)
        at = at[np.argsort(np.asarray(x)[at], kind="stable")]
        label = ", ".join(f"{d} {v:.3g}" for d, v in zip(axes[1:], positions[k], strict=False))
        ax.errorbar(
            np.asarray(x)[at],
            data[name].values[at],
            yerr=data[f"{name}_sigma"].values[at],
            fmt="o-" if along == "time" else "o",
            ms=3.5,
            lw=1.0,
            elinewidth=0.8,
            label=label or None,
        )
    if axes[1:]:
        legend(ax)
    ax.set_xlabel(labelled(along, data[along]) if axes else "observation")
    ax.set_ylabel(labelled(name.replace("_", " "), data[name]))
    titled(ax, f"{data[name].size} observations")
    open_axes(ax)
