"""Gaussian noise of data, as it is stated: independent, dense, correlated in time, blocks and
sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, cast

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from ..core.checks import check_kind, count, finite_array, positive, real_array
from ..core.errors import ConfigError, DataError, shown
from ..core.quantities import converter, power, spelling, stated
from .bound_noise import BoundNoise, Errors, added, as_covariance, bound
from .observed import check_errors, check_symmetric_matrix, check_units
from .priors import Independent


@dataclass(frozen=True, eq=False)
class Layout:
    """What a noise is bound to: n data, with their units, times and places.

    Attributes
    ----------
    size : int
        n.
    units : str
        Units of the data; "1" where these state none.
    times : array, shape (n,), optional
    time_units : str
    sites : array of int, shape (n,), optional
        Number of each datum's place; one place for all unless given.
    name : str
        What the noise is called in messages.
    """

    size: int
    units: str = "1"
    times: Float[np.ndarray, " n"] | None = None
    time_units: str = "1"
    sites: Int[np.ndarray, " n"] | None = None
    name: str = "noise"

    def deviations(self, given: Any) -> Float[np.ndarray, " n"]:
        """Standard deviations of all data, in their units."""
        array = self._in_units(given, self.units)
        if not array.ndim:  # which cannot mark single data as missing
            finite_array(self.name, array)
        if array.ndim > 1:
            raise DataError(f"{self.name}: found shape {array.shape}, expected {(self.size,)}")
        check_errors(self.name, array, self.size)
        return np.broadcast_to(array, self.size)

    def covariance(self, given: Any) -> Errors:
        """The covariance of all data, in the square of their units."""
        if scipy.sparse.issparse(given):
            return scipy.sparse.csr_array(cast("Any", given))
        array = self._in_units(given, power((self.units, 2)))
        check_errors(self.name, array, self.size)
        check_symmetric_matrix(self.name, array)
        return scipy.sparse.csr_array(array)

    def correlated(self, sd: Float[np.ndarray, " n"], duration: Any) -> Errors:
        """The covariance sd sd' exp(-|t - t'| / duration) between data of one place."""
        if self.times is None:
            raise ConfigError(
                f"{self.name}.duration: found {shown(duration)}, but the data have no times"
            )
        length = self.length(duration)
        sites = np.zeros(self.size, dtype=int) if self.sites is None else self.sites
        parts: list[Float[np.ndarray, "m m"]] = []
        order = np.argsort(sites, kind="stable")
        for which in np.split(order, np.flatnonzero(np.diff(sites[order])) + 1):
            apart = np.abs(self.times[which, None] - self.times[which])
            parts.append(sd[which, None] * np.exp(-apart / length) * sd[which])
        back = np.argsort(order)
        blocks = cast("Any", scipy.sparse.block_diag(parts))
        return scipy.sparse.csr_array(blocks)[back][:, back]

    def length(self, duration: Any) -> float:
        """A duration in the unit of the data's times."""
        name = f"{self.name}.duration"
        how = converter(name, stated(duration), self.time_units)
        return how.difference(_positive(name, duration))

    def part(self, which: slice) -> Layout:
        """The layout of consecutive data."""
        times = None if self.times is None else self.times[which]
        sites = None if self.sites is None else self.sites[which]
        return replace(self, size=which.stop - which.start, times=times, sites=sites)

    def _in_units(self, given: Any, units: str) -> Float[np.ndarray, " ..."]:
        """Errors in `units` if these and their own are stated."""
        array = real_array(self.name, given)
        if spelling(units) == "1":
            check_units(self.name, given)
            return array
        return converter(self.name, stated(given), units).difference(array)


class Noise:
    """Gaussian noise e ~ N(0, Sigma) of data:

        Noise(sd)                       independent errors, Sigma = diag(sd^2);
        Noise(sd, duration=tau)         sd sd' exp(-|t - t'| / tau) between data of one place, the
                                        covariance of an autoregressive process of first order;
        Noise(covariance=Sigma)         any covariance;
        a + b                           the sum of two independent ones: that of an instrument and
                                        that of a model, whose covariances add;
        Noise.blocks((a, 40), (b, 7))   data sets one after another, each with its own noise;
        Noise(a, scale=prior)           any of them, of unknown size: e ~ N(0, s^2 Sigma).

    Parameters
    ----------
    sd : float, array of shape (n,), or Noise
        Standard deviation, one or one a datum; infinite or NaN where nothing is observed. For
        sensors of a linear time-invariant system also one a sensor, or of the shape of the data. In
        the units of the data, unless it states others. Or the noise whose `scale` is unknown.
    covariance : array, shape (n, n)
        Sigma, in the square of the data's units. For sensors also those of each, (C, T, T), or
        that of all, (C, T, C, T).
    duration : float, optional
        tau, in the unit of the data's times.
    scale : Independent, optional
        Prior of ln s, as ``Independent(sd=0.5)`` (s is right to a factor of 1.6), of mean 0 unless
        it says otherwise: a `LeastSquares` of such a noise makes ln s an unknown of its `Problem`.
        Sigma has one scale in all: that of a sum or of blocks is given to the whole.

    Raises
    ------
    ConfigError, DataError
        If not one of `sd` and `covariance` is given, one holds no numbers, or `scale` is no prior
        of one number. On use: if shapes do not fit the data, units do not convert, a standard
        deviation is not positive or the covariance not symmetric and positive definite; and where
        there is a `scale`, but nothing that infers it.
    """

    scale: Independent | None = None

    def __init__(
        self,
        sd: Any = None,
        *,
        covariance: Any = None,
        duration: Any = None,
        scale: Independent | None = None,
    ):
        if (sd is None) == (covariance is None):
            found = "neither" if sd is None else "both"
            raise ConfigError(f"noise: found {found} of sd and covariance, expected one of them")
        if duration is not None and sd is None:
            raise ConfigError("noise.duration: found beside a covariance, expected a sd")
        name = "noise.sd" if covariance is None else "noise.covariance"
        if isinstance(sd, Noise):
            _without_scale(sd, "a noise that is given another")
            if duration is not None:
                raise ConfigError("noise.duration: found beside a Noise, which has its own or none")
        elif not scipy.sparse.issparse(covariance):
            real_array(name, sd if covariance is None else covariance)
        if duration is not None:
            _positive("noise.duration", duration)
        if scale is not None:
            check_kind("noise.scale", scale, Independent, ", the prior of ln s, such as (sd=0.5)")
            scale.on((), where="noise.scale")  # refuse what is no number now
        self.sd, self._covariance, self.duration, self.scale = sd, covariance, duration, scale

    @classmethod
    def of(cls, given: Any, name: str = "noise") -> Noise:
        """`given` if it is a Noise, else the one of standard deviations (a number, or an array of
        one axis) or of a covariance."""
        if isinstance(given, Noise):
            return given
        return cls(given) if real_array(name, given).ndim < 2 else cls(covariance=given)

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> Noise:
        """The noise of a run file's table, or of `bound_noise.arrays` of a covariance."""
        if "row" not in table:
            return cls(**table)
        where = table["row"], table["column"]
        found = scipy.sparse.csr_array((table["covariance"], where))
        return cls(covariance=found, scale=table.get("scale"))

    @staticmethod
    def blocks(*parts: tuple[Noise, int]) -> Noise:
        """The noise of data sets one after another, from the noise and the number of data of
        each."""
        return _Blocks(*parts)

    def __add__(self, other: Noise) -> Noise:
        check_kind("noise", other, Noise)
        for part in (self, other):
            _without_scale(part, "a part of a sum")
        return _Sum(self, other)

    def __repr__(self) -> str:
        given = {
            "sd": self.sd,
            "covariance": self._covariance,
            "duration": self.duration,
            "scale": self.scale,
        }
        said = (f"{k}={shown(v)}" for k, v in given.items() if v is not None)
        return f"Noise({', '.join(said)})"

    def on(self, data: Layout) -> BoundNoise:
        """The noise of data that are all observed."""
        errors = self.errors(data)
        finite_array(data.name, errors if isinstance(errors, np.ndarray) else errors.data)
        return bound(errors, data.name, data.times)

    def errors(self, data: Layout) -> Errors:
        """The errors of data: standard deviations or a covariance, in the data's units."""
        if self.scale is not None:
            raise ConfigError(
                f"{data.name}.scale: found {shown(self.scale)}, expected none: an unknown scale is"
                " inferred by a Problem, of a LeastSquares with this noise"
            )
        if isinstance(self.sd, Noise):
            return self.sd.errors(data)
        if self._covariance is not None:
            return data.covariance(self._covariance)
        sd = data.deviations(self.sd)
        return sd if self.duration is None else data.correlated(sd, self.duration)

    @property
    def unscaled(self) -> Noise:
        """The noise of scale one, N(0, Sigma)."""
        if self.scale is None:
            return self
        return Noise(self.sd, covariance=self._covariance, duration=self.duration)

    def each(self, of: Callable[[Any], Any]) -> Noise:
        """The noise with `of(sd)` in place of its standard deviations."""
        if self.sd is None:
            return self
        sd = self.sd.each(of) if isinstance(self.sd, Noise) else of(self.sd)
        return Noise(sd, duration=self.duration, scale=self.scale)


class _Sum(Noise):
    def __init__(self, *parts: Noise):
        self.parts = parts

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    def errors(self, data: Layout) -> Errors:
        return reduce(added, (part.errors(data) for part in self.parts))

    def each(self, of: Callable[[Any], Any]) -> Noise:
        return _Sum(*(part.each(of) for part in self.parts))


class _Blocks(Noise):
    def __init__(self, *parts: tuple[Noise, int]):
        if not parts:
            raise ConfigError("noise: found no blocks, expected one or more")
        for part in parts:
            check_kind("noise", part, tuple, " of a Noise and a number of data")
            check_kind("noise", part[0], Noise)
            _without_scale(part[0], "a block")
            count("noise", part[1])
        self.parts = parts

    def __repr__(self) -> str:
        return f"Noise.blocks({', '.join(map(repr, self.parts))})"

    def errors(self, data: Layout) -> Errors:
        ends = np.cumsum([0, *(size for _, size in self.parts)])
        if ends[-1] != data.size:
            raise DataError(
                f"{data.name}: found blocks of {ends[-1]} data in all, expected {data.size}"
            )
        found = [
            noise.errors(data.part(slice(int(start), int(start) + size)))
            for (noise, size), start in zip(self.parts, ends, strict=False)
        ]
        independent = [one for one in found if isinstance(one, np.ndarray)]
        if len(independent) == len(found):
            return np.concatenate(independent)
        return scipy.sparse.block_diag(list(map(as_covariance, found)), format="csr")

    def each(self, of: Callable[[Any], Any]) -> Noise:
        return self


def _without_scale(noise: Noise, what: str) -> None:
    """Raise a `ConfigError` if a part of a noise has a scale of its own."""
    if noise.scale is not None:
        raise ConfigError(
            f"noise.scale: found {shown(noise.scale)} in {what}, expected one scale, of the whole:"
            " Noise(a + b, scale=...)"
        )


def _positive(name: str, given: Any) -> float:
    """A number > 0, which may state units."""
    array = real_array(name, given)
    if array.ndim:
        raise ConfigError(f"{name}: found {shown(given)}, expected a positive number")
    return positive(name, array.item())
