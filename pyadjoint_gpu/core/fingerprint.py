"""Fingerprints of the inputs of a journal: digests by name, so that a refusal says what differs."""

from __future__ import annotations

import functools
import hashlib
import json
import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .errors import DataError, JournalWarning, warn
from .guards import is_list, is_mapping, is_scalar, is_set
from .quantities import coordinates

_NUMERICAL = {"jax", "jaxlib", "numpy", "scipy", "xarray", __name__.partition(".")[0]}
"""Packages whose functions are digested by name, never by their code."""
_NOT_CODE = {"__doc__", "__module__", "__firstlineno__", "__dataclass_fields__", "_abc_impl"}
"""Entries of a class's namespace that are not its code."""
_ADDED = (types.GetSetDescriptorType, types.MemberDescriptorType)
"""Classes of entries that Python adds to a class."""
_PLAIN: tuple[type, ...] = (bool, complex, str, bytes, range, slice)
"""Classes whose values their texts determine."""
_MADE_OF: dict[type, tuple[str, ...]] = {
    functools.partial: ("partial", "func", "args", "keywords"),
    types.MethodType: ("method", "__func__", "__self__"),
    classmethod: ("classmethod", "__func__"),
    staticmethod: ("staticmethod", "__func__"),
    property: ("property", "fget"),
    functools.cached_property: ("property", "func"),
}
"""Names in digests of the wrappers of functions, and the attributes that they are made of."""


def fingerprint(**parts: object) -> dict[str, str]:
    """SHA-256 of each part, as hexadecimal numbers.

    Arrays count by their bits, data and settings by value, functions by the bytecode that runs
    (sources may have been edited since), their defaults, closures and the globals they name, with
    the user's functions and classes that these call. Installed packages count by name.

    Warns
    -----
    JournalWarning
        If a part has no such digest, such as a function of a compiled library: whether it has
        changed cannot be told.
    """
    out: dict[str, str] = {}
    doubts: list[str] = []
    for name, part in parts.items():
        walk = _Walk(_home(part))
        out[name] = walk.digest(part, name).hex()
        doubts += walk.doubts
    if doubts:
        warn(
            f"the journal cannot tell whether this changes between runs: {', '.join(doubts)}; give"
            " another journal, or overwrite=True, if it does",
            JournalWarning,
        )
    return out


def differing(found: object, expected: Mapping[str, str]) -> list[str]:
    """The names of parts whose digests differ; all of them if `found` is no mapping."""
    digests: Mapping[str, Any] = found if is_mapping(found) else {}
    return [k for k in {**expected, **digests} if digests.get(k) != expected.get(k)]


def check_made_with(path: Path, what: str, found: Any, expected: Mapping[str, str]) -> None:
    """Raise a `DataError` that names what differs unless a journal, `what` in the message, was made
    with these inputs: `found` is its `fingerprint`, as JSON, `expected` that of the inputs."""
    try:
        names = differing(json.loads(found), expected)
    except (TypeError, ValueError):
        raise DataError(f"{path}: damaged: the record of its inputs cannot be read") from None
    if names:
        raise DataError(
            f"{path}: {what} made with other inputs than now: other {', '.join(names)}; give"
            " another path, or overwrite=True (--overwrite) to start anew"
        )


def model_part(model: Any) -> Any:
    """The identity of a model in a `fingerprint`: its class and the table of its run file, if it
    has one, else the whole model."""
    table = model.specification()
    return model if table is None else [type(model), table]


def _home(part: object) -> set[str]:
    """The packages of the functions in a part: their code counts, installed or not."""
    values = part if is_list(part) else part.values() if is_mapping(part) else [part]
    out: set[str] = set()
    for value in values:
        while inner := getattr(value, "func", getattr(value, "__wrapped__", None)):
            value = inner
        if isinstance(value, types.FunctionType | types.MethodType):
            out.add(str(value.__module__).partition(".")[0])
    return out - _NUMERICAL - sys.stdlib_module_names


@functools.cache
def _installed(package: str) -> bool:
    if package in sys.stdlib_module_names or package in _NUMERICAL:
        return True
    file = getattr(sys.modules.get(package), "__file__", None)
    places = {sysconfig.get_path(k) for k in ("purelib", "platlib")}
    places |= {*site.getsitepackages(), site.getusersitepackages()}
    return file is not None and any(Path(file).is_relative_to(p) for p in places)


class _Walk:
    """Digests of a value and of all that it is made of, each computed once.

    The code of the packages `home` counts although they are installed; `doubts` say what has no
    digest, and where.
    """

    def __init__(self, home: set[str]):
        self.home = home
        self.doubts: list[str] = []
        # By identity, with the value itself, so that no other takes its place.
        self._done: dict[int, tuple[object, bytes]] = {}
        self._active: list[int] = []

    def digest(self, value: object, where: str) -> bytes:
        """SHA-256 of a value; `where` it is, for doubts about it."""
        key = id(value)
        if key in self._done:
            return self._done[key][1]
        if key in self._active:
            return _hash("above", len(self._active) - self._active.index(key))
        self._active.append(key)
        try:
            found = self._digest(value, where)
        finally:
            self._active.pop()
        self._done[key] = value, found
        return found

    def _digest(self, given: object, where: str) -> bytes:
        value: object = given.item() if is_scalar(given) else given
        if isinstance(value, int | float) and not isinstance(value, bool):
            same = isinstance(value, float) or abs(value) < 2**53
            return _hash("number", repr(float(value)) if same else repr(value))
        if value is None or isinstance(value, _PLAIN):
            return _hash(type(value).__name__, repr(value))
        if isinstance(value, Path):
            return _hash("path", str(value))
        if _is_array(value):
            found = self._array(value, where)
            if found is not None:
                return found
        if isinstance(value, xr.Variable):
            return self._all("variable", where, value.dims, np.asarray(value.values), value.attrs)
        if isinstance(value, xr.DataArray):
            labels = {name: label.variable for name, label in coordinates(value).items()}
            return self._all("array", where, value.variable, labels)
        if isinstance(value, xr.Dataset):
            return self._all("dataset", where, dict(value.variables), value.attrs)
        if is_mapping(value):
            pairs = [
                (self.digest(k, where), self.digest(v, _at(where, k))) for k, v in value.items()
            ]
            return _hash("mapping", *(d for pair in sorted(pairs) for d in pair))
        if is_list(value):
            return self._all("list", where, *value)
        if is_set(value):
            return _hash("set", *sorted(self.digest(v, where) for v in value))
        return self._code(value, where)

    def _all(self, kind: str, where: str, *values: object) -> bytes:
        return _hash(kind, *(self.digest(v, where) for v in values))

    def _array(self, value: Any, where: str) -> bytes | None:
        if np.ma.isMaskedArray(value):
            return self._all("masked", where, value.filled(0), np.ma.getmaskarray(value))
        try:
            array = np.asarray(value)
        except TypeError:  # what only JAX can read
            return None
        if array.dtype.hasobject:
            return self._all("objects", where, array.shape, array.ravel().tolist())
        raw = np.ascontiguousarray(array)
        return _hash("array", repr((array.shape, array.dtype.str)), raw.data if raw.size else b"")

    # Code

    def _code(self, value: Any, where: str) -> bytes:
        if isinstance(value, types.FunctionType):
            return self._function(value, where)
        if isinstance(value, types.CodeType):
            return self._compiled(value, where)
        if isinstance(value, types.ModuleType):
            return _hash("module", value.__name__)
        if isinstance(value, type):
            return self._class(value, where)
        for kind, (name, *attributes) in _MADE_OF.items():
            if isinstance(value, kind):
                return self._all(name, where, *(getattr(value, a) for a in attributes))
        if isinstance(value, types.BuiltinFunctionType | types.WrapperDescriptorType | np.ufunc):
            return self._builtin(value, where)
        if hasattr(value, "__wrapped__"):  # jax.jit, functools.cache
            return self._all("wrapped", where, value.__wrapped__)
        return self._object(value, where)

    def _function(self, value: types.FunctionType, where: str) -> bytes:
        cells = [_content(c) for c in value.__closure__ or ()]
        given: list[object] = [value.__defaults__, value.__kwdefaults__, cells]
        if not self._counts(value.__module__):
            given.append(f"{value.__module__}.{value.__qualname__}")
            return self._all("function", where, given)
        code, names = value.__code__, set(_names(value.__code__))
        if value.__doc__ is not None and code.co_consts[:1] == (value.__doc__,):
            code = code.replace(co_consts=(None, *code.co_consts[1:]))
        used = {k: v for k, v in value.__globals__.items() if k in names}
        for key, module in list(used.items()):
            if isinstance(module, types.ModuleType) and self._counts(module.__name__):
                used |= {f"{key}.{n}": v for n, v in vars(module).items() if n in names}
        label = value.__name__ if where.endswith(value.__name__) else _at(where, value.__name__)
        return self._all("function", label, given, code, used)

    def _compiled(self, code: types.CodeType, where: str) -> bytes:
        python = sys.version_info[:2]  # bytecode is of a version of Python
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        return self._all("code", where, python, code.co_code, names, code.co_consts)

    def _class(self, value: type, where: str) -> bytes:
        name = f"{value.__module__}.{value.__qualname__}"
        if not self._counts(value.__module__):
            return _hash("class", name)
        written = {k: v for k, v in vars(value).items() if not isinstance(v, _ADDED)}
        own = {k: v for k, v in written.items() if k not in _NOT_CODE}
        return self._all("class", _at(where, value.__name__), name, value.__bases__, own)

    def _builtin(self, value: Any, where: str) -> bytes:
        name = getattr(value, "__qualname__", value.__name__)
        owner = getattr(value, "__self__", None)
        module = getattr(value, "__module__", None) or getattr(owner, "__name__", None) or "numpy"
        if owner is not None and not isinstance(owner, types.ModuleType | type):
            return self._all("builtin", where, owner, name)
        if self._counts(module):
            self.doubts.append(f"{where} ({module}.{name} has no code to be read)")
        return _hash("builtin", f"{module}.{name}")

    def _object(self, value: object, where: str) -> bytes:
        kind = type(value)
        if hasattr(value, "dist") and hasattr(value, "kwds"):  # a frozen one of scipy.stats
            parts = (getattr(value, name) for name in ("dist", "args", "kwds"))
            return self._all("distribution", where, *parts)
        if is_dataclass(value):
            state = {f.name: getattr(value, f.name) for f in fields(value)}
            return self._all("object", where, kind, state)
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # whatever classes raise that are not to be copied
            name = f"{kind.__module__}.{kind.__qualname__}"
            self.doubts.append(f"{where} (a {name})")
            return _hash("opaque", name)
        if isinstance(reduced, str):
            return _hash("global", reduced)
        make, given, state, *items = (*reduced, None)[:3] + tuple(reduced[3:])
        items = [None if i is None else list(i) for i in items]
        return self._all("object", where, make, given, _kept(state, kind), items)

    def _counts(self, module: str | None) -> bool:
        """Whether the digest covers this module's code, not its name alone."""
        package = str(module).partition(".")[0]
        return package in self.home or not _installed(package)


def _kept(state: object, kind: type) -> object:
    """The state of an object without cached properties and random generators."""
    if not is_mapping(state):
        return state
    entries = (entry for c in kind.__mro__ for entry in vars(c).items())
    cached = {k for k, v in entries if isinstance(v, functools.cached_property)}
    return {k: v for k, v in state.items() if k not in cached and k != "_random_state"}


def _is_array(value: object) -> bool:
    """Whether the value is an array of NumPy, or of JAX, which is not imported for it."""
    of_jax = hasattr(value, "__array__") and type(value).__module__.startswith("jaxlib")
    return of_jax or isinstance(value, np.ndarray)


def _names(code: types.CodeType) -> Iterable[str]:
    """The names that a function's code uses, with those of functions within it."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def _content(cell: types.CellType) -> object:
    """The value of a closure's cell."""
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _at(where: str, name: object) -> str:
    return f"{where}.{name}" if isinstance(name, str) else where


def _hash(kind: str, *parts: str | int | bytes | memoryview) -> bytes:
    """SHA-256 of a sequence of parts, each preceded by its length."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        raw = part if isinstance(part, bytes | memoryview) else str(part).encode()
        size = raw.nbytes if isinstance(raw, memoryview) else len(raw)
        digest.update(size.to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()
