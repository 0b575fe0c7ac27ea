"""Unknowns and parameters that live in different places: results with dimensions of their own."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.spaces import BoundarySpace, CellSpace
from pyadjoint_gpu.models import Explicit, Model, Parameter, Variable

CELLS = pag.Grid((8, 6), (1.0, 0.75))
SPACING = CELLS.spacing


def membrane(u, stiffness):
    """div(K grad u) + 1 on nodes, K in the cells between them; u = 0 on the rim."""
    hy, hx = SPACING
    inner = jnp.pad(u[1:-1, 1:-1], 1)
    dy, dx = jnp.diff(inner, axis=0) / hy, jnp.diff(inner, axis=1) / hx
    ky = 0.5 * (stiffness[:, 1:] + stiffness[:, :-1])
    kx = 0.5 * (stiffness[1:] + stiffness[:-1])
    flow = jnp.diff(ky * dy[:, 1:-1], axis=0) / hy + jnp.diff(kx * dx[1:-1], axis=1) / hx
    return -u + jnp.pad(flow + 1.0 + u[1:-1, 1:-1], 1)


class OnNodes(Model):
    """Its grid's centres are the nodes; a parameter has the cells between them."""

    unknowns = (Variable("deflection", "m"),)
    parameters = (
        Parameter("stiffness", "N", positive=True, space=CellSpace(CELLS)),
        Parameter("load", default=1.0),
        Parameter("damage", default=0.0, space=CellSpace(CELLS)),
    )

    def __init__(self):
        shape = [n + 1 for n in CELLS.shape]
        extent = [n * h for n, h in zip(shape, SPACING, strict=True)]
        super().__init__(pag.Grid(shape, extent, [-0.5 * h for h in SPACING]))

    def residual(self, u, c):
        k = c["stiffness"] * jnp.exp(-c["damage"])
        return {"deflection": membrane(u["deflection"], k) + 0.0 * c["load"]}


class BetweenNodes(OnNodes):
    """The other way round: cells have the parameters, and the nodes are their corners."""

    parameters = (Parameter("stiffness", "N", positive=True),)

    def __init__(self):
        Model.__init__(self, CELLS)

    def guess(self, m):
        return {"deflection": np.zeros([n + 1 for n in CELLS.shape])}

    def residual(self, u, c):
        return {"deflection": membrane(u["deflection"], c["stiffness"])}


def stiffness():
    y, x = np.meshgrid(*CELLS.centers, indexing="ij")
    return 1.0 + 0.5 * np.sin(3.0 * y) * np.cos(2.0 * x)


def the_problem(model):
    truth = pag.solve(model, {"stiffness": stiffness()}, tolerance=1e-10)["deflection"].values
    return pag.Problem(
        model,
        pag.Control("stiffness", 1.0, transform="log", truth=stiffness()),
        lambda state: 1e6 * jnp.sum((state["deflection"] - truth) ** 2),
        pag.Smoothness("stiffness", 1e-3, 0.2),
        tolerance=1e-10,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "nodes", "cells"),
    [
        (OnNodes, ("y", "x"), ("stiffness_y", "stiffness_x")),
        (BetweenNodes, ("y_face", "x_face"), ("y", "x")),
    ],
)
def test_an_inversion_from_nodes_to_cells(kind, nodes, cells, tmp_path):
    problem = the_problem(kind())
    assert pag.taylor_test(problem).passed
    result = pag.invert(problem, max_iterations=3)
    result.pag.save(tmp_path / "result.nc")
    back = xr.open_dataset(tmp_path / "result.nc", engine="h5netcdf")
    _, gradient = problem.value_and_gradient()
    for data in (result, back):
        assert data["deflection"].dims == nodes
        for name in ("stiffness", "stiffness_initial", "stiffness_true", "stiffness_gradient"):
            assert data[name].dims == cells
        for dims, places in ((nodes, CELLS.faces), (cells, CELLS.centers)):
            for d, at in zip(dims, places, strict=True):
                np.testing.assert_allclose(data[d], at, atol=1e-14)
                assert data[d].attrs["units"] == "m"
    assert gradient["stiffness"].dims == cells
    np.testing.assert_allclose(gradient[cells[0]], CELLS.centers[0], atol=1e-14)
    xr.testing.assert_identical(result["stiffness"].variable, back["stiffness"].variable)
    first = np.abs(result["stiffness_initial"] - stiffness()).mean()
    assert np.abs(result["stiffness"].values - stiffness()).mean() < first


def test_equal_spaces_share_dimensions():
    state = pag.solve(OnNodes(), {"stiffness": stiffness()})
    assert state["load"].dims == ("y", "x")
    assert state["damage"].dims == state["stiffness"].dims == ("stiffness_y", "stiffness_x")


class TwoSides(Model):
    """Parameters on different sides whose spaces call their dimension alike."""

    unknowns = (Variable("u"),)
    parameters = (
        Parameter("west", default=1.0, space=BoundarySpace(CELLS, ("x_min",))),
        Parameter("south", default=2.0, space=BoundarySpace(CELLS, ("y_min",))),
        Parameter("east", default=3.0, space=BoundarySpace(CELLS, ("x_max",))),
    )

    def residual(self, u, c):
        sides = c["west"][:, None] + c["south"][None] + c["east"][:, None]
        return {"u": sides - u["u"]}


def test_parameters_on_different_sides():
    state = pag.solve(TwoSides(CELLS), {})
    np.testing.assert_allclose(state["u"], 6.0)
    sizes = {n: dict(state[n].sizes) for n in ("west", "south", "east")}
    assert sizes == {
        "west": {"boundary_face": 8},
        "south": {"south_boundary_face": 6},
        "east": {"east_boundary_face": 8},
    }
    assert np.all(state["boundary_x"] == 0.0)
    assert np.all(state["east_boundary_x"] == 0.75)


class Relaxing(Explicit):
    """x_(n+1) = x_n / 2 on the faces of a line, from cells."""

    unknowns = (Variable("height"),)
    parameters = (Parameter("start"),)
    linear_in = ("start",)

    def __init__(self):
        super().__init__(pag.Grid(4, 1.0))
        self.step, self.steps, self.every, self.checkpoints = 1.0, 4, 2, 2

    def coefficients(self, m):
        return {}

    def start(self, m):
        return {"x": jnp.pad(m["start"], (0, 1)) + jnp.pad(m["start"], (1, 0))}

    def advance(self, x, c, f):
        return {"x": 0.5 * x["x"]}

    def observe(self, x):
        return {"height": x["x"]}

    def largest_step(self, m):
        return jnp.inf


def test_unknowns_on_faces_in_time():
    state = pag.solve(Relaxing(), {"start": 1.0})
    assert state["height"].dims == ("time", "x_face")
    np.testing.assert_allclose(state["height"][:, 1], [2.0, 0.5, 0.125])
