"""Cost of a selection of sensors: operations, bytes, memory, and by a machine's rates, time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
from jaxtyping import Float

from ..core.checks import check_choice, count, positive
from ..core.errors import ConfigError, shown
from ..statistics.covariance import DenseCovariance
from .candidates import COLUMNS
from .objective import objective
from .panel import Panel
from .threads import cores, workers

SIZES = {"float64": 8, "float32": 4}
DOUBLE = 8


@dataclass(frozen=True)
class Machine:
    """Rates of one rank: a GPU, or the cores of one process.

    Attributes
    ----------
    products : float
        Operations a second of large matrix products.
    updates : float
        Operations a second of products T x T x T, one a candidate.
    factors : float
        Operations a second of Cholesky factorisations T x T, and of the rest of a pivot.
    handling : float
        Bytes a second of blocks that are checked and measured in units of their noise, by the same
        cores.
    reading : float
        Bytes a second from disk, all ranks reading.
    network : float
        Bytes a second of a broadcast.
    latency : float
        Least seconds a message takes.
    """

    products: float
    updates: float
    factors: float
    handling: float
    reading: float
    network: float
    latency: float = 1e-5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            positive(name, value)

    @classmethod
    def measured(
        cls, steps: int, budget: int, dtype: str = "float64", *, reading: float, network: float
    ) -> Machine:
        """This machine's rates, timed on a selection with one group of candidates a core.

        Parameters
        ----------
        steps, budget : int
            T, and sensors: products are those halfway through a selection.
        dtype : str
        reading, network : float
            Rates that are given, not measured.
        """
        generator = np.random.default_rng(0)
        # Values whose squares are small beside one, and far from the smallest there are.
        n, many = max(1, COLUMNS // steps), max(2, budget // 2)
        (white,) = objective(DenseCovariance(np.zeros((n, steps, n, steps))), 1.0)
        panels = []
        for _ in range(cores()):
            identities = np.tile(np.eye(steps), (n, 1, 1))
            panel = Panel(partial(white.refusal, many * steps), identities, many, dtype)
            panel.rows[:] = 1e-4 * generator.standard_normal(panel.rows.shape)
            panels.append(panel)
        row = 1e-4 * generator.standard_normal((steps, n, steps))
        sizes = {k: (steps, k * steps) for k in (1, many)}
        pivots = {
            k: panels[0].prepared(1e-4 * generator.standard_normal(s)) for k, s in sizes.items()
        }
        with workers() as threads:

            def seconds(work: Callable[[Panel], object]) -> float:
                """Time of one panel's work with all cores busy."""
                return _median(lambda: list(threads.map(work, panels))) / len(panels)

            short, long = (seconds(lambda p, k=k: p.extend(pivots[k], row)) for k in pivots)
            gains = seconds(lambda p: p.logdets(np.arange(n)))
            handled = seconds(lambda _: white.row(0, slice(0, n)))
        product = (long - short) / (many - 1)
        operations = 2.0 * n * float(steps) ** 3
        return cls(
            operations / product,
            operations / max(short - product, 0.01 * product),
            operations / 6.0 / gains,
            DOUBLE * n * float(steps) ** 2 / handled,
            reading,
            network,
        )


A100 = Machine(
    products=0.8 * 19.5e12,
    updates=0.5 * 19.5e12,
    factors=0.05 * 19.5e12,
    handling=1e10,
    reading=1e9,
    network=10e9,
)
"""NVIDIA's data sheet: 19.5e12 operations a second in single precision, and in double precision on
tensor cores. The fractions of it reached are guesses, as are a gigabyte a second from a file system
that all ranks read, ten between nodes, and ten through a host's cores."""


@dataclass(frozen=True)
class Cost:
    """Cost of a selection for each rank, by sensor chosen.

    Attributes
    ----------
    products, updates, factors : array
        Operations, of the kinds of which a `Machine` has the rates.
    read, received : array
        Bytes from disk, and from the rank that has the sensor chosen.
    memory : float
        Bytes.
    ranks : int
    """

    products: Float[np.ndarray, " sensors"]
    updates: Float[np.ndarray, " sensors"]
    factors: Float[np.ndarray, " sensors"]
    read: Float[np.ndarray, " sensors"]
    received: Float[np.ndarray, " sensors"]
    memory: float
    ranks: int

    @property
    def operations(self) -> float:
        """Total operations of a rank."""
        return float(np.sum(self.products + self.updates + self.factors))

    def seconds(self, machine: Machine) -> float:
        """Time on a machine, where reading overlaps arithmetic and messages do not."""
        if not isinstance(machine, Machine):
            raise ConfigError(f"machine: found {shown(machine)}, expected a Machine, such as A100")
        work = (
            self.products / machine.products
            + self.updates / machine.updates
            + self.factors / machine.factors
            + self.read / machine.handling
        )
        hops = np.ceil(np.log2(self.ranks))
        sending = hops * (self.received / machine.network + machine.latency)
        return float(np.sum(np.maximum(work, self.read / machine.reading) + sending))


def placement_cost(
    candidates: int,
    steps: int,
    budget: int,
    *,
    ranks: int = 1,
    dtype: str = "float64",
    form: str = "pivoted",
) -> Cost:
    """Cost of `select` with all candidates scored at each step (lazy evaluation takes less), for C
    candidates and T times, at sensor k = 0, 1, ... and n = C / ranks candidates a rank:

    ``"pivoted"``: gains n T^3 / 3, and until the last one n T^3 (2 (k + 1) + 2) for V and C; n
    blocks of K; the pivot, T^3 (2 k + 1). In memory V, n budget T^2 numbers, and C. In single
    precision also the sensor chosen once more in double, k^2 T^3 operations and k blocks, one pivot
    more, and the pivots of all, (budget T)^2 / 2 numbers.

    ``"schur"``, as published: V_j = L_S^-1 K_Sj of every candidate anew, n T^3 (k^2 + 2 k), and the
    gain; n (k + 1) blocks. In memory L_S, (budget T)^2 numbers.

    Parameters
    ----------
    candidates, steps, budget, ranks : int
    dtype : str
    form : str
        "pivoted" or "schur".

    Raises
    ------
    ConfigError
        If a number is not positive, or there are more sensors than candidates.
    """
    check_choice("dtype", dtype, tuple(SIZES))
    check_choice("form", form, ("pivoted", "schur"))
    counts = {"candidates": candidates, "steps": steps, "budget": budget, "ranks": ranks}
    for name, value in counts.items():
        count(name, value)
    if max(budget, ranks) > candidates:
        name = "budget" if budget > candidates else "ranks"
        raise ConfigError(f"{name}: found {counts[name]}, expected at most {candidates} candidates")
    n, k, size = -(-candidates // ranks), np.arange(float(budget)), SIZES[dtype]
    cube, block = float(steps) ** 3, float(steps) ** 2
    factors = np.full(budget, n * cube / 3.0)
    pivots = 8.0 * block * (k + 1.0) * (ranks > 1)
    if form == "schur":
        products = n * cube * (k**2 + 2.0 * k)
        return Cost(
            products,
            np.zeros(budget),
            factors,
            DOUBLE * n * block * (k + 1.0),
            pivots,
            size * block * budget**2 + 2 * DOUBLE * block * budget,
            ranks,
        )
    extended = k > 0  # by the sensor before; nothing is scored after the last one
    products, updates = 2.0 * n * cube * k, 2.0 * n * cube * extended
    read = DOUBLE * n * block * np.ones(budget)  # the first time, the diagonal
    group = min(n, max(1, COLUMNS // steps))
    memory = size * n * block * (budget + 1.0) + 4 * DOUBLE * group * block
    if dtype == "float32":
        again = k * (k + 1.0) * cube
        products, updates = products + again, updates + 2.0 * k * cube
        read = read + DOUBLE * block * (k + 1.0)
        memory += DOUBLE * block * (0.5 * budget**2 + budget)
    factors = factors + (1 + (dtype == "float32")) * cube * (2.0 * k + 1.0)
    return Cost(products, updates, factors, read, pivots, memory, ranks)


def _median(work: Callable[[], object]) -> float:
    """Median seconds of `work`, repeated for more than half a second."""
    work()
    times: list[float] = []
    while sum(times) < 0.6 or len(times) < 3:
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return float(np.median(times))
