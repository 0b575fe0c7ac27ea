"""Shapes in annotations are texts, so that annotations can be evaluated."""

import ast
from pathlib import Path

import jaxtyping

import pyadjoint_gpu

TOP = Path(pyadjoint_gpu.__file__).parent
KINDS = {name for name in ("Float", "Int", "Bool", "Complex", "Num", "Shaped", "Integer", "Real")}


def shapes(file: Path):
    """The shape of each array type in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") in KINDS:
            assert isinstance(node.slice, ast.Tuple), f"{file}, line {node.lineno}"
            yield node.lineno, node.slice.elts[1]


def test_shapes_are_texts_that_jaxtyping_reads():
    found = 0
    for file in TOP.rglob("*.py"):
        for line, shape in shapes(file):
            assert isinstance(shape, ast.Constant), f"{file}, line {line}"
            assert isinstance(shape.value, str), f"{file}, line {line}: {shape.value!r}"
            jaxtyping.Float[jaxtyping.Array, shape.value]
            found += 1
    assert found > 500
