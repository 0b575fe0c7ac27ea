"""Sampled numbers, with their labels and statistics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.errors import ConfigError, DataError, nearest
from ..results.samples import ABOUT, DIMS, samples_of, scalars, weights_of
from .style import name_of

LONGEST = 18
"""Most letters of a label beside another."""
MOST = 12
"""Most numbers in one figure."""
SIGNS = {"degree": "°", "degrees": "°", "m2": "m²", "1": ""}


@dataclass(frozen=True)
class Number:
    """A sampled number, with its label: `text`, in `units` times `factor`."""

    name: str
    text: str
    units: str
    values: Float[np.ndarray, " samples"]
    weights: Float[np.ndarray, " samples"]
    factor: float = 1.0

    @property
    def shown(self) -> Float[np.ndarray, " samples"]:
        """Values in the units of the label."""
        return self.values / self.factor

    @property
    def unit(self) -> str:
        sign = SIGNS.get(self.units, self.units)
        if self.factor == 1.0:
            return sign
        if (self.units, self.factor) == ("m", 1e3):
            return "km"
        return f"$10^{{{round(np.log10(self.factor))}}}$ {sign}".rstrip()

    @property
    def label(self) -> str:
        return f"{self.text} ({self.unit})" if self.unit else self.text

    def quantiles(self, *at: float) -> list[float]:
        found = np.quantile(self.shown, at, weights=self.weights, method="inverted_cdf")
        return [float(v) for v in found]

    @property
    def spread(self) -> float:
        mean = np.average(self.shown, weights=self.weights)
        return float(np.sqrt(np.average((self.shown - mean) ** 2, weights=self.weights)))

    @property
    def scale(self) -> float:
        """The standard deviation of a normal distribution whose middle half is as wide as the
        shortest interval with half of the samples, if that is less: the width of one mode."""
        order = np.argsort(self.shown)
        x, below = self.shown[order], np.cumsum(self.weights[order])
        ends = np.searchsorted(below, below - self.weights[order] + 0.5)
        inside = ends < len(x)
        shortest = np.min(x[ends[inside]] - x[inside]) / 1.349
        return min(float(shortest), self.spread) or self.spread

    @property
    def interval(self) -> str:
        """The median and the 90 % interval as a text, to two digits of its smaller side."""
        low, middle, high = self.quantiles(0.05, 0.5, 0.95)
        sides = [s for s in (high - middle, middle - low) if s > 0]
        unit = f" {self.unit}".rstrip().replace(" $10^", " × $10^")
        if not sides:
            return f"{middle:.6g}{unit}"
        digits = 1 - int(np.floor(np.log10(min(sides))))
        middle, up, down = (
            f"{np.round(v, digits):.{max(digits, 0)}f}"
            for v in (middle, high - middle, middle - low)
        )
        return f"${middle}_{{-{down}}}^{{+{up}}}${unit}"


def numbers(result: xr.Dataset, names: str | Iterable[str] | None = None) -> list[Number]:
    """The sampled numbers of these variables."""
    samples = samples_of(result)
    known = [str(n) for n in samples.data_vars if n not in ABOUT]
    if names is None:
        names = scalars(samples) or known
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ConfigError("names: expected one or more")
    weights = weights_of(result).ravel()
    out: list[Number] = []
    for name in names:
        if name not in known:
            raise ConfigError(f"names: {name!r} is not among the samples{nearest(name, known)}")
        field = samples[name]
        text, units = name_of(field), str(field.attrs.get("units", "1"))
        if len(text) > LONGEST:
            text = name.replace("_", " ")
        columns = field.values.reshape(len(weights), -1)
        if len(out) + columns.shape[1] > MOST:
            raise ConfigError(
                f"names: found {len(out) + columns.shape[1]} numbers, a figure shows {MOST} at"
                " most: select a part of the Dataset, for example with isel"
            )
        if not np.all(np.isfinite(columns)):
            raise DataError(f"{name}: some samples are not finite")
        for k, values in enumerate(columns.T.astype(float)):
            one = field.dims == DIMS
            out.append(
                Number(
                    name if one else f"{name}[{k}]",
                    text if one else f"{name.replace('_', ' ')} {k}",
                    units,
                    values,
                    weights,
                    _factor(values),
                )
            )
    return out


def _factor(values: Float[np.ndarray, " samples"]) -> float:
    """A power of 1000 that makes labels short, or 1."""
    most, range_ = float(np.max(np.abs(values))), float(np.ptp(values))
    if most == 0.0:
        return 1.0
    best = 1000.0 ** np.floor(np.log10(most) / 3)

    def length(factor: float) -> int:
        whole = max(1, 1 + int(np.floor(np.log10(most / factor))))
        return whole + (max(0, 1 - int(np.floor(np.log10(range_ / factor)))) if range_ else 0)

    return float(best) if length(1.0) > 5 and length(best) <= 4 else 1.0
