"""Objects whose arrays are arguments of compiled code, and whose other attributes are constants."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

import jax

from ..core.frozen import Frozen


class Structured(Frozen):
    """A pytree whose leaves are its `arrays` and whose static part is its `structure`.

    Frozen dataclasses of the same structure, which differ in nothing but these arrays, share
    compiled code. Without arrays the object itself is the static part.
    """

    arrays: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that are arrays, or pytrees of them."""
    arrays_from: ClassVar[tuple[str, ...]] = ()
    """Names of attributes that the arrays are computed from, which compiled code does not see."""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        jax.tree_util.register_pytree_node(cls, _flattened, _restored)

    @property
    def structure(self) -> Structure | Structured:
        """The static part: the object without its `arrays`."""
        return self._structure if self.arrays else self

    @cached_property
    def _structure(self) -> Structure:
        own = {f.name for f in fields(self) if f.compare}  # type: ignore[arg-type]  # a dataclass
        taken = {*self.arrays, *self.arrays_from}
        key = tuple((name, getattr(self, name)) for name in sorted(own - taken))
        kept = {k: v for k, v in vars(self).items() if k not in taken and not _cached(self, k)}
        return Structure(_made(type(self), kept), (type(self), key))


@dataclass(frozen=True)
class Structure:
    """An object without its `arrays`: equal for objects that differ in nothing else."""

    rest: Structured = field(compare=False)
    key: tuple[Any, ...]


def _cached(whole: Structured, name: str) -> bool:
    return isinstance(getattr(type(whole), name, None), cached_property)


def _made(kind: type[Structured], attributes: dict[str, Any]) -> Structured:
    """An object with these attributes, without a call of its `__init__`."""
    out = object.__new__(kind)
    vars(out).update(attributes)
    return out


def _flattened(whole: Structured) -> tuple[tuple[Any, ...], Structure | Structured]:
    return tuple(getattr(whole, name) for name in whole.arrays), whole.structure


def _restored(structure: Structure | Structured, arrays: tuple[Any, ...]) -> Structured:
    if not isinstance(structure, Structure):
        return structure
    rest = structure.rest
    return _made(type(rest), vars(rest) | dict(zip(rest.arrays, arrays, strict=True)))
