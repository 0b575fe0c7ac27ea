"""Intervals in which parameters are looked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core.checks import check_mapping, count, finite, finite_array
from ..core.errors import ConfigError, DataError, shown
from ..core.frozen import Frozen
from ..core.guards import is_list

_OWN = (
    *("start", "starts", "solution", "direction", "loss", "loss_start"),
    *("solution_of_start", "singular_value", "determined"),
)
"""Variables and dimensions of the result other than the parameters' and the data's."""


@dataclass(frozen=True)
class Interval(Frozen):
    """The interval of a parameter, with its fraction z from 0 to 1:

        m = low + z (high - low),    or with `log`    ln m = ln low + z (ln high - ln low).

    Parameters
    ----------
    low, high : float
        Its ends, which the parameter does not reach; low > 0 with `log`.
    log : bool
        Whether the logarithm is what is uniform, for parameters whose order of magnitude is open.
    shape : tuple of int
        Of the parameter; each component has the interval.

    Raises
    ------
    ConfigError
        If there is no such interval.
    """

    low: float
    high: float
    log: bool = False
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        low, high = finite("low", self.low), finite("high", self.high)
        if low >= high:
            raise ConfigError(f"low, high: found {low:g} and {high:g}, expected low < high")
        if self.log and low <= 0:
            raise ConfigError(f"low: found {low:g}, expected a number > 0 with log")
        given = self.shape if is_list(self.shape) else (self.shape,)
        self._set(low=low, high=high, shape=tuple(count("shape", k) for k in given))

    def value(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The parameter at a fraction of the interval."""
        if self.log:
            return self.low * jnp.exp(z * np.log(self.high / self.low))
        return self.low + z * (self.high - self.low)

    def fraction(self, value: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The fraction of the interval at which the parameter has a value inside it."""
        if self.log:
            return np.log(value / self.low) / np.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


class Intervals:
    """The intervals of all parameters, whose fractions are one vector.

    Raises
    ------
    ConfigError
        If there are none, or one is no interval.
    """

    def __init__(self, given: Any):
        check_mapping("parameters", given, "names to Intervals or (low, high)")
        if not given:
            raise ConfigError("parameters: found none, expected at least one")
        self.by_name = {name: _interval(f"parameters.{name}", v) for name, v in given.items()}
        sizes = [int(np.prod(i.shape)) for i in self.by_name.values()]
        self.size = sum(sizes)
        self._ends = np.cumsum(sizes)[:-1]

    def split(self, rows: Any) -> dict[str, Any]:
        """The part of each parameter in vectors, in its shape: the last axis is divided."""
        split = np.split if isinstance(rows, np.ndarray) else jnp.split
        parts = zip(self.by_name.items(), split(rows, self._ends, axis=-1), strict=True)
        return {name: part.reshape(*part.shape[:-1], *i.shape) for (name, i), part in parts}

    def values(self, z: Float[Array, "*starts n"]) -> dict[str, Float[Array, " ..."]]:
        """All parameters at fractions of their intervals."""
        return {name: self.by_name[name].value(part) for name, part in self.split(z).items()}

    def check_names(self, data: Iterable[str]) -> None:
        """Raise a `ConfigError` if parameters or data have a name that the result needs."""
        own = set(_OWN)
        taken = {f"{name}{end}" for name in self.by_name for end in ("", "_start", "_open")}
        taken |= {f"direction_{name}" for name in self.by_name}
        for name in self.by_name:
            if not isinstance(name, str) or not name or name in own:
                raise ConfigError(f"parameters.{name}: the result has that name; take another")
        for name in data:
            if {name, f"{name}_fitted"} & (taken | own):
                raise ConfigError(
                    f"data.{name}: a parameter or the result has that name; rename it"
                )

    def starts(self, given: Any, seed: int) -> Float[np.ndarray, "starts n"]:
        """Fractions at starts: so many drawn as a Latin hypercube, or from values by name.

        Raises
        ------
        ConfigError, DataError
            If names or shapes differ from the parameters', or a value is outside its interval.
        """
        if not isinstance(given, Mapping):
            number = count("starts", given, kind="a positive whole number, or values by name")
            generator = np.random.default_rng(seed)
            strata = generator.permuted(np.tile(np.arange(number), (self.size, 1)), axis=1).T
            return (strata + generator.random(strata.shape)) / number
        if set(given) != set(self.by_name):
            found, expected = (", ".join(map(str, names)) for names in (given, self.by_name))
            raise ConfigError(f"starts: found {found}, expected {expected}")
        columns = []
        for name, interval in self.by_name.items():
            values = finite_array(f"starts.{name}", given[name])
            if values.ndim == 0 or values.shape[1:] != interval.shape or not len(values):
                expected = ", ".join(map(str, ("starts", *interval.shape)))
                raise DataError(f"starts.{name}: found shape {values.shape}, expected ({expected})")
            if np.any((values <= interval.low) | (values >= interval.high)):
                raise DataError(
                    f"starts.{name}: found {values.min():g} to {values.max():g}, expected values"
                    f" inside {interval.low:g} to {interval.high:g}"
                )
            columns.append(interval.fraction(values).reshape(len(values), -1))
        if len({len(c) for c in columns}) > 1:
            found = ", ".join(str(len(c)) for c in columns)
            raise DataError(f"starts: found {found} values, expected as many of each parameter")
        return np.concatenate(columns, axis=1)


def _interval(where: str, given: Any) -> Interval:
    if isinstance(given, Interval):
        return given
    if not is_list(given) or len(given) != 2:
        raise ConfigError(f"{where}: found {shown(given)}, expected an Interval or (low, high)")
    try:
        return Interval(*given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
