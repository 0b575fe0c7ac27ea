"""Tables of run files as pydantic models: types of values, and tables made of signatures."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    SkipValidation,
    Strict,
    Tag,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from ..core.checks import check_keys
from ..core.errors import ConfigError, nearest, shown
from ..core.grid import Grid
from ..models import CATALOGUE, Transient

# Types


def expected(text: str, holds: Callable[[Any], bool] = lambda _: True) -> WrapValidator:
    """The end of the message about a value of another type, unless a table in it has its own, or
    for which `holds` is false."""

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            found = handler(value)
            if holds(found):
                return found
        except ValidationError as error:
            if any(isinstance(e.get("ctx", {}).get("error"), ConfigError) for e in error.errors()):
                raise
        raise ConfigError(f": found {shown(value)}, expected {text}")

    return WrapValidator(check)


Text = Annotated[str, Strict(), Field(min_length=1), expected("a text")]
Stored = Annotated[str, Strict(), expected("'file.nc:variable'")]
Whole = Annotated[int, Strict(), Field(ge=0), expected("a whole number >= 0")]
Count = Annotated[int, Strict(), Field(ge=1), expected("a positive whole number")]
Real = Annotated[float, Strict()]
Finite = Annotated[Real, Field(allow_inf_nan=False)]
Number = Annotated[Finite, expected("a number")]
Positive = Annotated[Finite, Field(gt=0), expected("a positive number")]
V = TypeVar("V")
T = TypeVar("T")
OrTable: TypeAlias = Annotated[
    Annotated[V, Tag("value")] | Annotated[T, Tag("table")],
    Discriminator(lambda found: "table" if isinstance(found, Mapping) else "value"),
]
"""A value, or a table in its place."""


# Tables


class Table(BaseModel):
    """Table whose keys are known.

    Values that a class of the package checks, when it is made of the table, are not checked here:
    their type is `SkipValidation`, which tells editors only. Validators of tables raise
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

    def given(self, *without: str) -> dict[str, Any]:
        """The values that stand in the file, without defaults and these keys."""
        keys = self.model_fields_set.difference(without)
        return {k: getattr(self, k) for k in type(self).model_fields if k in keys}


def table_of(
    made: Callable[..., Any],
    *names: str,
    unless: str = "",
    told: Mapping[str, str] | None = None,
    **more: tuple[Any, Any],
) -> type[Table]:
    """Table of the arguments of a class or a function, which checks them itself.

    Types and defaults are those of the signature, descriptions those of the docstring or, where run
    files need other words, of `told`. The arguments are those of `names`, or all but ``grid``;
    `unless` is a further key, which stands in place of them all. Further keys come from `more`, as
    pairs of a type and a `Field`.
    """
    hints = get_type_hints(made.__init__ if isinstance(made, type) else made)
    texts, arguments = _texts(made) | dict(told or {}), inspect.signature(made).parameters
    names = names or tuple(k for k in arguments if k not in ("grid", *more))
    required = [k for k in names if arguments[k].default is inspect.Parameter.empty]
    keys: dict[str, Any] = dict(more)
    for name in names:
        default: Any = arguments[name].default
        if name in required:
            default = None if unless else ...
        keys[name] = (SkipValidation[hints[name]], Field(default, description=texts.get(name)))

    def whole(table: Table) -> Table:
        given = table.given()
        if unless in given and len(given) > 1:
            raise ConfigError(
                f"{min(given.keys() - {unless})}: found beside {unless!r},"
                " which stands in place of all others"
            )
        for name in required if unless not in given else ():
            if name not in given:
                raise ConfigError(f"{name} is missing")
        return table

    summary = (inspect.getdoc(made) or "").partition("\n\n")[0]
    checks: dict[str, Any] = {"whole": model_validator(mode="after")(whole)} if unless else {}
    table = create_model(
        made.__name__,
        __base__=Table,
        __doc__=summary,
        __validators__=checks,
        # There are none to look for, which takes long; classes that derive from it have some.
        __cls_kwargs__={"use_attribute_docstrings": False},
        **keys,
    )
    table.model_config["use_attribute_docstrings"] = True
    return table


def _texts(made: Callable[..., Any] | None) -> dict[str, str | None]:
    """Descriptions of a class's or a function's arguments, from its docstring."""
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
            theirs = _texts(vars(sys.modules[made.__module__]).get(same[1]))
            out |= {k: theirs.get(k) for k in names.split(", ")}
            continue
        out |= dict.fromkeys(names.split(", "), said or (kind if kind[:1] == "{" else None))
    return out


class GridTable(table_of(Grid, unless="like")):
    """Rectangular box of equal cells."""

    like: Stored | None = None
    """In place of all others: "file.nc:variable", whose coordinates are the cells' centres."""


# Models


@dataclass(frozen=True)
class _ByName:
    """Type of a model's table, which is made when ``name`` says whose: only that of a run's own
    model, or for the JSON Schema all."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, *_: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        tables: Any = Union[tuple(map(_model_table, self.names))]  # noqa: UP007
        any_of_them: Any = Annotated[tables, Field(discriminator="name")]
        return handler(TypeAdapter(any_of_them).core_schema)

    def _checked(self, table: Any) -> Table:
        if not isinstance(table, Mapping):
            raise ConfigError(f": found {shown(table)}, expected a table")
        if "name" not in table:
            raise ConfigError("name is missing")
        name = table["name"]
        if name not in self.names:
            raise ConfigError(f"name: found {shown(name)}{nearest(str(name), self.names)}")
        return _model_table(name).model_validate(table)


ModelTable = Annotated[Table, _ByName(tuple(CATALOGUE))]
_inner = Annotated[Table, _ByName(tuple(k for k in CATALOGUE if k != Transient.name))]


@cache
def _model_table(name: str) -> type[Table]:
    literal: Any = Literal[name]  # type: ignore[valid-type]  # pyright knows no computed ones
    keys: dict[str, Any] = {"name": (literal, Field(description="Name of the physics."))}
    if name == Transient.name:
        keys["model"] = (_inner, Field(description="The steady model whose state changes in time."))
    return table_of(CATALOGUE[name], **keys)
