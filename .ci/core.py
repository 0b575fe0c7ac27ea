"""Imports all of the package, without any extra, and leaves a small run file and its data."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pyadjoint_gpu as pag

for extra in ("matplotlib", "arviz", "mpi4py", "diffrax", "optax", "blackjax", "flowjax"):
    assert importlib.util.find_spec(extra) is None, f"{extra} is installed"
for module in pkgutil.walk_packages(pag.__path__, "pyadjoint_gpu."):
    # Imported on use only: the command, and layers made of an extra's classes.
    if module.name not in ("pyadjoint_gpu.__main__", "pyadjoint_gpu.sampling.flow.network"):
        importlib.import_module(module.name)

grid = pag.Grid((8, 12), (1.0, 1.5))
model = pag.models.Darcy(grid, [pag.Well((0.5, 0.3), 1.0), pag.Well((0.5, 1.2), -1.0)])
points = [(0.2, 0.2), (0.8, 0.5), (0.4, 0.9), (0.6, 1.3)]
data = pag.synthetic.observe(model, {"permeability": 2.0}, points, noise=0.01, seed=0)
data.pag.save("observations.nc")
Path("core.toml").write_text("""\
[grid]
shape = [8, 12]
extent = [1.0, 1.5]

[model]
name = "darcy"
wells = [{position = [0.5, 0.3], rate = 1.0}, {position = [0.5, 1.2], rate = -1.0}]

[controls.permeability]
initial = 1.0
transform = "log"

[misfit]
observations = "observations.nc"

[penalty.permeability]
weight = 1.0
length = 0.3

[inversion]
tolerance = 1e-2

[output]
path = "core.nc"
""")
