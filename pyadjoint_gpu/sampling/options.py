"""Checks of samplers' options and of the names that results are given, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..core.errors import ConfigError
from ..core.frozen import Frozen

RESERVED = frozenset(
    (
        *("chain", "draw", "slip_draw", "stage", "observation", "weight", "misfit"),
        *("log_density", "log_likelihood", "log_evidence", "gamma", "ess", "acceptance"),
    )
)
"""Names of variables, coordinates and dimensions of samplers' results, reserved for them."""


def check_names(where: str, names: Iterable[object], own: Iterable[str]) -> None:
    """Raise a `ConfigError` if a user's name is one of the result's: in `own`, or reserved."""
    taken = RESERVED.union(own)
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{where}: found the name {name!r}, expected a text")
        if name in taken:
            raise ConfigError(
                f"{where}.{name}: the name is one of the result's own, expected another, such as"
                f" {'my_' + name!r}"
            )


def set_counts(owner: Frozen, **least: int) -> None:
    """Convert counts among a frozen dataclass's attributes to int, each with its least value."""
    for name, low in least.items():
        found = getattr(owner, name)
        if isinstance(found, bool) or not isinstance(found, int | np.integer):
            raise ConfigError(f"{name}: found {found!r}, expected a whole number >= {low}")
        found = int(found)
        if found < low:
            raise ConfigError(f"{name}: found {found}, expected {low} or more")
        owner._set(**{name: found})
