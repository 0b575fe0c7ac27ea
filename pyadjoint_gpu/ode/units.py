"""The units of stars, G = c = M_sun = 1, in others."""

from __future__ import annotations

_LIGHT = 2.99792458e8  # m s-1
_GRAVITY = 6.67430e-11  # m3 kg-1 s-2, CODATA 2018
_SUN = 1.3271244e20  # G M_sun in m3 s-2, IAU 2015 resolution B3

KILOMETRES = 1e-3 * _SUN / _LIGHT**2
"""The unit of length in km: G M_sun / c^2."""
DENSITY = 1e-3 * _LIGHT**6 / (_GRAVITY * _SUN**2)
"""The unit of density in g cm-3."""
PRESSURE = DENSITY * (1e2 * _LIGHT) ** 2
"""The unit of pressure in dyn cm-2."""
