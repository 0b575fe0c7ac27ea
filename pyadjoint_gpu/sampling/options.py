"""Checks of samplers' options and of the names that results are given, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core.checks import count
from ..core.errors import ConfigError
from ..core.frozen import Frozen
from ..core.outputs import check_outputs

RESERVED = frozenset(
    (
        *("sample", "repeat", "stage", "run", "chain", "draw", "observation"),
        *("weight", "misfit", "log_likelihood", "log_evidence", "gamma", "ess", "acceptance"),
    )
)
"""Names of variables, coordinates and dimensions of samplers' results, and so of no unknown."""


def check_names(where: str, names: Iterable[Any], own: Iterable[str]) -> None:
    """A `ConfigError` where a name of the user's is one of a result's: `own`, or reserved."""
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
    """The attributes of a frozen dataclass that count something, as int, each at least so much."""
    for name, low in least.items():
        found = getattr(owner, name)
        if isinstance(found, bool) or not isinstance(found, int | np.integer):
            raise ConfigError(f"{name}: found {found!r}, expected a whole number >= {low}")
        found = int(found)
        if found < low:
            raise ConfigError(f"{name}: found {found}, expected {low} or more")
        owner._set(**{name: found})


def check_run(seed: Any, repeats: Any, journal: Any = None) -> tuple[int, int]:
    """`seed` and `repeats` of a sampler's method `run` as int, and whether its journal can be
    written."""
    check_outputs({"journal": journal})
    return count("seed", seed, 0), count("repeats", repeats)
