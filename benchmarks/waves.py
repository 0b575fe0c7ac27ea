"""Acoustic waves at three sizes: steps a second, effective throughput, cost of a gradient.

Between walls, wave speed of std 0.1 correlated over 8 cells, 2-D, float64; "gradient by sources
alone" is the adjoint that needs no states. Compared with the same steps in numpy, to 1e-12, and
with the STREAM triad of the same run. Compilation is not counted.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from pyadjoint_gpu import EmbeddedEngine, Grid
from pyadjoint_gpu.engines.choose import running
from pyadjoint_gpu.models import AcousticWave

from .cases import noise
from .machine import agree, best, timed
from .native import Loops
from .report import markdown, size

AGREE = 1e-12
OPTIONS: dict[str, Any] = {"tolerance": 1e-8, "max_iterations": 1}


def run(*, quick: bool = False) -> list[dict[str, Any]]:
    sizes = [(127, 255), (255, 511)] if quick else [(255, 511), (511, 1023), (1023, 2047)]
    triad = max(Loops().triad(2**22 if quick else 2**25, 8))
    return [_row(shape, triad, 50 if quick else 200) for shape in sizes]


def _row(shape: tuple[int, int], triad: float, steps: int) -> dict[str, Any]:
    grid = Grid(shape, (1.0, 2.0))
    speed = np.exp(noise(grid, 0.1, 8.0))
    step = 0.6 * min(grid.spacing) / np.max(speed)
    model = AcousticWave(grid, step, steps, every=steps // 2)
    y, x = np.meshgrid(*grid.centers, indexing="ij")
    start = np.exp(-((y - 0.5) ** 2 + (x - 1.0) ** 2) / 0.01)
    m = model.fields({"wave_speed": speed, "initial_pressure": start})
    bar = {"pressure": np.random.default_rng(1).standard_normal(model.shape)}
    engine: Any = running(EmbeddedEngine(), model)

    def forward() -> Any:
        return engine.solve(model, m, **OPTIONS)

    def adjoint(state: Any, **options: Any) -> Any:
        back = engine.adjoint(model, m, state, bar, **OPTIONS, **options)
        jax.block_until_ready(back.gradient)
        return back

    linear = {"wanted": ("initial_pressure",)}
    state = forward()
    adjoint(state)
    adjoint(state, **linear)
    ahead, state = best(forward)
    behind, back = best(lambda: adjoint(state))
    alone, _ = best(lambda: adjoint(state, **linear))
    numpy_seconds, expected = timed(lambda: reference(model, speed, start))
    found = np.asarray(state.fields["pressure"][-1])
    agree("waves: differ from numpy's", found, expected, AGREE)
    return {
        "shape": shape,
        "steps": steps,
        "forward": ahead,
        "adjoint": behind,
        "adjoint by sources": alone,
        "numpy": numpy_seconds,
        "triad": triad,
        "t_eff": {
            "forward": state.convergence.throughput,
            "adjoint": back.convergence.throughput,
        },
    }


def reference(model: AcousticWave, speed: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The pressure in the end, in numpy."""
    (hy, hx), dt = model.grid.spacing, model.step
    p, storage = start.copy(), dt * speed**2
    qy = 0.5 * dt / hy * np.diff(p, axis=0)
    qx = 0.5 * dt / hx * np.diff(p, axis=1)
    for _ in range(model.steps):
        qy -= dt / hy * np.diff(p, axis=0)
        qx -= dt / hx * np.diff(p, axis=1)
        outflow = np.zeros_like(p)
        outflow[:-1] += qy / hy
        outflow[1:] -= qy / hy
        outflow[:, :-1] += qx / hx
        outflow[:, 1:] -= qx / hx
        p -= storage * outflow
    return p


def tables(rows: list[dict[str, Any]]) -> str:
    table = [
        [
            size(r),
            f"{r['steps'] / r['forward']:.0f}",
            *(f"{r['t_eff'][k] / 1e9:.1f}" for k in ("forward", "adjoint")),
            *(f"{r['t_eff'][k] / r['triad']:.2f}" for k in ("forward", "adjoint")),
            *(f"{r[k] / r['forward']:.1f}" for k in ("adjoint", "adjoint by sources", "numpy")),
        ]
        for r in rows
    ]
    head = ["nx x ny", "steps/s", "T_eff GB/s", "adjoint", "T_eff / triad", "adjoint"]
    head += ["adjoint / forward", "by sources alone", "numpy / forward"]
    return f"waves:\n\n{markdown(head, table)}"
