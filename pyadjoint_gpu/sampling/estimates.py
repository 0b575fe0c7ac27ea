"""Many inner samplers: batches of them on JAX's devices, or in other processes."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
from jaxtyping import Array, Float, Int, Key
from numpy.typing import ArrayLike

from ..core.errors import ConfigError, EngineError
from ..core.precision import AnyArray, compiled_loop, double
from .inputs import Fixed
from .linear import Settings, posterior
from .theta_prior import Theta

Tags = Int[np.ndarray, "particles numbers"]
"""Seeds of the random numbers of each particle."""
Forward = Callable[[dict[str, Any]], ArrayLike]
"""Map from theta by name, numbers or JAX's tracers of them, to G."""


class Estimates(NamedTuple):
    """Results of inner samplers of s: moments and some samples of s, the least acceptance of their
    stages, the extreme lengths of trajectories, and the number of stages."""

    log_evidence: Float[AnyArray, " batch"]
    """ln of an unbiased estimate of p(d | theta); -inf where G is not finite."""
    mean: Float[AnyArray, "batch components"]
    sd: Float[AnyArray, "batch components"]
    draws: Float[AnyArray, "batch draws components"]
    acceptance: Float[AnyArray, " batch"]
    shortest: Float[AnyArray, " batch"]
    longest: Float[AnyArray, " batch"]
    stages: Int[AnyArray, " batch"]


@partial(compiled_loop, static_argnums=(0, 1))
def _estimated(
    settings: Settings,
    draws: int,
    tags: Int[Array, "batch numbers"],
    design_matrix: Float[Array, "batch data components"],
    *problem: Any,
) -> Estimates:
    keys = jax.vmap(_key)(tags)
    possible = jnp.all(jnp.isfinite(design_matrix), axis=(1, 2))
    # An impossible G is sampled as zero, so that batches are all alike.
    found = posterior(
        settings, keys, jnp.where(possible[:, None, None], design_matrix, 0.0), *problem
    )
    possible = possible & ~jnp.isnan(found.log_evidence)

    def kept(key: jax.Array, s: jax.Array) -> jax.Array:
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
    """Inputs common to all batches, which can be sent to other processes. `names` are those of
    theta's components; of each sampler `draws` samples of s are kept."""

    fixed: Fixed
    forward: Forward
    names: tuple[str, ...]
    settings: Settings
    draws: int
    batch: int
    dtype: str

    @double
    def design_matrix(self, theta: Theta) -> Float[np.ndarray, "batch data components"]:
        """L^-1 G for each row of theta, at most a batch of rows, all at once where `forward`
        consists of JAX operations. Always in double precision, as JAX would keep the constants of a
        trace in single precision."""
        try:
            batched = _batched(self.forward, self.names)
            found = np.asarray(batched(theta[_filling(theta, self.batch)]))[: len(theta)]
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
            rows = [dict(zip(self.names, map(float, row), strict=True)) for row in theta]
            found = np.stack([np.asarray(self.forward(row)) for row in rows])
        return self.fixed.whiten(found)

    @double
    def start(self, theta: Theta, tags: Tags, device: Any = None) -> Estimates:
        """Start one batch asynchronously. `tags`, one row each, seed its random numbers."""
        fill = _filling(theta, self.batch)
        given = (self.design_matrix(theta)[fill], *self.fixed.shared)
        arrays = jax.tree.map(lambda a: np.asarray(a, self.dtype), given)
        arrays = jax.device_put((tags[fill], *arrays), device)
        found = _estimated(self.settings, self.draws, *arrays)
        return jax.tree.map(lambda a: a[: len(theta)], found)

    def finish(self, theta: Theta, tags: Tags) -> Estimates:
        """Run one batch, with results as NumPy arrays to send between processes."""
        return jax.tree.map(np.asarray, self.start(theta, tags))


def estimate(
    work: Work,
    theta: Theta,
    tags: Tags,
    executor: Executor | None = None,
) -> Estimates:
    """Estimates for all rows of theta: batches go to a pool of other processes, or else to this
    process's devices in turn."""
    parts = [slice(i, i + work.batch) for i in range(0, len(theta), work.batch)]
    if executor is not None:
        each = executor.map(work.finish, [theta[p] for p in parts], [tags[p] for p in parts])
        return joined(each)
    devices = jax.local_devices()
    found: list[Estimates] = []
    running: deque[Estimates] = deque()
    for k, p in enumerate(parts):
        # One batch runs on each device at a time.
        if len(running) == len(devices):
            found.append(jax.tree.map(np.asarray, running.popleft()))
        running.append(work.start(theta[p], tags[p], devices[k % len(devices)]))
    return joined([*found, *running])


@contextmanager
def workers(executor: Executor | None, forward: Forward | None = None) -> Iterator[Executor | None]:
    """An executor that can do work with JAX, and with `forward` where there is one: a pool that
    forks is replaced by one that does not, since JAX's threads do not survive a fork and a process
    would wait for them forever."""
    if executor is not None and not isinstance(executor, Executor):
        raise ConfigError(
            f"executor: found {type(executor).__name__}, expected a concurrent.futures.Executor"
        )
    if not isinstance(executor, ProcessPoolExecutor):
        yield executor
        return
    try:
        pickle.dumps(forward)
    except Exception as error:
        raise ConfigError(
            f"forward: found {forward!r}, which cannot be sent to the executor's processes"
            f" ({error}); expected a function of a module, or Fault.forward"
        ) from None
    given: Any = executor
    try:
        # A subclass with a method of its own does as it likes.
        own_map = type(given).map is not ProcessPoolExecutor.map
        if not own_map and given._mp_context.get_start_method() == "fork":
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


def joined(parts: Iterable[Estimates]) -> Estimates:
    """Concatenate batches."""
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def _key(tag: Int[Array, " numbers"]) -> Key[Array, ""]:
    """A PRNG key from a row of integers."""
    key = jax.random.key(tag[0])
    for number in tag[1:]:
        key = jax.random.fold_in(key, number)
    return key


@cache
def _batched(forward: Forward, names: tuple[str, ...]) -> Any:
    return jax.jit(jax.vmap(lambda row: jnp.asarray(forward(dict(zip(names, row, strict=True))))))


def _filling(theta: np.ndarray, batch: int) -> Int[np.ndarray, " batch"]:
    """Indices that pad a short batch to full size: one shape, one compilation."""
    return np.arange(batch) % len(theta)
