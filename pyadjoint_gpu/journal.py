"""Evaluations on disk: crash-safe, for exact resume.

Every dataset of the file has its full size and place from the start, so that appending changes
raw data only, never HDF5's own structures: a process killed at any instant leaves a file that
opens. A record counts once ``count`` says so, which is written last. When the file is full a
larger copy replaces it by a rename.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .config import specification
from .engines import Adjoint, Solution
from .errors import DataError
from .files import whole
from .hdf5 import allocate, sync
from .problem import Evaluation, Problem
from .solvers import Convergence, Spectrum

FORMAT = "pyadjoint_gpu journal 2"
_FIRST = 32  # records in a new file
_SCALARS = (
    "objective",
    "misfit",
    "penalty",
    "wall_time",
    "forward_iterations",
    "adjoint_iterations",
    "forward_residual",
    "adjoint_residual",
    "forward_low",
    "forward_high",
    "adjoint_low",
    "adjoint_high",
    "tolerance",
    "work",
)


@dataclass(frozen=True)
class Record:
    """What is known of one evaluation after a restart."""

    objective: float
    misfit: float
    penalty: float
    gradient: np.ndarray
    wall_time: float
    forward_iterations: int
    adjoint_iterations: int
    work: float


def digest(theta: np.ndarray) -> np.ndarray:
    """SHA-256 of the exact bits of theta."""
    raw = hashlib.sha256(np.ascontiguousarray(theta, dtype="<f8").tobytes()).digest()
    return np.frombuffer(raw, dtype=np.uint8)


class Journal:
    """Records of evaluations, and the state from which the next one starts.

    Use `create` or `open`; close after use (or use as a context manager).
    """

    def __init__(self, path: Path, file: Any):
        self.path = path
        # h5py's types do not tell groups from datasets.
        self._file: Any = file

    @classmethod
    def create(cls, path: str | Path, problem: Problem, settings: dict[str, Any]) -> Journal:
        """A new journal for `problem`. An unfinished one is not overwritten.

        Raises
        ------
        DataError
            If there is an unfinished journal, or another file, at `path`.
        """
        path = Path(path)
        if path.exists():
            with cls.open(path) as old:
                if not old.finished:
                    raise DataError(
                        f"{path}: an unfinished journal of {old.count} evaluations;"
                        " resume it, or remove the file to start anew"
                    )
        state = _state_size(problem)

        def fill(file: Any) -> None:
            file.attrs["format"] = FORMAT
            file.attrs["settings"] = json.dumps(settings)
            tables, arrays = pack(specification(problem))
            file.attrs["problem"] = json.dumps(tables)
            for name, array in arrays.items():
                file[f"inputs/{name}"] = array
            _layout(file, _FIRST, problem.size, state)

        _write(path, fill)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Journal:
        """An existing journal.

        Raises
        ------
        DataError
            If it is missing, truncated, not a journal, or in use.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: no such journal")
        try:
            file: Any = h5py.File(path, "r+")
        except BlockingIOError:
            raise DataError(f"{path}: in use by another process") from None
        except OSError as error:
            raise DataError(f"{path}: not a journal, or truncated ({error})") from None
        found = file.attrs.get("format")
        if found != FORMAT or "count" not in file:
            file.close()
            if str(found).startswith("pyadjoint_gpu sampler"):
                raise DataError(
                    f"{path}: a sampler's journal; `pyadjoint-gpu run` with its run file goes on"
                    " from it"
                )
            raise DataError(f"{path}: not a journal (format {found!r}, expected {FORMAT!r})")
        return cls(path, file)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """Close the file, and remove it if it holds no record."""
        empty = self.count == 0
        self.close()
        if empty:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def count(self) -> int:
        """Number of complete records."""
        return int(self._file["count"][()])

    @property
    def finished(self) -> bool:
        """Whether the run that wrote it came to its end."""
        return bool(self._file["finished"][()])

    @property
    def settings(self) -> dict[str, Any]:
        return json.loads(str(self._file.attrs["settings"]))

    def problem(self) -> dict[str, Any] | None:
        """The run file's tables that rebuild the problem; None for one with code in it."""
        found = json.loads(str(self._file.attrs["problem"]))
        arrays = (
            {k: v[()] for k, v in self._file["inputs"].items()} if "inputs" in self._file else {}
        )
        return unpack(found, arrays)

    def finish(self, finished: bool = True) -> None:
        """Mark the run as come to its end (or as going on again)."""
        self._file["finished"][()] = finished
        self._sync()

    def record(self, k: int, theta: np.ndarray) -> Record:
        """Record k, which must be of `theta`.

        Raises
        ------
        DataError
            If it is of another theta: the journal is not of this problem.
        """
        if not np.array_equal(self._file["digest"][k], digest(theta)):
            raise DataError(
                f"{self.path}: evaluation {k} is of other controls; the problem, the method or the"
                " versions differ from the run that wrote it"
            )
        values = self._scalars(k)
        return Record(
            values["objective"],
            values["misfit"],
            values["penalty"],
            self._file["gradient"][k],
            values["wall_time"],
            int(values["forward_iterations"]),
            int(values["adjoint_iterations"]),
            values["work"],
        )

    def _scalars(self, k: int) -> dict[str, float]:
        return dict(zip(_SCALARS, self._file["scalars"][k].tolist(), strict=True))

    def append(self, theta: np.ndarray, evaluation: Evaluation, wall_time: float) -> None:
        """Add one evaluation; it counts once it is wholly on disk."""
        k = self.count
        if k == len(self._file["scalars"]):
            self._grow()
        file, adjoint = self._file, evaluation.adjoint
        assert adjoint is not None
        forward, backward = evaluation.solution.convergence, adjoint.convergence
        file["digest"][k] = digest(theta)
        file["gradient"][k] = evaluation.gradient
        file["scalars"][k] = [
            evaluation.objective,
            evaluation.misfit,
            evaluation.penalty,
            wall_time,
            forward.iterations,
            backward.iterations,
            forward.residual,
            backward.residual,
            *_pair(forward.spectrum),
            *_pair(backward.spectrum),
            evaluation.tolerance,
            forward.work + backward.work,
        ]
        # Two places in turn: the one that the last complete record needs is never written to.
        file["state"][k % 2] = _flatten(evaluation.solution.fields)
        file["multiplier"][k % 2] = _flatten(adjoint.multiplier)
        self._sync()
        file["count"][()] = k + 1
        self._sync()

    def last(self, problem: Problem) -> Evaluation | None:
        """The last evaluation, as a start for the next one."""
        k = self.count - 1
        if k < 0:
            return None
        values = self._scalars(k)
        u = _restore(problem, self._file["state"][k % 2])
        multiplier = _restore(problem, self._file["multiplier"][k % 2])
        return Evaluation(
            values["objective"],
            values["misfit"],
            values["penalty"],
            self._file["gradient"][k],
            Solution(u, _convergence(values, "forward")),
            Adjoint({}, multiplier, _convergence(values, "adjoint")),
            values["tolerance"],
        )

    def _grow(self) -> None:
        """Replace the file by one with twice the room."""
        old = self._file
        room = len(old["scalars"])

        def fill(file: Any) -> None:
            for key, value in old.attrs.items():
                file.attrs[key] = value
            if "inputs" in old:
                old.copy("inputs", file)
            _layout(file, 2 * room, old["gradient"].shape[1], old["state"].shape[1])
            for name in ("digest", "gradient", "scalars"):
                for k in range(room):
                    file[name][k] = old[name][k]
            for name in ("state", "multiplier", "count", "finished"):
                file[name][...] = old[name][...]

        _write(self.path, fill)
        old.close()
        self._file = Journal.open(self.path)._file

    def _sync(self) -> None:
        sync(self._file)


def _write(path: Path, fill: Callable[[Any], None]) -> None:
    with whole(path) as beside, h5py.File(beside, "w") as file:
        fill(file)


def _layout(file: Any, room: int, size: int, state: int) -> None:
    """Datasets of fixed size and place. Sparse: unwritten records take no disk."""
    for name, shape, kind in (
        ("digest", (room, 32), "u1"),
        ("scalars", (room, len(_SCALARS)), "f8"),
        ("gradient", (room, size), "f8"),
        ("state", (2, state), "f8"),
        ("multiplier", (2, state), "f8"),
        ("count", (), "i8"),
        ("finished", (), "i1"),
    ):
        allocate(file, name, shape, kind)
    file["count"][()] = 0
    file["finished"][()] = False


def _state_size(problem: Problem) -> int:
    return len(problem.model.unknowns) * math.prod(problem.model.shape)


def _flatten(fields: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(fields[k])) for k in sorted(fields)])


def _restore(problem: Problem, flat: np.ndarray) -> dict[str, np.ndarray]:
    names = sorted(v.name for v in problem.model.unknowns)
    parts = np.split(flat, len(names))
    return {k: p.reshape(problem.model.shape) for k, p in zip(names, parts, strict=True)}


def _pair(spectrum: Spectrum | None) -> tuple[float, float]:
    return (spectrum.low, spectrum.high) if spectrum else (np.nan, np.nan)


def _convergence(values: dict[str, float], which: str) -> Convergence:
    low, high = values[f"{which}_low"], values[f"{which}_high"]
    return Convergence(
        status="converged",
        iterations=int(values[f"{which}_iterations"]),
        residual=values[f"{which}_residual"],
        tolerance=1.0,
        wall_time=0.0,
        spectrum=None if np.isnan(low) else Spectrum(low, high),
        throughput=0.0,
        history=np.empty((0, 2)),
    )


def pack(tree: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A JSON tree, and the arrays that were in it by number."""
    arrays: dict[str, np.ndarray] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: walk(v) for k, v in node.items()}
        if isinstance(node, list | tuple):
            return [walk(v) for v in node]
        if isinstance(node, np.ndarray):
            arrays[str(len(arrays))] = node
            return {"$array": str(len(arrays) - 1)}
        return node.item() if isinstance(node, np.generic) else node

    return walk(tree), arrays


def unpack(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `pack`."""
    if isinstance(tree, dict):
        if set(tree) == {"$array"}:
            return arrays[tree["$array"]]
        return {k: unpack(v, arrays) for k, v in tree.items()}
    if isinstance(tree, list):
        return [unpack(v, arrays) for v in tree]
    return tree
