import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.spaces import BoundarySpace, CellSpace


def test_cells_and_centers():
    grid = pag.Grid((4, 5), (2.0, 10.0), (1.0, -5.0))
    assert grid.dims == ("y", "x")
    np.testing.assert_allclose(grid.centers[0], [1.25, 1.75, 2.25, 2.75])
    np.testing.assert_allclose(grid.centers[1], [-4, -2, 0, 2, 4])
    assert grid.cell_volume == 1.0
    assert grid.cell_containing((1.6, -2.9)) == (1, 1)
    assert grid.cell_containing((3.0, 5.0)) == (3, 4)  # the upper corner is in the last cell


def test_fill_takes_numbers_arrays_functions_planes_and_dataarrays():
    grid = pag.Grid((3, 4), (3.0, 4.0))
    space = CellSpace(grid)
    y, x = np.meshgrid(*grid.centers, indexing="ij")
    field = 1.0 + 2.0 * (y - 1.5) - 0.5 * (x - 2.0)
    plane = {"value": 1.0, "gradient": [2.0, -0.5]}
    np.testing.assert_allclose(space.fill(plane, "f"), field)
    np.testing.assert_allclose(space.fill(lambda y, x: 1 + 2 * (y - 1.5) - (x - 2) / 2, "f"), field)
    assert np.all(space.fill(3, "f") == 3.0)
    array = xr.DataArray(field, {"y": grid.centers[0], "x": grid.centers[1]}, ("y", "x"))
    for variant in (array, array.T, array[::-1], array[:, ::-1].T):
        np.testing.assert_array_equal(space.fill(variant, "f"), field)


def test_boundary_faces_lie_on_the_sides_in_order():
    grid = pag.Grid((2, 3), (2.0, 3.0))
    space = BoundarySpace(grid, ("x_min", "y_max"))
    assert space.shape == (5,)
    y, x = space.positions()
    np.testing.assert_allclose(x, [0, 0, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(y, [0.5, 1.5, 2, 2, 2])
    values = space.fill({"y_max": 7.0, "x_min": [1.0, 2.0]}, "p")
    np.testing.assert_array_equal(values, [1, 2, 7, 7, 7])


@pytest.mark.parametrize("n", [16, 64])
def test_dirichlet_energy_does_not_depend_on_the_grid(n):
    grid = pag.Grid((n, 2 * n), (1.0, 2.0))
    y, x = np.meshgrid(*grid.centers, indexing="ij")
    field = np.cos(np.pi * y) * np.cos(np.pi * x)
    energy = float(CellSpace(grid).dirichlet(jnp.asarray(field)))
    assert energy == pytest.approx(np.pi**2, rel=3.0 / n**2 + 1e-6)  # float32 here


def test_dirichlet_energy_on_the_boundary_goes_round_the_corners():
    grid = pag.Grid((40, 60), (2.0, 3.0))
    space = BoundarySpace(grid, ("x_min", "x_max", "y_min", "y_max"))
    y, x = space.positions()
    # x along a unit slope: on two sides its derivative is 1, and it is continuous at the corners.
    assert float(space.dirichlet(jnp.asarray(x))) == pytest.approx(6.0, rel=0.02)
    assert float(space.dirichlet(jnp.asarray(y))) == pytest.approx(4.0, rel=0.02)
