"""Stars by another route: the equations in r by scipy, with Hinderer's own closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp


class Layer(NamedTuple):
    """Matter down from some log-enthalpy to `end`: energy, its derivative, and pressure."""

    end: float
    energy: Callable[[float], float]
    slope: Callable[[float], float]
    pressure: Callable[[float], float]


def polytrope(K: float, gamma: float) -> Layer:
    n = 1.0 / (gamma - 1.0)

    def rho(h):
        return (max(np.expm1(h), 1e-300) / (K * gamma * n)) ** n

    def energy(h):
        return rho(h) + n * K * rho(h) ** gamma

    def slope(h):  # (e + p) / c^2, c^2 = (1 - exp(-h)) / n
        return n * np.exp(2.0 * h) * rho(h) ** (1.0 - 1.0 / n) / (K * gamma * n)

    return Layer(0.0, energy, slope, lambda h: K * rho(h) ** gamma)


def incompressible(energy: float, end: float = 0.0, pressure: float = 0.0) -> Layer:
    """Of that pressure at its end."""
    return Layer(
        end,
        lambda h: energy,
        lambda h: 0.0,
        lambda h: (energy + pressure) * np.exp(h - end) - energy,
    )


def star(centre: float, layers: list[Layer]) -> tuple[float, float, float]:
    """(M, R, k2); layers from the inside outwards."""
    r = 1e-4
    e, p = layers[0].energy(centre), layers[0].pressure(centre)
    y = np.array([centre - 2 * np.pi / 3 * (e + 3 * p) * r**2, 4 * np.pi / 3 * e * r**3, 2.0])
    for layer, outside in zip(layers, [*layers[1:], None], strict=True):

        def rates(r, y, layer=layer):
            h, m, tide = y
            e, p = layer.energy(h), layer.pressure(h)
            lamb = 1 / (1 - 2 * m / r)
            pull = (m + 4 * np.pi * r**3 * p) * lamb / r**2  # nu' / 2
            q = 4 * np.pi * lamb * (5 * e + 9 * p + layer.slope(h)) - 6 * lamb / r**2 - 4 * pull**2
            rate = tide**2 + tide * lamb * (1 + 4 * np.pi * r**2 * (p - e)) + r**2 * q
            return [-pull, 4 * np.pi * r**2 * e, -rate / r]

        def reached(r, y, layer=layer):
            return y[0] - layer.end

        reached.terminal = True
        options = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-14}
        out = solve_ivp(rates, (r, 1e4), y, events=reached, **options)
        r, y = float(out.t_events[0][0]), out.y_events[0][0]
        jump = layer.energy(layer.end) - (outside.energy(layer.end) if outside else 0.0)
        y[2] -= 4 * np.pi * r**3 * jump / (y[1] + 4 * np.pi * r**3 * layer.pressure(layer.end))
    return y[1], r, hinderer(y[1] / r, y[2])


def hinderer(c: float, y: float) -> float:
    """k2 of Hinderer 2008, equation 23, as corrected in 2009 (ApJ 697, 964)."""
    bracket = (
        2 * c * (6 - 3 * y + 3 * c * (5 * y - 8))
        + 4 * c**3 * (13 - 11 * y + c * (3 * y - 2) + 2 * c**2 * (1 + y))
        + 3 * (1 - 2 * c) ** 2 * (2 - y + 2 * c * (y - 1)) * np.log(1 - 2 * c)
    )
    return 8 / 5 * c**5 * (1 - 2 * c) ** 2 * (2 + 2 * c * (y - 1) - y) / bracket
