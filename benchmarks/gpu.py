"""The embedded engine on a GPU, beside itself on the cores of the same machine.

Darcy flow between two wells through rock of std 2 and 8 cells' correlation, float64: a multigrid
solve and a gradient (solve, adjoint, product with dR/dm) to a residual of 1e-8, the shortest of
three after compilation; iterations of the pseudo-transient solver, with T_eff, the traffic that no
iteration avoids over the time; and steps of the acoustic wave equation with a sponge, float32. Each
platform runs in a process of its own. `copy` is a device's own bandwidth, from reading and writing
one large array: what T_eff can reach.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pyadjoint_gpu import EmbeddedEngine, Grid
from pyadjoint_gpu.engines.choose import running
from pyadjoint_gpu.models import AcousticWave

from .cases import adjoint_source, darcy_2d, noise
from .machine import best, in_a_process
from .report import markdown

SIZES = ((127, 255), (255, 511), (511, 1023), (1023, 2047), (2047, 4095))
WAVES = ((401, 401), (2001, 2001))


def run(*, quick: bool = False) -> dict[str, Any] | None:
    """Measure; None where JAX finds no GPU."""
    found = {}
    for platform in ("cuda", "cpu"):
        try:
            found[platform] = in_a_process(
                __name__,
                *(["--quick"] if quick else []),
                stderr=None if platform == "cpu" else subprocess.PIPE,
                environment={"JAX_PLATFORMS": platform, "PYADJOINT_GPU_CACHE": "off"},
            )
        except subprocess.CalledProcessError as error:
            if platform == "cpu":
                raise
            print(error.stderr.strip().splitlines()[-1:], file=sys.stderr)
            return None
    return found


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Times on the platform of this process."""
    rows = [_darcy(shape) for shape in (SIZES[:2] if quick else SIZES)]
    waves = [_wave(shape) for shape in (WAVES[:1] if quick else WAVES)]
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "jax": jax.__version__,
        "copy_bytes_per_second": _copy(2**22 if quick else 2**29),
        "darcy": rows,
        "wave": waves,
    }


def _copy(n: int) -> float:
    """Bytes a second, read and written."""
    x, twice = jnp.ones(n, jnp.float32), jax.jit(lambda x: 2.0 * x)
    twice(x).block_until_ready()
    seconds, _ = best(lambda: twice(x).block_until_ready(), repeats=20)
    return 8.0 * n / seconds


def _darcy(shape: tuple[int, int]) -> dict[str, Any]:
    model = darcy_2d(shape)
    m = {"permeability": np.exp(noise(model.grid, 2.0, 8.0))}
    bar = adjoint_source(model)
    engine = EmbeddedEngine()
    options: dict[str, Any] = {"tolerance": 1e-8, "max_iterations": 10**5}

    def gradient() -> Any:
        solution = engine.solve(model, m, **options)
        return solution, engine.adjoint(model, m, solution, bar, **options)

    gradient()
    forward, solution = best(lambda: engine.solve(model, m, **options))
    both, (_, adjoint) = best(gradient)
    stepping = EmbeddedEngine(solver="pseudo-transient")
    some: dict[str, Any] = options | {"max_iterations": 500}
    stepping.solve(model, m, **some)
    _, stepped = best(lambda: stepping.solve(model, m, **some))
    return {
        "shape": shape,
        "forward": forward,
        "gradient": both,
        "iterations": solution.convergence.iterations,
        "residual": solution.convergence.residual,
        "checksum": float(np.sum(np.abs(np.asarray(adjoint.gradient["permeability"])))),
        "effective_throughput": stepped.convergence.throughput,
    }


def _wave(shape: tuple[int, int]) -> dict[str, Any]:
    steps = 1000
    grid = Grid(shape, [10.0 * n for n in shape])
    middle = [[5.0 * n for n in shape]]
    sides = ["x_min", "x_max", "y_min", "y_max"]
    model = AcousticWave(
        grid, 1e-3, steps, every=steps, source=middle, absorbing=sides, sponge=20, density=1e3
    )
    m = model.fields({"wave_speed": 2000.0, "source": 1.0})
    engine: Any = running(EmbeddedEngine(dtype="float32"), model)
    options: dict[str, Any] = {"tolerance": 1e-8, "max_iterations": 10**5}
    bar = {"pressure": np.ones(model.shape)}

    def gradient() -> Any:
        return engine.adjoint(model, m, engine.solve(model, m, **options), bar, **options)

    gradient()
    forward, _ = best(lambda: engine.solve(model, m, **options))
    both, _ = best(gradient)
    return {
        "shape": shape,
        "steps": steps,
        "forward": forward,
        "gradient": both,
        "cell_steps_per_second": grid.size * steps / forward,
    }


if __name__ == "__main__":
    print(json.dumps(measure(quick="--quick" in sys.argv)))


def tables(result: dict[str, Any]) -> str:
    """Each size on the GPU, and how many times the cores take longer."""
    card, cores = result["cuda"], result["cpu"]
    copy = card["copy_bytes_per_second"]
    intro = (
        f"{card['device']}, {copy / 1e9:.0f} GB/s by copying an array of 2 GiB; jax {card['jax']}."
        " Ratios above 1: the GPU is ahead."
    )
    rows = [
        [
            f"{a['shape'][0]} x {a['shape'][1]}",
            f"{1e3 * a['forward']:.1f}",
            f"{1e3 * a['gradient']:.1f}",
            f"{b['forward'] / a['forward']:.2f}",
            f"{b['gradient'] / a['gradient']:.2f}",
            str(a["iterations"]),
            f"{a['effective_throughput'] / 1e9:.0f} ({a['effective_throughput'] / copy:.0%})",
            f"{abs(a['checksum'] / b['checksum'] - 1.0):.0e}",
        ]
        for a, b in zip(card["darcy"], cores["darcy"], strict=True)
    ]
    head = [
        "cells",
        "forward (ms)",
        "gradient (ms)",
        "cores/GPU, forward",
        "gradient",
        "iterations",
        "T_eff, pseudo-transient (GB/s, of copy)",
        "gradients differ by",
    ]
    waves = [
        [
            f"{a['shape'][0]} x {a['shape'][1]}",
            f"{a['cell_steps_per_second'] / 1e6:.0f}",
            f"{a['forward']:.2f}",
            f"{a['gradient']:.2f}",
            f"{b['forward'] / a['forward']:.2f}",
            f"{b['gradient'] / a['gradient']:.2f}",
        ]
        for a, b in zip(card["wave"], cores["wave"], strict=True)
    ]
    wave_head = [
        "waves, float32, 1000 steps",
        "Mcell-steps/s",
        "forward (s)",
        "gradient (s)",
        "cores/GPU, forward",
        "gradient",
    ]
    return f"{intro}\n\n{markdown(head, rows)}\n\n{markdown(wave_head, waves)}"
