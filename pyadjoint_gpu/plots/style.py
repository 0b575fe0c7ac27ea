"""Colours of plots, and what their axes have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..results.dataset import NINETY

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar

INK = "#333333"
BLUE, PALE, RED, GREY, FAINT = "#1f6f8b", "#9ec9d6", "#c8553d", "#8a8a8a", "#bbbbbb"


def titled(ax: Axes, text: str, size: float = 10) -> None:
    ax.set_title(text, fontsize=size, color=INK)


def open_axes(ax: Axes) -> None:
    """Leave out the upper and the right side of the axes."""
    ax.spines[["top", "right"]].set_visible(False)


def legend(ax: Axes) -> None:
    ax.legend(frameon=False, fontsize=8)


def integers(ax: Axes) -> None:
    """Restrict the ticks of the x axis to whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def color_bar(ax: Axes, image: ScalarMappable, label: str = "", **options: Any) -> Colorbar:
    """A colour bar beside axes, as high as they are."""
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.03, 0.0, 0.04, 1.0)), **options)
    bar.set_label(label)
    return bar


def units_of(field: xr.DataArray) -> str:
    """Units of a field as a label shows them: none for numbers."""
    units = str(field.attrs.get("units", "1"))
    return "" if units == "1" else units


def labelled(text: str, field: xr.DataArray) -> str:
    """A label with the units of a field in parentheses."""
    units = units_of(field)
    return f"{text} ({units})" if units else text


def name_of(field: xr.DataArray) -> str:
    """The long name of a variable, or else its name."""
    return str(field.attrs.get("long_name", field.name))


def symmetric(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits with zero in the middle, where they have different signs."""
    low, high = limits
    most = max(-low, high)
    return (-most, most) if low < 0.0 < high else limits


def forecast(
    ax: Axes,
    time: Float[np.ndarray, " times"],
    mean: Float[np.ndarray, " times"],
    sd: Float[np.ndarray, " times"],
) -> None:
    """Draw a forecast with its 90 % interval."""
    ax.axhline(0.0, color=FAINT, lw=0.7, zorder=0)
    half = NINETY * sd
    ax.fill_between(
        time, mean - half, mean + half, color=PALE, lw=0, alpha=0.7, label="90 % interval"
    )
    ax.plot(time, mean, color=BLUE, lw=1.6, label="forecast")
    ax.set_xlim(0, float(time[-1]))
    open_axes(ax)


def data_used(ax: Axes, until: float) -> None:
    """Shade the time until which data are used."""
    ax.axvspan(0, until, color="#c9c9c9", alpha=0.35, lw=0, label="data used")
