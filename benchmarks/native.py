"""The C loops of pt.c, compiled when asked for and called by ctypes."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .machine import timed

FLAGS = ("-O3", "-march=native", "-fopenmp")


class Loops:
    """pt.c, compiled with `FLAGS` into a temporary directory."""

    def __init__(self) -> None:
        source = Path(__file__).with_name("pt.c")
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "pt.so"
            subprocess.run(
                ["gcc", *FLAGS, "-shared", "-fPIC", str(source), "-o", str(target)], check=True
            )
            self._library = ctypes.CDLL(str(target))

    def triad(self, n: int, repeats: int) -> tuple[float, ...]:
        """Bandwidth in bytes/s of a = b + s c over `n` doubles, for each of `repeats` runs;
        24 bytes an element, as STREAM counts."""
        a, b, c = np.zeros(n), np.ones(n), np.ones(n)
        arguments = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)]

        def run() -> None:
            self._library.triad(
                ctypes.c_long(1), ctypes.c_long(n), *arguments, ctypes.c_double(3.0)
            )

        run()
        return tuple(24.0 * n / timed(run)[0] for _ in range(repeats))


class Iteration:
    """The C iteration on one problem: face coefficients, source and 1/PC given once.

    Parameters
    ----------
    faces : pair of arrays, shapes (ny - 1, nx) and (ny, nx - 1)
        Conductances of the inner faces along y and x.
    source, inverse : arrays, shape (ny, nx)
    """

    def __init__(
        self,
        loops: Loops,
        faces: tuple[np.ndarray, np.ndarray],
        source: np.ndarray,
        inverse: np.ndarray,
    ):
        self._library = loops._library
        self.shape = source.shape
        self._u, self._second, self._v = (self._guarded() for _ in range(3))
        ky, kx, q, i = (self._guarded() for _ in range(4))
        ky[1:-2], kx[1:-1, :-1] = faces
        q[1:-1], i[1:-1] = source, inverse
        self._known = (ky, kx, q, i)

    def _guarded(self) -> np.ndarray:
        """A zero field with one further row before and after it."""
        return np.zeros((self.shape[0] + 2, self.shape[1]))

    @property
    def solution(self) -> np.ndarray:
        return self._u[1:-1]

    def two_pass(self, steps: int, alpha: float, beta: float) -> None:
        self._call(self._library.two_pass, (self._u, self._v), steps, alpha, beta)

    def one_pass(self, steps: int, alpha: float, beta: float) -> None:
        self._call(self._library.one_pass, (self._u, self._second, self._v), steps, alpha, beta)
        if steps % 2:  # the loop writes the two in turn
            self._u, self._second = self._second, self._u

    def _call(
        self,
        function: Callable[..., None],
        unknown: tuple[np.ndarray, ...],
        steps: int,
        alpha: float,
        beta: float,
    ) -> None:
        sizes = [ctypes.c_long(n) for n in (steps, *self.shape)]
        arrays = [ctypes.c_void_p(a[1:].ctypes.data) for a in (*unknown, *self._known)]
        function(*sizes, *arrays, ctypes.c_double(alpha), ctypes.c_double(beta))
