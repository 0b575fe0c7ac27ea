"""Figure of evidence by several methods."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .figure import arranged
from .style import BLUE, FAINT, INK, open_axes, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_evidence(result: xr.Dataset) -> Figure:
    """Draw ln Z with its error by method, and why a method has none; the title has the verdict."""
    names = result["method"].values.tolist()
    log, error = result["log_evidence"].values, result["log_evidence_error"].values
    reasons = result["reason"].values.tolist()

    def estimates(ax: Axes) -> None:
        place = -np.arange(len(names), dtype=float)
        bars = np.where(np.isfinite(error), error, 0.0)
        ax.errorbar(log, place, xerr=bars, fmt="o", color=BLUE, ms=5, capsize=3)
        for y, reason in zip(place, reasons, strict=True):
            if reason:
                text = textwrap.shorten(reason, 55, placeholder=" ...")
                ax.text(0.02, y, text, transform=ax.get_yaxis_transform(), va="center", size=8)
        if np.isfinite(result.attrs["log_evidence"]):
            ax.axvline(result.attrs["log_evidence"], color=FAINT, lw=0.8, zorder=0)
        ax.set(xlabel="ln Z", ylim=(0.6 - len(names), 0.6))
        ax.set_yticks(place, names, color=INK)
        message = result.attrs["message"].partition(":")[0]
        titled(ax, f"{result.attrs['status']}: {message}")
        open_axes(ax)

    return arranged([estimates], 1.6, "evidence")
