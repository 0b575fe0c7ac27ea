"""`compress`: a posterior as a normalizing flow, in one small file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..core.checks import check_kind, count, real_array
from ..core.errors import ConfigError, DataError, warn
from ..lti.files import read_netcdf
from ..results.dataset import clean, named, provenance, save
from ..results.samples import (
    DIMS,
    UNKNOWNS,
    attributes,
    sample_coordinates,
    samples_of,
    weights_of,
)
from .checks import SamplingWarning
from .compact import fitted
from .evidence import SAMPLES
from .flow.architecture import MOST
from .flow.model import Flow
from .line import inside, off_line, on_line, onto_line
from .report import report
from .reweighting import Distributions, PriorLike, as_json, check_prior, log_ratio, of_json

FEW = 100.0
"""Effective draws below which weights say little."""
KIND, TITLE = "compressed-posterior", "pyadjoint_gpu compressed posterior"
FLOW = "flow_"
"""Beginning of the names of a flow's arrays in a file."""
PRIOR = "prior_json"
"""Attribute of a file: the distributions of the prior."""


@dataclass(frozen=True, eq=False, repr=False)
class CompressedPosterior:
    """A posterior as a normalised density that can be sampled; made by `compress` or `load`.

    Attributes
    ----------
    flow
        Density of the unknowns on the line (see `sampling.line`).
    means
        The mean of each unknown, with its attributes and coordinates. The attributes of the whole
        are those of the samples, ``log_evidence`` and its error where they are known.
    prior
        The distributions of `scipy.stats` that the posterior was made with, by name, or None.
    """

    flow: Flow
    means: xr.Dataset
    prior: Distributions | None = None

    @property
    def names(self) -> list[str]:
        """Names of the unknowns."""
        return json.loads(self.means.attrs[UNKNOWNS])

    def __repr__(self) -> str:
        about = self.means.attrs
        known = ""
        if "log_evidence" in about:
            error = about.get("log_evidence_error", np.nan)
            known = f", ln Z = {about['log_evidence']:.6g} +- {error:.2g}"
        return (
            f"CompressedPosterior({', '.join(self.names)}: {len(self.flow.mean)} numbers, of"
            f" {about['samples']} samples{known})"
        )

    def save(self, path: str | Path) -> None:
        """Write a NetCDF-4 file, whole or not at all."""
        data = self.means.copy()
        if self.prior is not None:
            data.attrs[PRIOR] = as_json(self.prior)
        arrays = self.flow.arrays()
        # The upper triangle is zero.
        arrays["factor"] = arrays["factor"][np.tril_indices(len(self.flow.mean))]
        # They are numbers of that precision, see `fitted`.
        arrays["parameters"] = arrays["parameters"].astype(np.float32)
        for name, array in arrays.items():
            about = named(f"{name} of the flow")
            data[FLOW + name] = f"{FLOW}{name}_k", array, about
        data[FLOW + "parameters"].encoding = {
            "zlib": True,
            "complevel": 9,
            "shuffle": True,
            "chunksizes": arrays["parameters"].shape,
        }
        save(data, path)

    @staticmethod
    def load(path: str | Path) -> CompressedPosterior:
        """The posterior in a file, bit for bit.

        Raises
        ------
        DataError
            If the file is missing, damaged, or of another kind.
        """
        data = read_netcdf(path, _read)
        if data.attrs.get("kind") != KIND:
            found = data.attrs.get("kind", "no kind")
            raise DataError(f"{path}: found {found!r}, expected {KIND!r}, as of pag.compress")
        arrays = {n: data[FLOW + n].values for n in ("mean", "parameters", "architecture")}
        n = len(arrays["mean"])
        arrays["factor"] = np.zeros((n, n))
        arrays["factor"][np.tril_indices(n)] = data[FLOW + "factor"].values
        prior = data.attrs.pop(PRIOR, None)
        own = [name for name in data.variables if not str(name).startswith(FLOW)]
        means = data[own]
        return CompressedPosterior(
            Flow.of_arrays(arrays), means, None if prior is None else of_json(prior)
        )

    def sample(self, draws: int, seed: int = 0) -> xr.Dataset:
        """Independent samples: the unknowns as `pag.sample` gives them, of one chain, and
        ``log_density``, ln q(theta), which is normalised."""
        count("draws", draws)
        y, log_q = self._draws(draws, seed)
        values, gain = self._off(y)
        log = (log_q - gain)[None]
        variables = {
            name: ((*DIMS, *self.means[name].dims), value[None], self.means[name].attrs)
            for name, value in values.items()
        }
        variables["log_density"] = DIMS, log, named("ln q(theta), normalised")
        event = f"samples of a compressed posterior of {', '.join(self.names)}"
        return xr.Dataset(
            variables,
            {**self.means.coords, **sample_coordinates(1, draws)},
            _after(self.means.attrs, attributes(event, seed=seed)),
        )

    def log_density(self, values: Mapping[str, ArrayLike] | xr.Dataset) -> np.ndarray:
        """ln q(theta), normalised, of physical values by name, each of the shape of a batch and
        then its own; -inf beyond bounds. Of a field that is a transform of theta, it is the density
        of theta, as is ``log_density`` of samples."""
        columns: list[np.ndarray] = []
        gains: list[np.ndarray] = []
        for name in self.names:
            if name not in values:
                raise DataError(f"values.{name} is missing, one of the unknowns")
            of, given = self.means[name], values[name]
            if isinstance(given, xr.DataArray):
                given = given.transpose(..., *of.dims)
            array = real_array(f"values.{name}", given)
            batch = array.shape[: array.ndim - of.ndim]
            if array.ndim < of.ndim or array.shape[len(batch) :] != of.shape:
                raise DataError(
                    f"values.{name}: found shape {array.shape}, expected (..., {of.shape})"
                )
            flat = array.reshape(*batch, -1)
            there = inside(flat, of.attrs)
            # Any number inside, for those that are not.
            some = onto_line(np.where(there, flat, off_line(np.zeros(()), of.attrs)[0]), of.attrs)
            columns.append(some[0])
            gains.append(np.sum(np.where(there, some[1], np.inf), axis=-1))
        try:
            shape = np.broadcast_shapes(*(g.shape for g in gains))
        except ValueError:
            found = ", ".join(str(g.shape) for g in gains)
            raise DataError(f"values: found batches of the shapes {found}, expected one") from None
        y = np.concatenate([np.broadcast_to(c, (*shape, c.shape[-1])) for c in columns], axis=-1)
        log = np.asarray(self.flow.log_density(y.reshape(-1, y.shape[-1]))).reshape(shape)
        return log - np.sum(np.broadcast_arrays(*gains), axis=0)

    def reweight(
        self,
        new_prior: PriorLike,
        old_prior: PriorLike | None = None,
        *,
        draws: int = 10_000,
        seed: int = 0,
    ) -> xr.Dataset:
        """Samples of the posterior that another prior would have given, by importance weights

            w_k = p_new(theta_k) / p_old(theta_k),    ln Z_new - ln Z_old = ln mean_k w_k.

        Parameters
        ----------
        new_prior, old_prior : mapping, or function
            Distributions of `scipy.stats` by name, or ln p(theta) as a function of a dict of
            arrays (draws, ...). The old one is by default that of `compress`. An unknown that the
            new mapping does not name keeps its prior.

        Returns
        -------
        Dataset
            As from `sample`, with ``weight``, of mean 1, and ``log_density`` of the new posterior.
            Attributes ``weight_ess``, the Kish effective number of draws, (sum w)^2 / sum w^2;
            ``log_evidence_change`` and its error; ``log_evidence`` with the change, where it is
            known. Errors are those of the draws; how good the flow is, `report` says.

        Raises
        ------
        ConfigError, DataError
            If a prior cannot be used, or the new one has support where the old one has none.

        Warns
        -----
        SamplingWarning
            Where fewer than 100 effective draws are left.
        """
        old = self.prior if old_prior is None else old_prior
        if old is None:
            raise ConfigError("old_prior: missing; compress(samples, prior=...) keeps it, too")
        for where, given in (("new_prior", new_prior), ("old_prior", old)):
            if not callable(given):
                check_prior(where, given, self.names)
        found = self.sample(draws, seed)
        values = {name: found[name].values[0] for name in self.names}
        ratio = log_ratio(new_prior, old, values, self.names)
        top = float(np.max(ratio))
        if top == -np.inf:
            raise DataError("new_prior: none of the draws has a density, expected some")
        weight = np.exp(ratio - top)
        mean = float(np.mean(weight))
        weight /= mean
        ess = draws / float(np.mean(weight**2))
        if ess < FEW:
            warn(
                f"reweight: found {ess:.3g} effective draws, expected {FEW:g} or more: the new"
                " prior is far from the old one; take more draws, or sample anew",
                SamplingWarning,
            )
        change, error = top + np.log(mean), float(np.sqrt(max(1.0 / ess - 1.0 / draws, 0.0)))
        found["weight"] = DIMS, weight[None], named("p_new / p_old, over its mean")
        with np.errstate(invalid="ignore"):
            found["log_density"] = found["log_density"] + ratio - change
        found["log_density"].attrs = named("ln of the new posterior, normalised")
        found.attrs |= {"weight_ess": ess, "log_evidence_change": float(change)}
        found.attrs |= {"log_evidence_change_error": error}
        if "log_evidence" in found.attrs:
            before = found.attrs["log_evidence"], found.attrs.get("log_evidence_error", np.nan)
            found.attrs["log_evidence"] = float(before[0] + change)
            found.attrs["log_evidence_error"] = float(np.hypot(before[1], error))
        return found

    def report(self, samples: xr.Dataset, *, seed: int = 0) -> xr.Dataset:
        """How well the flow stands for samples, those that it was fitted to, or better others.

        Returns
        -------
        Dataset
            ``accuracy`` of a classifier that tells samples from draws of the flow (`two_sample`),
            with its standard error where nothing could; ``kl``, KL(p || q) by cross-validation,
            with its error, relative to ln Z of the samples, or else of the flow; ``log_evidence``
            recomputed with the flow, by its harmonic mean, with its error, NaN where ``reason``
            says why. The attribute ``passed`` is 1 where the accuracy is at most 0.55 but for three
            errors, and both ln Z agree within three errors, or 0.1.
        """
        _same_unknowns(samples, self.names)
        return report(self.flow, samples, self.means.attrs, count("seed", seed, 0))

    def _draws(self, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        key = jax.random.key(count("seed", seed, 0))
        y, log_q = self.flow.draw(key, draws)
        return np.asarray(y), np.asarray(log_q)

    def _off(self, y: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Physical values of rows y, and ln |dtheta/dy|."""
        values: dict[str, np.ndarray] = {}
        gain, at = np.zeros(len(y)), 0
        for name in self.names:
            of = self.means[name]
            value, own = off_line(y[:, at : at + of.size], of.attrs)
            values[name] = value.reshape(len(y), *of.shape)
            gain, at = gain + np.sum(own, axis=1), at + of.size
        return values, gain


def compress(
    samples: xr.Dataset,
    *,
    prior: Distributions | None = None,
    evidence: xr.Dataset | None = None,
    seed: int = 0,
) -> CompressedPosterior:
    """A normalizing flow fitted to samples, with all that a file of them says.

    It has at most 20,000 parameters, of 16 significant bits, by which ln q changes by some 1e-5. A
    file is smaller than 100 KB, but where there are more than some 40 unknowns with a name each, as
    names and attributes take 1 KB.

    Parameters
    ----------
    samples : Dataset
        As from `sample`, of at most 64 unknowns; their weights count.
    prior : mapping, optional
        Distributions of `scipy.stats` by name that the samples were made with, for `reweight`.
    evidence : Dataset, optional
        As from `pag.evidence`, where the samples do not have ln Z, or it is better known.
    seed : int

    Returns
    -------
    CompressedPosterior

    Raises
    ------
    ConfigError, DataError
        If samples are too few, or of too many unknowns, or an argument cannot be used.
    EngineError
        If a package is missing: ``pip install 'pyadjoint_gpu[sampling]'``.

    Examples
    --------
    >>> small = pag.compress(samples, prior={"x": scipy.stats.norm(0, 2)})
    >>> small.report(samples).attrs["passed"]
    >>> small.save("posterior.nc")
    >>> pag.CompressedPosterior.load("posterior.nc").sample(1000)
    """
    check_kind("samples", samples, xr.Dataset)
    count("seed", seed, 0)
    known = {} if evidence is None else _known(evidence)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, _ = on_line(samples)
    names = json.loads(samples.attrs[UNKNOWNS])
    if prior is not None:
        check_prior("prior", prior, names)
    n = x.shape[2]
    if n > MOST:
        raise DataError(f"samples: found {n} unknowns, expected at most {MOST}")
    weights = weights_of(samples)
    effective = 1.0 / float(np.sum(weights**2))
    if effective < SAMPLES * n * (1.0 - 1e-9):
        raise DataError(
            f"samples: found {effective:.4g} effective ones, expected at least {SAMPLES * n}, for"
            f" {n} unknowns"
        )
    if not np.all(np.isfinite(x)):
        raise DataError("samples: found numbers that are not finite, or not within their bounds")
    draws = samples_of(samples)[names]
    given = xr.DataArray(weights, dims=DIMS)
    means = draws.weighted(given).mean(DIMS, keep_attrs=True).drop_vars(DIMS, errors="ignore")
    for name in means.variables:
        if str(name).startswith(FLOW):
            raise DataError(f"samples.{name}: names in {FLOW!r}... are the flow's; rename it")
    flow = fitted(x.reshape(-1, n), weights.ravel(), seed)
    event = f"compressed posterior of {', '.join(names)}"
    new = provenance(event, kind=KIND, title=TITLE, samples=weights.size, compress_seed=seed)
    means.attrs = _after(samples.attrs, new) | known
    return CompressedPosterior(flow, means, None if prior is None else dict(prior))


def _read(path: Path) -> xr.Dataset:
    return xr.load_dataset(path, engine="h5netcdf", decode_times=False, phony_dims="access")


def _known(evidence: xr.Dataset) -> dict[str, Any]:
    names = "log_evidence", "log_evidence_error"
    found = {name: float(evidence.attrs.get(name, np.nan)) for name in names}
    if not np.isfinite(found["log_evidence"]):
        status = evidence.attrs.get("status", "missing")
        raise DataError(f"evidence: found no ln Z (status {status!r}), expected one, or None")
    return found


def _same_unknowns(samples: xr.Dataset, names: list[str]) -> None:
    found = json.loads(samples.attrs.get(UNKNOWNS, "[]"))
    if found != names:
        raise DataError(f"samples: found the unknowns {found}, expected {names}")


def _after(before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of what is made of something, with the history of both."""
    history = "\n".join(str(a["history"]) for a in (before, new) if "history" in a)
    return clean({**before, **new, "history": history})
