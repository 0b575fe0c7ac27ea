"""The report in Markdown: every section with its machine and date."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def document(results: dict[str, Any], sections: dict[str, tuple[str, ModuleType]]) -> str:
    """The results of these sections, by their titles and the `tables` of their modules."""
    parts = ["# Benchmarks", "Made by `python -m benchmarks`; README.md says what is measured."]
    for name, (title, module) in sections.items():
        if name in results:
            section = results[name]
            quick = " (quick: small sizes, not representative)" if section["quick"] else ""
            parts += [f"## {title}{quick}", _machine(section["machine"])]
            parts.append(module.tables(section["result"]))
    return "\n\n".join(parts) + "\n"


def _machine(m: dict[str, Any]) -> str:
    return (
        f"{m['cpu']}, {m['cores']} cores, {m['memory_bytes'] / 2**30:.0f} GiB, {m['system']};"
        f" Python {m['python']}, jax {m['jax']}, numpy {m['numpy']}, scipy {m['scipy']},"
        f" pyamg {m['pyamg']}, gcc {m['gcc']}; {m['date'][:10]}."
    )


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows])


def size(row: dict[str, Any]) -> str:
    """The shape of a row's grid, nx first."""
    return " x ".join(str(n) for n in reversed(row["shape"]))
