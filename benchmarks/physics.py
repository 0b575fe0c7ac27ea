"""Each physics at three sizes: iterations, time of a forward solve and of a gradient, throughput.

By either solver, with all set-up, compilation not counted. "pseudo-transient" iterations are also
given over the largest number of cells along an axis: they should grow no faster. T_eff is the
traffic that no iteration avoids (u and its rate read and written, 1/PC and what of the residual
does not change read) over the time of an iteration, checks and renewals of the preconditioner
included.

For nonlinear physics the peer is Newton's method on the same residual in numpy, its sparse
Jacobian assembled and factorised by SuperLU at each step, from the same start to the same
residual, with one transposed solve for the adjoint. Where no Jacobian is assembled by hand
(channel), it comes from nine coloured products (coloured.py). Fields must agree to 1e-6. For ice
that takes minutes at the largest size, so that its sizes are smaller.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from pyadjoint_gpu import EmbeddedEngine, Grid
from pyadjoint_gpu.engines.embedded import prepared
from pyadjoint_gpu.models import Channel, Diffusion, Ice

from . import coloured, waves
from .cases import faces, noise
from .machine import agree, best, timed
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
    m = model.fields({"diffusivity": k, "exponent": 3.0, "source": 0.1})
    bar = {"height": np.random.default_rng(1).standard_normal(shape)}
    row: dict[str, Any] = {"shape": shape}
    fields = {}
    for solver in ("multigrid", "pseudo-transient"):
        row[solver], fields[solver] = _ours(solver, model, m, bar)
    seconds, (h, steps, adjoint) = timed(lambda: newton(model, m, bar["height"]))
    row["newton and splu"] = {"gradient": seconds, "adjoint": adjoint, "steps": steps}
    for solver, found in fields.items():
        agree(f"{solver}: differs from Newton's", found, h, AGREE)
    return row


def _channel(shape: tuple[int, int], n: float) -> dict[str, Any]:
    """A wall, a bed and a free surface; ln k of std 0.5 correlated over 4 cells; at the bed the
    viscosity is about 1, its limit 10."""
    model = Channel(Grid(shape, (1.0, 2.0)), smallest=1e-3, viscosity_limit=10.0)
    k = np.exp(noise(model.grid, 0.5, 4.0))
    m = model.fields({"prefactor": k, "exponent": n, "driving_force": 1.0})
    bar = {"velocity": np.random.default_rng(1).standard_normal(shape)}
    row: dict[str, Any] = {"shape": shape}
    row["newton and splu"], v = coloured.newton(model, m, bar["velocity"], TOLERANCE)
    for solver in ("multigrid", "pseudo-transient"):
        row[solver], found = _ours(solver, model, m, bar)
        agree(f"{solver}: differs from Newton's", found, v, AGREE)
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
    agree("pseudo-transient: differs from Newton's", found, expected, AGREE)
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


def newton(model: Diffusion, m: Any, bar: np.ndarray) -> tuple[np.ndarray, int, float]:
    """H, steps, and seconds of the adjoint, by Newton's method with SuperLU and halved steps."""
    with jax.enable_x64(True):
        c = jax.tree.map(np.asarray, prepared(model, m))
    shape, size = model.grid.shape, model.grid.size
    cells = np.arange(size).reshape(shape)
    pairs = [(i, j) for _, i, j in faces(model.grid)]
    sink, source = c["sink"].ravel(), c["source"].ravel()

    def residual(h: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        r, parts = source - sink * h, []
        for (i, j), k, n in zip(pairs, c["faces"], c["exponents"], strict=True):
            k, n = k.ravel(), n.ravel()
            face = np.maximum(0.5 * (h[i] + h[j]), model.smallest)
            d, step = k * face**n, h[j] - h[i]
            flow = d * step
            r += np.bincount(i, flow, size) - np.bincount(j, flow, size)
            slope = np.where(face > model.smallest, 0.5 * k * n * face ** (n - 1), 0.0) * step
            parts.append((slope - d, slope + d))
        return r, parts

    def factors(parts: list[Any]) -> Any:
        rows, columns, values = [cells.ravel()], [cells.ravel()], [-sink]
        for (i, j), (low, high) in zip(pairs, parts, strict=True):
            rows += [i, i, j, j]
            columns += [i, j, i, j]
            values += [low, high, -low, -high]
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return splu(sp.csc_array(sp.coo_array(entries, shape=(size, size))))

    h = model.guess(m)["height"].ravel()
    scale = np.max(np.abs(residual(np.zeros(size))[0]))
    r, parts = residual(h)
    steps = 0
    while np.max(np.abs(r)) > TOLERANCE * scale:
        change, length = factors(parts).solve(-r), 1.0
        while np.linalg.norm(residual(h + length * change)[0]) > np.linalg.norm(r):
            length *= 0.5
        h = h + length * change
        r, parts = residual(h)
        steps += 1
    seconds, _ = timed(lambda: factors(parts).solve(bar.ravel(), trans="T"))
    return h.reshape(shape), steps, seconds


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
