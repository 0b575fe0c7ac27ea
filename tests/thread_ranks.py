"""Communicators of threads, with what is used of mpi4py's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


class Ranks:
    """Communicators of threads."""

    def __init__(self, size):
        self.size, self.values = size, [None] * size
        self.barrier = Barrier(size, timeout=60)

    def __call__(self, function):
        """What `function` of a communicator returns on each."""
        with ThreadPoolExecutor(self.size) as pool:
            futures = [pool.submit(function, Rank(self, rank)) for rank in range(self.size)]
            return [future.result() for future in futures]


class Rank:
    def __init__(self, ranks, rank):
        self.ranks, self.rank = ranks, rank

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.ranks.size

    def allgather(self, value):
        self.ranks.values[self.rank] = value
        self.ranks.barrier.wait()
        found = list(self.ranks.values)
        self.ranks.barrier.wait()
        return found

    def bcast(self, value, root=0):
        return self.allgather(value)[root]
