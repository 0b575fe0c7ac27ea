"""Processes that choose together, or one by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class Communicator(Protocol):
    """The methods of an mpi4py communicator that are used."""

    def Get_rank(self) -> int: ...

    def Get_size(self) -> int: ...

    def allgather(self, value: T) -> list[T]: ...

    def bcast(self, value: Any, root: int = 0) -> Any: ...


class SerialCommunicator:
    """A communicator of one process."""

    def Get_rank(self) -> int:
        return 0

    def Get_size(self) -> int:
        return 1

    def allgather(self, value: T) -> list[T]:
        return [value]

    def bcast(self, value: Any, root: int = 0) -> Any:
        return value


def safely(comm: Communicator, function: Callable[[], T]) -> T:
    """The result of `function`; an error on one rank is raised on all, which would otherwise wait
    forever."""
    result: Any = None
    error = None
    try:
        result = function()
    except Exception as problem:
        error = problem
    for problem in comm.allgather(error):
        if problem is not None:
            raise problem
    return result


def share(comm: Communicator, count: int) -> slice:
    """This rank's contiguous share of `count` items; shares differ by one at most."""
    rank, size = comm.Get_rank(), comm.Get_size()
    return slice(rank * count // size, (rank + 1) * count // size)


def owner(comm: Communicator, count: int, index: int) -> int:
    """The rank whose `share` has item `index`."""
    size = comm.Get_size()
    return next(r for r in range(size) if index < (r + 1) * count // size)
