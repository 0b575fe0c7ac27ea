"""A run of Markov chains: transitions in blocks, with adaptation, journal and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from ..core.checks import check_keys, positive
from ..core.errors import ConvergenceError
from ..core.journal import Journal
from ..core.precision import double
from ..core.progress import Task, phase
from ..results.dataset import named
from ..results.samples import DIMS, sample_coordinates
from .checks import check_chains
from .diagnostics import Diagnostics, diagnostics
from .kernels import Block, ChainStates, Kernel, Moved, Step, Transitions, keys_of, looped
from .reference import Reference
from .replay import Replayed
from .runs import taken
from .target import Points, Target
from .windows import gaussian, identity, window_ends

UNTIL = ("ess", "r_hat")
"""Numbers that chains can be run for: a bulk and tail ESS, and the largest R-hat."""
TOGETHER = 25
"""Transitions in one call of compiled code, which a journal records together."""
TOGETHER_HOST = 5
"""The same where the host computes gradients."""
MORE = {True: 1.2, False: 2.0}
"""Growth of the number of draws between looks at diagnostics, where they decide when chains stop,
and where they are only shown."""
TRIES = 100
"""Draws of a start, of which one must have a density."""


def check_until(until: Mapping[str, float] | None) -> None:
    """Raise a `ConfigError` unless `until` has positive numbers of `UNTIL`."""
    for key, value in check_keys(until or {}, UNTIL, "until").items():
        positive(f"until.{key}", value)


class ChainSettings(NamedTuple):
    """Settings that a run needs: the `name` of the sampler, and its kernel's `method`."""

    name: str
    method: str
    chains: int
    draws: int
    warmup: int
    leapfrogs: int
    depth: int
    until: Mapping[str, float]


class ChainsJournal(Journal):
    """Draws and states of Markov chains, a record for some transitions of all chains."""

    kind = "a journal of Markov chains"
    goes_on = "the same call"
    records = ("blocks",)


@dataclass(frozen=True)
class State:
    """What continues the chains: transitions so far, where they are, how steps adapt, and the
    Gaussian that they are relative to."""

    done: int
    chains: ChainStates
    steps: Step
    about: Reference


class Run:
    """One run of chains."""

    def __init__(
        self,
        settings: ChainSettings,
        target: Target,
        start: str | Float[np.ndarray, "chains n"],
        seed: int,
        executor: Executor | None,
    ):
        self.of, self.target, self.start, self.seed = settings, target, start, seed
        self.executor = executor
        self.blocks: list[Block] = []
        self.begun = settings.chains
        self.ends = self._ends()
        self._kernel = Kernel.of(settings.method, settings.leapfrogs, settings.depth)

    def _ends(self) -> Int[np.ndarray, " windows"]:
        """Ends of the windows of the warm-up."""
        return window_ends(self.of.warmup)

    @property
    def _together(self) -> int:
        return TOGETHER if self.target.host is None else TOGETHER_HOST

    @property
    def _transitions(self) -> Transitions:
        if self.target.host is not None:
            return self._replayed
        return self.target.program(self._kernel, lambda: looped(self._kernel, self.target.energy))

    @property
    def _replayed(self) -> Transitions:
        """Transitions whose gradients the host computes."""
        return Replayed(self._kernel, self._energies)

    def _energies(self, x: Any) -> Any:
        found = self.target.evaluate(x, self.executor)
        return found.value + found.prior, found.slope + found.prior_slope

    def followed(self, book: ChainsJournal | None, bar: Task) -> xr.Dataset:
        """Run the chains to their end, and make their dataset."""
        state = self._resumed(book)
        bar.update(0 if state is None else state.done)
        if state is None:
            with phase("compiling, and finding where chains start"):
                state = self._first()
        return self._continued(state, book, bar)

    def _continued(self, state: State, book: Journal | None, bar: Task) -> xr.Dataset:
        found = Diagnostics(np.nan, np.nan, np.nan)
        look, reached = 0, False
        last = self.of.warmup + self.of.draws
        while True:
            drawn = state.done - self.of.warmup
            if drawn >= look or state.done >= last:
                if drawn >= 4:
                    found = diagnostics(self._production("x"))
                    look = int(np.ceil(MORE[bool(self.of.until)] * drawn))
                reached = self._reached(found)
            if reached or state.done >= last:
                break
            state = self._advanced(state)
            if book is not None:
                book.put(blocks=(len(self.blocks) - 1, self._record(state)))
            bar.update(self.blocks[-1].x.shape[1], **self._shown(state, found))
        return self._dataset(state, found, reached)

    def _shown(self, state: State, found: Diagnostics) -> dict[str, float]:
        shown = {"acceptance": float(np.mean(self.blocks[-1].moved.acceptance))}
        if state.done > self.of.warmup and np.isfinite(found.r_hat):
            shown |= {"ESS": min(found.ess_bulk, found.ess_tail), "R_hat": found.r_hat}
        return shown

    def _reached(self, found: Diagnostics) -> bool:
        until = self.of.until
        ess = min(found.ess_bulk, found.ess_tail)
        enough = ess >= until.get("ess", 0.0) and found.r_hat <= until.get("r_hat", np.inf)
        return bool(until) and enough

    # States

    @double
    def _first(self) -> State:
        x = self._starts()
        points = self.target.evaluate(x, self.executor)
        for k in range(1, TRIES):
            bad = ~np.isfinite(points.value)
            if not np.any(bad) or not isinstance(self.start, str):
                break
            x = np.where(bad[:, None], self._drawn(k), x)
            points = self.target.evaluate(x, self.executor)
        bad = ~np.isfinite(points.value)
        if np.any(bad):
            raise ConvergenceError(
                f"start: there is no density where {np.count_nonzero(bad)} of {len(bad)} chains"
                " start; give other points, or a prior of what is possible"
            )
        return self._begun_at(points)

    def _begun_at(self, points: Points) -> State:
        """The state before the first transition of chains at these points."""
        energy, slope = points.value + points.prior, points.slope + points.prior_slope
        steps = Step.at(0.5 * self.target.size**-0.25, known=False)
        about = identity(np.zeros(self.target.size))
        return State(0, ChainStates(points.x, energy, slope), steps, about)

    def _starts(self) -> Float[np.ndarray, "chains n"]:
        if not isinstance(self.start, str):
            return self.start
        if self.start == "prior":
            return self._drawn(0)
        return np.tile(self.target.mode(self.executor), (self.of.chains, 1))

    def _drawn(self, attempt: int) -> Float[np.ndarray, "chains n"]:
        generator = np.random.default_rng([self.seed, 0, attempt])
        return self.target.drawn(generator, self.of.chains)

    @double
    def _advanced(self, state: State) -> State:
        """The state after a block of transitions."""
        warm = state.done < self.of.warmup
        stop = self.ends[self.ends > state.done][0] if warm else self.of.warmup + self.of.draws
        length = min(self._together, int(stop) - state.done)
        chains, steps, block = self._moved(state, length)
        self.blocks.append(block)
        state = replace(state, done=state.done + length, chains=chains, steps=steps)
        return self._adapted(state) if state.done in self.ends else state

    @double
    def _moved(self, state: State, length: int) -> tuple[ChainStates, Step, Block]:
        """So many transitions of all chains."""
        warm = state.done < self.of.warmup
        # As many keys whatever the length, for one compilation.
        numbers = state.done + np.arange(self._together)
        keys = keys_of(self.seed, np.arange(self.of.chains), numbers)
        given = warm, length, keys, state.chains, state.steps, state.about
        found = self._transitions(*given)
        if np.any(found[2].moved.lost):
            # The same transitions again, with gradients from the host, which looks at each.
            found = self._replayed(*given)
        return found

    def _adapted(self, state: State) -> State:
        """The state at the end of a window: with the Gaussian of its draws, or, at the end of the
        warm-up, with one step for all."""
        steps = Step.at(float(np.exp(state.steps.log_average)))
        if state.done == self.of.warmup:
            return replace(state, steps=steps)
        begin = self.ends[self.ends < state.done]
        kept = state.done - (int(begin[-1]) if len(begin) else 0)
        x = np.concatenate([b.x for b in self.blocks], axis=1)[:, -kept:]
        slope = np.concatenate([b.slope for b in self.blocks], axis=1)[:, -kept:]
        moved = np.any(x[:, -1] != x[:, 0], axis=1)
        if not np.all(moved) and np.any(moved):
            state = replace(state, chains=self._moved_away(state, ~moved))
            x, slope = x[moved], slope[moved]
        rows = np.reshape(x, (-1, self.target.size))
        slopes = np.reshape(slope, rows.shape)
        prior, prior_slope = self.target.priors(rows)
        nothing = np.zeros(len(rows))
        about = gaussian(Points(rows, nothing, slopes - prior_slope, prior, prior_slope))
        old = state.about
        at = old.mean + old.root(state.chains.z)
        z = about.whiten(at)
        by_x = old.inverse_root(state.chains.slope)
        return replace(
            state,
            chains=ChainStates(z, state.chains.energy, about.root(by_x)),
            steps=steps,
            about=about,
        )

    def _moved_away(self, state: State, stuck: Bool[np.ndarray, " chains"]) -> ChainStates:
        """Chains of which those that have not moved in a window, as where the density is much
        steeper than elsewhere, go on from where others are."""
        others = np.flatnonzero(~stuck)
        from_where = np.arange(len(stuck))
        generator = np.random.default_rng([self.seed, 1, state.done])
        from_where[stuck] = generator.choice(others, np.count_nonzero(stuck))
        return taken(state.chains, from_where)

    # Results

    def _record(self, state: State) -> dict[str, Any]:
        return {
            "done": state.done,
            "chains": state.chains._asdict(),
            "steps": state.steps._asdict(),
            "about": state.about._asdict(),
            "block": self.blocks[-1]._asdict() | {"moved": self.blocks[-1].moved._asdict()},
        }

    def _resumed(self, book: Journal | None) -> State | None:
        records = (
            [] if book is None else [book.row("blocks", k) for k in range(book.count_of("blocks"))]
        )
        if not records:
            return None
        for record in records:
            self._reloaded(record)
        return self._recorded(records[-1])

    def _reloaded(self, record: dict[str, Any]) -> None:
        """Take back the block of a record."""
        block = record["block"]
        self.blocks.append(Block(**block | {"moved": Moved(**block["moved"])}))

    def _recorded(self, record: dict[str, Any]) -> State:
        """The state of a record."""
        chains, steps = ChainStates(**record["chains"]), Step(**record["steps"])
        return State(record["done"], chains, steps, Reference(**record["about"]))

    def _more(self) -> dict[str, Any]:
        """Further attributes of a result."""
        return {}

    def _production(self, name: str) -> np.ndarray:
        """A field of the blocks after the warm-up."""
        parts = [b.x if name == "x" else getattr(b.moved, name) for b in self.blocks]
        whole = np.concatenate(parts, axis=1)
        return whole[:, self.of.warmup :]

    @double
    def _dataset(self, state: State, found: Diagnostics, reached: bool) -> xr.Dataset:
        target, x = self.target, self._production("x")
        rows = x.reshape(-1, target.size)
        prior, _ = target.priors(rows)
        value = self._production("energy") - np.reshape(prior, x.shape[:2])
        theta = target.thetas(x)
        variables, coordinates = target.variables(theta, value, np.ones(len(x)))
        steps = self._production("gradients")
        each = [diagnostics(x[k : k + 1]) for k in range(len(x))]
        variables |= {
            "log_density": (DIMS, target.log_density(theta, value), named("ln of the density")),
            "acceptance": (DIMS, self._production("acceptance"), named("acceptance probability")),
            "gradients": ("chain", np.sum(steps, axis=1), named("gradients after the warm-up")),
            "ess_bulk": ("chain", [d.ess_bulk for d in each], named("least bulk ESS of a chain")),
            "ess_tail": ("chain", [d.ess_tail for d in each], named("least tail ESS of a chain")),
        }
        coordinates |= sample_coordinates(*x.shape[:2])
        gradients = int(np.sum(steps))
        taken = self.begun + sum(int(np.sum(b.moved.gradients)) for b in self.blocks)
        failures = int(np.sum(self._production("failed")))
        divergences = int(np.sum(self._production("divergent")))
        asked = bool(self.of.until)
        check_chains(found.r_hat, failures, divergences, steps.size)
        status = ("converged" if reached else "max_draws") if asked else "finished"
        return xr.Dataset(
            variables,
            coordinates,
            target.describe(
                self.of.name.upper(),
                method=self.of.name,
                status=status,
                r_hat=found.r_hat,
                ess_bulk=found.ess_bulk,
                ess_tail=found.ess_tail,
                ess_per_gradient=found.ess_bulk / gradients,
                **self._more(),
                gradients=taken,
                failures=failures,
                divergences=divergences,
                seed=self.seed,
            ),
        )
