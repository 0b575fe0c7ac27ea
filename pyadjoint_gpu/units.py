"""Conversion between the few units that input files of this field use."""

from __future__ import annotations

_DIMENSIONS = {
    "length": {
        "m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0,
        "km": 1e3, "kilometre": 1e3, "kilometres": 1e3, "kilometer": 1e3, "kilometers": 1e3,
        "cm": 1e-2, "mm": 1e-3, "ft": 0.3048, "foot": 0.3048, "feet": 0.3048,
        "mi": 1609.344, "mile": 1609.344, "miles": 1609.344,
    },
    "pressure": {
        "Pa": 1.0, "pascal": 1.0, "hPa": 1e2, "kPa": 1e3, "MPa": 1e6, "GPa": 1e9,
        "bar": 1e5, "mbar": 1e2, "dbar": 1e4, "atm": 101325.0, "psi": 6894.757293168,
    },
}  # fmt: skip
_TABLE = {
    name: (dimension, factor)
    for dimension, units in _DIMENSIONS.items()
    for name, factor in units.items()
}


def conversion(found: object, wanted: str) -> float | None:
    """Factor from `found` to `wanted`; 1 where either is unstated or "1", None if impossible."""
    a, b = str(found or "1").strip(), wanted.strip()
    if a == b or "1" in (a, b):
        return 1.0
    one, other = _TABLE.get(a), _TABLE.get(b)
    if one is None or other is None or one[0] != other[0]:
        return None
    return one[1] / other[1]
