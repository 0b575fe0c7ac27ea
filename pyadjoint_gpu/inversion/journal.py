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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.fingerprint import check_made_with, fingerprint
from ..core.hdf5 import (
    allocate,
    checksum,
    describe,
    description,
    legible,
    make,
    opened,
    replaceable,
    sync,
)
from ..core.outputs import check_outputs
from ..engines.base import Adjoint, Solution
from ..problem.problem import Evaluation, Problem
from ..problem.specification import plain, problem_parts, specification
from ..solvers import Convergence, Spectrum

FORMAT = "pyadjoint_gpu journal 3"
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


_DATASETS = (
    "digest",
    "scalars",
    "gradient",
    "sums",
    "state",
    "multiplier",
    "state_sums",
    "count",
    "finished",
)
SETTINGS = ("method", "tolerance", "discrepancy")
"""Of an optimiser, that decide its path and where it ends."""
_OTHERS = {
    "pyadjoint_gpu sampler": "a sampler's journal; the same call, or `pyadjoint-gpu run` with its"
    " run file",
    "pyadjoint_gpu rows": "a journal of rows; the same call (`pyadjoint-gpu place`)",
    "pyadjoint_gpu selection": "a journal of a selection; the same call (`pyadjoint-gpu place`)",
}
"""What goes on from other journals than an inversion's, by their formats."""


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
        self._texts = description(path, file, "format", "settings", "made_with", "problem")

    @classmethod
    def start(
        cls, path: str | Path, problem: Problem, settings: dict[str, Any], overwrite: bool = False
    ) -> Journal:
        """The journal at `path` of the same problem and settings, how far it is to go (and how it
        is called) aside; a new one where there is none, or with `overwrite`.

        Raises
        ------
        DataError
            If there is a journal of other inputs, or another file, at `path`.
        """
        path = Path(path)
        check_outputs({"journal": path})
        if not path.exists() or (overwrite and replaceable(path)):
            return cls.create(path, problem, settings)
        book = cls.open(path)
        with legible(path, book._file):
            book.check(made_with(problem, settings))
        return book

    @classmethod
    def create(cls, path: str | Path, problem: Problem, settings: dict[str, Any]) -> Journal:
        """A new journal for `problem`, in the place of what is at `path`."""
        path, state = Path(path), _state_size(problem)

        def fill(file: Any) -> None:
            tables, arrays = pack(specification(problem))
            describe(
                file,
                format=FORMAT,
                settings=json.dumps(settings),
                made_with=json.dumps(made_with(problem, settings)),
                problem=json.dumps(tables),
            )
            for name, array in arrays.items():
                file[f"inputs/{name}"] = array
            file.attrs["inputs"] = checksum((), *arrays.values())
            _layout(file, _FIRST, problem.size, state)

        make(path, fill)
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
            found = "a directory, not a journal" if path.is_dir() else "no such journal"
            raise DataError(f"{path}: {found}")
        file: Any = opened(path, "a journal", "r+")
        with legible(path, file):
            found = str(file.attrs.get("format"))
            if found != FORMAT:
                for kind, how in _OTHERS.items():
                    if found.startswith(kind):
                        raise DataError(f"{path}: {how} goes on from it")
                old = found.startswith(FORMAT[:-1])
                what = "a journal of another version" if old else "not a journal"
                raise DataError(f"{path}: {what} (format {found!r}, expected {FORMAT!r})")
            for name in _DATASETS:
                _ = file[name]  # all can be opened
            if not 0 <= file["count"][()] <= len(file["scalars"]):
                raise DataError(f"{path}: damaged, its number of evaluations is not possible")
            return cls(path, file)

    def close(self) -> None:
        self._file.close()

    def check(self, expected: dict[str, str]) -> None:
        """A `DataError` that names what differs unless it was made with what is expected."""
        kind = "a journal" if self.finished else "an unfinished journal"
        what = f"{kind} of {self.count} evaluations, which `resume` goes on with,"
        found = json.loads(self._texts["made_with"])
        # Where a problem is given anew to `resume`, the settings are those of the journal.
        found = {k: v for k, v in found.items() if k not in SETTINGS or k in expected}
        check_made_with(self.path, what, json.dumps(found), expected)

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
        return json.loads(self._texts["settings"])

    def problem(self) -> dict[str, Any] | None:
        """The run file's tables that rebuild the problem; None for one with code in it."""
        with legible(self.path):
            found = json.loads(self._texts["problem"])
            group = self._file.get("inputs", {})
            arrays = {str(k): group[str(k)][()] for k in range(len(group))}
            if checksum((), *arrays.values()) != self._file.attrs["inputs"]:
                raise DataError(
                    f"{self.path}: damaged, the problem in it is not the one that was written; its"
                    f" {self.count} evaluations go on with the problem given anew: resume(journal,"
                    " problem)"
                )
        return unpack(found, arrays)

    def config(self, max_iterations: int | None = None) -> tuple[str, int] | None:
        """The ``config_json`` of the result, and its iterations at most; None for a problem with
        code in it."""
        tables = self.problem()
        settings = self.settings
        if max_iterations is not None:
            settings["max_iterations"] = max_iterations
        return None if tables is None else (config(tables, settings), settings["max_iterations"])

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
        values = self._scalars(k)
        if not np.array_equal(self._file["digest"][k], digest(theta)):
            raise DataError(
                f"{self.path}: evaluation {k} is of other controls; the problem, the method or the"
                " versions differ from the run that wrote it"
            )
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
        """Of a record that was not damaged."""
        file = self._file
        with legible(self.path):
            row = file["scalars"][k]
            if checksum((k,), file["digest"][k], row, file["gradient"][k]) != file["sums"][k]:
                raise DataError(
                    f"{self.path}: damaged, evaluation {k} of {self.count} is not the one that was"
                    f" written; the {k} before it are whole: take the file from a backup, or start"
                    " anew (overwrite=True, --overwrite)"
                )
        return dict(zip(_SCALARS, row.tolist(), strict=True))

    def append(self, theta: np.ndarray, evaluation: Evaluation, wall_time: float) -> None:
        """Add one evaluation; it counts once it is wholly on disk."""
        k = self.count
        if k == len(self._file["scalars"]):
            self._grow()
        file, adjoint = self._file, evaluation.adjoint
        assert adjoint is not None
        forward, backward = evaluation.solution.convergence, adjoint.convergence
        mark, gradient = digest(theta), np.asarray(evaluation.gradient, dtype="f8")
        scalars = [
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
        row = np.array(scalars, dtype="f8")
        file["digest"][k], file["gradient"][k], file["scalars"][k] = mark, gradient, row
        file["sums"][k] = checksum((k,), mark, row, gradient)
        # Two places in turn: the one that the last complete record needs is never written to.
        state, multiplier = _flatten(evaluation.solution.fields), _flatten(adjoint.multiplier)
        file["state"][k % 2], file["multiplier"][k % 2] = state, multiplier
        file["state_sums"][k % 2] = checksum((k,), state, multiplier)
        self._sync()
        file["count"][()] = k + 1
        self._sync()

    def last(self, problem: Problem) -> Evaluation | None:
        """The last evaluation, as a start for the next one."""
        k = self.count - 1
        if k < 0:
            return None
        values = self._scalars(k)
        file = self._file
        with legible(self.path):
            state, adjoint = file["state"][k % 2], file["multiplier"][k % 2]
            if checksum((k,), state, adjoint) != file["state_sums"][k % 2]:
                raise DataError(
                    f"{self.path}: damaged, the state of evaluation {k} is not the one that was"
                    f" written, and nothing goes on from it; max_iterations up to what its {k + 1}"
                    " evaluations reach gives a result still"
                )
        u, multiplier = _restore(problem, state), _restore(problem, adjoint)
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
            for name in ("digest", "gradient", "scalars", "sums"):
                for k in range(room):
                    file[name][k] = old[name][k]
            for name in ("state", "multiplier", "state_sums", "count", "finished"):
                file[name][...] = old[name][...]

        make(self.path, fill)
        old.close()
        self._file = Journal.open(self.path)._file

    def _sync(self) -> None:
        sync(self._file)


def _layout(file: Any, room: int, size: int, state: int) -> None:
    """Datasets of fixed size and place. Sparse: unwritten records take no disk."""
    for name, shape, kind in (
        ("digest", (room, 32), "u1"),
        ("scalars", (room, len(_SCALARS)), "f8"),
        ("gradient", (room, size), "f8"),
        ("sums", (room,), "u8"),
        ("state", (2, state), "f8"),
        ("multiplier", (2, state), "f8"),
        ("state_sums", (2,), "u8"),
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


def made_with(problem: Problem, settings: dict[str, Any] | None = None) -> dict[str, str]:
    """The fingerprint of an inversion; of its problem, without settings."""
    parts = problem_parts(problem)
    return fingerprint(**parts | {k: settings[k] for k in SETTINGS if settings is not None})


def inputs(problem: Problem, settings: dict[str, Any]) -> str:
    """The ``config_json`` of an inversion's result."""
    return config(specification(problem) or {"model": {"name": problem.model.name}}, settings)


def config(tables: dict[str, Any], settings: dict[str, Any]) -> str:
    """The same, of the tables that rebuild the problem."""
    inversion = {k: v for k, v in settings.items() if k != "title"}
    return json.dumps(plain(tables) | {"inversion": inversion}, sort_keys=True)


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
