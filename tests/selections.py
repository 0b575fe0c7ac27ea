"""Covariances of candidates to choose from."""

from __future__ import annotations

import numpy as np

from pyadjoint_gpu.statistics.covariance import DenseCovariance

C, T = 9, 4


def smooth(candidates=C, steps=T, *, length=2.0, size=1.0, seed=0):
    """A covariance of candidates in the plane: correlated in space and time."""
    generator = np.random.default_rng(seed)
    where = generator.uniform(0.0, 6.0, (candidates, 2))
    apart = np.linalg.norm(where[:, None] - where[None], axis=2)
    space = np.exp(-0.5 * (apart / length) ** 2)
    time = np.exp(-np.abs(np.subtract.outer(np.arange(steps), np.arange(steps))) / 3.0)
    strength = generator.uniform(0.5, 1.5, candidates) * size
    array = np.einsum("ab,ij,a,b->aibj", space, time, strength, strength)
    return DenseCovariance(array)


def blocks_of(array):
    return np.stack([array[j, :, j] for j in range(len(array))])
