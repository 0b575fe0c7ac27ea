"""How well do the recovered fields predict heads they have not seen?

    python crossvalidate.py [DIRECTORY OF wolfcamp_heads.nc] [FOLDS]

Leaves out one tenth of the heads in turn, inverts the rest as wolfcamp.toml says, and predicts
what was left out; beside it, a plane fitted to the same heads.
"""

import sys
from pathlib import Path

import numpy as np

from pyadjoint_gpu import invert
from pyadjoint_gpu.problem.specification import build_problem
from pyadjoint_gpu.runfiles.schema import read

here = Path(__file__).parent
data = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else here
folds = int(sys.argv[2]) if len(sys.argv) > 2 else 10

file = f"{data}/wolfcamp_heads.nc:head"
run = read(here / "wolfcamp.toml", [f'misfit.observations="{file}"'])
tables = run.tables()
heads = tables["misfit"]["observations"]
x, y, observed = heads["x"].values, heads["y"].values, heads["head"].values
order = np.random.default_rng(0).permutation(len(observed))
labels = [c for c in heads.variables.values() if c.dtype.kind in "OUS"]
names = labels[0].values if labels else [f"head {k}" for k in range(len(observed))]
errors, plane_errors = np.zeros(len(observed)), np.zeros(len(observed))

for k, left_out in enumerate(np.array_split(order, folds)):
    keep = np.setdiff1d(order, left_out)
    tables["misfit"]["observations"] = heads.isel(observation=keep)
    result = invert(build_problem(tables), progress=False, **run.settings)
    at = heads.isel(observation=left_out)
    predicted = result["pressure"].interp(x=at["x"], y=at["y"]).values
    errors[left_out] = observed[left_out] - predicted
    columns = np.stack([np.ones_like(x), x, y], axis=1)
    plane = np.linalg.lstsq(columns[keep], observed[keep], rcond=None)[0]
    plane_errors[left_out] = observed[left_out] - columns[left_out] @ plane
    print(
        f"fold {k + 1:2d}: {len(left_out)} left out, chi2 of the rest {result.attrs['chi2']:.2f},"
        f" rms {np.sqrt(np.mean(errors[left_out] ** 2)):5.1f} m,"
        f" plane {np.sqrt(np.mean(plane_errors[left_out] ** 2)):5.1f} m",
        flush=True,
    )

worst = int(np.argmax(np.abs(errors)))
print(f"farthest off: {names[worst]}, by {errors[worst]:.0f} m")
for name, e in (("inversion", errors), ("plane", plane_errors)):
    print(f"{name}: rms {np.sqrt(np.mean(e**2)):.1f} m, median {np.median(np.abs(e)):.1f} m")
