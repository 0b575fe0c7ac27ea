"""Run files to start from, made of the JSON Schema: every key with what it is, and its default."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from .examples import FOLDER
from .files import parse
from .kind import Kind

Node = Mapping[str, Any]
"""Node of a JSON Schema."""


def template(kind: type[Kind]) -> str:
    """The text of a run file: the values of the kind's example, all other keys in comments, with
    their defaults."""
    schema = kind.model_json_schema()
    given = parse(FOLDER / f"{kind.example}.toml") | {"kind": schema["properties"]["kind"]["const"]}
    lines = [*_comment(schema["description"]), "", *_lines(schema, schema["$defs"], given, "")]
    return "\n".join(lines) + "\n"


def _lines(table: Node, known: Node, given: Node, path: str) -> Iterator[str]:
    """The keys of a table, then the tables in it; [output] comes last."""
    later: list[str] = []
    for key in sorted(table["properties"], key=lambda k: (k == "output", k != "kind")):
        node, value = table["properties"][key], given.get(key)
        inner = _inner(node, known, value)
        text = node.get("description") or (inner or {}).get("description", "")
        if inner is None or (path and not isinstance(value, Mapping)):
            usual = node.get("default")
            yield from _comment(text)
            off = f"# {key} = {'...' if usual is None else toml(usual)}"
            yield off if value is None else f"{key} = {toml(value)}"
            continue
        several = "additionalProperties" in node  # a table for each name
        for name, values in (value or {"NAME": None}).items() if several else [("", value)]:
            where = ".".join(filter(None, (path, key, name)))
            lines = [*_comment(text), f"[{where}]", *_lines(inner, known, values or {}, where)]
            off = "" if values is not None else "# "
            later += ["", *(line if line.startswith("#") else off + line for line in lines)]
    yield from later


def _inner(node: Node, known: Node, value: Any) -> Node | None:
    """The table that a key holds, if any: among those of several models, the one of its name."""
    several = node.get("additionalProperties")
    node = several if isinstance(several, Mapping) else node
    parts = [p for p in node.get("oneOf", node.get("anyOf", [node])) if p.get("type") != "null"]
    found = [known[p["$ref"].rpartition("/")[2]] for p in parts if "$ref" in p]
    if len(found) > 1:
        return next(t for t in found if t["properties"]["name"]["const"] == value["name"])
    return found[0] if found and (len(parts) == 1 or isinstance(value, Mapping)) else None


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ")


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value) if not isinstance(value, float) else repr(value)
