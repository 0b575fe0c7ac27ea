"""Run files of any kind: their common keys, what they make, and errors in one line."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import Field, SkipValidation, ValidationError

from ..core.errors import ConfigError, shown
from ..core.outputs import inputs
from ..engines.choose import ENGINES
from ..problem.specification import plain
from .tables import Table, Text

EngineName = Annotated[
    SkipValidation[str],
    Field(
        description='Engine that solves the equations; "auto" takes the faster one that is here.',
        json_schema_extra={"enum": [*ENGINES]},
    ),
]


class Output(Table):
    """Files that the run writes; paths are relative to the run file."""

    path: Text | None = None
    """The result (NetCDF); the option -o gives another."""
    journal: Text | None = None
    """Journal (HDF5), from which the same command continues a run that was interrupted."""
    figure: Text | None = None
    """Figure of the result: .png, .pdf or .svg."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The objects of the Python API that a run file specifies."""

    file: Kind
    config_json: str
    """The inputs, as the result keeps them; arrays stand there by their digests."""
    iterations: int | None = None
    """The most iterations, of an inversion."""


class Kind(Table, ABC):
    """A run file."""

    subject: ClassVar[str]
    """The name of the subject in messages."""
    commands: ClassVar[tuple[str, ...]]
    """The commands that take it, the one that runs it first."""
    example: ClassVar[str]
    """The one of `examples` that a new file is made of."""

    title: Text | None = None
    """Title of the result and its figure."""
    output: Output = Output()
    _tables: dict[str, Any]
    _path: Path

    @classmethod
    def checked(cls, tables: dict[str, Any], path: Path) -> Self:
        """The run file of tables, whose paths are relative to that of the file."""
        try:
            file = cls.model_validate(tables)
        except ValidationError as error:
            raise _refusal(error, tables, path) from None
        file._tables, file._path = tables, path
        return file

    @abstractmethod
    def build(self) -> Any:
        """The problem, in the objects of the Python API.

        Raises
        ------
        ConfigError, DataError
            In one line: the key or variable, what was found, what was expected.
        """

    def case(self) -> Case:
        """The case that the file specifies; by default the result of `build`."""
        return self.build()

    def config_json(self, arrays: dict[str, Any]) -> str:
        """The tables that decide the result, with `arrays` in place of what files hold."""
        tables = {k: v for k, v in self._tables.items() if k not in ("kind", "title", "output")}
        return json.dumps(plain(tables | arrays), sort_keys=True)

    @property
    def base(self) -> Path:
        """The folder that paths are relative to."""
        return self._path.parent

    @cached_property
    def reads(self) -> dict[str, Path]:
        """The files that it names, and itself, by key."""
        return inputs(self._tables, self._path)

    @property
    def writes(self) -> dict[str, Path]:
        """The paths of [output], by key."""
        return {k: self.base / v for k, v in self.output.given().items()}


def _refusal(error: ValidationError, tables: Mapping[str, Any], path: Path) -> ConfigError:
    """The first of a file's errors, in one line; one with a message of its own goes before those
    about types, which a union has for each of its parts."""
    found = min(error.errors(), key=lambda e: e["type"].endswith("_type"))
    where, node = "", cast(Any, tables)
    for step in found["loc"]:
        known = step in node if isinstance(node, Mapping) else isinstance(step, int)
        if known or (found["type"] == "missing" and step == found["loc"][-1]):
            where += f"[{step}]" if isinstance(step, int) else f".{step}"
        if known:  # else it is the tag of a part of a union
            node = node[step]
    where, value = where.removeprefix("."), shown(found["input"])
    kind, context = found["type"], found.get("ctx", {})
    if kind == "missing":
        text = f"{where} is missing" if "." in where else f"{path}: table [{where}] is missing"
    elif kind == "value_error":
        text = str(context["error"])
        text = f"{where or path}{text}" if text.startswith(":") else f"{where}.{text}".lstrip(".")
    elif kind == "literal_error":
        names = ", ".join(re.findall(r"'(.*?)'", context["expected"]))
        text = f"{where}: found {value}, expected one of {names}"
    elif kind == "dict_type":
        text = f"{where}: found {value}, expected a table"
    else:
        text = f"{where}: found {value}, {found['msg']}"
    return ConfigError(text)
