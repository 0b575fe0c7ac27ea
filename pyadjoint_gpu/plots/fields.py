"""Plots of inversions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..core.errors import DataError
from .curves import line, profile, series
from .figure import Panel, arranged
from .maps import aspect, draw_map, over_all_time, value_range
from .style import BLUE, FAINT, GREY, INK, PALE, RED, integers, labelled, legend, open_axes, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 5
"""Most observations that are labelled with their names."""


def plot(result: xr.Dataset) -> Figure:
    """Draw a result of `invert`: true (where known) and recovered fields with the positions of
    the observations, the state, the fit of the data and the misfit by iteration.

    Three-dimensional fields are cut through the middle of their first axis. Forcings in all cells
    are integrated over time."""
    names = [str(n)[: -len("_initial")] for n in result.data_vars if str(n).endswith("_initial")]
    if not names or "misfit" not in result:
        raise DataError("not a result of an inversion: it has no '<control>_initial' and 'misfit'")
    result = over_all_time(result)
    panels: list[Panel] = []
    for name in names:
        if result[name].dims[:1] == ("interval",):
            panels.append(lambda ax, name=name: series(ax, result, name))
        elif set(result[name].dims) <= {"z", "y", "x"} and result[name].ndim:
            panels += _field_panels(result, name)
        elif result[name].ndim:
            panels.append(lambda ax, name=name: profile(ax, result, name))
    unknowns = [n for n in str(result.attrs.get("unknowns", "")).split() if n in result]
    panels += [lambda ax, name=n: draw_map(ax, result, name) for n in unknowns[:2]]
    if "predicted" in result:
        panels.append(lambda ax: _fit(ax, result))
    panels.append(lambda ax: _history(ax, result))
    return arranged(panels, aspect(result), str(result.attrs.get("title", "")))


def _field_panels(result: xr.Dataset, name: str) -> list[Panel]:
    if result[name].ndim == 1:
        return [lambda ax: line(ax, result, name)]
    limits, log = value_range(result[name].values)
    names = [n for n in (f"{name}_true", name) if n in result]
    return [
        lambda ax, n=n: draw_map(ax, result, n, limits=limits, log=log, points=True) for n in names
    ]


def _fit(ax: Axes, result: xr.Dataset) -> None:
    observed, predicted = result["observed"].values, result["predicted"].values
    both = np.concatenate([observed, predicted])
    ends = [float(both.min()), float(both.max())]
    ax.plot(ends, ends, color=FAINT, lw=1, zorder=0)
    spread = float(np.ptp(observed)) or 1.0
    sigma = result["sigma"].values
    ax.errorbar(
        observed,
        predicted,
        xerr=sigma if np.max(sigma) < spread else None,  # larger ones would hide the data
        fmt="o",
        ms=3.5,
        color=BLUE,
        ecolor=PALE,
        elinewidth=0.8,
    )
    _name_farthest(ax, result)
    ax.set_xlabel(labelled("observed", result["observed"]))
    ax.set_ylabel(labelled("predicted", result["observed"]))
    chi2 = result.attrs.get("chi2")
    titled(ax, f"{len(observed)} observations" + ("" if chi2 is None else f", chi² {chi2:.2g}"))
    ax.set_xlim(observed.min() - 0.08 * spread, observed.max() + 0.08 * spread)
    open_axes(ax)


def _history(ax: Axes, result: xr.Dataset) -> None:
    misfit = result["misfit"].values
    iteration = result["iteration"].values
    if np.all(misfit > 0):  # n ln s of a noise of unknown scale may be less than 0
        ax.set_yscale("log")
    ax.plot(iteration, misfit, color=RED, lw=1.8, label="misfit")
    penalty = result["penalty"].values
    shown = penalty > 1e-3 * np.min(np.abs(misfit))  # not zeros or round-off, as at the start
    if np.any(shown):
        ax.plot(iteration, np.where(shown, penalty, np.nan), "--", color=GREY, lw=1.2,
                label="penalty")  # fmt: skip
        legend(ax)
    ax.set_xlabel("iteration")
    integers(ax)
    titled(ax, f"misfit {misfit[0]:.3g} → {misfit[-1]:.3g}")
    ax.grid(axis="y", alpha=0.25)
    open_axes(ax)


def _name_farthest(ax: Axes, result: xr.Dataset) -> None:
    """Label the observations with the largest misfits, where they have names."""
    names = [
        c.values
        for c in result.coords.values()
        if c.dims == ("observation",) and (c.dtype.kind == "U" or c.dtype == object)
    ]
    if not names:
        return
    off = np.abs(result["residual"].values / result["sigma"].values)
    for k in np.argsort(off)[::-1][:NAMED]:
        at = float(result["observed"][k]), float(result["predicted"][k])
        above = at[1] > at[0]  # away from the line
        ax.annotate(
            str(names[0][k]),
            at,
            xytext=(-3, 3) if above else (3, -3),
            textcoords="offset points",
            ha="right" if above else "left",
            va="bottom" if above else "top",
            fontsize=7,
            color=INK,
        )
