"""Run files of all kinds: the union of their schemas, by the key ``kind``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from ..core.errors import ConfigError, nearest
from . import KINDS
from .files import parse
from .kind import Kind


def kind_of(tables: Mapping[str, Any]) -> type[Kind]:
    """The kind of a run file, by its key ``kind``. Without one, a file with [sensors] or
    [placement] is of a placement; one with [fault] or [slip_prior], or without [grid] and with
    [data] or [sampler], of sampling; all others of an inversion."""
    name = tables.get("kind", _likely(tables))
    if not isinstance(name, str) or name not in KINDS:
        raise ConfigError(f"kind: found {name!r}{nearest(str(name), KINDS)}")
    return getattr(import_module(f".{name}", __package__), name.capitalize())


def _likely(tables: Mapping[str, Any]) -> str:
    if tables.keys() & {"sensors", "placement"}:
        return "placement"
    slip = {"fault", "slip_prior"} | (set() if "grid" in tables else {"data", "sampler"})
    return "sampling" if tables.keys() & slip else "inversion"


def read(path: str | Path, overrides: Iterable[str] = (), command: str | None = None) -> Any:
    """The checked run file at a path, with overrides ("a.b=value"): an `Inversion`, a `Sampling` or
    a `Placement`; a `ConfigError` in one line where it is wrong, or not for that command."""
    tables = parse(path, overrides)
    kind = kind_of(tables)
    if command is not None and command not in kind.commands:
        raise ConfigError(
            f"{path}: a run file of {kind.subject}, for `pyadjoint-gpu {kind.commands[0]}`, which"
            f" `pyadjoint-gpu {command}` does not take"
        )
    return kind.checked(tables, Path(path))


def json_schema(name: str | None = None) -> dict[str, Any]:
    """The JSON Schema of run files of a kind, or of all."""
    if name is not None:
        return kind_of({"kind": name}).model_json_schema()
    kinds = [kind_of({"kind": name}) for name in KINDS]
    any_kind: Any = Annotated[reduce(or_, kinds), Field(discriminator="kind")]
    return TypeAdapter(any_kind).json_schema()
