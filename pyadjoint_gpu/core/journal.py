"""Journals: files that record what a run computes, as it goes, so that it can continue.

A journal is an HDF5 file with its kind, the inputs it was made with, and tables. Space for each row
of a table is allocated from the start (see `hdf5`). Each row has a mark,

    number + 1, length, checksums of its parts,

which is written after the row is on disk: a row counts once its mark is there. A process killed at
any instant leaves a file that opens and lacks at most the row being written. Tables are of three
kinds:

- *rows* of numbers, all of one shape, written in any order: one table a journal, of full size;
- *records* of anything (see `packing`), one after the other: a full table is enlarged in a copy
  that replaces the file by a rename;
- *slots*: records of which only the last counts. Two places are used in turn, so that the last
  complete record is never written over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import h5py
import numpy as np

from .errors import DataError
from .fingerprint import check_made_with, fingerprint
from .hdf5 import allocate, checksum, legible, make, opened, sync
from .outputs import check_outputs
from .packing import pack, unpack

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8, UInt64

    Row = UInt8[np.ndarray, " bytes"] | Float[np.ndarray, " ..."]

FORMAT = "pyadjoint_gpu journal 5"
_FORMATS = tuple(f"pyadjoint_gpu {k} " for k in ("journal", "sampler", "rows", "selection"))
"""Beginnings of the formats of this and earlier versions."""
_FIRST = 8  # records that a new file has space for
_PAGE = 4096  # bytes; the space of a record is a multiple
_ALL = slice(None)

MadeWith = Callable[[], Mapping[str, Any]]
"""A function that returns the inputs that determine the results, by name; called once the file can
be written."""


@dataclass(frozen=True)
class Rows:
    """The layout of a table: the shape of all rows together, the chunks of its storage, the number
    of parts along the second axis that have checksums of their own, and the type of its numbers."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None = None
    parts: int = 1
    dtype: str = "f8"


class Journal:
    """A journal of one kind, from `start`, `found` or `open`; a context manager.

    Attributes
    ----------
    kind : str
        The name of the kind, with its article.
    goes_on : str
        The name of the function that continues it.
    records, slots : tuple of str
        Names of its tables of these kinds. The table of numbers is "rows"; "given" has the records
        given to `start`.
    """

    kind: ClassVar[str]
    goes_on: ClassVar[str]
    records: ClassVar[tuple[str, ...]] = ()
    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, file: h5py.File):
        self.path, self._new = path, False
        self._take(file)
        kind, goes_on, self.made_with = self.given(0, "what it is")
        if kind != self.kind:
            raise DataError(f"{path}: {kind}, not {self.kind}; {goes_on} goes on from it")
        for name in (*self.records, *self.slots) or ("rows",):
            _ = self._tables[name]

    def _take(self, file: h5py.File) -> None:
        self._file = file
        self._tables: dict[str, h5py.Dataset] = {k: file[k] for k in file if f"{k}.marks" in file}
        self._marks: dict[str, UInt64[np.ndarray, "rows marks"]] = {
            k: file[f"{k}.marks"][...] for k in self._tables
        }

    @classmethod
    def start(
        cls,
        path: str | Path,
        made_with: MadeWith,
        *,
        rows: Rows | None = None,
        given: Sequence[Any] = (),
        overwrite: bool = False,
    ) -> Self:
        """The journal of the same inputs at `path`, or a new one if there is none or with
        `overwrite`: it has a table of numbers `rows`, if any, and the records `given`. A new one
        that is still empty when an error ends its use is removed.

        Raises
        ------
        DataError
            If the file cannot be written, or exists and is not a journal, is one of another
            version, kind or run (what differs is named), or is truncated, damaged or in use.
        """
        found = cls.found(path, made_with, overwrite=overwrite)
        if found is not None:
            return found
        about = cls.kind, cls.goes_on, json.dumps(fingerprint(**made_with()))
        packed = [pack(each) for each in (about, *given)]

        def fill(file: h5py.File) -> None:
            file.attrs["format"] = FORMAT
            for name in (*cls.records, *cls.slots):
                _lay(file, name, Rows((2 if name in cls.slots else _FIRST, _PAGE), dtype="u1"))
            if rows is not None:
                _lay(file, "rows", rows)
            _lay(file, "given", Rows((len(packed), max(map(len, packed))), dtype="u1"))
            for k, row in enumerate(packed):
                file["given"][k, : len(row)] = row
                file["given.marks"][k] = _mark(k, row, 1)

        make(Path(path), fill)
        book = cls.open(path)
        book._new = True
        return book

    @classmethod
    def optional(
        cls, path: str | Path | None, made_with: MadeWith, *, overwrite: bool = False
    ) -> AbstractContextManager[Self | None]:
        """The journal at `path`, as from `start`, or None without a path."""
        return nullcontext() if path is None else cls.start(path, made_with, overwrite=overwrite)

    @classmethod
    def found(
        cls, path: str | Path, made_with: MadeWith, *, overwrite: bool = False
    ) -> Self | None:
        """The journal that `start` would continue, or None if it would begin a new one."""
        check_outputs({"journal": path})
        if not Path(path).exists() or (overwrite and _replaceable(Path(path))):
            return None
        book = cls.open(path)
        try:
            book.check(made_with())
        except BaseException:
            book.close()
            raise
        return book

    @classmethod
    def open(cls, path: str | Path, mode: str = "r+", **options: Any) -> Self:
        """An existing journal; `options` are h5py's."""
        path = Path(path)
        if not path.is_file():
            none = f"no such {cls.kind.partition(' ')[2]}"
            raise DataError(f"{path}: {f'a directory, not {cls.kind}' if path.is_dir() else none}")
        file = opened(path, cls.kind, mode, **options)
        try:
            with legible(path):
                found = str(file.attrs.get("format"))
                if found == FORMAT:
                    return cls(path, file)
            old = found.startswith(_FORMATS)
            what = "a journal of another version" if old else f"not {cls.kind}"
            raise DataError(
                f"{path}: {what}; give another path, or remove it (format {found!r}, expected"
                f" {FORMAT!r})"
            )
        except DataError:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        empty = not any(marks.any() for name, marks in self._marks.items() if name != "given")
        if error[0] is not None and self._new and empty:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def told(self) -> str:
        """The name of the journal in refusals."""
        return self.kind

    def check(self, made_with: Mapping[str, Any]) -> None:
        """Raise a `DataError` that names what differs unless the journal was made with these
        inputs."""
        check_made_with(self.path, self.told, self.made_with, fingerprint(**made_with))

    # Reading

    def given(self, k: int, what: str, more: str = "") -> Any:
        """Record k of the table "given": what the journal is for k = 0, else what `start` was
        given. `what` it is and `more` go into the message of the error if it is damaged."""
        return self.row("given", k, f"damaged, {what} in it is not what was written{more}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the table of numbers."""
        return self._tables["rows"].shape

    def done(self, name: str = "rows") -> Bool[np.ndarray, " rows"]:
        """Mask of the rows of a table that have been written."""
        return np.all(self._marks[name], axis=1)

    def count_of(self, name: str) -> int:
        """The number of records of a table."""
        done = self.done(name)
        count = int(np.count_nonzero(done))
        if not done[:count].all():
            raise DataError(f"{self.path}: damaged: its number of {name} is impossible")
        return count

    def row(
        self, name: str, k: int, told: str = "row {k} of {size} is damaged", parts: slice = _ALL
    ) -> Any:
        """Row k of a table: a record, or numbers, of which only `parts` are read.

        Raises
        ------
        DataError
            If the row is damaged, with the message `told`, in which ``{k}``, ``{j}`` and ``{size}``
            stand for the row, the part and the number of rows.
        """
        table, marks = self._tables[name], self._marks[name]
        place = self._place(name, k)
        mark = marks[place]
        which = (place, slice(int(mark[1]))) if name != "rows" else (place,)
        with legible(self.path):
            row = table[which if parts == _ALL else (place, _ALL, parts)]
        each = range(*parts.indices(len(mark) - 2))
        for j, found in zip(each, _sums(k, row, each), strict=True):
            if found != mark[2 + j]:
                raise DataError(f"{self.path}: {told.format(k=k, j=j, size=len(marks))}")
        return row if name == "rows" else unpack(row)

    def last(self, name: str) -> tuple[int, Any] | None:
        """The number and the content of a slot's last legible record, if it has one."""
        found = self._marks[name][self.done(name), 0].astype(int) - 1
        for k in sorted(found.tolist(), reverse=True):
            try:
                return k, self.row(name, k, f"damaged, its last record ({name}) is not legible")
            except DataError:
                if k == min(found):
                    raise
        return None

    # Writing

    def put(self, **rows: tuple[int, Any]) -> None:
        """Write rows of tables, each given by its number and content.

        They are on disk when this returns; slots are written before the marks of the other tables.
        """
        raw = {
            name: (k, np.asarray(row, "f8") if name == "rows" else pack(row))
            for name, (k, row) in rows.items()
        }
        for name, (k, row) in raw.items():
            self._make_room(name, k, row)
        with legible(self.path):
            for name, (k, row) in raw.items():
                self._tables[name][self._place(name, k), : len(row)] = row
                if name in self.slots:
                    self._write_mark(name, k, row)
            sync(self._file)
            others = [n for n in raw if n not in self.slots]
            for name in others:
                self._write_mark(name, *raw[name])
            if others:
                sync(self._file)

    def _write_mark(self, name: str, k: int, row: Row) -> None:
        place, marks = self._place(name, k), self._marks[name]
        marks[place] = _mark(k, row, marks.shape[1] - 2)
        self._file[f"{name}.marks"][place] = marks[place]

    def _place(self, name: str, k: int) -> int:
        """The row of a table that holds record k."""
        return k % 2 if name in self.slots else k

    def _make_room(self, name: str, k: int, row: Row) -> None:
        """Make space for a record: if it has none, in a copy of the file with twice as many or
        twice as wide rows."""
        old, (room, width) = self._file, self._tables[name].shape[:2]
        if name == "rows" or (self._place(name, k) < room and len(row) <= width):
            return
        pages = -(-max(len(row), 2 * width) // _PAGE)
        wider = width if len(row) <= width else pages * _PAGE
        shapes = {n: table.shape for n, table in self._tables.items()}
        shapes[name] = room if self._place(name, k) < room else 2 * room, wider

        def fill(file: h5py.File) -> None:
            file.attrs.update(old.attrs)
            for each, shape in shapes.items():
                _lay(file, each, Rows(shape, dtype="u1"))
                for place in np.flatnonzero(self.done(each)).tolist():
                    mark = self._marks[each][place]
                    file[each][place, : mark[1]] = self._tables[each][place, : mark[1]]
                    file[f"{each}.marks"][place] = mark

        with legible(self.path):
            make(self.path, fill)
        old.close()
        self._take(type(self).open(self.path)._file)


def _lay(file: h5py.File, name: str, table: Rows) -> None:
    """Allocate an empty table and its marks."""
    allocate(file, name, table.shape, table.dtype, table.chunks)
    allocate(file, f"{name}.marks", (table.shape[0], 2 + table.parts), "u8")
    file[f"{name}.marks"][...] = 0


def _sums(k: int, row: Row, parts: Sequence[int]) -> list[np.uint64]:
    """Checksums of `parts` of row k; `row` has these parts only."""
    if len(parts) == 1 and parts[0] == 0:
        return [checksum((k, 0), row)]
    return [checksum((k, j), row[:, i]) for i, j in enumerate(parts)]


def _mark(k: int, row: Row, parts: int) -> UInt64[np.ndarray, " marks"]:
    """The mark of row k."""
    return np.array([k + 1, len(row), *_sums(k, row, range(parts))], "u8")


def _replaceable(path: Path) -> bool:
    """Whether the file may be replaced: a journal, or a damaged HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("format", "")).startswith(_FORMATS)
    except BlockingIOError:  # in use
        return False
    except Exception:
        with path.open("rb") as file:
            return file.read(4) == b"\x89HDF"
