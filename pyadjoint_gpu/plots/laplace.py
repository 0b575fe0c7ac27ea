"""Plots of Laplace approximations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..core.errors import DataError
from .figure import Panel, arranged
from .maps import aspect, draw_map, value_range
from .style import BLUE, GREY, PALE, integers, labelled, legend, name_of, open_axes, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWS = 2
"""Most draws that are mapped."""


def plot_laplace(result: xr.Dataset) -> Figure:
    """Draw a result of `laplace`: the most probable fields, their standard deviations, draws, the
    decay of the eigenvalues, and predictions.

    Fields along a boundary and single numbers are drawn with bands, or bars, of two standard
    deviations."""
    ends = "_prior_sd"
    names = [str(n)[: -len(ends)] for n in result.data_vars if str(n).endswith(ends)]
    if not names or "eigenvalue" not in result:
        raise DataError("not a result of laplace: it has no '<control>_prior_sd' and 'eigenvalue'")
    panels: list[Panel] = []
    for name in names:
        if result[name].ndim > 1:
            panels += _maps(result, name)
        else:
            panels.append(lambda ax, n=name: _band(ax, result, n))
    panels.append(lambda ax: _eigenvalues(ax, result))
    if "predicted" in result:
        panels.append(lambda ax: _predictions(ax, result))
    return arranged(panels, aspect(result), str(result.attrs.get("title", "")))


def _maps(result: xr.Dataset, name: str) -> list[Panel]:
    drawn = [result[f"{name}_draw"].values[:DRAWS].ravel()] if "draw" in result.dims else []
    limits, log = value_range(np.concatenate([result[name].values.ravel(), *drawn]))
    panels: list[Panel] = [lambda ax: draw_map(ax, result, name, limits=limits, log=log)]
    if result[f"{name}_sd"].dims == result[name].dims:
        ends = float(result[f"{name}_sd"].min()), float(result[f"{name}_prior_sd"].max())
        panels.append(lambda ax: draw_map(ax, result, f"{name}_sd", limits=ends))
    for k in range(min(DRAWS, result.sizes.get("draw", 0))):
        one = result.assign({f"{name}_draw": result[f"{name}_draw"].isel(draw=k)})
        panels.append(lambda ax, one=one: draw_map(ax, one, f"{name}_draw", limits=limits, log=log))
    return panels


def _band(ax: Axes, result: xr.Dataset, name: str) -> None:
    """The transformed control's standard deviations after and before the data, by component."""
    after, before = (np.atleast_1d(result[f"{name}_{k}"].values) for k in ("sd", "prior_sd"))
    at = np.arange(len(after))
    ax.bar(at, before, color=PALE, label="before the data")
    ax.bar(at, after, width=0.5, color=BLUE, label="after")
    ax.set_ylabel(labelled(name_of(result[f"{name}_sd"]), result[f"{name}_sd"]))
    ax.set_xlim(-0.7, len(after) - 0.3)
    if len(after) > 1:
        ax.set_xlabel("component")
        integers(ax)
        titled(ax, name_of(result[name]))
    else:
        ax.set_xticks([])
        titled(ax, f"{name_of(result[name])} {float(np.mean(result[name])):.3g}")
    ax.set_ylim(0.0, 1.25 * float(np.max(before)))  # room for the legend
    legend(ax)
    open_axes(ax)


def _eigenvalues(ax: Axes, result: xr.Dataset) -> None:
    values = result["eigenvalue"].values
    ax.semilogy(1 + np.arange(len(values)), values, "o-", ms=3, lw=1, color=BLUE)
    ax.axhline(1.0, color=GREY, lw=0.8, ls="--")
    ax.set_xlabel("eigenvector")
    ax.set_ylabel("eigenvalue: data over prior")
    integers(ax)
    gain = result.attrs.get("information_gain")
    titled(ax, "eigenvalues" if gain is None else f"information gain {gain:.3g} nats")
    open_axes(ax)


def _predictions(ax: Axes, result: xr.Dataset) -> None:
    values, sd = result["predicted"].values, result["predicted_sd"].values
    ax.errorbar(1 + np.arange(len(values)), values, yerr=2.0 * sd, fmt="o", ms=3.5, color=BLUE)
    ax.set_xlabel("prediction")
    ax.set_ylabel(labelled("predicted", result["predicted"]))
    integers(ax)
    titled(ax, "predictions, with two standard deviations")
    open_axes(ax)
