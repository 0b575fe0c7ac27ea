"""Peak resident memory of one gradient, as a multiple of one field (8 ny nx bytes).

In a fresh process, which imports the package and takes a gradient on 8 x 8 cells first, so that
the libraries are loaded and initialised. Then a problem is built and its gradient (forward and
adjoint to 1e-8) taken on the large grid, and once more, when nothing is left to compile. The peak
is VmHWM of /proc/self/status, reset before each by writing 5 to /proc/self/clear_refs; where that
is refused, `reset` is false and the peaks are of the whole process so far (upper bounds).

By either solver, and with glibc's allocator as it comes or told to return to the system what is
free ("returning"): freed arrays at once, and before the second gradient everything that the
compiler has left (malloc_trim). The difference is memory that nothing uses.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import pyadjoint_gpu as pag

from .machine import in_a_process
from .report import markdown

SOLVERS = ("multigrid", "pseudo-transient")
ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "returning": {"MALLOC_MMAP_THRESHOLD_": "131072"},
}


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure, in a process of its own."""
    shape = (127, 255) if quick else (511, 1023)
    out = {}
    for solver in SOLVERS:
        for name in ["default"] if quick else ALLOCATORS:
            out[f"{solver}, {name}"] = in_a_process(
                __name__, *map(str, shape), solver, environment=ALLOCATORS[name]
            )
    return out


def measure(shape: tuple[int, int], solver: str) -> dict[str, Any]:
    field = 8 * shape[0] * shape[1]
    gradient((8, 8), solver)()
    start = status("VmRSS")
    reset = reset_peak()
    again = gradient(shape, solver)
    again()
    first = status("VmHWM")
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        ctypes.CDLL(None).malloc_trim(0)
    reset_peak()
    again()
    second = status("VmHWM")
    return {
        "shape": shape,
        "field_bytes": field,
        "reset": reset,
        "bytes": {
            "loaded": start,
            "peak": first,
            "gradient": first - start,
            "peak_second": second,
            "gradient_second": second - start,
        },
        "fields": {
            "gradient": (first - start) / field,
            "gradient_second": (second - start) / field,
            "total": first / field,
        },
    }


def gradient(shape: tuple[int, int], solver: str) -> Any:
    """A function for the gradient of a misfit of 64 pressures with respect to ln permeability."""
    grid = pag.Grid(shape, extent=(1.0, 2.0), origin=(0.0, -1.0))
    wells = [pag.Well((0.45, -0.6), 1.0), pag.Well((0.45, 0.6), -1.0)]
    y, x = np.meshgrid(np.linspace(0.1, 0.9, 8), np.linspace(-0.9, 0.9, 8), indexing="ij")
    data = xr.Dataset(
        {"pressure": ("observation", np.zeros(64))},
        coords={"y": ("observation", y.ravel()), "x": ("observation", x.ravel())},
    )
    return pag.Problem(
        pag.models.Darcy(grid, wells),
        controls=[pag.Control("permeability", initial=1.0, transform="log")],
        misfit=pag.LeastSquares(data, sigma=0.01),
        engine="embedded",
        solver=solver,
    ).value_and_gradient


def status(key: str) -> int:
    """Bytes, from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def reset_peak() -> bool:
    """Bring VmHWM down to the present; whether that was possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    ny, nx = map(int, sys.argv[1:3])
    print(json.dumps(measure((ny, nx), sys.argv[3])))


def tables(result: dict[str, Any]) -> str:
    some = next(iter(result.values()))
    ny, nx = some["shape"]
    head = ["peak resident memory"]
    head += [f"{unit}, {name}" for name in result for unit in ("MB", "fields")]
    rows = []
    for text, key, fields in (
        ("first gradient, above the loaded libraries", "gradient", "gradient"),
        ("second gradient, above the same", "gradient_second", "gradient_second"),
        ("total", "peak", "total"),
    ):
        cells = (
            (f"{r['bytes'][key] / 1e6:.0f}", f"{r['fields'][fields]:.1f}") for r in result.values()
        )
        rows.append([text, *(c for pair in cells for c in pair)])
    note = "" if some["reset"] else " VmHWM could not be reset: upper bounds."
    return (
        f"One gradient at {ny} x {nx} (ny x nx); a field is {some['field_bytes'] / 1e6:.2f} MB."
        ' "default": glibc\'s allocator as it comes; "returning": what is free goes back to the'
        " system (MALLOC_MMAP_THRESHOLD_, and malloc_trim before the second gradient)."
        f"{note}\n\n{markdown(head, rows)}"
    )
