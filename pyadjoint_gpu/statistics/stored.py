"""Densities as named arrays, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from jaxtyping import Float

from .conditional import Conditional
from .densities import Diagonal, Full, Spectral
from .matern import Cosines, Vectors
from .separable import Separable

_CLASSES = (Separable, Diagonal, Spectral, Full, Conditional, Cosines, Vectors)
PARTS: dict[str, Callable[..., Any]] = {c.__name__: c for c in _CLASSES}
"""Densities, and what they are made of, by their names."""


def arrays(of: Any, name: str = "prior") -> dict[str, Float[np.ndarray, " ..."]]:
    """The class of a density, a text, and its attributes, by names with dots."""
    out: dict[str, Any] = {name: np.array(type(of).__name__)}
    for field in fields(of):
        value, key = getattr(of, field.name), f"{name}.{field.name}"
        if type(value).__name__ in PARTS:
            out |= arrays(value, key)
        elif value is not None:
            out[key] = np.asarray(value)
    return out


def restored(given: Mapping[str, Float[np.ndarray, " ..."]], name: str = "prior") -> Any:
    """The density of these `arrays`."""
    value = given.get(name)
    if value is None or value.dtype.kind in "iuf":
        return value
    part = PARTS[str(value)]
    keys = inspect.signature(part).parameters
    found = {k: restored(given, f"{name}.{k}") for k in keys}
    # Shapes are part of the structure that JAX compiles for.
    shapes = {k: tuple(found[k].tolist()) for k in ("cells", "shape") if k in found}
    return part(**found | shapes)
