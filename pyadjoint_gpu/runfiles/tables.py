"""Tables of run files as pydantic models: those that kinds share, and errors in one line."""

from __future__ import annotations

import inspect
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_type_hints,
)

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SkipValidation,
    Strict,
    Tag,
    ValidationError,
    WrapValidator,
    create_model,
    model_validator,
)

from ..core.checks import check_keys
from ..core.errors import ConfigError, nearest, shown
from ..core.grid import Grid
from ..core.outputs import inputs
from ..models import CATALOGUE, Model, Transient
from ..problem.specification import plain

# Types: what is told of a value that is none


def expected(text: str) -> WrapValidator:
    """What to tell of a value that is not of its type, unless a part of it tells by itself."""

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            if any(isinstance(e.get("ctx", {}).get("error"), ConfigError) for e in error.errors()):
                raise
            raise ConfigError(f": found {shown(value)}, expected {text}") from None

    return WrapValidator(check)


Text = Annotated[str, Strict(), Field(min_length=1), expected("a text")]
Flag = Annotated[bool, Strict(), expected("true or false")]
Whole = Annotated[int, Strict(), Field(ge=0), expected("a whole number >= 0")]
Count = Annotated[int, Strict(), Field(ge=1), expected("a positive whole number")]
Real = Annotated[float, Strict()]
Finite = Annotated[Real, Field(allow_inf_nan=False)]
Number = Annotated[Finite, expected("a number")]
Stored = Annotated[str, Strict(), expected("'file.nc:variable'")]
Positive = Annotated[Finite, Field(gt=0), expected("a positive number")]
V = TypeVar("V")
T = TypeVar("T")
OrTable: TypeAlias = Annotated[
    Annotated[V, Tag("value")] | Annotated[T, Tag("table")],
    Discriminator(lambda found: "table" if isinstance(found, Mapping) else "value"),
]
"""A value, or what a table says of it."""


# Tables


class Table(BaseModel):
    """A table, whose keys are known.

    A value that a class of the package checks, when it is made of the table, is not checked here:
    its type is `SkipValidation`, and says what editors are told. Validators of tables raise
    `ConfigError`s as those classes do: they begin with the name of a key, or with a colon where the
    table itself is wrong.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True
    )

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, table: Any) -> dict[str, Any]:
        return check_keys(table, cls.model_fields, "")

    def given(self) -> dict[str, Any]:
        """What stands in it, without defaults."""
        return {k: getattr(self, k) for k in type(self).model_fields if k in self.model_fields_set}

    def check_whole(self, key: str, beside: str, required: Iterable[str]) -> Self:
        """With either `key` alone, which gives the whole of what the table is of, or all others
        that are required."""
        given = self.given()
        if key in given and len(given) > 1:
            raise ConfigError(f"{min(given.keys() - {key})}: found beside {beside}")
        for name in required if key not in given else ():
            if name not in given:
                raise ConfigError(f"{name} is missing")
        return self


def table_of(
    made: Callable[..., Any], *names: str, optional: bool = False, **more: tuple[Any, Any]
) -> type[Table]:
    """Table of the arguments of a class or a function, which checks them: of those names, or of all
    but the grid. Its types and defaults are those of the signature, what they are stands in the
    docstring."""
    hints = get_type_hints(made.__init__ if isinstance(made, type) else made)
    texts, arguments = _texts(made), inspect.signature(made).parameters
    keys: dict[str, Any] = dict(more)
    for name in names or [k for k in arguments if k not in ("grid", *more)]:
        default = arguments[name].default
        if default is inspect.Parameter.empty:
            default = None if optional else ...
        keys[name] = (SkipValidation[hints[name]], Field(default, description=texts.get(name)))
    summary = (inspect.getdoc(made) or "").partition("\n\n")[0]
    return create_model(made.__name__, __base__=Table, __doc__=summary, **keys)


def _texts(made: Callable[..., Any]) -> dict[str, str | None]:
    """What the docstring of a class or a function says of its arguments."""
    sections = re.split(r"^(\w+)\n-+\n", f"{inspect.getdoc(made)}\n", flags=re.MULTILINE)
    found = dict(zip(sections[1::2], sections[2::2], strict=True))
    out: dict[str, str | None] = {}
    entries = found.get("Parameters", "") + found.get("Attributes", "")
    for names, kind, text in re.findall(
        r"^(\w.*?)(?: : (.*))?\n((?:(?:    .*)?\n)*)", entries, re.M
    ):
        said = re.sub(r"\s+", " ", text.replace("``", "")).strip()
        same = re.match(r"As (?:for|of) `(\w+)`", said)  # another class of its module
        if same:
            theirs = _texts(getattr(sys.modules[made.__module__], same[1]))
            out |= {k: theirs.get(k) for k in names.split(", ")}
            continue
        out |= dict.fromkeys(names.split(", "), said or (kind if kind[:1] == "{" else None))
    return out


class GridTable(table_of(Grid, optional=True)):
    """Cells of a box."""

    like: Stored | None = None
    """In place of all others: "file.nc:variable", on whose coordinates the cells lie."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        return self.check_whole("like", "'like', which gives the whole grid", ("shape", "extent"))


def _named(kind: type[Model], **more: Any) -> type[Table]:
    """Table of a model, with its name."""
    name: Any = Literal[kind.name]  # type: ignore[valid-type]  # pyright knows no computed ones
    return table_of(kind, name=(name, Field(description="The physics.")), **more)


if TYPE_CHECKING:
    ModelTable = Table
else:
    _steady = Union[tuple(_named(k) for k in CATALOGUE.values() if k is not Transient)]  # noqa: UP007
    _inner = Annotated[_steady, Field(discriminator="name", description="What changes in time.")]
    _transient = _named(Transient, model=(_inner, ...))
    ModelTable = Annotated[_steady | _transient, Field(discriminator="name")]


class Output(Table):
    """Where results go; paths are relative to the run file."""

    path: Text | None = None
    """The result (NetCDF); `-o` gives another."""
    journal: Text | None = None
    """What a run that was stopped goes on from (HDF5)."""
    figure: Text | None = None
    """A figure of the result: .png, .pdf or .svg."""


class Kind(Table, ABC):
    """A run file."""

    subject: ClassVar[str]
    """What files of the kind are of."""
    command: ClassVar[str]
    """What runs them."""
    example: ClassVar[str]
    """One of `examples`."""

    title: Text | None = None
    """Title of the result and its figure."""
    output: Output = Output()
    """Where results go."""
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
        """What is run, made of the same objects as in Python.

        Raises
        ------
        ConfigError, DataError
            In one line: the key or variable, what was found, what was expected.
        """

    @property
    def specification(self) -> dict[str, Any]:
        """What decides the result: the tables as they stand in the file."""
        return {k: v for k, v in self._tables.items() if k not in ("kind", "title", "output")}

    @property
    def base(self) -> Path:
        """The folder that paths are relative to."""
        return self._path.parent

    @cached_property
    def reads(self) -> dict[str, Path]:
        """The files that it names, and itself."""
        return inputs(self._tables, self._path)

    @property
    def writes(self) -> dict[str, Path]:
        """The places of [output], by key."""
        return {k: self.base / v for k, v in self.output.given().items()}


@dataclass(frozen=True)
class Case:
    """What is run, other than an inversion.

    Attributes
    ----------
    file : Kind
    arrays : dict
        What stands in the place of the file's tables in ``config_json``.
    """

    file: Kind
    arrays: dict[str, Any]

    @property
    def config_json(self) -> str:
        """Inputs of the result. Arrays stand in it by their own digests."""
        return json.dumps(plain(self.file.specification | self.arrays), sort_keys=True)


# Errors


def _refusal(error: ValidationError, tables: Mapping[str, Any], path: Path) -> ConfigError:
    """The first of a file's errors, in one line. Those that tell by themselves go before those of
    a union's other parts."""
    found = min(error.errors(), key=lambda e: e["type"].endswith("_type"))
    where, node = "", cast(Any, tables)
    for step in found["loc"]:
        known = step in node if isinstance(node, Mapping) else isinstance(step, int)
        if known or (found["type"] == "missing" and step == found["loc"][-1]):
            where += f"[{step}]" if isinstance(step, int) else f".{step}"
        if known:  # else it is the name that a union calls a part of it by
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
    elif kind == "union_tag_not_found":
        text = f"{where}.{context['discriminator'][1:-1]} is missing"
    elif kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        name, names = found["input"][key], re.findall(r"'(.*?)'", context["expected_tags"])
        text = f"{where}.{key}: found {shown(name)}{nearest(str(name), names)}"
    elif kind in ("dict_type", "model_attributes_type"):
        text = f"{where}: found {value}, expected a table"
    else:
        text = f"{where}: found {value}, {found['msg']}"
    return ConfigError(text)
