"""Run files of all kinds: the union of their schemas, by the key ``kind``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter

from ..core.errors import ConfigError, nearest
from .files import parse
from .inversion import Inversion
from .placement import Placement
from .sampling import Sampling

RunFile = Inversion | Sampling | Placement
KINDS: dict[str, type[RunFile]] = {
    "inversion": Inversion,
    "sampling": Sampling,
    "placement": Placement,
}
"""By the key ``kind``."""
AnyKind = TypeVar("AnyKind", bound=Inversion | Sampling | Placement)


def kind_of(tables: Mapping[str, Any]) -> type[RunFile]:
    """The kind of a run file: what its key ``kind`` says. Without one, a file with [sensors] or
    [placement] is of a placement; one with [fault] or [slip_prior], or without [grid] and with
    [data] or [sampler], of sampling; all others of an inversion."""
    if "kind" in tables:
        name = tables["kind"]
        if not isinstance(name, str) or name not in KINDS:
            raise ConfigError(f"kind: found {name!r}{nearest(str(name), KINDS)}")
        return KINDS[name]
    if tables.keys() & {"sensors", "placement"}:
        return Placement
    slip = {"fault", "slip_prior"} | (set() if "grid" in tables else {"data", "sampler"})
    return Sampling if tables.keys() & slip else Inversion


def read(path: str | Path, overrides: Iterable[str] = (), *kinds: type[AnyKind]) -> AnyKind:
    """Read a run file of one of those kinds, or of any.

    Parameters
    ----------
    path : path
        Paths in the file are relative to it.
    overrides : iterable of str
        ``"a.b=value"``, as on the command line.
    *kinds : type
        Of `KINDS`.

    Raises
    ------
    ConfigError
        In one line: the key, what was found, what was expected.
    """
    tables = parse(path, overrides)
    kind: Any = kind_of(tables)
    if kinds and kind not in kinds:
        wanted = " and ".join(f"{name}s" for name, k in KINDS.items() if k in kinds)
        raise ConfigError(
            f"{path}: a run file of {kind.subject}, for `pyadjoint-gpu {kind.command}`; this"
            f" command is for {wanted}"
        )
    return kind.checked(tables, Path(path))


def json_schema(kind: str | None = None) -> dict[str, Any]:
    """The JSON Schema of run files of a kind, or of all."""
    if kind is not None:
        return kind_of({"kind": kind}).model_json_schema()
    return TypeAdapter(Annotated[RunFile, Field(discriminator="kind")]).json_schema()
