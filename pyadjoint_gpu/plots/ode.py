"""Figures of stars, and of fits from many starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .figure import arranged
from .style import BLUE, FAINT, RED, integers, legend, open_axes, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_stars(stars: xr.Dataset) -> Figure:
    """Draw mass against radius, and tidal deformability against mass."""

    def curve(ax: Axes) -> None:
        ax.plot(stars["radius"], stars["mass"], ".-", color=BLUE, ms=3, lw=1.2)
        ax.set(xlabel="radius (km)", ylabel="mass (M$_\\odot$)")
        titled(ax, "mass and radius")
        open_axes(ax)

    def tides(ax: Axes) -> None:
        ax.semilogy(stars["mass"], stars["tidal_deformability"], ".-", color=BLUE, ms=3, lw=1.2)
        ax.set(xlabel="mass (M$_\\odot$)", ylabel="$\\Lambda$")
        titled(ax, "tidal deformability")
        open_axes(ax)

    return arranged([curve, tides], 1.0, stars.attrs.get("title", "stars"))


def plot_fit(fit: xr.Dataset) -> Figure:
    """Draw the loss that each start reached, and the singular values at each solution."""

    def losses(ax: Axes) -> None:
        loss = np.maximum(fit["loss_start"].values, 1e-30)
        came = fit["solution_of_start"].values >= 0
        number = np.arange(len(loss))
        ax.semilogy(number[came], loss[came], "o", color=BLUE, ms=4, label="converged")
        if not came.all():
            ax.semilogy(number[~came], loss[~came], "x", color=RED, ms=5, label="not converged")
        ax.axhline(1.0, color=FAINT, lw=0.8, zorder=0)
        ax.set(xlabel="start, the best first", ylabel="loss")
        integers(ax)
        titled(ax, "mean squared residual, in squared errors")
        open_axes(ax)
        legend(ax)

    def spectrum(ax: Axes) -> None:
        for k, values in enumerate(fit["singular_value"].values):
            shown = np.where(values > 0.0, values, np.nan)
            ax.semilogy(1 + np.arange(len(values)), shown, ".-", lw=0.8, label=f"solution {k}")
        ax.axhline(1.0, color=RED, lw=0.8, ls="--", label="not determined below")
        ax.set(xlabel="direction", ylabel="singular value")
        integers(ax)
        titled(ax, "errors of the data, from end to end of the intervals")
        open_axes(ax)
        legend(ax)

    return arranged([losses, spectrum], 1.0, fit.attrs.get("title", "fit"))
