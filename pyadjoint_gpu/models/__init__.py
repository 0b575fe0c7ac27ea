"""The physics: one file a model."""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import ConfigError, check_keys, check_table, nearest
from ..grid import Grid
from .base import Elliptic, Model, Parameter, Variable
from .darcy import Darcy, Well
from .diffusion import Diffusion
from .explicit import Explicit
from .transient import Transient
from .wave import AcousticWave, ShallowWater

CATALOGUE: dict[str, type[Model]] = {
    kind.name: kind for kind in (Darcy, Diffusion, Transient, AcousticWave, ShallowWater)
}
"""Models a run file can name."""

__all__ = [
    "CATALOGUE",
    "AcousticWave",
    "Darcy",
    "Diffusion",
    "Elliptic",
    "Explicit",
    "Model",
    "Parameter",
    "ShallowWater",
    "Transient",
    "Variable",
    "Well",
    "build",
]


def build(grid: Grid, table: Any, units: str | None, where: str = "model") -> Model:
    """The model of a run file's table; `units` are those of the data."""
    table = check_table(table, where)
    name = table.pop("name", None)
    if not isinstance(name, str) or name not in CATALOGUE:
        raise ConfigError(f"{where}.name: found {name!r}{nearest(str(name), CATALOGUE)}")
    kind = CATALOGUE[name]
    allowed = [p for p in inspect.signature(kind).parameters if p != "grid"]
    return kind.from_specification(grid, check_keys(table, allowed, where), units)
