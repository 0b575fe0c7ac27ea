"""Many Julia ranks under the user's launcher, each with its part of the grid (and its GPU).

Commands and events travel as JSON lines over a socket to rank 0, arrays as HDF5 files in a folder
that all ranks see. Every wait is bounded.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...core.checks import check_choice
from ...core.errors import ConfigError, EngineError
from ...core.progress import phase
from ...models.base import Fields, Model
from ...models.explicit import Explicit
from ..launches import launches
from . import installation
from .engine import JULIA_BACKENDS, Driven, describe, translated

SERVE = "AdjointGPU.serve(ARGS[1], parse(Int, ARGS[2]), ARGS[3], ARGS[4], ARGS[5])"
TICK = 0.2  # seconds between looks at whether the ranks still live


class Launch(Driven):
    """Resident Julia ranks; inside ``with``, every solve runs on them.

    ``with pag.Launch(["mpiexec", "-n", "4"]): result = pag.invert(problem)``

    Parameters
    ----------
    command : sequence of str
        The launcher and its options, to which the command of a rank is added.
    topology : sequence of int, optional
        Numbers of ranks along the grid's axes, in array order; MPI's choice otherwise.
    backend : {"auto", "threads", "cuda", "amdgpu"}
        "auto" takes the GPU whose package the Julia project has. Ranks of a node take its GPUs in
        turn.
    dtype : {"float64", "float32"}
    threads : int
        Of each rank.
    folder : path, optional
        For logs and arrays, seen by all ranks; a new temporary one otherwise, which goes when all
        went well.
    host : str
        Address of this process for rank 0.
    timeout : float
        Seconds without a sign of life after which the ranks are given up. Derivatives are compiled
        in the first solve, which takes a minute or two.

    Raises
    ------
    ConfigError, EngineError
        Where an option is wrong, or Julia or a package is missing. A rank that fails ends all of
        them, with an `EngineError` that names its log; the next solve starts them anew.
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
        self._rest()

    def _rest(self) -> None:
        """As before the ranks are started."""
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._received = b""
        self._ready: dict[str, Any] = {}
        self._calls = 0

    def __getstate__(self) -> dict[str, Any]:
        """How to launch: the ranks themselves stay with their own process."""
        under_way = ("_folder", "_process", "_socket", "_received", "_ready", "_calls")
        return {k: v for k, v in self.__dict__.items() if k not in under_way}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._rest()

    # Running

    def __enter__(self) -> Launch:
        self.start()
        launches.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        launches.remove(self)
        self.close()

    def start(self) -> None:
        """Start the ranks, unless they run."""
        if self._process is not None:
            return
        self._folder = Path(self._given_folder or tempfile.mkdtemp(prefix="pyadjoint-gpu-ranks-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in (*self._folder.glob("rank-*"), *self._folder.glob("launcher.log")):
            old.unlink()
        token = secrets.token_hex(16)
        backend = JULIA_BACKENDS[self._resolved()]
        try:
            with (
                phase("starting Julia on the ranks"),
                socket.create_server((self.host, 0)) as server,
            ):
                port = server.getsockname()[1]
                atexit.register(self.close)
                self._spawn([self.host, str(port), token, str(self._folder), backend])
                self._socket = self._accepted(server)
            self._ready = self._event("ready")
            if self._ready.get("token") != token:
                raise EngineError("something else than the ranks connected; they were ended")
        except BaseException:
            self._abandon()
            raise

    def _spawn(self, arguments: list[str]) -> None:
        assert self._folder
        packages = ", ".join([*self._gpu_package(), installation.PACKAGE, *installation.RANKS])
        julia = [
            str(self.installation.executable),
            f"--project={self.installation.project}",
            f"--threads={self.threads}",
            "--startup-file=no",
            "-e",
            f"using {packages}; {SERVE}",
        ]
        environment = dict(os.environ)
        # Julia's collector stops threads by SIGSEGV; some MPIs' UCX would take it for a crash, and
        # reads this before MPI.jl can set it.
        environment.setdefault("UCX_ERROR_SIGNALS", "SIGILL,SIGBUS,SIGFPE")
        with open(self._folder / "launcher.log", "wb") as log:
            self._process = subprocess.Popen(
                [*self.command, *julia, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is ours to pass on
            )

    def _gpu_package(self) -> list[str]:
        if self.backend != "auto":
            return [installation.BACKENDS[self.backend]] if self.backend != "threads" else []
        return [n for n in installation.BACKENDS.values() if not self.installation.lacks(n)][:1]

    def _accepted(self, server: socket.socket) -> socket.socket:
        deadline = time.monotonic() + self.timeout
        while True:
            if select.select([server], [], [], TICK)[0]:
                return server.accept()[0]
            self._check_alive(deadline)

    def _event(self, *expected: str) -> dict[str, Any]:
        """The next event of a kind; others are signs of life."""
        assert self._socket
        deadline = time.monotonic() + self.timeout
        while True:
            while b"\n" in self._received:
                line, self._received = self._received.split(b"\n", 1)
                event = json.loads(line)
                if event["event"] in expected:
                    return event
                deadline = time.monotonic() + self.timeout
            if not select.select([self._socket], [], [], TICK)[0]:
                self._check_alive(deadline)
                continue
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                self._fail("rank 0 hung up")
            self._received += data

    def _check_alive(self, deadline: float) -> None:
        assert self._process and self._folder
        if any(self._folder.glob("rank-*.error")) or self._process.poll() is not None:
            self._fail("the ranks ended")
        if time.monotonic() > deadline:
            self._fail(f"the ranks gave no sign of life for {self.timeout:g} s")

    def _fail(self, what: str) -> None:
        """Raise what went wrong, by the rank's own account where it left one."""
        assert self._process and self._folder
        with contextlib.suppress(subprocess.TimeoutExpired):  # let the launcher tell, too
            self._process.wait(5.0)
        folder, code = self._folder, self._process.poll()
        reports = [json.loads(p.read_text()) for p in sorted(folder.glob("rank-*.error"))]
        output = (folder / "launcher.log").read_text(errors="replace")
        pids = {pid: rank for rank, pid in self._pids()}
        self._abandon()
        if reports:
            report = min(reports, key=lambda r: r["rank"])
            log = folder / f"rank-{report['rank']}.log"
            raise translated(
                report["type"],
                f"rank {report['rank']} failed: {report['message']} (log: {log})",
                log.read_text(errors="replace"),
            )
        dead = ended(output, pids)
        if dead is not None:
            log = folder / f"rank-{dead}.log"
            raise EngineError(f"rank {dead} died, and with it all others (log: {log})")
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        said = next((line for line in lines if "error" in line.lower()), (lines or ["no word"])[-1])
        text = f"{what}, launcher exit code {code}" if code is not None else what
        raise EngineError(f"{text}: {said:.200} (logs: {folder})")

    def _pids(self) -> Iterator[tuple[int, int]]:
        """Rank and process of those on this host that got as far as a log."""
        assert self._folder
        for log in self._folder.glob("rank-*.log"):
            with open(log, errors="replace") as file:
                found = re.match(r"rank (\d+): process (\d+) on (\S+)", file.readline())
            if found and found[3] == socket.gethostname():
                yield int(found[1]), int(found[2])

    def _abandon(self) -> None:
        """End the ranks however they fare; their logs stay."""
        process, self._process = self._process, None
        connection, self._socket = self._socket, None
        self._received = b""
        if connection is not None:
            connection.close()  # rank 0 takes it as the end
        if process is None:
            return
        pids = [pid for _, pid in self._pids()]
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            if process.poll() is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        for pid in pids:  # whom the launcher left behind
            if _is_julia(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End the ranks, and remove the temporary folder."""
        atexit.unregister(self.close)
        if self._process is None:
            return
        assert self._socket and self._folder
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10.0)
        self._abandon()
        if self._given_folder is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # Engine

    def info(self) -> dict[str, Any]:
        self.start()
        return {
            "engine": self.name,
            "engine_version": f"{installation.PACKAGE} {self._ready['version']},"
            f" Julia {self._ready['julia']}",
            "device": self._ready["device"],
            "dtype": self.dtype,
            "ranks": int(self._ready["ranks"]),
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
                f"model {model.name!r} has explicit steps, which one process runs, not ranks: leave"
                " the launcher out"
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
        self.start()
        assert self._folder
        self._calls += 1
        given, results = self._folder / f"in-{self._calls}.h5", f"out-{self._calls}"
        try:
            with h5py.File(given, "w") as file:
                parameters = {f"parameters/{k}": v for k, v in arrays.pop("parameters").items()}
                for name, values in (arrays | parameters).items():
                    file[name] = np.asarray(values, dtype=self.dtype)
            self._send(
                {"command": command, "simulation": spec, "input": given.name, "output": results}
                | options
            )
            report = self._finished()
            paths = sorted(self._folder.glob(f"{results}-*.h5"))
            return _assembled(model, paths), report
        finally:
            if self._folder is not None:
                for path in (given, *self._folder.glob(f"{results}-*.h5")):
                    path.unlink(missing_ok=True)

    def _resolved(self) -> str:
        package = self._gpu_package()
        return next((k for k, v in installation.BACKENDS.items() if v in package), "threads")

    def _send(self, command: dict[str, Any]) -> None:
        assert self._socket
        try:
            self._socket.sendall(json.dumps(command).encode() + b"\n")
        except OSError:
            self._fail("rank 0 hung up")

    def _finished(self) -> dict[str, Any]:
        try:
            return self._event("done")
        except KeyboardInterrupt:
            try:
                self._send({"command": "cancel"})
                self._event("cancelled")
            except KeyboardInterrupt:  # in earnest
                self._abandon()
            raise


def _assembled(model: Model, paths: list[Path]) -> Fields:
    """The ranks' parts, put together. What is no cell field is the same on all ranks."""
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


def _is_julia(pid: int) -> bool:
    """Whether the process still is one of ours: numbers are given anew."""
    try:
        return b"AdjointGPU" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def ended(output: str, pids: Mapping[int, int]) -> int | None:
    """The rank whose end a launcher tells, of those with these process numbers. MPICH, Intel MPI
    and Open MPI all write PID before one; other numbers may be those of ranks that merely warn."""
    told = (int(found) for found in re.findall(r"\bPID\s+(\d+)", output))
    return next((pids[pid] for pid in told if pid in pids), None)
