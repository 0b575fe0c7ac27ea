"""Values at the sites of a forcing: maps, or curves where sites have no positions in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Num

from .maps import edges
from .style import BLUE, color_bar, labelled, name_of, open_axes, symmetric, titled, units_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable


def draw_sites(
    ax: Axes,
    result: xr.Dataset,
    field: xr.DataArray,
    *,
    text: str | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Values at the sites of a forcing: a map where they are cells or have positions in the plane,
    else along their numbers."""
    titled(ax, text or name_of(field))
    if not in_plane(result, field):
        x, label = along(result, field)
        ax.plot(x, field.values.ravel(), "o-", ms=3.5, lw=1.2, color=BLUE)
        ax.set_xlabel(label)
        ax.set_ylabel(units_of(field))
        open_axes(ax)
        if limits is not None:
            ax.set_ylim(*limits)
        return
    values = field.values
    if limits is None:
        low, high = symmetric((float(values.min()), float(values.max())))
        limits = low, high if high > low else low + 1.0
    options: dict[str, Any] = {"vmin": limits[0], "vmax": limits[1]}
    options["cmap"] = "RdBu_r" if limits[0] < 0 else "magma"
    x, y = _positions(result, field)
    mesh = _lattice(x, y, values.ravel())
    if mesh is None:
        image: ScalarMappable = ax.scatter(
            x, y, c=values.ravel(), s=60, edgecolors="#888888", **options
        )
        ax.margins(0.15)
    else:
        ax.set_facecolor("#f3f3f3")
        image = ax.pcolormesh(*mesh, rasterized=True, **options)
    color_bar(ax, image, units_of(field))
    finish_plane(ax, result)


def finish_plane(ax: Axes, result: xr.Dataset) -> None:
    """Label the axes of a plane, of equal scales."""
    known = [n for n in ("x", "source_x", "sensor_x", "candidate_x") if n in result.coords]
    x = result[known[0]] if known else xr.DataArray(0.0)
    ax.set_aspect("equal")
    ax.set_xlabel(labelled("x", x))
    ax.set_ylabel(labelled("y", x))
    ax.locator_params(nbins=6)


def in_plane(result: xr.Dataset, field: xr.DataArray) -> bool:
    """True if the sites have positions in the plane."""
    if field.ndim == 2:
        return True
    return field.ndim == 1 and {f"{field.dims[0]}_{d}" for d in "xy"} <= set(result.coords)


def along(result: xr.Dataset, field: xr.DataArray) -> tuple[Num[np.ndarray, " sites"], str]:
    """Positions of sites that are not in the plane, and the label of their axis."""
    dim = str(field.dims[0])
    for name in (dim, f"{dim}_x"):
        if field.ndim == 1 and name in result.coords:
            return result[name].values, labelled(name.replace("_", " "), result[name])
    return np.arange(field.size), "place"


def _positions(
    result: xr.Dataset, field: xr.DataArray
) -> tuple[Num[np.ndarray, " sites"], Num[np.ndarray, " sites"]]:
    """x and y of the sites."""
    if field.ndim == 1:
        dim = field.dims[0]
        return result[f"{dim}_x"].values, result[f"{dim}_y"].values
    rows, columns = (
        result[d].values if d in result.coords else np.arange(field.sizes[d]) for d in field.dims
    )
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return x.ravel(), y.ravel()


def _lattice(
    x: Num[np.ndarray, " sites"], y: Num[np.ndarray, " sites"], values: Float[np.ndarray, " sites"]
) -> (
    tuple[Float[np.ndarray, " x_edges"], Float[np.ndarray, " y_edges"], Float[np.ndarray, "y x"]]
    | None
):
    """Edges along x and y and values (y, x) on the smallest lattice with all sites, or None where
    most of it is empty."""
    (at_x, i), (at_y, j) = (np.unique(c, return_inverse=True) for c in (x, y))
    if min(len(at_x), len(at_y)) < 2 or len(at_x) * len(at_y) > 2.5 * len(values):
        return None
    out = np.full((len(at_y), len(at_x)), np.nan)
    out[j, i] = values
    return edges(at_x), edges(at_y), out
