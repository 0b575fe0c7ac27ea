"""JAX's cache of compiled code, kept between processes unless the user says otherwise."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jax

CACHE = "PYADJOINT_GPU_CACHE"
"""The environment variable with the folder; "off" for none."""
_LEAST = 0.1  # seconds of compilation above which code is kept
_JAX_LEAST = 1.0  # the same by JAX's own default


@cache
def keep_compiled() -> None:
    """Have JAX keep compiled code in the user's cache folder.

    JAX's settings stay as they are where they name a folder or disable the cache, or where the
    folder cannot be written.
    """
    config: Any = jax.config  # its options are attributes made at run time
    place = folder()
    if place is None or not config.jax_enable_compilation_cache:
        return
    if config.jax_compilation_cache_dir is not None:
        return
    try:
        # Who can write there can have this user run anything.
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError:
        return
    config.update("jax_compilation_cache_dir", str(place))
    if config.jax_persistent_cache_min_compile_time_secs == _JAX_LEAST:
        config.update("jax_persistent_cache_min_compile_time_secs", _LEAST)


def folder() -> Path | None:
    """The folder of compiled code, or None if nothing is kept.

    It is ``PYADJOINT_GPU_CACHE``, or ``pyadjoint_gpu/jax`` in the user's cache folder
    (``XDG_CACHE_HOME``, or ``~/.cache``), with a subfolder for each kind of processor, because
    other kinds may not run the code.
    """
    chosen = os.environ.get(CACHE, "")
    if chosen.lower() == "off":
        return None
    try:
        base = Path(chosen).expanduser() if chosen else _users() / "pyadjoint_gpu" / "jax"
    except RuntimeError:  # no home
        return None
    return base.absolute() / _processor()


def _users() -> Path:
    """The user's cache folder."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return Path(given) if os.path.isabs(given) else Path.home() / ".cache"


def _processor() -> str:
    """An identifier of this processor's instruction set, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    features = [x for x in lines if x.startswith(("flags", "Features"))] or lines
    digest = hashlib.sha256("".join(features[:1]).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"
