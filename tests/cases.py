"""Problems that the tests share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

import pyadjoint_gpu as pag
from pyadjoint_gpu.models.finite_volume import difference, gather, mean

CASES = ("homogeneous", "barrier", "white", "rough", "smooth")
"""Unit K; K = 1e-6 in a barrier; ln K white with std 1; ln K with std 2 and Gaussian correlation
of 2 cells, and of 8."""


def grid_of(shape):
    """The workshop's box, 2 x 1 (in 3-D with a depth of 1/2)."""
    if len(shape) == 2:
        return pag.Grid(shape, (1.0, 2.0), (0.0, -1.0))
    return pag.Grid(shape, (0.5, 1.0, 2.0), (0.0, 0.0, -1.0))


def doublet(grid, **options):
    """Wells at 1/5 and 4/5 of the length."""
    places = [(0.45, -0.6), (0.45, 0.6)]
    if grid.ndim == 3:
        places = [(0.2, *p) for p in places]
    return pag.models.Darcy(grid, [pag.Well(places[0], 1.0), pag.Well(places[1], -1.0)], **options)


def permeability(grid, case, seed=0):
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(seed)
    white = generator.standard_normal(grid.shape)
    if case == "homogeneous":
        return np.ones(grid.shape)
    if case == "barrier":
        *_, y, x = np.meshgrid(*grid.centers, indexing="ij")
        return np.where((abs(x) < 0.04) & (y > 0.3) & (y < 0.8), 1e-6, 1.0)
    if case == "white":
        return np.exp(white)
    field = gaussian_filter(white, {"rough": 2, "smooth": 8}[case], mode="wrap")
    return np.exp(2.0 * (field - field.mean()) / field.std())


def points(grid):
    """8 x 8 observations, x in +-1/6 of the length, y in 0.25..0.85."""
    out = [(y, x) for y in np.linspace(0.25, 0.85, 8) for x in np.linspace(-1 / 3, 1 / 3, 8)]
    return [(0.3, *p) for p in out] if grid.ndim == 3 else out


def matrix(model, k, boundary=None):
    """The discrete system A p = b, assembled cell by cell, independently of the package."""
    grid = model.grid
    index = np.arange(grid.size).reshape(grid.shape)
    rows, columns, values = [], [], []
    for axis, h in enumerate(grid.spacing):
        i = np.take(index, np.arange(grid.shape[axis] - 1), axis=axis).ravel()
        j = np.take(index, np.arange(1, grid.shape[axis]), axis=axis).ravel()
        a, b = k.ravel()[i], k.ravel()[j]
        c = (2 * a * b / (a + b) if model.face_mean == "harmonic" else 0.5 * (a + b)) / h**2
        rows += [i, j, i, j]
        columns += [i, j, j, i]
        values += [c, c, -c, -c]
    b = np.zeros(grid.size)
    for well in model.wells:
        cell = index[grid.cell_containing(well.position)]
        b[cell] += well.rate / grid.cell_volume
    for side, value in (boundary or {}).items():
        axis = grid.dims.index(side[0])
        at = 0 if side.endswith("min") else -1
        i = np.take(index, at, axis=axis).ravel()
        c = 2 * k.ravel()[i] / grid.spacing[axis] ** 2
        rows, columns, values = [*rows, i], [*columns, i], [*values, c]
        np.add.at(b, i, c * np.ravel(value))
    a = sp.csc_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(grid.size, grid.size),
    )
    return a, b


def direct(model, k, boundary=None):
    """The discrete solution by a sparse direct solver; zero mean where nothing fixes it."""
    a, b = matrix(model, k, boundary)
    if boundary:
        return spl.spsolve(a, b).reshape(model.grid.shape)
    p = np.zeros(model.grid.size)
    p[1:] = spl.spsolve(a[1:, 1:], b[1:])
    return (p - p.mean()).reshape(model.grid.shape)


@cache
def observations(shape, case="barrier", noise=0.01):
    grid = grid_of(shape)
    return pag.synthetic.observe(
        doublet(grid), {"permeability": permeability(grid, case)}, points(grid), noise=noise
    )


def problem(shape=(15, 31), *, data=None, **options):
    """The workshop's inverse problem at a small size."""
    options = {"tolerance": 1e-10, **options}
    return pag.Problem(
        doublet(grid_of(shape)),
        pag.Control("permeability", 1.0, bounds=(1e-6, 1e2), transform="log"),
        pag.LeastSquares(observations(shape) if data is None else data),
        options.pop("penalty", pag.Smoothness("permeability", weight=1.0, length=0.1)),
        **options,
    )


def diffusion_and_drift(grid, u, drift):
    """laplace u - drift du/dx, with u = 0 on the outer faces."""
    (hy, hx), field = grid.spacing, jnp.pad(u, 1)
    field = field.at[0].set(-field[1]).at[-1].set(-field[-2])
    field = field.at[:, 0].set(-field[:, 1]).at[:, -1].set(-field[:, -2])
    r = (field[1:-1, 2:] - 2 * u + field[1:-1, :-2]) / hx**2
    r += (field[2:, 1:-1] - 2 * u + field[:-2, 1:-1]) / hy**2
    return r - drift * (field[1:-1, 2:] - field[1:-1, :-2]) / (2 * hx)


def power_law_box(shape):
    """Nonlinear diffusion between two sides of fixed height, with an inflow through a third."""
    extent = (0.5, 1.0, 1.25)[-len(shape) :]
    slope = [0.4] * (len(shape) - 1) + [0.0]
    sides = {"x_min": 1.0, "x_max": {"value": 0.3, "gradient": slope} if len(shape) > 1 else 0.5}
    inflow = {f"{'zyx'[-len(shape)]}_min": 0.3} if len(shape) > 1 else ()
    return pag.models.Diffusion(pag.Grid(shape, extent), sides, inflow=inflow)


def uneven(model, seed=0):
    """Parameters of `power_law_box` without symmetry."""
    generator = np.random.default_rng(seed)
    shape = model.grid.shape
    return {
        "diffusivity": np.exp(0.5 * generator.standard_normal(shape)),
        "exponent": 1.5 + generator.random(shape),
        "source": 0.5 * generator.random(shape),
    }


def section(shape=(10, 14), *, no_slip=("y_min", "x_min"), **options):
    """A power-law fluid in a channel 2 wide and 1 deep."""
    options = {"smallest": 1e-2, "viscosity_limit": 20.0} | options
    return pag.models.Channel(pag.Grid(shape, (1.0, 2.0)), no_slip, **options)


def varied(model, n=1 / 3, seed=0):
    """Parameters of `section` without symmetry."""
    generator = np.random.default_rng(seed)
    shape = model.grid.shape
    return {
        "prefactor": np.exp(0.3 * generator.standard_normal(shape)),
        "driving_force": 1.0 + 0.3 * generator.random(shape),
        "exponent": n * (1.0 + 0.2 * generator.random(shape)),
    }


def ice_cap(shape):
    """The published box of 250 x 200 km with two ridges."""
    return pag.models.Ice(pag.Grid(shape, (200e3, 250e3), (-100e3, -125e3)))


def snowy(model):
    """Its bed, flow and balance, in metres and years."""
    y, x = np.meshgrid(*model.grid.centers, indexing="ij")
    length, width = model.grid.extent[1], model.grid.extent[0]
    weight, year = 910 * 9.81, 365.25 * 86400.0
    first = np.exp(-(x**2) / 1e10 - y**2 / 1e9)
    second = np.exp(-(x**2) / 1e9 - (y - width / 8) ** 2 / 1e10)
    return {
        "bed": 3500.0 * (first + second),
        "rate_factor": 1.9e-24 * weight**3 * year,
        "sliding": 5.7e-20 * weight**3 * year,
        "balance_lapse": 0.01 + 0.015 * np.arctan(x / length),
        "equilibrium_line": 2150.0 + 900.0 * np.arctan(y / width),
        "balance_cap": 2.0,
    }


def inland_ice(model):
    """A sheet of ice in the same box on a low bed without symmetry."""
    y, x = np.meshgrid(*model.grid.centers, indexing="ij")
    hills = 300.0 * np.cos(x / 4e4 + 1.0) * np.sin(y / 3e4)
    return {
        "bed": 400.0 * np.exp(-(x**2 + y**2) / 4e9) + hills,
        "rate_factor": 3e-5 * np.exp(0.3 * np.sin(x / 3e4)),
        "sliding": 1.0 + 0.3 * np.cos(y / 2e4),
        "balance_lapse": 0.004 + 0.001 * np.sin(x / 5e4),
        "equilibrium_line": 100.0 + 1e-3 * y,
        "balance_cap": np.where(x > 0, 2.5, 0.5),
        "balance": -3.0 * (x**2 + y**2) / 1e10,
    }


class Fisher(pag.models.Model):
    """The example's model, in 1-D to 3-D: div(D grad u) + u (r - u) + q = 0, closed sides."""

    name = "fisher"
    julia_source = Path(__file__).parents[1] / "examples" / "reaction_diffusion.jl"
    unknowns = (pag.models.Variable("density"),)
    parameters = (
        pag.models.Parameter("diffusivity", positive=True),
        pag.models.Parameter("growth"),
        pag.models.Parameter("arrivals", positive=True),
    )

    def residual(self, u, c):
        u, steps = u["density"], enumerate(self.grid.spacing)
        flows = [mean(c["diffusivity"], d) * difference(u, d) / h**2 for d, h in steps]
        return {"density": gather(u * (c["growth"] - u) + c["arrivals"], flows)}

    def guess(self, m):
        """The solution without diffusion."""
        r, q = m["growth"], m["arrivals"]
        return {"density": (r + np.sqrt(r**2 + 4 * q)) / 2}


def habitat(shape, seed=0):
    """A `Fisher` and parameters without symmetry, with growth and decay."""
    model = Fisher(pag.Grid(shape, (0.5, 1.0, 1.25)[-len(shape) :]))
    generator = np.random.default_rng(seed)
    m = {
        "diffusivity": 0.05 * np.exp(0.5 * generator.standard_normal(shape)),
        "growth": 2.0 + 3.0 * generator.standard_normal(shape),
        "arrivals": 0.1 + 0.1 * generator.random(shape),
    }
    return model, model.fields(m)
