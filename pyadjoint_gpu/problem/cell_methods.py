"""Bounds of coordinates, and the attribute ``cell_methods``, which says what they mean.

A coordinate names the variable with its bounds in the attribute ``bounds``. Data are means over the
cells between them if their ``cell_methods`` are ``x: y: mean``, integrals if these are
``x: y: sum`` (CF conventions, sections 7.1 and 7.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..core.errors import DataError
from ..core.quantities import converter, numbers, stated

METHODS = ("point", "mean", "sum")
"""What a datum can be of the values along an axis."""
_EXPECTED = "'x: y: mean' for averages, 'x: y: sum' for integrals or 'x: y: point'"


def bounds_name(coordinate: xr.DataArray) -> str | None:
    """The name of the variable with a coordinate's bounds."""
    # xarray moves it to the encoding where it decodes all coordinates.
    return coordinate.attrs.get("bounds", coordinate.encoding.get("bounds"))


def bounds_of(
    data: xr.Dataset, column: str, units: str, what: str
) -> Float[np.ndarray, "n 2"] | None:
    """Bounds of a coordinate, in `units` and in increasing order; None if it has none."""
    name = bounds_name(data[column]) if column in data.variables else None
    if name is None:
        return None
    label = f"{what}: the bounds {name!r} of {column!r}"
    if name not in data.variables:
        raise DataError(f"{label} are no variable of the Dataset")
    expected = (*data[column].shape, 2)
    if data[name].shape != expected or data[name].dims[:-1] != data[column].dims:
        raise DataError(f"{label} have shape {data[name].shape}, expected {expected}")
    how = converter(label, stated(data[name]) or stated(data[column]), units)
    return np.sort(how(numbers(label, data[name])), axis=-1)


def cell_methods(what: str, *described: xr.Dataset | xr.DataArray) -> dict[str, str]:
    """The methods of the ``cell_methods`` that one or more of `described` state, by the name of an
    axis or coordinate; "area" is x and y."""
    texts = {str(d.attrs["cell_methods"]).strip() for d in described if "cell_methods" in d.attrs}
    if len(texts) > 1:
        raise DataError(f"{what}: found cell_methods {', '.join(sorted(texts))}, expected one")
    text = re.sub(r"\([^()]*\)", "", "".join(texts)).strip()
    if not re.fullmatch(r"((\w+: +)+\w+ *)*", text):
        raise DataError(f"{what}: found cell_methods {text!r}, expected such as {_EXPECTED}")
    out: dict[str, str] = {}
    for part in re.finditer(r"((?:\w+: +)+)(\w+)", text):
        for name in re.findall(r"\w+", part[1]):
            for axis in ("x", "y") if name == "area" else (name,):
                out[axis] = part[2]
    return out


def method_along(
    axis: str, column: str, methods: Mapping[str, str], what: str, *, bounded: bool
) -> str:
    """The method along an axis, by its name or that of its coordinate; without bounds a datum is at
    a point.

    Raises
    ------
    DataError
        If the coordinate is `bounded` and no method says what that means; or it is not, and is
        summed over.
    """
    method = methods.get(column, methods.get(axis))
    if bounded and method not in METHODS:
        found = "say nothing of it" if method is None else f"say {method!r}"
        raise DataError(
            f"{what}: coordinate {column!r} has bounds, and cell_methods {found}, expected"
            f" {_EXPECTED}"
        )
    if not bounded and method == "sum":
        raise DataError(f"{what}: cell_methods say 'sum' of {column!r}, which has no bounds")
    return method if bounded and method else "point"
