"""Quantities from outside: their units and missing values.

Units are texts in UDUNITS spelling (``m2 s-1``, ``kg m-2 year-1``), as in CF files. `pint` converts
them; it is imported only where two texts differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import DataError, shown
from .guards import is_mapping

if TYPE_CHECKING:
    import xarray as xr
    from jaxtyping import Float

# The year of UDUNITS is the tropical one, that of pint has 365.25 days. Neither has the darcy.
_DEFINITIONS = (
    "year = 3.15569259747e7 * second = _ = yr = a",
    "millidarcy = 9.869233e-16 * m ** 2 = mD",
    "darcy = 9.869233e-13 * m ** 2 = _",
    "degree_north = degree = _ = degrees_north = degree_N = degrees_N",
    "degree_east = degree = _ = degrees_east = degree_E = degrees_E",
)
_SYMBOLS = {"degree": "degree"}  # pint's symbol is not UDUNITS spelling
# UDUNITS writes powers without an operator: m2, s-1.
_EXPONENT = re.compile(r"(?<=[A-Za-z)])(?<![0-9.][eE])(?=[-+]?\d)")
_DOT = re.compile(r"(?<=[A-Za-z0-9)])[.·](?=[A-Za-z(])")  # UDUNITS multiplies with dots, too


class Conversion(NamedTuple):
    """Conversion of units, y = scale x + offset; of differences, y = scale x."""

    scale: float
    offset: float

    def __call__(self, values: Any) -> Any:
        """`values` in the other units."""
        scaled = self.difference(values)
        return scaled + self.offset if self.offset else scaled

    def difference(self, values: Any) -> Any:
        """Differences of values, such as standard deviations, in the other units."""
        return values if self.scale == 1.0 else values * self.scale


@cache
def _registry() -> Any:
    """pint's registry of units, with UDUNITS spelling added. Its types are unknown in part."""
    import pint

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(on_redefinition="ignore")
    for line in _DEFINITIONS:
        registry.define(line)
    return registry


@cache
def _parsed(text: str) -> Any:
    """A pint quantity of one unit, or None if there is no such unit."""
    spelt = _DOT.sub("*", text.replace("°C", "degC").replace("⋅", "*"))
    # Case matters in symbols ("MPa", "mPa"), not in names ("Metres").
    tries = [spelt, spelt.lower()] if re.fullmatch(r"[A-Za-z]{4,}", spelt) else [spelt]
    for candidate in tries:
        plain = re.fullmatch(r"[A-Za-z_]+", candidate)  # degrees_C is not a product
        try:
            found = _registry().parse_units(
                candidate if plain else _EXPONENT.sub("**", candidate), case_sensitive=True
            )
        except Exception:  # pint raises errors of many classes for texts that it cannot parse
            try:
                return _registry().Quantity(1.0) * _registry().parse_expression(
                    _EXPONENT.sub("**", candidate), case_sensitive=True
                )
            except Exception:
                continue
        return _registry().Quantity(1.0, found)
    return None


def spelling(units: object) -> str:
    """Units as a text without blanks around it; "1" for none, in which values have the wanted
    units."""
    text = "" if units is None else str(units).strip()
    return "1" if text in ("", "-") else text


@cache
def _to_base(text: str) -> tuple[Conversion, Any] | None:
    """Conversion to SI units, and the unit's dimensionality."""
    one = _parsed(text)
    if one is None:
        return None
    low, high = (one._REGISTRY.Quantity(v * one.magnitude, one.units) for v in (0.0, 1.0))
    offset = float(low.to_base_units().magnitude)
    scale = float(high.to_base_units().magnitude) - offset
    return Conversion(scale, offset), one.dimensionality


def conversion(found: object, wanted: str, *, density: float | None = None) -> Conversion | None:
    """Conversion from units `found` to `wanted`, or None if they do not convert.

    Values whose units are not stated are in those `wanted`. With a `density` in kg m-3, masses
    convert to volumes (``kg m-2 year-1`` to ``m year-1``).
    """
    one, other = spelling(found), spelling(wanted)
    if one in ("1", other):
        return Conversion(1.0, 0.0)
    if other == "1":
        other = "dimensionless"
    for factor in (1.0, *(() if density is None else (1.0 / density,))):
        text = one if factor == 1.0 else f"({one}) m3 kg-1"
        source, target = _to_base(text), _to_base(other)
        if source is not None and target is not None and source[1] == target[1]:
            (a, b), (c, d) = source[0], target[0]
            return Conversion(factor * (a / c), factor * (b - d) / c if b != d else 0.0)
    return None


def converter(
    what: str, found: object, wanted: str, *, density: float | None = None, meaning: str = ""
) -> Conversion:
    """`conversion`, or a `DataError`, which begins with `what` and gives the `meaning` of the
    wanted units."""
    how = conversion(found, wanted, density=density)
    if how is not None:
        return how
    expected = f"expected {wanted!r}{meaning and f' ({meaning})'} or a unit that converts to it"
    if _parsed(spelling(found)) is None:
        raise DataError(f"{what} is in {found!r}, which is no known unit; {expected}")
    if conversion(found, power((wanted, 2))) is not None:
        expected = f"{expected}: this is the square of one, as a variance has"
    raise DataError(f"{what} is in {found!r}, {expected}")


@cache
def power(*parts: tuple[str, int]) -> str:
    """The product of units to whole powers, in UDUNITS spelling, or the texts side by side if one
    is unknown: ``(("m", 1), ("s", -1))`` is ``m s-1``."""
    named = [(spelling(text), k) for text, k in parts if spelling(text) != "1"]
    if not named:
        return "1"
    product = _registry().Quantity(1.0)
    for text, exponent in named:
        one = _parsed(text)
        if one is None:
            return " ".join(t if k == 1 else f"({t}){k}" for t, k in named)
        product = product * one.units**exponent
    tokens = sorted(dict(product.units._units).items(), key=lambda item: item[1] < 0)
    symbols = ((_SYMBOLS.get(n) or _registry().get_symbol(n), k) for n, k in tokens)
    return " ".join(s if k == 1 else f"{s}{k:g}" for s, k in symbols) or "1"


def inverse(units: str) -> str:
    """The reciprocal of `units`."""
    return power((units, -1))


def stated(value: Any) -> str | None:
    """The units that a value states, or None."""
    attributes = getattr(value, "attrs", None)
    if attributes is not None:
        return attributes.get("units")
    # A pint quantity, or one of its kind.
    return str(value.units) if hasattr(value, "units") and hasattr(value, "magnitude") else None


def _described(value: object) -> str:
    """A description, for errors, of a value that is not numeric."""
    try:
        array = np.asarray(value)
    except ValueError:
        return "rows of different lengths"
    except TypeError:  # a Dataset
        return shown(value)
    kinds = {"M": "dates", "m": "time differences", "c": "complex numbers"}
    return kinds.get(array.dtype.kind) or shown(value)


def coordinates(array: Any) -> Mapping[Any, xr.DataArray]:
    """The coordinates of a DataArray, by name. xarray's own annotation leaves their class open."""
    return array.coords


def numbers(
    what: str, value: Any, *, expected: str = "numeric values"
) -> Float[np.ndarray, " ..."]:
    """`value` as an array of floats, NaN where one is missing: by NaN, a mask, or the attributes
    ``_FillValue`` and ``missing_value``.

    Raises
    ------
    DataError
        If the values are not real numbers.
    """
    attributes = getattr(value, "attrs", {})
    plain = getattr(value, "magnitude", getattr(value, "values", value))
    if callable(plain):  # the method of a dict
        plain = value
    masked = np.ma.getmaskarray(plain) if np.ma.isMaskedArray(plain) else None
    if masked is not None:
        plain = np.ma.getdata(plain)
    try:
        array = np.asarray(plain)
        # Lists with None convert to numbers; dates, texts and complex numbers are refused.
        if plain is None or array.dtype.kind in "mMUSbc":
            raise TypeError
        array = array.astype(float)
    except (TypeError, ValueError):
        raise DataError(f"{what}: found {_described(plain)}, expected {expected}") from None
    for name in ("_FillValue", "missing_value"):
        for filled in np.ravel(attributes.get(name, ())):
            array = np.where(array == filled, np.nan, array)
    return array if masked is None else np.where(masked, np.nan, array)


def points(
    what: str, given: Any, axes: Mapping[str, str], *, expected: str = ""
) -> Float[np.ndarray, "points axes"]:
    """Positions as an array with one point a row, in the units of `axes` by their names.

    An array has its columns in the order of `axes`, unless it is a DataArray that names them; a
    Dataset or mapping has a one-dimensional variable for each axis. Values that state their units
    are converted. `what` they are and the forms `expected` are for error messages.

    Raises
    ------
    DataError
        If they are not finite numbers of that shape, there are none, or units do not convert.
    """
    names = list(axes)
    expected = expected or f"(n, {len(names)}) numbers, n > 0, in the order {', '.join(names)}"
    if is_mapping(given) or hasattr(given, "columns"):  # a mapping or a pandas table
        for name in names:
            if name not in given:
                found = ", ".join(map(str, given)) or "none"
                raise DataError(f"{what}: found columns {found}, expected {', '.join(names)}")
        columns = [given[name] for name in names]
        lengths = {np.shape(c) for c in columns}
        if len(lengths) > 1 or len(*lengths) != 1:
            raise DataError(
                f"{what}: found {', '.join(names)} of shapes {', '.join(map(str, lengths))},"
                " expected columns of one length"
            )
        labels = [f"{what}: {name!r}" for name in names]
        rows = [numbers(label, c) for label, c in zip(labels, columns, strict=True)]
        array, units = np.stack(rows, axis=1), [stated(c) for c in columns]
    else:
        last = given.dims[-1] if getattr(given, "dims", ()) else None
        if last in getattr(given, "coords", ()) and {*given[last].values.tolist()} == {*names}:
            given = given.sel({last: names})
        array, units = numbers(what, given, expected=expected), [stated(given)] * len(names)
        if array.ndim == 1 and len(names) == 1:
            array = array[:, None]
        labels = [what] * len(names)
    if array.ndim != 2 or array.shape[1] != len(names) or not len(array):
        found = f"shape {array.shape}" if array.ndim else shown(given)
        raise DataError(f"{what}: found {found}, expected {expected}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise DataError(
            f"{what}: number {bad[0]} is not finite ({array[bad[0]].tolist()}),"
            " expected finite numbers"
        )
    each = zip(labels, units, axes.values(), array.T, strict=True)
    return np.stack([converter(label, u, own)(column) for label, u, own, column in each], axis=1)
