"""Each physics at three sizes: iterations, time of a forward solve and of a gradient, throughput.

By either solver, with all set-up, compilation not counted. "pseudo-transient" iterations are also
given over the largest number of cells along an axis: they should grow no faster. T_eff is the
traffic that no iteration avoids (u and its rate read and written, 1/PC and what of the residual
does not change read) over the time of an iteration, checks and renewals of the preconditioner
included.

For nonlinear physics the peer is Newton's method on the same residual, its sparse Jacobian, from
nine coloured products (coloured.py), factorised by SuperLU at each step, from the same start to the
same residual, with one transposed solve for the adjoint. Fields must agree to 1e-6. For ice that
takes minutes at the largest size, so that its sizes are smaller.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from pyadjoint_gpu import EmbeddedEngine, Grid
from pyadjoint_gpu.models import Channel, Diffusion, Ice

from . import coloured, waves
from .cases import noise
from .machine import agree, best
from .report import markdown, size

TOLERANCE = 1e-8
AGREE = 1e-6


def run(*, quick: bool = False) -> dict[str, Any]:
    sizes = [(31, 63), (63, 127)] if quick else [(63, 127), (127, 255), (255, 511)]
    return {
        "diffusion": [_diffusion(shape) for shape in sizes],
        "channel, n = 1/3": [_channel(shape, 1 / 3) for shape in sizes],
        "channel, n = 3": [_channel(shape, 3.0) for shape in sizes],
        # At the last size Newton's steps from afar, and the pseudo-transient ones, take minutes.
        "ice": [_ice(shape) for shape in [(31, 63), *sizes[:-1]]],
        "waves": waves.run(quick=quick),
    }


def _diffusion(shape: tuple[int, int]) -> dict[str, Any]:
    """n = 3 between heights of 1 and 0.1, ln k of std 1 correlated over 4 cells, a source."""
    model = Diffusion(Grid(shape, (1.0, 2.0)), {"x_min": 1.0, "x_max": 0.1})
    k = np.exp(noise(model.grid, 1.0, 4.0))
    return _row(model, model.fields({"diffusivity": k, "exponent": 3.0, "source": 0.1}))


def _channel(shape: tuple[int, int], n: float) -> dict[str, Any]:
    """A wall, a bed and a free surface; ln k of std 0.5 correlated over 4 cells; at the bed the
    viscosity is about 1, its limit 10."""
    model = Channel(Grid(shape, (1.0, 2.0)), smallest=1e-3, viscosity_limit=10.0)
    k = np.exp(noise(model.grid, 0.5, 4.0))
    return _row(model, model.fields({"prefactor": k, "exponent": n, "driving_force": 1.0}))


def _row(model: Any, m: Any) -> dict[str, Any]:
    """Newton's method, from the package's own start, and either solver, which agree with it."""
    bar = np.random.default_rng(1).standard_normal(model.grid.shape)
    row: dict[str, Any] = {"shape": model.grid.shape}
    row["newton and splu"], expected = coloured.newton(model, m, bar, TOLERANCE)
    for solver in ("multigrid", "pseudo-transient"):
        row[solver], found = _ours(solver, model, m, {model.unknowns[0].name: bar})
        agree(f"{solver}: differs from Newton's", found, expected, AGREE)
    return row


def _ice(shape: tuple[int, int]) -> dict[str, Any]:
    """A sheet of ice on a low hill, ln a1 of std 0.5 correlated over 4 cells, that ends on land.
    Newton's method from the state for a1 without noise, as from the last step of an inversion."""
    model = Ice(Grid(shape, (200e3, 400e3), (-100e3, -200e3)))
    y, x = np.meshgrid(*model.grid.centers, indexing="ij")
    m = {
        "bed": 300.0 * np.exp(-(x**2 + 4 * y**2) / 1e10),
        "rate_factor": 3e-5,
        "balance": 0.5 - (x**2 + 4 * y**2) / 2e10,
    }
    near = model.fields(m)
    m = model.fields(m | {"rate_factor": 3e-5 * np.exp(noise(model.grid, 0.5, 4.0))})
    bar = {"thickness": np.random.default_rng(1).standard_normal(shape)}
    options = {"tolerance": TOLERANCE, "max_iterations": 10**6}
    start = EmbeddedEngine().solve(model, near, **options)
    row: dict[str, Any] = {"shape": shape}
    first = np.asarray(start.fields["thickness"])
    peer, h = coloured.newton(model, m, bar["thickness"], TOLERANCE, first)
    row["newton and splu"] = peer
    row["multigrid"], expected = _ours("multigrid", model, m, bar, start)
    row["pseudo-transient"], found = _ours("pseudo-transient", model, m, bar, start)
    agree("pseudo-transient: differs from multigrid's", found, expected, AGREE)
    if peer["steps"] is not None:
        agree("multigrid: differs from Newton's", expected, h, AGREE)
    return row


def _ours(
    solver: str, model: Any, m: Any, bar: Any, start: Any = None
) -> tuple[dict[str, Any], np.ndarray]:
    engine = EmbeddedEngine(solver=solver)
    options = {"tolerance": TOLERANCE, "max_iterations": 10**6}

    def forward() -> Any:
        found = engine.solve(model, m, initial=start, **options)
        jax.block_until_ready(found.fields)
        return found

    def adjoint(state: Any) -> Any:
        found = engine.adjoint(model, m, state, bar, **options)
        jax.block_until_ready(found.gradient)
        return found

    adjoint(forward())  # compiles
    ahead, state = best(forward)
    behind, back = best(lambda: adjoint(state))
    for c in (state.convergence, back.convergence):
        if c.status != "converged":
            raise RuntimeError(c.message)
    both = {"forward": state.convergence, "adjoint": back.convergence}
    out = {
        "forward": ahead,
        "gradient": ahead + behind,
        "iterations": {k: c.iterations for k, c in both.items()},
        "work": {k: c.work for k, c in both.items()},
        "t_eff": {k: c.throughput for k, c in both.items()},
    }
    (found,) = state.fields.values()
    return out, np.asarray(found)


def tables(result: dict[str, Any]) -> str:
    parts = []
    for name, rows in result.items():
        if name == "waves":
            parts.append(waves.tables(rows))
            continue
        table = []
        for r in rows:
            mg, pt, peer = r["multigrid"], r["pseudo-transient"], r["newton and splu"]
            longest = max(r["shape"])
            if peer["steps"] is None:
                newton = ("no solution", "", "")
            else:
                ratio = peer["gradient"] / mg["gradient"]
                newton = (f"{peer['steps']}", f"{peer['gradient']:.3g}", f"{ratio:.1f}")
            table.append(
                [
                    size(r),
                    *(f"{pt['iterations'][k] / longest:.1f}" for k in ("forward", "adjoint")),
                    *(f"{pt[k]:.3g}" for k in ("forward", "gradient")),
                    *(f"{pt['t_eff'][k] / 1e9:.1f}" for k in ("forward", "adjoint")),
                    " + ".join(f"{mg['iterations'][k]}" for k in ("forward", "adjoint")),
                    *(f"{mg[k]:.3g}" for k in ("forward", "gradient")),
                    *newton,
                ]
            )
        head = ["nx x ny", "PT it. / nx", "adjoint", "PT forward s", "gradient s"]
        head += ["T_eff GB/s", "adjoint", "multigrid it.", "forward s", "gradient s"]
        head += ["splu steps", "gradient s", "splu / multigrid"]
        parts.append(f"{name}:\n\n{markdown(head, table)}")
    return "\n\n".join(parts)
