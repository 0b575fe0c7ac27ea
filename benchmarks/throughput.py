"""Iteration throughput: the embedded engine against C with OpenMP.

One iteration is V <- beta V + R/PC, u <- u + alpha V for Darcy flow in float64, with precomputed
face coefficients, source and 1/PC. Ours (which carries the last two u instead of u and V) is the
package's own `_advance`, forward and adjoint, over as many steps as the solver takes between two
checks, with the norms and the Rayleigh quotient that it computes after them. The peers are two C
loops of the same iteration (pt.c), the faster of which counts; the operator is symmetric, so the
adjoint's differ in the source only. All are run in turn, `repeats` times, and the shortest and the
median times compared. Before that, C and JAX must agree to 1e-12.

A_eff is the traffic that no iteration avoids (u and V read and written, PC and the coefficients
read), T_eff = A_eff / time; the STREAM triad measured in the same run stands beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from pyadjoint_gpu.solvers import Operator
from pyadjoint_gpu.solvers import pseudo_transient as pt
from pyadjoint_gpu.solvers.base import traffic

from .cases import darcy_2d
from .machine import agree, timed
from .native import Iteration, Loops
from .report import markdown

AGREE = 1e-12


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure; `quick` on a small grid, where caches help."""
    shape = (127, 255) if quick else (1023, 2047)
    steps, repeats = 2 * (max(shape) // 6) + 1, 8
    loops = Loops()
    with jax.enable_x64(True):
        runs, a_eff = _runs(shape, loops)
        _check(runs, steps)
        triad = loops.triad(2**22 if quick else 2**25, 2 * repeats)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name, (advance, _) in runs.items():
                time.sleep(0.02)  # C's threads spin for a while after their work
                times[name].append(timed(lambda f=advance: f(steps))[0] / steps)
    out: dict[str, Any] = {
        "shape": shape,
        "dtype": "float64",
        "steps": steps,
        "repeats": repeats,
        "bytes_per_iteration": a_eff,
        "triad_bytes_per_second": {"best": max(triad), "median": float(np.median(triad))},
        "seconds_per_iteration": times,
    }
    for kind in ("forward", "adjoint"):
        out[kind] = _compare(kind, times, a_eff)
    return out


def _compare(kind: str, times: dict[str, list[float]], a_eff: int) -> dict[str, Any]:
    ours = times[f"{kind} jax"]
    row: dict[str, Any] = {}
    for label, pick in (("min", np.min), ("median", np.median)):
        peers = {f: float(pick(times[f"{kind} c {f}"])) for f in ("two_pass", "one_pass")}
        peer = min(peers, key=lambda f: peers[f])
        seconds = float(pick(ours))
        row[label] = {
            "ours_seconds": seconds,
            "peer_seconds": peers[peer],
            "peer": peer,
            "ratio": peers[peer] / seconds,
            "ours_t_eff": a_eff / seconds,
            "peer_t_eff": a_eff / peers[peer],
        }
    return row


Run = tuple[Callable[[int], None], Callable[[], np.ndarray]]


def _setup(shape: tuple[int, int]) -> tuple[Any, Any, Any, float, float]:
    """Operator's model, coefficients, 1/PC, alpha and beta: ln K white noise, solver's damping."""
    model = darcy_2d(shape)
    k = np.exp(np.random.default_rng(0).standard_normal(shape))
    c = jax.jit(model.prepare)({"permeability": jnp.asarray(k)})
    zero = {"pressure": jnp.zeros(shape)}
    inverse, high = pt._precondition(Operator(model), zero, (c,))
    low = 0.25 * float(high) * (math.pi / (2 * max(shape))) ** 2
    dtau = pt.SAFETY * 2.0 / math.sqrt(high)
    damping = 2.0 * math.sqrt(low) * dtau
    return model, c, inverse, 2.0 * dtau**2 / (2.0 + damping), (2.0 - damping) / (2.0 + damping)


def _runs(shape: tuple[int, int], loops: Loops) -> tuple[dict[str, Run], int]:
    """For each name, a function that advances u by a number of steps and one that returns u; and
    A_eff of a step."""
    model, c, inverse, alpha, beta = _setup(shape)
    bar = np.random.default_rng(1).standard_normal(shape)
    state = {"pressure": jnp.zeros(shape)}
    ends: dict[Literal["forward", "adjoint"], Any] = {
        "forward": ((c,), c["source"]),
        "adjoint": ((c, state, {"pressure": bar}), -bar),
    }
    out: dict[str, Run] = {}
    for kind, (args, source) in ends.items():
        for form in ("two_pass", "one_pass"):
            loop = Iteration(loops, c["faces"], np.asarray(source), np.asarray(inverse["pressure"]))
            out[f"{kind} c {form}"] = (
                lambda n, loop=loop, form=form: getattr(loop, form)(n, alpha, beta),
                lambda loop=loop: loop.solution,
            )
        out[f"{kind} jax"] = _ours(Operator(model, kind), args, inverse, alpha, beta)
    return out, traffic(inverse, (c,))


def _ours(operator: Operator, args: Any, inverse: Any, alpha: float, beta: float) -> Run:
    args = jax.tree.map(jnp.asarray, args)
    held = [jax.tree.map(jnp.zeros_like, inverse), jax.tree.map(jnp.zeros_like, inverse)]

    def advance(steps: int) -> None:
        before, u, report = pt._advance(
            operator, held[0], held[1], args, inverse, (steps - 1) // 2, alpha, beta, 1.0
        )
        held[:] = before, u
        jax.block_until_ready((before, u, report))

    return advance, lambda: np.asarray(held[1]["pressure"])


def _check(runs: dict[str, Run], steps: int) -> None:
    """Also the warm-up: compiles, and touches all memory."""
    for advance, _ in runs.values():
        advance(steps)
    for name, (_, solution) in runs.items():
        reference = runs[f"{name.split()[0]} jax"][1]()
        agree(f"{name} differs from JAX", solution(), reference, AGREE)


def tables(result: dict[str, Any]) -> str:
    ny, nx = result["shape"]
    triad = result["triad_bytes_per_second"]
    intro = (
        f"{ny} x {nx} cells (ny x nx), float64, {result['steps']} iterations a run,"
        f" {result['repeats']} interleaved runs. A_eff = {result['bytes_per_iteration'] / 1e6:.1f}"
        f" MB an iteration. STREAM triad: {triad['best'] / 1e9:.1f} GB/s best,"
        f" {triad['median'] / 1e9:.1f} GB/s median."
    )
    head = ["iteration", "of the times", "ours (us)", "C (us)", "C form", "C / ours"]
    head += ["ours T_eff (GB/s)", "C T_eff (GB/s)"]
    rows = []
    for kind in ("forward", "adjoint"):
        for label, r in result[kind].items():
            times = [f"{r[k] * 1e6:.0f}" for k in ("ours_seconds", "peer_seconds")]
            rates = [f"{r[k] / 1e9:.1f}" for k in ("ours_t_eff", "peer_t_eff")]
            form = r["peer"].replace("_", " ")
            rows.append([kind, label, *times, form, f"{r['ratio']:.2f}", *rates])
    return f"{intro}\n\n{markdown(head, rows)}"
