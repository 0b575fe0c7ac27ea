"""Processes of Julia ranks under a launcher, and the connection to rank 0.

Commands and events travel as JSON lines over a socket. Every wait is bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ...core.errors import EngineError
from ...core.progress import phase
from .engine import translated

TICK = 0.2
"""Seconds between checks that the ranks are alive."""


class Ranks:
    """Resident ranks, started by a launcher and driven through rank 0.

    Parameters
    ----------
    command : sequence of str
        The launcher and the command of a rank, which is given, in this order: host, port and token
        for its connection, the folder, and the backend.
    folder : Path
        For logs and arrays; all ranks see it.
    backend : str
    host : str
        Address of this process for rank 0.
    timeout : float
        Seconds without a sign of life after which the ranks are ended.

    Attributes
    ----------
    ready : dict
        Rank 0's account of the ranks: their number, device and versions.
    commands : int
        Number of commands so far.
    over : bool
        True when the ranks were ended.

    Raises
    ------
    EngineError
        If the ranks do not start; no process is left then.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, backend: str, *, host: str, timeout: float
    ):
        self.folder, self.timeout = folder, timeout
        self.commands = 0
        self.over = False
        self._received = b""
        token = secrets.token_hex(16)
        with (
            phase("starting Julia on the ranks"),
            socket.create_server((host, 0)) as server,
        ):
            port = server.getsockname()[1]
            self._socket = server  # until rank 0 connects
            self._process = _spawned(
                [*command, host, str(port), token, str(folder), backend], folder / "launcher.log"
            )
            try:
                self._socket = self._accepted(server)
                self.ready = self._event("ready")
                if self.ready.get("token") != token:
                    raise EngineError("another process than the ranks connected; they were ended")
            except BaseException:
                self.abandon()
                raise

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        """Have the ranks carry out a command; their report. Ctrl-C cancels the command, a second
        one ends the ranks.

        Raises
        ------
        EngineError
            If a rank fails, which ends all of them; other kinds of errors as `translated` says.
        """
        self._send(command)
        try:
            return self._event("done")
        except KeyboardInterrupt:
            try:
                self._send({"command": "cancel"})
                self._event("cancelled")
            except KeyboardInterrupt:
                self.abandon()
            raise

    def close(self) -> None:
        """End the ranks in good order."""
        self._socket.close()  # which rank 0 takes as the end
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10.0)
        self.abandon()

    def abandon(self) -> None:
        """End the ranks in whatever state they are; their logs stay."""
        if self.over:
            return
        self.over = True
        self._socket.close()
        process, pids = self._process, [pid for _, pid in self.pids()]
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            if process.poll() is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        for pid in pids:  # ranks that outlive their launcher
            if _is_julia(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def pids(self) -> Iterator[tuple[int, int]]:
        """Rank and process number of the ranks on this host that have begun a log."""
        for log in self.folder.glob("rank-*.log"):
            with open(log, errors="replace") as file:
                found = re.match(r"rank (\d+): process (\d+) on (\S+)", file.readline())
            if found and found[3] == socket.gethostname():
                yield int(found[1]), int(found[2])

    def _accepted(self, server: socket.socket) -> socket.socket:
        deadline = time.monotonic() + self.timeout
        while True:
            if select.select([server], [], [], TICK)[0]:
                return server.accept()[0]
            self._check_alive(deadline)

    def _send(self, command: dict[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(command).encode() + b"\n")
        except OSError:
            self._fail("rank 0 hung up")

    def _event(self, expected: str) -> dict[str, Any]:
        """The next event of a kind; others are signs of life."""
        deadline = time.monotonic() + self.timeout
        while True:
            while b"\n" in self._received:
                line, self._received = self._received.split(b"\n", 1)
                event = json.loads(line)
                if event["event"] == expected:
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
        if any(self.folder.glob("rank-*.error")) or self._process.poll() is not None:
            self._fail("the ranks ended")
        if time.monotonic() > deadline:
            self._fail(f"the ranks gave no sign of life for {self.timeout:g} s")

    def _fail(self, what: str) -> NoReturn:
        """End the ranks, and raise the error that a rank or the launcher reports."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # time for the launcher to report
            self._process.wait(5.0)
        folder, code = self.folder, self._process.poll()
        reports = [json.loads(p.read_text()) for p in sorted(folder.glob("rank-*.error"))]
        output = (folder / "launcher.log").read_text(errors="replace")
        pids = {pid: rank for rank, pid in self.pids()}
        self.abandon()
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


def _spawned(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    # Julia's garbage collector stops threads by SIGSEGV, which the UCX of some MPIs would take for
    # a crash. UCX reads this variable before MPI.jl can set it.
    environment.setdefault("UCX_ERROR_SIGNALS", "SIGILL,SIGBUS,SIGFPE")
    with open(log, "wb") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process only, which passes it on
        )


def _is_julia(pid: int) -> bool:
    """True if the process is still one of the ranks: process numbers are used again."""
    try:
        return b"AdjointGPU" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def ended(output: str, pids: Mapping[int, int]) -> int | None:
    """The rank that died according to a launcher's output, given ranks by process number.

    MPICH, Intel MPI and Open MPI all write PID before its number; other numbers may be those of
    ranks with warnings.
    """
    told = (int(found) for found in re.findall(r"\bPID\s+(\d+)", output))
    return next((pids[pid] for pid in told if pid in pids), None)
