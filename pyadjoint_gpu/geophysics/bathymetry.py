"""Analytic bathymetries."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ..core.checks import check_choice, positive
from ..core.errors import ConfigError, shown
from ..core.grid import Grid
from ..core.spaces import SIDES


def continental_margin(
    grid: Grid,
    *,
    side: str = "x_max",
    coast: float = 50.0,
    shelf: float = 200.0,
    deep: float = 4000.0,
    shelf_width: float = 50e3,
    slope_width: float = 90e3,
) -> Float[np.ndarray, "*shape"]:
    """Depth of water from a coast along one side over a shelf and a slope to the abyss,

        h = coast + (shelf - coast) min(r, 1) + (deep - shelf) s^2 (3 - 2 s),
        r = d / shelf_width,    s = (d - shelf_width) / slope_width between 0 and 1,

    with the distance d from the side.

    Parameters
    ----------
    grid : Grid
    side : str
        The side of the coast: ``"x_min"``, ``"x_max"``, ``"y_min"`` or ``"y_max"``.
    coast, shelf, deep : float
        Depths at the coast, at the edge of the shelf and of the abyssal plain, in m: > 0, each no
        less than the one before.
    shelf_width, slope_width : float
        Widths, in the grid's unit of length.

    Returns
    -------
    array, shape (*grid.shape,)

    Raises
    ------
    ConfigError
        If there is no such side, or a number cannot be used.
    """
    if not isinstance(grid, Grid):
        raise ConfigError(f"grid: found {shown(grid)}, expected a Grid")
    check_choice("side", side, tuple(s for s in SIDES if SIDES[s][0] in grid.dims))
    depths = [positive(*d) for d in (("coast", coast), ("shelf", shelf), ("deep", deep))]
    if sorted(depths) != depths:
        found = ", ".join(f"{d:g}" for d in depths)
        raise ConfigError(f"coast, shelf, deep: found {found}, expected depths that grow seawards")
    widths = positive("shelf_width", shelf_width), positive("slope_width", slope_width)
    name, end = SIDES[side]
    axis = grid.dims.index(name)
    faces = grid.faces[axis]
    distance = np.abs(grid.centers[axis] - faces[0 if end == "min" else -1])
    r = np.minimum(distance / widths[0], 1.0)
    s = np.clip((distance - widths[0]) / widths[1], 0.0, 1.0)
    near, edge, far = depths
    profile = near + (edge - near) * r + (far - edge) * s**2 * (3.0 - 2.0 * s)
    along = [-1 if a == axis else 1 for a in range(grid.ndim)]
    return np.broadcast_to(profile.reshape(along), grid.shape)
