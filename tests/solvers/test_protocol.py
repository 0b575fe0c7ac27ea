"""The call that all solvers share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import doublet, grid_of, ice_cap, inland_ice, power_law_box, uneven

from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.solvers import Operator, continuation, multigrid, newton, pseudo_transient


def darcy():
    model = doublet(grid_of((9, 17)))
    return model, {"permeability": 1.0}


def diffusion():
    model = power_law_box((9, 17))
    return model, uneven(model)


def ice():
    model = ice_cap((12, 15))
    return model, inland_ice(model)


@pytest.mark.parametrize(
    ("solver", "case"),
    [
        (multigrid, darcy),
        (pseudo_transient, darcy),
        (pseudo_transient, diffusion),
        (newton, diffusion),
        (continuation, ice),
    ],
)
@double
def test_all_solvers_are_called_alike(solver, case):
    model, given = case()
    m = model.fields(given)
    zero = {v.name: jnp.zeros(model.grid.shape) for v in model.unknowns}
    start = model.guess(m) or zero
    c = jax.jit(model.prepare)({k: jnp.asarray(v) for k, v in m.items()})
    operator = Operator(model)

    def solve(start, **limits):
        start = {k: jnp.asarray(v) for k, v in start.items()}
        return solver.solve(operator, (c,), start, **limits)

    u, found, *_ = solve(start, tolerance=1e-8, max_iterations=20_000)
    assert found.status == "converged" and found.residual <= 1e-8
    r, scale = operator(u, (c,)), operator(zero, (c,))
    for name, left in r.items():
        assert np.max(np.abs(left)) <= 1.01e-8 * np.max(np.abs(scale[name]))
    again = solve(u, tolerance=1e-6, max_iterations=20_000)[1]
    assert again.usable and again.iterations <= found.iterations
    stopped = solve(start, tolerance=1e-12, max_iterations=1)[1]
    assert stopped.status == "max_iterations" and not stopped.usable
