"""Where a model of the user's own has its Julia counterpart, as Python tells the Julia engine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from cases import Fisher, habitat

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, EngineError
from pyadjoint_gpu.engines.choose import automatic
from pyadjoint_gpu.engines.julia import installation
from pyadjoint_gpu.engines.julia.engine import describe
from pyadjoint_gpu.models import Diffusion, Elliptic, Model, Parameter, Transient, Variable
from pyadjoint_gpu.models.finite_volume import difference, gather

GRID = pag.Grid((3, 4), (1.0, 2.0), (0.0, -1.0))


def module_in(folder):
    """A module of a user's, with a model in it."""
    path = folder / "physics.py"
    path.write_text("from cases import Fisher\n\nclass Own(Fisher):\n    julia_source = 'own.jl'\n")
    spec = importlib.util.spec_from_file_location("physics", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_beside_the_class_that_names_it(tmp_path, monkeypatch):
    module = module_in(tmp_path)
    monkeypatch.setitem(sys.modules, "physics", module)
    (tmp_path / "own.jl").write_text("# ü\n")
    expected = {
        "name": "fisher",
        "table": {},
        "grid": {"shape": [4, 3], "extent": [2.0, 1.0], "origin": [-1.0, 0.0]},
        "source": {"path": str(tmp_path.resolve() / "own.jl"), "text": "# ü\n"},
    }
    assert describe(module.Own(GRID)) == expected

    class Inherits(module.Own):
        def julia_spec(self):
            return {"rate": 2.0}

    assert describe(Inherits(GRID)) == expected | {"table": {"rate": 2.0}}
    step = describe(Transient(module.Own(GRID), 0.1, 2).one_step)
    assert step["source"] == expected["source"]
    assert step["table"]["model"] == "fisher"


def test_in_a_notebook_it_is_in_the_working_directory(tmp_path, monkeypatch):
    class Own(Fisher):
        julia_source = "own.jl"

    monkeypatch.setitem(sys.modules, "notebook", ModuleType("notebook"))  # of no file
    monkeypatch.setattr(Own, "__module__", "notebook")
    monkeypatch.chdir(tmp_path)
    assert Own(GRID).julia_source_path() == tmp_path.resolve() / "own.jl"


def test_models_without_one():
    class Plain(Fisher):
        julia_source = None

    assert Plain(GRID).julia_spec() is None
    assert Plain(GRID).julia_source_path() is None
    with pytest.raises(EngineError, match="model 'fisher' exists in Python only"):
        describe(Plain(GRID))
    assert "source" not in describe(Diffusion(GRID, "x_min"))


def test_a_file_that_is_missing_or_no_text(tmp_path):
    class Own(Fisher):
        julia_source = tmp_path / "own.jl"

    with pytest.raises(EngineError, match=r"model 'fisher': .*own\.jl: No such file"):
        describe(Own(GRID))
    Path(Own.julia_source).write_bytes(b"\xff\xfe")
    with pytest.raises(EngineError, match=r"own\.jl: not UTF-8"):
        describe(Own(GRID))


def test_auto_takes_julia_for_it(monkeypatch):
    monkeypatch.setenv("PYADJOINT_GPU_ENGINE", "auto")
    monkeypatch.setattr(installation, "find", lambda: SimpleNamespace(origin="a test"))
    model, _ = habitat((3, 4))
    assert automatic(model) == ("julia", "Julia is set up by a test")
    monkeypatch.setattr(Fisher, "julia_source", None)
    assert automatic(model) == ("embedded", "model 'fisher' exists in Python only")


class Spread(Model):
    """laplace u + u (1 - u) = 0 in a closed box: R(u=0) = 0."""

    unknowns = (Variable("u"),)
    parameters = (Parameter("rate"),)

    def residual(self, u, c):
        u = u["u"]
        r = c["rate"] * u * (1.0 - u)
        spacing = enumerate(self.grid.spacing)
        return {"u": gather(r, [difference(u, axis) / h**2 for axis, h in spacing])}

    def guess(self, m):
        return {"u": 0.5 + 0.1 * self.grid.centers[0][:, None] + 0.0 * m["rate"]}


class Steep(Spread):
    def elliptic(self, u, c):
        hy, hx = self.grid.spacing
        ones = jnp.ones_like(u["u"])
        sink = c["rate"] * jnp.abs(2.0 * u["u"] - 1.0)
        return {"u": Elliptic((ones[1:] / hy**2, ones[:, 1:] / hx**2), sink)}


def test_parameters_must_not_be_named_like_a_result():
    class Clash(Spread):
        parameters = (Parameter("rate"), Parameter("rate_gradient", default=0.0))

    with pytest.raises(ConfigError, match="a result has a variable 'rate_gradient' of its own"):
        pag.Problem(Clash(GRID), pag.Control("rate", 1.0), lambda u: jnp.sum(u["u"]))


@pytest.mark.parametrize("kind", [Spread, Steep])
def test_where_zero_is_another_solution(kind):
    """There is no R(u=0) to measure residuals by."""
    model = kind(pag.Grid((8, 9), (1.0, 1.0)))
    state = pag.solve(model, {"rate": 3.0})
    assert state.attrs["status"] == "converged"
    np.testing.assert_allclose(state["u"], 1.0, atol=1e-5)


def test_lengths_of_the_grid_are_not_those_of_a_residual():
    """Computed beside spacings in metres, a diffusivity in km2 would be wrong by 1e6."""

    class Stated(Fisher):
        parameters = (Parameter("diffusivity", "km2 year-1"), *Fisher.parameters[1:])

    grid = pag.Grid((3, 4), (1.0, 2.0), units="km")
    with pytest.raises(ConfigError, match=r"diffusivity is in 'km2 year-1', expected metres"):
        pag.solve(Stated(grid), {"diffusivity": 0.05, "growth": 1.0})
    Fisher(grid).fields({"diffusivity": 0.05, "growth": 1.0, "arrivals": 0.1})
