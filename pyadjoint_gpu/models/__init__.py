"""Models of physics, one a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import keyed
from ..core.grid import Grid
from .base import Model
from .channel import Channel
from .darcy import Darcy, Well
from .declarations import Elliptic, Parameter, Variable
from .diffusion import Diffusion
from .explicit import Explicit
from .ice import Ice
from .transient import Transient
from .waves import AcousticWave, ShallowWater, Wave

CATALOGUE: dict[str, type[Model]] = {
    kind.name: kind
    for kind in (AcousticWave, Channel, Darcy, Diffusion, Ice, ShallowWater, Transient)
}
"""Models by the names that run files use."""

__all__ = [
    "CATALOGUE",
    "AcousticWave",
    "Channel",
    "Darcy",
    "Diffusion",
    "Elliptic",
    "Explicit",
    "Ice",
    "Model",
    "Parameter",
    "ShallowWater",
    "Transient",
    "Variable",
    "Wave",
    "Well",
    "build",
]


def build(grid: Grid, table: Mapping[str, Any], units: Mapping[str, str] | None = None) -> Model:
    """Build the model of a ``[model]`` table.

    Parameters
    ----------
    grid : Grid
    table : mapping
        The ``name`` of a model in the `CATALOGUE`, and its options.
    units : mapping of str to str, optional
        Units of the data, by the name of the state's variable.

    Raises
    ------
    ConfigError, DataError
        If an option cannot be used; messages begin with its key, ``model.<option>``.
    """
    options = {k: v for k, v in table.items() if k != "name"}
    with keyed({k: f"model.{k}" for k in options}):
        return CATALOGUE[table["name"]].from_specification(grid, options, units or {})
