"""Many inner samplers: batches of them on JAX's devices, or in other processes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..core.errors import ConfigError, EngineError
from ..core.precision import compiled_loop, double
from .inputs import Fixed
from .linear import Settings, posterior

Forward = Callable[[dict[str, Any]], Any]


class Estimates(NamedTuple):
    """Of samplers of s, each with a first axis of their number.

    Attributes
    ----------
    log_evidence : array
        ln p(d | theta), of an unbiased estimate of p(d | theta); -inf where G is not finite.
    mean, sd : array, shape (B, n)
        Of s.
    draws : array, shape (B, K, n)
        Some of s.
    acceptance, shortest, longest : array
        The worst of the stages, and the lengths of their trajectories.
    stages : array
        How many.
    """

    log_evidence: Any
    mean: Any
    sd: Any
    draws: Any
    acceptance: Any
    shortest: Any
    longest: Any
    stages: Any


@partial(compiled_loop, static_argnums=(0,))
def _estimated(static: tuple[Settings, int], tags: Any, green: Any, *problem: Any) -> Estimates:
    settings, draws = static
    keys = jax.vmap(_key)(tags)
    possible = jnp.all(jnp.isfinite(green), axis=(1, 2))
    # What is impossible is sampled too, without data: batches are all alike.
    found = posterior(settings, keys, jnp.where(possible[:, None, None], green, 0.0), *problem)
    possible = possible & ~jnp.isnan(found.log_evidence)

    def kept(key: Any, s: Any) -> Any:
        # Neighbours may be copies of one particle.
        which = jax.random.permutation(key, s.shape[1])[:draws]
        return s[:, which].T

    picks = jax.vmap(partial(jax.random.fold_in, data=1))(keys)
    return Estimates(
        jnp.where(possible, found.log_evidence, -jnp.inf),
        jnp.mean(found.s, axis=2),
        jnp.std(found.s, axis=2),
        jax.vmap(kept)(picks, found.s),
        jnp.nanmin(found.stages.acceptance, axis=1),
        jnp.nanmin(found.stages.length, axis=1),
        jnp.nanmax(found.stages.length, axis=1),
        found.count,
    )


@dataclass(frozen=True)
class Work:
    """What every batch has in common; all of it travels to other processes.

    Attributes
    ----------
    fixed : Fixed
    forward : callable
        Theta to G.
    names : tuple of str
        Of theta's components.
    settings : Settings
    draws : int
        Kept of s.
    batch : int
    dtype : str
    """

    fixed: Fixed
    forward: Forward
    names: tuple[str, ...]
    settings: Settings
    draws: int
    batch: int
    dtype: str

    @double
    def green(self, theta: np.ndarray) -> np.ndarray:
        """L^-1 G for each row of theta, a batch of them at most. Always in double precision: of
        what was traced in single, JAX keeps constants."""
        return self.fixed.whiten(_matrices(self.forward, self.names, theta, self.batch))

    @double
    def start(self, theta: np.ndarray, tags: np.ndarray, device: Any = None) -> Estimates:
        """One batch, set going. `tags`, one row each, is where its random numbers come from."""
        fill = _filling(theta, self.batch)
        given = (self.green(theta)[fill], *self.fixed.shared)
        arrays = jax.tree.map(lambda a: np.asarray(a, self.dtype), given)
        arrays = jax.device_put((tags[fill], *arrays), device)
        found = _estimated((self.settings, self.draws), *arrays)
        return jax.tree.map(lambda a: a[: len(theta)], found)

    def finish(self, theta: np.ndarray, tags: np.ndarray) -> Estimates:
        """The same, in NumPy: for another process."""
        return jax.tree.map(np.asarray, self.start(theta, tags))


def estimate(
    work: Work, theta: np.ndarray, tags: np.ndarray, executor: Executor | None = None
) -> Iterator[Estimates]:
    """Estimates for all rows of theta, a batch after the other.

    Parameters
    ----------
    theta : array, shape (N, p)
    tags : array of int, shape (N, k)
    executor
        Of other processes; without one, batches go to this process's devices in turn.
    """
    parts = [slice(i, i + work.batch) for i in range(0, len(theta), work.batch)]
    if executor is not None:
        yield from executor.map(work.finish, [theta[p] for p in parts], [tags[p] for p in parts])
        return
    devices = jax.local_devices()
    # As many under way as there are devices.
    running: list[Estimates | None] = [
        work.start(theta[p], tags[p], d) for p, d in zip(parts, devices, strict=False)
    ]
    for k in range(len(parts)):
        found = jax.tree.map(np.asarray, running[k])
        running[k] = None
        if len(running) < len(parts):
            p = parts[len(running)]
            running.append(work.start(theta[p], tags[p], devices[k % len(devices)]))
        yield found


@contextmanager
def workers(executor: Executor | None, work: Work) -> Iterator[Executor | None]:
    """Processes that can do the work: JAX's threads do not survive a fork, after which a process
    would wait for them for ever. In place of a pool that forks stands one that does not.

    Raises
    ------
    ConfigError
        If it is no executor, or G cannot be sent to a process.
    EngineError
        If a process died, or could not start.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise ConfigError(
            f"executor: found {type(executor).__name__}, expected a concurrent.futures.Executor"
        )
    if not isinstance(executor, ProcessPoolExecutor):
        yield executor
        return
    try:
        pickle.dumps(work.forward)
    except Exception as error:
        raise ConfigError(
            f"forward: found {work.forward!r}, which cannot be sent to the executor's processes"
            f" ({error}); expected a function of a module, or Fault.forward"
        ) from None
    given: Any = executor
    try:
        if _forks(given):
            made = given._max_workers, get_context("spawn"), given._initializer, given._initargs
            with ProcessPoolExecutor(*made) as own:
                yield own
        else:
            yield executor
    except BrokenProcessPool as error:
        raise EngineError(
            "executor: one of its processes died, or could not start; each imports the program"
            " anew: what starts the run belongs under `if __name__ == '__main__':` in a file, and"
            f" `forward` into a module ({error})"
        ) from None


def _forks(executor: Any) -> bool:
    """Whether its processes would be forked; not where a subclass has a way of its own."""
    own = type(executor).map is not ProcessPoolExecutor.map
    return not own and executor._mp_context.get_start_method() == "fork"


def joined(parts: list[Estimates]) -> Estimates:
    """Batches one after the other."""
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def _key(tag: Any) -> Any:
    """A key of its own for each row of integers."""
    key = jax.random.key(tag[0])
    for number in tag[1:]:
        key = jax.random.fold_in(key, number)
    return key


@cache
def _batched(forward: Forward, names: tuple[str, ...]) -> Any:
    return jax.jit(jax.vmap(lambda row: jnp.asarray(forward(dict(zip(names, row, strict=True))))))


def _filling(theta: np.ndarray, batch: int) -> np.ndarray:
    """Rows that fill a short batch up: one shape, one compilation."""
    return np.arange(batch) % len(theta)


def _matrices(
    forward: Forward, names: tuple[str, ...], theta: np.ndarray, batch: int
) -> np.ndarray:
    """G of each row, at once where `forward` is of JAX operations."""
    try:
        return np.asarray(_batched(forward, names)(theta[_filling(theta, batch)]))[: len(theta)]
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        rows = [dict(zip(names, map(float, row), strict=True)) for row in theta]
        return np.stack([np.asarray(forward(row)) for row in rows])
