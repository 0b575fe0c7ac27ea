"""The engine on many Julia ranks, each with its part of the grid.

Arrays travel as HDF5 files in a folder that all ranks see.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...core.checks import check_choice
from ...core.errors import ConfigError, EngineError
from ...models.base import Fields, Model
from ...models.explicit import Explicit
from ..launches import launches
from . import installation
from .engine import JULIA_BACKENDS, Driven, describe
from .processes import Ranks

SERVE = "AdjointGPU.serve(ARGS[1], parse(Int, ARGS[2]), ARGS[3], ARGS[4], ARGS[5])"


class Launch(Driven):
    """Julia ranks under a launcher, each with its part of the grid (and its GPU).

    They stay resident; within ``with``, every solve runs on them:

        with pag.Launch(["mpiexec", "-n", "4"]):
            result = pag.invert(problem)

    Parameters
    ----------
    command : sequence of str
        The launcher and its options; the command of a rank is appended.
    topology : sequence of int, optional
        Numbers of ranks along the grid's axes, in array order; by default MPI's choice.
    backend : {"auto", "threads", "cuda", "amdgpu"}
        "auto" takes the GPU whose package the Julia project has. The ranks of a node take its GPUs
        in turn.
    dtype : {"float64", "float32"}
    threads : int
        Number of threads of each rank.
    folder : path, optional
        For logs and arrays, visible to all ranks; by default a new temporary one, which is removed
        unless a rank fails.
    host : str
        Address of this process for rank 0.
    timeout : float
        Seconds without a sign of life after which the ranks are ended. Derivatives are compiled in
        the first solve, which takes a minute or two.

    Raises
    ------
    ConfigError, EngineError
        If an option cannot be used, or Julia or a package is missing. A rank that fails ends all of
        them, with an `EngineError` that names its log; the next solve starts them again.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        topology: Sequence[int] | None = None,
        backend: str = "auto",
        dtype: str = "float64",
        threads: int = 1,
        folder: str | os.PathLike[str] | None = None,
        host: str = "127.0.0.1",
        timeout: float = 600.0,
    ):
        words = isinstance(command, Sequence) and not isinstance(command, str) and len(command) > 0
        if not words or not all(isinstance(word, str) and word for word in command):
            raise ConfigError(
                f'launcher: found {command!r}, expected words such as ["mpiexec", "-n", "4"]'
            )
        if shutil.which(command[0]) is None:
            raise EngineError(f"launcher: there is no program {command[0]!r} on PATH")
        if topology is not None and not all(isinstance(n, int) and n >= 0 for n in topology):
            raise ConfigError(f"topology: found {topology!r}, expected whole numbers")
        check_choice("backend", backend, ("auto", *JULIA_BACKENDS))
        check_choice("dtype", dtype, ("float64", "float32"))
        self.command = list(command)
        self.topology = None if topology is None else list(topology)
        self.backend, self.dtype, self.threads = backend, dtype, threads
        self.host, self.timeout = host, timeout
        self.installation = installation.find()
        lacking = self.installation.lacks(*installation.RANKS)
        if lacking:
            raise EngineError(
                f"the Julia project {self.installation.project} lacks {', '.join(lacking)}, which"
                " many ranks need: pyadjoint-gpu install-julia"
            )
        self._given_folder = folder
        self._ranks: Ranks | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The options only: the ranks belong to their own process."""
        return self.__dict__ | {"_ranks": None}

    # Processes

    def __enter__(self) -> Launch:
        self.start()
        launches.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        launches.remove(self)
        self.close()

    def start(self) -> Ranks:
        """The ranks, started unless they run."""
        if self._ranks is not None and not self._ranks.over:
            return self._ranks
        folder = Path(self._given_folder or tempfile.mkdtemp(prefix="pyadjoint-gpu-ranks-"))
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("rank-*"), *folder.glob("launcher.log")):
            old.unlink()
        self._ranks = Ranks(
            [*self.command, *self._julia()],
            folder,
            JULIA_BACKENDS[self._resolved()],
            host=self.host,
            timeout=self.timeout,
        )
        atexit.register(self.close)
        return self._ranks

    def _julia(self) -> list[str]:
        """The command of a rank."""
        device = installation.BACKENDS.get(self._resolved())
        packages = [device] if device else []
        packages += [installation.PACKAGE, *installation.RANKS]
        return [
            str(self.installation.executable),
            f"--project={self.installation.project}",
            f"--threads={self.threads}",
            "--startup-file=no",
            "-e",
            f"using {', '.join(packages)}; {SERVE}",
        ]

    def _resolved(self) -> str:
        if self.backend != "auto":
            return self.backend
        able = (k for k, v in installation.BACKENDS.items() if not self.installation.lacks(v))
        return next(able, "threads")

    def close(self) -> None:
        """End the ranks, and remove the temporary folder."""
        atexit.unregister(self.close)
        if self._ranks is None or self._ranks.over:
            return
        self._ranks.close()
        if self._given_folder is None:
            shutil.rmtree(self._ranks.folder, ignore_errors=True)

    # Engine

    def info(self) -> dict[str, Any]:
        ready = self.start().ready
        return {
            "engine": self.name,
            "engine_version": f"{installation.PACKAGE} {ready['version']}, Julia {ready['julia']}",
            "device": ready["device"],
            "dtype": self.dtype,
            "ranks": int(ready["ranks"]),
        }

    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = {"engine": self.name, "launcher": self.command}
        if self.topology is not None:
            found["topology"] = self.topology
        return found | {"solver": {"dtype": self.dtype, "backend": self.backend}}

    def _run(
        self, command: str, model: Model, arrays: Fields, options: dict[str, Any]
    ) -> tuple[Fields, dict[str, Any]]:
        if isinstance(model, Explicit):
            raise EngineError(
                f"model {model.name!r} has explicit steps, which run in one process, not on ranks:"
                " leave the launcher out"
            )
        spec = describe(model) | {
            "backend": JULIA_BACKENDS[self._resolved()],
            "dtype": self.dtype,
            "topology": self.topology and self.topology[::-1],
        }
        if self.topology is not None and len(self.topology) != model.grid.ndim:
            raise ConfigError(
                f"topology: found {self.topology}, expected {model.grid.ndim} numbers"
                f" ({', '.join(model.grid.dims)})"
            )
        ranks = self.start()
        ranks.commands += 1
        given, results = ranks.folder / f"in-{ranks.commands}.h5", f"out-{ranks.commands}"
        try:
            with h5py.File(given, "w") as file:
                parameters = {f"parameters/{k}": v for k, v in arrays.pop("parameters").items()}
                for name, values in (arrays | parameters).items():
                    file[name] = np.asarray(values, dtype=self.dtype)
            report = ranks.run(
                {"command": command, "simulation": spec, "input": given.name, "output": results}
                | options
            )
            return _assembled(model, sorted(ranks.folder.glob(f"{results}-*.h5"))), report
        finally:
            for path in (given, *ranks.folder.glob(f"{results}-*.h5")):
                path.unlink(missing_ok=True)


def _assembled(model: Model, paths: Sequence[Path]) -> Fields:
    """The fields of all ranks from the files of each: parts of cell fields, and copies of others,
    which are the same on all ranks."""
    scattered = {p.name for p in model.parameters if p.space is not None}
    out: Fields = {}
    for path in paths:
        with h5py.File(path, "r") as file:
            start = np.asarray(file.attrs["start"])
            for name, part in file.items():
                if name in scattered:
                    out[name] = part[()]
                    continue
                if name not in out:
                    out[name] = np.full(model.grid.shape, np.nan, part.dtype)
                where = tuple(slice(s, s + n) for s, n in zip(start, part.shape, strict=True))
                out[name][where] = part[()]
    return out
