"""Priors of controls as plain tables and back, for run files, journals and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.guards import is_mapping
from ..core.quantities import converter, numbers, power, stated
from ..statistics.priors import Dense, Independent, Matern, Prior, Uniform
from ..statistics.space_time import SpaceTime

PRIORS: dict[str, type[Prior]] = {
    "independent": Independent,
    "matern": Matern,
    "dense": Dense,
    "uniform": Uniform,
    "space-time": SpaceTime,
}
"""Priors by the ``kind`` of their tables."""


def prior_of(table: Mapping[str, Any]) -> Prior:
    """The prior of its table: the arguments of its class, and its ``kind``."""
    options = dict(table)
    kind = PRIORS[options.pop("kind")]
    if "space" in options:
        options["space"] = prior_of(options["space"])
    return kind(**options)


def prior_table(
    prior: Prior,
    own: str,
    lengths: str = "1",
    mean: Float[np.ndarray, "*shape"] | None = None,
) -> dict[str, Any]:
    """The table from which `prior_of` makes a prior, with numbers in units of its `own` and of
    `lengths`; its mean is `mean`, if that is given."""
    units = {"sd": own, "length": lengths, "covariance": power((own, 2))}
    out: dict[str, Any] = {"kind": next(k for k, v in PRIORS.items() if type(prior) is v)}
    for field in fields(prior):
        value = getattr(prior, field.name)
        if isinstance(value, Prior):
            out[field.name] = prior_table(value, own, lengths, mean)
        elif field.name == "mean" and mean is not None:
            out["mean"] = short(mean)
        elif value is not None:
            how = converter(field.name, stated(value), units.get(field.name, "1"))
            out[field.name] = how.difference(_plain(value))
    return out


def _plain(value: Any) -> Any:
    """A number or an array of NumPy; a mapping as it is."""
    if is_mapping(value):
        return value
    array = numbers("prior", value)
    return array if array.ndim else array.item()


def short(field: Float[np.ndarray, "*shape"]) -> float | Float[np.ndarray, "*shape"]:
    """The field, or its value if it is constant."""
    return float(field.flat[0]) if np.all(field == field.flat[0]) else field
