"""Synthetic earthquakes under the sea floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..core.checks import finite, number, positive
from ..core.errors import ConfigError
from ..core.frozen import Frozen


@dataclass(frozen=True)
class Rupture(Frozen):
    """Rate of uplift of the sea floor, as a function of time and position: a rupture front spreads
    from a point at a constant speed, and behind it the sea floor rises smoothly for a while,

        db/dt = U (1 - cos 2 pi s) / rise_time,    s = (t - |r - origin| / speed) / rise_time,
        U = uplift cos^2(pi a / length) cos^2(pi w / width),

    where 0 < s < 1 and within half the length and width; a and w are distances from the centre
    along and across strike. Its integral over time is U, and so is the sum of its values at times
    `rise_time` / n apart, n > 1, times that interval.

    Parameters
    ----------
    centre : sequence of float
        Position (y, x).
    uplift : float
        The largest uplift, in m; negative for subsidence.
    length, width : float
        Extent along and across strike, in the grid's unit of length.
    speed : float
        Speed of the front, in the grid's unit of length over the model's of time.
    rise_time : float
    origin : sequence of float, optional
        Position (y, x) where it begins; the centre unless given.
    strike : float
        Angle in degrees from the y axis towards the x axis.

    Raises
    ------
    ConfigError
        If a number cannot be used.
    """

    centre: Sequence[float]
    uplift: float
    length: float
    width: float
    speed: float
    rise_time: float
    origin: Sequence[float] | None = None
    strike: float = 0.0

    def __post_init__(self) -> None:
        for name in ("uplift", "strike"):
            self._set(**{name: finite(name, getattr(self, name))})
        for name in ("length", "width", "speed", "rise_time"):
            self._set(**{name: positive(name, getattr(self, name))})
        self._set(centre=_place("centre", self.centre))
        origin = self.centre if self.origin is None else _place("origin", self.origin)
        self._set(origin=origin)

    def final(
        self, y: Float[np.ndarray, "*#shape"], x: Float[np.ndarray, "*#shape"]
    ) -> Float[np.ndarray, "*shape"]:
        """Final uplift U in m, at positions that broadcast."""
        dy, dx = y - self.centre[0], x - self.centre[1]
        angle = np.radians(self.strike)
        along = dy * np.cos(angle) + dx * np.sin(angle)
        across = dx * np.cos(angle) - dy * np.sin(angle)
        return self.uplift * _bump(along / self.length) * _bump(across / self.width)

    def __call__(
        self,
        t: Float[np.ndarray, "*#shape"],
        y: Float[np.ndarray, "*#shape"],
        x: Float[np.ndarray, "*#shape"],
    ) -> Float[np.ndarray, "*shape"]:
        """Rate of uplift db/dt, at times and positions that broadcast."""
        assert self.origin is not None
        began = np.hypot(y - self.origin[0], x - self.origin[1]) / self.speed
        s = np.clip((t - began) / self.rise_time, 0.0, 1.0)
        return self.final(y, x) * (1.0 - np.cos(2.0 * np.pi * s)) / self.rise_time


def _bump(s: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.where(np.abs(s) < 0.5, np.square(np.cos(np.pi * s)), 0.0)


def _place(name: str, value: Sequence[float]) -> tuple[float, float]:
    try:
        y, x = (number(v) for v in value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: found {value!r}, expected two numbers, y and x") from None
    if not np.isfinite([y, x]).all():
        raise ConfigError(f"{name}: found {value!r}, expected finite numbers")
    return y, x
