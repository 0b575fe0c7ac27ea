"""Priors of unknowns by name: as texts for files, and the ratio of two of them at draws."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.checks import check_mapping
from ..core.errors import ConfigError, DataError, nearest
from ..core.guards import is_mapping
from ..statistics.marginals import Marginals

Distributions = Mapping[str, Any]
"""Distributions of `scipy.stats` by the name of an unknown, each that of every component."""
Values = Mapping[str, Float[np.ndarray, " draws ..."]]
PriorLike = Distributions | Callable[[Values], Float[np.ndarray, " draws"]]
"""Distributions by name, or ln p as a function of a dict of draws by name."""


def check_prior(where: str, prior: object, names: Sequence[str]) -> None:
    """Raise a `ConfigError` unless `prior` has distributions of unknowns of these names."""
    check_mapping(where, prior, "distributions of scipy.stats by name")
    assert is_mapping(prior)
    for name in prior:
        if name not in names:
            raise ConfigError(f"{where}.{name}: no unknown{nearest(str(name), names)}")
    Marginals(prior, where)


def as_json(prior: Distributions) -> str:
    """The name, arguments and keywords of each distribution."""

    def plain(d: Any) -> list[Any]:
        return [d.dist.name, [float(a) for a in d.args], {k: float(v) for k, v in d.kwds.items()}]

    return json.dumps({name: plain(d) for name, d in prior.items()})


def of_json(text: str) -> dict[str, Any]:
    """The distributions of which this is `as_json`."""
    import scipy.stats

    return {
        name: getattr(scipy.stats, kind)(*args, **kwds)
        for name, (kind, args, kwds) in json.loads(text).items()
    }


def log_prior(prior: PriorLike, values: Values) -> Float[np.ndarray, " draws"]:
    """ln p of draws, the sum over the unknowns that a mapping names."""
    count = len(next(iter(values.values())))
    if callable(prior):
        found = np.asarray(prior(values), float)
        if found.shape != (count,):
            raise DataError(
                f"prior: found an array of shape {found.shape}, expected ln p of {count} draws"
            )
        return found
    each = [d.logpdf(values[name]).reshape(count, -1).sum(axis=1) for name, d in prior.items()]
    return np.sum(each, axis=0)


def log_ratio(
    new: PriorLike, old: PriorLike, values: Values, names: Sequence[str]
) -> Float[np.ndarray, " draws"]:
    """ln(new / old) of draws; an unknown that the new prior does not name keeps its old one. -inf
    where the new prior has nothing, and where the old one has nothing, as there the posterior has
    nothing either."""
    if is_mapping(new):
        old = _compared(new, old, names)
    ratio = np.full(len(next(iter(values.values()))), -np.inf)
    after, before = log_prior(new, values), log_prior(old, values)
    for what, log in (("new_prior", after), ("old_prior", before)):
        if np.any(np.isnan(log) | (log == np.inf)):
            raise DataError(f"{what}: ln p of some draws is not a number")
    possible = before > -np.inf
    ratio[possible] = after[possible] - before[possible]
    return ratio


def _compared(new: Distributions, old: PriorLike, names: Sequence[str]) -> PriorLike:
    """The old prior of what the new one names, after checks."""
    check_prior("new_prior", new, names)
    for name in names if callable(old) else new:
        if name not in (new if callable(old) else old):
            which = "new_prior" if callable(old) else "old_prior"
            raise ConfigError(f"{which}.{name} is missing, which the other prior has")
    if callable(old):
        return old
    for name, d in new.items():
        (a, b), (low, high) = d.support(), old[name].support()
        if a < low or b > high:
            raise ConfigError(
                f"new_prior.{name}: found the support {_span(a, b)}, expected one within that of"
                f" the old prior, {_span(low, high)}: no draws lie beyond"
            )
    return {name: old[name] for name in new}


def _span(low: float, high: float) -> str:
    return f"({low:g}, {high:g})"
