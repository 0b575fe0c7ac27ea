"""Report of the engines, devices and libraries of this machine, and what `auto` takes."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from importlib import metadata

from .core.errors import EngineError
from .core.version import __version__
from .engines.choose import automatic
from .engines.julia.installation import (
    BACKENDS,
    PACKAGE,
    RANKS,
    Installation,
    available_cores,
    find,
)


def report() -> str:
    """The text of ``pyadjoint-gpu doctor``."""
    import jax

    devices = ", ".join(f"{d.platform}: {d.device_kind}" for d in jax.devices())
    name, why = automatic()
    rows = [
        ("pyadjoint_gpu", __version__),
        ("Python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
        ("cores", str(available_cores())),
        ("packages", ", ".join(f"{p} {_version(p)}" for p in (
            "numpy", "scipy", "jax", "xarray", "h5py", "h5netcdf", "matplotlib", "juliacall"))),
        ("engine 'embedded'", f"ready; devices {devices}"),
        *_julia(),
        ("engine 'auto'", f"takes {name!r}: {why}"),
    ]  # fmt: skip
    if importlib.util.find_spec("matplotlib") is None:
        rows.append(("plots", "matplotlib is missing: pip install 'pyadjoint_gpu[plots]'"))
    width = max(len(k) for k, _ in rows)
    return "\n".join(f"{k:<{width}}  {v}" for k, v in rows)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _julia() -> list[tuple[str, str]]:
    """Lines on the Julia engine, which is not started for them."""
    try:
        found = find()
    except EngineError as error:
        return [("engine 'julia'", f"not ready: {error}")]
    threads = os.environ.get("PYTHON_JULIACALL_THREADS", os.environ.get("JULIA_NUM_THREADS"))
    names = (PACKAGE, "Enzyme", "ParallelStencil", "PythonCall")
    return [
        ("engine 'julia'", f"ready; set up by {found.origin}"),
        ("  executable", str(found.executable)),
        ("  project", f"{found.project} ({', '.join(_versions(found, *names))})"),
        ("  threads", f"{threads or available_cores()}"),
        ("  GPU", _gpu(found)),
        ("  many ranks", _ranks(found)),
    ]


def _versions(found: Installation, *names: str) -> list[str]:
    return [f"{name} {found.packages.get(name, 'missing')}" for name in names]


def _gpu(found: Installation) -> str:
    present = [name for name in BACKENDS.values() if not found.lacks(name)]
    if present:
        return f"{', '.join(_versions(found, *present))}; used where it finds a device"
    return "no package for one: pyadjoint-gpu install-julia --backend cuda (or amdgpu)"


def _ranks(found: Installation) -> str:
    lacking = found.lacks(*RANKS)
    if lacking:
        return f"{', '.join(lacking)} missing: pyadjoint-gpu install-julia"
    launcher = next((n for n in ("mpiexec", "mpirun", "srun") if shutil.which(n)), None)
    starts = f"launcher {shutil.which(launcher)}" if launcher else "but no mpiexec or srun on PATH"
    return f"{', '.join(_versions(found, *RANKS))}; {starts}"
