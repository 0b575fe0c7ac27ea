"""Plots of results (by matplotlib, imported when one is drawn)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..core.errors import ConfigError, DataError, EngineError
from ..core.files import whole
from ..core.quantities import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#333333"
NAMED = 5
"""Most observations that are labelled with their names."""
MOST = 1000
"""Most observations on a map."""


Panel = Callable[["Axes"], object]
"""A function that draws into axes."""


def plot(result: xr.Dataset, path: str | Path | None = None) -> Figure:
    """Draw a result of `invert`: true (where known) and recovered fields with the positions of
    the observations, the state, the fit of the data and the misfit by iteration.

    Three-dimensional fields are cut through the middle of their first axis. Forcings in all cells
    are integrated over time.

    Parameters
    ----------
    result : Dataset
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
    panels += [lambda ax, name=n: draw_map(ax, result, name) for n in _states(result)]
    if "predicted" in result:
        panels.append(lambda ax: _fit(ax, result))
    panels.append(lambda ax: _history(ax, result))
    return arranged(panels, aspect(result), str(result.attrs.get("title", "")), path)


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


def integers(ax: Axes) -> None:
    """Restrict the ticks of the x axis to whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def arranged(panels: list[Panel], wide: float, title: str, path: str | Path | None) -> Figure:
    """A figure of panels, functions of axes, two or three a row; `wide` is the aspect of maps."""
    columns = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(
        4.6 * columns,
        0.7 + rows * float(np.clip(3.9 / wide + 0.9, 2.9, 5.0)),
        layout="constrained",
    )
    # Space between the label of a colour bar and that of the axis beside it.
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.06)  # type: ignore[union-attr]  # it has one
    cells = figure.add_gridspec(rows, columns)
    for k, panel in enumerate(panels):
        row, column = divmod(k, columns)
        last = k == len(panels) - 1  # spans the rest of its row
        panel(figure.add_subplot(cells[row, column : columns if last else column + 1]))
    figure.suptitle(title, fontsize=13, color=INK)
    return saved(figure, path)


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure, its size in inches, without a window."""
    return _figure_type("plots")(figsize=(width, height), **options)


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
            total.attrs = field.attrs | {
                "units": power((field.attrs.get("units", "1"), 1), (units, 1)),
                "long_name": f"{field.attrs.get('long_name', name)}, over all time",
            }
            out[name] = total
    return result.assign(out)


def aspect(result: xr.Dataset) -> float:
    """Aspect ratio (width over height) of the maps."""
    if "y_face" not in result.coords or "x_face" not in result.coords:
        return 1.5
    width, height = np.ptp(result["x_face"].values), np.ptp(result["y_face"].values)
    return float(np.clip(width / height, 0.5, 4.0))


def _states(result: xr.Dataset) -> list[str]:
    """Names of the model's unknowns in the result, two at most."""
    return [n for n in str(result.attrs.get("unknowns", "")).split() if n in result][:2]


def _field_panels(result: xr.Dataset, name: str) -> list[Panel]:
    if result[name].ndim == 1:
        return [lambda ax: _line(ax, result, name)]
    limits, log = value_range(result[name].values)
    names = [n for n in (f"{name}_true", name) if n in result]
    return [
        lambda ax, n=n: draw_map(ax, result, n, limits=limits, log=log, points=True) for n in names
    ]


def value_range(values: np.ndarray, beyond: float = 0.2) -> tuple[tuple[float, float], bool]:
    """Limits of a map's colours, with `beyond` percent of values outside, and whether a logarithmic
    scale is better."""
    low, high = (float(v) for v in np.percentile(values, [beyond, 100.0 - beyond]))
    log = bool(np.min(values) > 0 and high > 3 * low)
    if high - low < 1e-12 * max(abs(high), abs(low)):
        low, high = low - 0.5 * abs(low), high + 0.5 * abs(high)
    return (low, high), log


def cut(result: xr.Dataset, name: str) -> tuple[xr.DataArray, str]:
    field = result[name]
    text = str(field.attrs.get("long_name", name))
    if "time" in field.dims:
        time = result["time"]
        text += f" at t = {float(time[-1]):g} {time.attrs.get('units', '')}".rstrip()
        field = field.isel(time=-1)
    if field.ndim == 3:
        middle = field.sizes["z"] // 2
        text += f" at z = {float(result['z'][middle]):g}"
        field = field.isel(z=middle)
    return field, text


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
    """Draw a field in the plane, within `limits` and in `colors`; without limits, as states are."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import LogLocator

    field, text = cut(result, name)
    units = field.attrs.get("units", "1")
    values = field.values
    if field.ndim == 1:
        unit, suffix = length_unit(result)
        ax.plot(result[field.dims[0]] / unit, values, color="#1f6f8b")
        ax.set_xlabel(f"{field.dims[0]}{suffix}")
        ax.set_title(text, fontsize=10, color=INK)
        ax.spines[["top", "right"]].set_visible(False)
        return
    bounds = limits or (float(np.min(values)), float(np.max(values)))
    norm = LogNorm(*bounds) if log else Normalize(*bounds)
    unit, suffix = length_unit(result)
    image = ax.pcolormesh(
        result["x_face"] / unit,
        result["y_face"] / unit,
        np.clip(values, np.finfo(float).tiny, None) if log else values,
        norm=norm,
        cmap=colors if limits else "RdYlBu_r",
        rasterized=True,
    )
    over = "neither"
    if limits:
        beyond = (np.min(values) < 0.999 * bounds[0], np.max(values) > 1.001 * bounds[1])
        over = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[
            int(beyond[0]), int(beyond[1])
        ]
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.03, 0.0, 0.04, 1.0)), extend=over)
    if units != "1":
        bar.set_label(units)
    if log and bounds[1] < 100 * bounds[0]:  # few powers of ten, or none, to label
        if bounds[1] > 4 * bounds[0]:
            bar.ax.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter("{x:g}")
    if not limits:
        ax.contour(
            result["x"] / unit,
            result["y"] / unit,
            values,
            12,
            colors="k",
            linewidths=0.4,
            alpha=0.6,
        )
    if "observation_x" in result:
        observed = result["observed"]
        own = str(observed.attrs.get("long_name")) == f"observed {name}"
        own = own and "observation_time" not in result  # the map is at one time, these at many
        if (
            points or own
        ) and observed.size <= MOST:  # on the observed field itself, in its colours
            ax.scatter(
                result["observation_x"] / unit,
                result["observation_y"] / unit,
                s=16 if own else 10,
                c=observed.values if own else "white",
                norm=norm if own else None,
                cmap=image.cmap if own else None,
                edgecolors="black",
                linewidths=0.7,
            )
    ax.set_aspect("equal")
    ax.set_xlabel("x" + suffix)
    ax.set_ylabel("y" + suffix)
    ax.set_title(text, fontsize=10, color=INK)


def units_of(field: xr.DataArray) -> str:
    """Units of a field as a label shows them."""
    units = str(field.attrs.get("units", "1"))
    return "" if units == "1" else units


def edges(middles: np.ndarray) -> np.ndarray:
    """Edges of cells from their middles."""
    if len(middles) < 2:
        return np.array([middles[0] - 0.5, middles[0] + 0.5])
    inner = 0.5 * (middles[1:] + middles[:-1])
    return np.concatenate([[2 * middles[0] - inner[0]], inner, [2 * middles[-1] - inner[-1]]])


def length_unit(result: xr.Dataset) -> tuple[float, str]:
    """Divisor of coordinates, and the unit as a suffix of a label."""
    units = str(result["x"].attrs.get("units", "1"))
    if units == "m" and float(np.ptp(result["x_face"].values)) > 1e4:
        return 1e3, " (km)"
    return 1.0, "" if units == "1" else f" ({units})"


def profile(ax: Axes, result: xr.Dataset, name: str) -> None:
    """Draw a boundary control by face, with gaps between sides."""
    label = str(result[name].dims[0]).removesuffix("_face")
    names = [f"{label}_{d}" for d in ("z", "y", "x")]
    where = np.stack([result[n].values for n in names if n in result])
    step = np.linalg.norm(np.diff(where, axis=1), axis=0)
    ends = np.flatnonzero(step > 1.5 * np.median(step)) + 1
    _curves(ax, result, name, np.arange(where.shape[1], dtype=float), ends)
    ax.set_xlabel("boundary face")


def series(ax: Axes, result: xr.Dataset, name: str) -> None:
    """Draw a forcing over time, at the sites where it is largest."""
    size = np.max(np.abs(result[name].values), axis=0)
    times = result["interval"]
    for k, site in enumerate(np.argsort(size, kind="stable")[::-1][:4]):
        color = f"C{k}"
        for key, style in ((f"{name}_true", ":"), (name, "-")):
            if key in result:
                label = f"source {site}" if style == "-" else None
                values = result[key].values[:, site]
                ax.step(times, values, style, where="mid", color=color, label=label, lw=1.5)
    ax.set_xlabel(f"time ({times.attrs.get('units', '')})")
    ax.set_ylabel(str(result[name].attrs.get("units", "")))
    ax.set_title(str(result[name].attrs.get("long_name", name)), fontsize=10, color=INK)
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _line(ax: Axes, result: xr.Dataset, name: str) -> None:
    """Draw a field along the only axis of the grid."""
    unit, suffix = length_unit(result)
    _curves(ax, result, name, result["x"].values / unit, np.empty(0, int))
    ax.set_xlabel(f"x{suffix}")


def _curves(ax: Axes, result: xr.Dataset, name: str, x: np.ndarray, gaps: np.ndarray) -> None:
    """Draw true, first and recovered values over x, with breaks before the entries `gaps`."""
    for key, style, color, label in (
        (f"{name}_true", ":", "k", "true"),
        (f"{name}_initial", "-", "#bbbbbb", "start"),
        (name, "-", "#1f6f8b", "recovered"),
    ):
        if key in result:
            across, values = (np.insert(v, gaps, np.nan) for v in (x, result[key].values))
            ax.plot(across, values, style, color=color, label=label, lw=1.5)
    ax.set_ylabel(str(result[name].attrs.get("units", "")))
    ax.set_title(str(result[name].attrs.get("long_name", name)), fontsize=10, color=INK)
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _fit(ax: Axes, result: xr.Dataset) -> None:
    observed, predicted = result["observed"].values, result["predicted"].values
    both = np.concatenate([observed, predicted])
    ends = [float(both.min()), float(both.max())]
    ax.plot(ends, ends, color="#bbbbbb", lw=1, zorder=0)
    spread = float(np.ptp(observed)) or 1.0
    sigma = result["sigma"].values
    ax.errorbar(
        observed,
        predicted,
        xerr=sigma if np.max(sigma) < spread else None,  # larger ones would hide the data
        fmt="o",
        ms=3.5,
        color="#1f6f8b",
        ecolor="#9ec9d6",
        elinewidth=0.8,
    )
    _name_farthest(ax, result)
    units = result["observed"].attrs.get("units", "1")
    suffix = "" if units == "1" else f" ({units})"
    ax.set_xlabel(f"observed{suffix}")
    ax.set_ylabel(f"predicted{suffix}")
    chi2 = result.attrs.get("chi2")
    ax.set_title(
        f"{len(observed)} observations" + ("" if chi2 is None else f", chi² {chi2:.2g}"),
        fontsize=10,
        color=INK,
    )
    ax.set_xlim(observed.min() - 0.08 * spread, observed.max() + 0.08 * spread)
    ax.spines[["top", "right"]].set_visible(False)


def _history(ax: Axes, result: xr.Dataset) -> None:
    misfit = result["misfit"].values
    iteration = result["iteration"].values
    ax.semilogy(iteration, misfit, color="#c8553d", lw=1.8, label="misfit")
    penalty = result["penalty"].values
    shown = penalty > 1e-3 * misfit.min()  # not zeros or round-off, as at the start
    if np.any(shown):
        ax.semilogy(iteration, np.where(shown, penalty, np.nan), "--", color="#8a8a8a", lw=1.2,
                    label="penalty")  # fmt: skip
        ax.legend(frameon=False, fontsize=8)
    ax.set_xlabel("iteration")
    integers(ax)
    ax.set_title(f"misfit {misfit[0]:.3g} → {misfit[-1]:.3g}", fontsize=10, color=INK)
    ax.grid(axis="y", alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
