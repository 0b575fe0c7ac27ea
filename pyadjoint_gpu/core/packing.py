"""Nested texts, numbers and arrays as bytes."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .guards import is_array, is_list, is_mapping, is_scalar

if TYPE_CHECKING:
    from jaxtyping import Shaped, UInt8


def pack(tree: Any) -> UInt8[np.ndarray, " bytes"]:
    """Dicts, lists, texts, numbers and arrays as bytes.

    These are the length of a JSON text, that text with the dtype and shape of each array in its
    place, and the arrays' bits. A NamedTuple becomes a dict.
    """
    arrays: list[Shaped[np.ndarray, " ..."]] = []

    def walk(node: Any) -> Any:
        if hasattr(node, "_asdict"):
            node = node._asdict()
        if is_mapping(node):
            return {k: walk(v) for k, v in node.items()}
        if is_list(node):
            return [walk(v) for v in node]
        if is_array(node):
            arrays.append(np.ascontiguousarray(node))
            return {"$array": [node.dtype.str, list(node.shape)]}
        return node.item() if is_scalar(node) else node

    text = json.dumps(walk(tree)).encode()
    return np.frombuffer(
        b"".join([len(text).to_bytes(8, "little"), text, *(a.data for a in arrays)]), "u1"
    )


def unpack(raw: UInt8[np.ndarray, " bytes"]) -> Any:
    """The inverse of `pack`."""
    at = 8 + int.from_bytes(raw[:8].tobytes(), "little")
    text, arrays = raw[8:at].tobytes(), raw[at:].tobytes()
    start = 0

    def array(node: dict[str, Any]) -> Any:
        nonlocal start
        if set(node) != {"$array"}:
            return node
        kind, shape = node["$array"]
        found = np.frombuffer(arrays, kind, math.prod(shape), start).reshape(shape).copy()
        start += found.nbytes
        return found

    # The hook is called for arrays in their order in the text.
    return json.loads(text, object_hook=array)
