"""The problems that are solved: Darcy flow between two wells, through five kinds of rock."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from scipy.ndimage import gaussian_filter

from pyadjoint_gpu import Grid, Well
from pyadjoint_gpu.models import Darcy


def darcy_2d(shape: tuple[int, int]) -> Darcy:
    """A box 1 x 2 (y, x) with an injector and a producer; no flow through the sides."""
    grid = Grid(shape, extent=(1.0, 2.0), origin=(0.0, -1.0))
    return Darcy(grid, [Well((0.45, -0.6), 1.0), Well((0.45, 0.6), -1.0)])


def darcy_3d(n: int) -> Darcy:
    """The unit cube with an injector and a producer; no flow through the sides."""
    grid = Grid((n, n, n), extent=(1.0, 1.0, 1.0))
    return Darcy(grid, [Well((0.5, 0.5, 0.2), 1.0), Well((0.5, 0.5, 0.8), -1.0)])


def models(*, quick: bool = False) -> Iterator[Darcy]:
    """The grids of solve.py, 2-D then 3-D, each from small to large."""
    sizes = [(63, 127), (127, 255)] if quick else [(63, 127), (127, 255), (255, 511), (511, 1023)]
    yield from map(darcy_2d, sizes)
    yield from map(darcy_3d, [16] if quick else [32, 64, 96])


def adjoint_source(model: Darcy) -> dict[str, np.ndarray]:
    """dJ/du of a J linear in the pressures of fifty cells, with zero mean."""
    rng = np.random.default_rng(2)
    bar = np.zeros(model.grid.size)
    bar[rng.choice(bar.size, 50, replace=False)] = rng.standard_normal(50)
    return {"pressure": (bar - bar.mean()).reshape(model.grid.shape)}


def coefficients(grid: Grid) -> Iterator[tuple[str, np.ndarray]]:
    """Name and permeability of each case; 3-D has three of the five."""
    yield "homogeneous", np.ones(grid.shape)
    if grid.ndim == 2:
        y, x = np.meshgrid(*grid.centers, indexing="ij")
        wall = (np.abs(x) < 0.04) & (y > 0.3) & (y < 0.8)
        yield "barrier", np.where(wall, 1e-6, 1.0)
    yield "white noise, std 1", np.exp(noise(grid, 1.0, 0.0))
    yield "std 2, 2 cells", np.exp(noise(grid, 2.0, 2.0))
    if grid.ndim == 2:
        yield "std 2, 8 cells", np.exp(noise(grid, 2.0, 8.0))


def channels(grid: Grid, contrast: float) -> np.ndarray:
    """Winding channels, few cells wide, in rock less permeable by `contrast`."""
    width = np.abs(noise(grid, 1.0, 6.0)) < 0.15
    return np.where(width, contrast**0.5, contrast**-0.5)


def noise(grid: Grid, std: float, cells: float) -> np.ndarray:
    """Gaussian noise, smoothed over `cells`, then scaled to `std`."""
    noise = np.random.default_rng(0).standard_normal(grid.shape)
    if cells:
        noise = gaussian_filter(noise, cells, mode="wrap")
        noise = (noise - noise.mean()) / noise.std()
    return std * noise


def _faces(grid: Grid) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Per axis: the spacing and the two cells (flat) at each inner face."""
    cells = np.arange(grid.size, dtype=np.int32).reshape(grid.shape)
    for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        left = np.take(cells, np.arange(n - 1), axis=axis).ravel()
        right = np.take(cells, np.arange(1, n), axis=axis).ravel()
        yield h, left, right


def matrix(grid: Grid, permeability: np.ndarray) -> sp.csr_array:
    """A with A P = Q, by finite volumes: face conductance (K_i + K_j) / (2 h^2)."""
    k = permeability.ravel()
    rows, columns, values = [], [], []
    for h, i, j in _faces(grid):
        a = 0.5 * (k[i] + k[j]) / h**2
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-a, -a, a, a]
    return sp.csr_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(grid.size, grid.size),
    )


def sensitivity(grid: Grid, p: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """-(dR/dK)^T lambda for R = Q - A(K) P, in numpy."""
    out = np.zeros(grid.shape)
    for axis, h in enumerate(grid.spacing):
        half = 0.5 * np.diff(p, axis=axis) * np.diff(multiplier, axis=axis) / h**2
        low, high = ([slice(None)] * grid.ndim for _ in range(2))
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        out[tuple(low)] += half
        out[tuple(high)] += half
    return out
