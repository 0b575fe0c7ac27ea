"""Run as a process of its own, to be killed: rows, one after the other, into a journal."""

import sys

import numpy as np

from pyadjoint_gpu.lti.rows import followed

COUNT, SHAPE = 400, (30, 211)


def row(k: int) -> np.ndarray:
    return np.random.default_rng(int(k)).standard_normal(SHAPE)


def rows(path):
    return followed(
        path, (COUNT, *SHAPE), lambda: {"rows": "made"}, lambda missing: map(row, missing)
    )


if __name__ == "__main__":
    for _ in rows(sys.argv[1]):
        print("row", flush=True)
