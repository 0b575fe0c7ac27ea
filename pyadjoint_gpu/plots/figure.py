"""Figures, made without a window (by matplotlib, imported when one is drawn)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import ConfigError, EngineError
from ..core.files import whole
from .style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = Callable[["Axes"], object]
"""A function that draws into axes."""


def arranged(panels: list[Panel], wide: float, title: str) -> Figure:
    """A figure of panels, functions of axes, two or three a row; `wide` is the aspect of maps."""
    columns = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    rows = -(-len(panels) // columns)
    height = 0.7 + rows * float(np.clip(3.9 / wide + 0.9, 2.9, 5.0))
    figure = new_figure(4.6 * columns, height, between=0.06)
    cells = figure.add_gridspec(rows, columns)
    for k, panel in enumerate(panels):
        row, column = divmod(k, columns)
        last = k == len(panels) - 1  # spans the rest of its row
        panel(figure.add_subplot(cells[row, column : columns if last else column + 1]))
    figure.suptitle(title, fontsize=13, color=INK)
    return figure


def new_figure(width: float, height: float, between: float | None = None) -> Figure:
    """An empty figure, its size in inches; its axes are laid out by matplotlib where the space
    `between` rows is given."""
    figure_type = _figure_type("plots")
    if between is None:
        return figure_type(figsize=(width, height))
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Wide enough for the label of a colour bar and that of the axis beside it.
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=between)
    return figure_type(figsize=(width, height), layout=layout)


def check_drawable(path: Path, what: str) -> None:
    """Raise a `ConfigError`, which begins with `what`, unless figures can be saved under that name,
    or an `EngineError` if matplotlib is missing."""
    formats = _figure_type(what)().canvas.get_supported_filetypes()
    if path.suffix.lstrip(".") not in formats:
        raise ConfigError(f"{what}: found {str(path)!r}, expected the ending png, pdf or svg")


def _figure_type(what: str) -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EngineError(
            f"{what}: figures need matplotlib, which is missing: pip install 'pyadjoint_gpu[plots]'"
        ) from None
    return Figure


def saved(figure: Figure, path: str | Path | None) -> Figure:
    """Write a figure to `path`, if given, whole or not at all, and return it."""
    if path is not None:
        with whole(Path(path)) as beside:
            kind = Path(path).suffix.lstrip(".") or "png"
            figure.savefig(beside, dpi=150, format=kind)
    return figure
