"""Run files of all kinds: the union of their schemas, by the key ``kind``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from ..core.errors import ConfigError, nearest
from .files import parse
from .tables import Kind


class _Kinds(Mapping[str, type[Kind]]):
    """Each is a class of its own name in a module of this folder, imported on use: a run needs the
    libraries of its own kind only."""

    names = ("inversion", "sampling", "placement")

    def __getitem__(self, name: str) -> type[Kind]:
        if name not in self.names:
            raise KeyError(name)
        return getattr(import_module(f".{name}", __package__), name.capitalize())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


KINDS = _Kinds()
"""By the key ``kind``."""


def kind_of(tables: Mapping[str, Any]) -> type[Kind]:
    """The kind of a run file: what its key ``kind`` says. Without one, a file with [sensors] or
    [placement] is of a placement; one with [fault] or [slip_prior], or without [grid] and with
    [data] or [sampler], of sampling; all others of an inversion."""
    return KINDS[_name_of(tables)]


def _name_of(tables: Mapping[str, Any]) -> str:
    if "kind" in tables:
        name = tables["kind"]
        if not isinstance(name, str) or name not in KINDS:
            raise ConfigError(f"kind: found {name!r}{nearest(str(name), KINDS)}")
        return name
    if tables.keys() & {"sensors", "placement"}:
        return "placement"
    slip = {"fault", "slip_prior"} | (set() if "grid" in tables else {"data", "sampler"})
    return "sampling" if tables.keys() & slip else "inversion"


def read(path: str | Path, overrides: Iterable[str] = (), *kinds: str) -> Any:
    """Read a run file of one of those kinds, or of any.

    Parameters
    ----------
    path : path
        Paths in the file are relative to it.
    overrides : iterable of str
        ``"a.b=value"``, as on the command line.
    *kinds : str
        Of `KINDS`.

    Returns
    -------
    Kind
        An `Inversion`, a `Sampling` or a `Placement`.

    Raises
    ------
    ConfigError
        In one line: the key, what was found, what was expected.
    """
    tables = parse(path, overrides)
    name, kind = _name_of(tables), kind_of(tables)
    if kinds and name not in kinds:
        wanted = " and ".join(f"{name}s" for name in KINDS if name in kinds)
        raise ConfigError(
            f"{path}: a run file of {kind.subject}, for `pyadjoint-gpu {kind.command}`; this"
            f" command is for {wanted}"
        )
    return kind.checked(tables, Path(path))


def json_schema(kind: str | None = None) -> dict[str, Any]:
    """The JSON Schema of run files of a kind, or of all."""
    if kind is not None:
        return kind_of({"kind": kind}).model_json_schema()
    any_kind: Any = Annotated[reduce(or_, KINDS.values()), Field(discriminator="kind")]
    return TypeAdapter(any_kind).json_schema()
