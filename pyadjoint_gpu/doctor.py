"""What this machine has, and which engine would be taken."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from importlib import metadata

from . import __version__


def report() -> str:
    """The text of ``pyadjoint-gpu doctor``."""
    import jax

    devices = ", ".join(f"{d.platform}: {d.device_kind}" for d in jax.devices())
    rows = [
        ("pyadjoint_gpu", __version__),
        ("Python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
        ("cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                      else os.cpu_count())),
        ("packages", ", ".join(f"{p} {_version(p)}" for p in (
            "numpy", "scipy", "jax", "xarray", "h5py", "h5netcdf", "matplotlib", "juliacall"))),
        ("engine 'embedded'", f"ready; devices {devices}"),
        ("engine 'julia'", f"not part of this version ({_julia()})"),
        ("engine 'auto'", "takes 'embedded', the only one here"),
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


def _julia() -> str:
    """Where a Julia is, without starting it."""
    found = os.environ.get("PYTHON_JULIACALL_EXE") or shutil.which("julia")
    return f"Julia found at {found}" if found else "no Julia on PATH either"
