"""Models of physics, one a file."""

from __future__ import annotations

import inspect
from typing import Any

from ..core.checks import check_keys, check_table
from ..core.errors import ConfigError, nearest
from ..core.grid import Grid
from .base import Elliptic, Model, Parameter, Variable
from .channel import Channel
from .darcy import Darcy, Well
from .diffusion import Diffusion
from .explicit import Explicit
from .ice import Ice
from .transient import Transient
from .wave import AcousticWave, ShallowWater

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
    "Well",
    "build",
]


def build(grid: Grid, table: Any, units: str | None, where: str = "model") -> Model:
    """The model that a run file's table specifies; `units` are those of the data."""
    table = check_table(table, where)
    name = table.pop("name", None)
    if not isinstance(name, str) or name not in CATALOGUE:
        raise ConfigError(f"{where}.name: found {name!r}{nearest(str(name), CATALOGUE)}")
    kind = CATALOGUE[name]
    options = {k: p for k, p in inspect.signature(kind).parameters.items() if k != "grid"}
    check_keys(table, list(options), where)
    for key, option in options.items():
        if option.default is option.empty and key not in table:
            raise ConfigError(f"{where}.{key} is missing")
    return kind.from_specification(grid, table, units)
