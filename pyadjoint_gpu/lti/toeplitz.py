"""The block Toeplitz map from a forcing to sensors, applied by Fourier transforms in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import xarray as xr
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ..core.checks import check_choice, real_array
from ..core.errors import ConfigError, DataError
from ..core.pickling import AsGiven
from ..core.precision import double
from ..core.quantities import power
from ..models.forcing import ForcingSpace
from ..results.dataset import save
from ..statistics.noise import Noise
from ..statistics.sensor_noise import SensorNoise
from .files import read_netcdf
from .spaces import space_of


@dataclass(frozen=True, eq=False)
class ToeplitzMap(AsGiven):
    """Parameter-to-observable map d = F m of a linear time-invariant system,

        d_k = F_0 m_k + F_1 m_(k-1) + ... + F_k m_0,    k = 0 ... T - 1.

    F is block lower-triangular and Toeplitz, its first block column F_0 ... F_(T-1). Padded with
    zeros to twice its length it is circulant: a product is a real Fourier transform in time, a
    small matrix product a frequency, and the inverse transform, on the devices that JAX has.

    Made by `of` from the Dataset of `block_column`, or from an array, or read from a file.

    Attributes
    ----------
    column : DataArray
        The blocks, with dimensions ``lag``, ``sensor`` and those of the forcing's sites.
    dtype : str
        Type of the products: "float64" or "float32".
    """

    column: xr.DataArray
    dtype: str = "float64"

    @classmethod
    def of(cls, column: xr.Dataset | ArrayLike, dtype: str = "float64") -> ToeplitzMap:
        """The map of a block column.

        Parameters
        ----------
        column : Dataset, DataArray or array
            The Dataset of `block_column` (or one with its variable ``response``), or blocks of
            shape (T, sensors, *sites).
        dtype : str

        Raises
        ------
        ConfigError, DataError
            If it has no such variable, fewer than three axes, or values that are not finite.
        """
        check_choice("dtype", dtype, ("float64", "float32"))
        if isinstance(column, xr.Dataset):
            if "response" not in column:
                raise DataError("block column: no variable 'response'; see block_column")
            column = column["response"]
        given = column if isinstance(column, xr.DataArray) else None
        try:
            blocks = real_array("block column", column)
        except DataError:
            raise DataError("block column: found values that are no numbers") from None
        if blocks.ndim < 3 or 0 in blocks.shape:
            raise DataError(
                f"block column: found shape {blocks.shape}, expected (lags, sensors, *sites)"
            )
        bad = np.count_nonzero(~np.isfinite(blocks))
        if bad:
            raise DataError(f"block column: found {bad} NaN or infinite values")
        sites = ["place"] if blocks.ndim == 3 else [f"place_{k}" for k in range(blocks.ndim - 2)]
        dims: Sequence[Any] = ("lag", "sensor", *sites)
        if given is None:
            return cls(xr.DataArray(blocks, dims=dims), dtype)
        if any(str(d).startswith("phony_dim") for d in given.dims):  # HDF5 without names
            given = given.rename(dict(zip(given.dims, dims, strict=True)))
        if given.dims[:2] != ("lag", "sensor"):
            raise DataError(
                f"block column: found dimensions {given.dims}, expected lag, sensor, ..."
            )
        return cls(given.copy(data=blocks), dtype)

    @classmethod
    def read(cls, path: str | Path, dtype: str = "float64") -> ToeplitzMap:
        """The map of a block column in a file: NetCDF-4 as `save` writes it, or any HDF5 file with
        a dataset ``response`` of shape (T, sensors, *sites).

        Raises
        ------
        DataError
            If it is not such a file, or truncated.
        """
        column = read_netcdf(path, _response)
        try:
            return cls.of(column, dtype)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the block column as NetCDF-4, whole or not at all."""
        save(self.column.to_dataset(name="response"), path)

    @property
    def steps(self) -> int:
        """Number of times, T."""
        return self.column.shape[0]

    @property
    def sensors(self) -> int:
        return self.column.shape[1]

    @property
    def sites(self) -> tuple[int, ...]:
        """The shape of the forcing at one time."""
        return self.column.shape[2:]

    @cached_property
    def space(self) -> ForcingSpace | None:
        """The space of the forcing; None where the column does not say."""
        return space_of(self.column)

    @property
    def interval(self) -> float:
        """Time between rows; 1 where the column does not say."""
        if "lag" not in self.column.coords or self.steps == 1:
            return 1.0
        lag = self.column["lag"].values
        return float(lag[1] - lag[0])

    @property
    def units(self) -> tuple[str, str, str]:
        """Units of data, of the forcing, and of its integral over time; 1 where the column does not
        say."""
        attributes = self.column.attrs
        data, forcing = (attributes.get(f"{k}_units", "1") for k in ("observed", "parameter"))
        return data, forcing, power((forcing, 1), (self.time_units, 1))

    @property
    def time_units(self) -> str:
        """Unit of time; 1 where the column does not say."""
        return self.column["lag"].attrs.get("units", "1") if "lag" in self.column.coords else "1"

    def noise(self, given: ArrayLike | Noise) -> SensorNoise:
        """Noise of the map's data, in their units (see `LinearInversion`)."""
        times = self.interval, self.time_units
        return SensorNoise(given, self.sensors, self.steps, self.units[0], *times)

    @property
    def blocks(self) -> Float[np.ndarray, "times sensors sites"]:
        """F_0 ... F_(T-1), in double precision."""
        return self.column.values.reshape(self.steps, self.sensors, -1)

    def select(self, sensors: ArrayLike) -> ToeplitzMap:
        """The map to some of the sensors, by their numbers.

        Raises
        ------
        ConfigError
            If there is no such sensor.
        """
        chosen = np.atleast_1d(np.asarray(sensors))
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not chosen.size:
            raise ConfigError(f"sensors: found {sensors!r}, expected numbers of sensors")
        wrong = chosen[(chosen < 0) | (chosen >= self.sensors)]
        if wrong.size:
            raise ConfigError(f"sensors: found {wrong[0]}, expected 0 to {self.sensors - 1}")
        return ToeplitzMap(self.column.isel(sensor=chosen), self.dtype)

    def scaled(self, factor: Float[np.ndarray, "*sites"]) -> ToeplitzMap:
        """The map F D, the factors of the sites on the diagonal of D."""
        return ToeplitzMap(self.column.copy(data=self.column.values * factor), self.dtype)

    @double
    def matvec(self, m: ArrayLike) -> Float[np.ndarray, "*batch times sensors"]:
        """The product F m, of one m or a batch.

        Parameters
        ----------
        m : array, shape (..., T, *sites)

        Returns
        -------
        array, shape (..., T, sensors)
        """
        m = self._fitting("m", m, (self.steps, *self.sites))
        flat = m.reshape(-1, self.steps, self.blocks.shape[2])
        out = np.asarray(_product(self.spectrum, jnp.asarray(flat)))
        return out.reshape(*m.shape[: m.ndim - 1 - len(self.sites)], self.steps, self.sensors)

    @double
    def rmatvec(self, d: ArrayLike) -> Float[np.ndarray, "*shape"]:
        """The product F^T d, of one d or a batch.

        Parameters
        ----------
        d : array, shape (..., T, sensors)

        Returns
        -------
        array, shape (..., T, *sites)
        """
        d = self._fitting("d", d, (self.steps, self.sensors))
        flat = d.reshape(-1, self.steps, self.sensors)
        out = np.asarray(_transposed_product(self.spectrum, jnp.asarray(flat)))
        return out.reshape(*d.shape[:-2], self.steps, *self.sites)

    def dense(self) -> Float[np.ndarray, "times_sensors times_sites"]:
        """The matrix, times before sensors and sites, for small maps."""
        blocks = self.blocks
        steps, sensors, n = blocks.shape
        out = np.zeros((steps, sensors, steps, n))
        for k in range(steps):
            out[k, :, : k + 1] = np.moveaxis(blocks[k::-1], 0, 1)
        return out.reshape(steps * sensors, steps * n)

    @cached_property
    @double
    def spectrum(self) -> Float[Array, "frequencies two_sensors sites"]:
        """The Fourier transform in time of the padded blocks, real above imaginary parts: XLA's
        complex products take twice the time on CPUs."""
        transformed: Any = scipy.fft.rfft(self.blocks, padded(self.steps), axis=0)
        parts = np.concatenate([transformed.real, transformed.imag], axis=1)
        return jnp.asarray(parts, self.dtype)

    def _fitting(
        self, name: str, given: ArrayLike, shape: tuple[int, ...]
    ) -> Float[np.ndarray, "*shape"]:
        array = np.asarray(real_array(name, given), dtype=self.dtype)
        if array.shape[-len(shape) :] != shape:
            raise DataError(f"{name}: found shape {array.shape}, expected (..., {shape})")
        return array


def _response(path: Path) -> xr.Dataset:
    with xr.open_dataset(path, engine="h5netcdf", phony_dims="access") as found:
        return found[["response"]].load() if "response" in found else found


def padded(steps: int) -> int:
    """A length for fast Fourier transforms that avoids wrapping around."""
    length: Any = scipy.fft.next_fast_len(2 * steps - 1, real=True)
    return length


@jax.jit
def _product(
    spectrum: Float[Array, "frequencies two_sensors sites"], m: Float[Array, "batch times sites"]
) -> Float[Array, "batch times sensors"]:
    """F m."""
    batch, steps, _ = m.shape
    transformed = jnp.fft.rfft(m, padded(steps), axis=1)
    parts = jnp.concatenate([jnp.real(transformed), jnp.imag(transformed)])
    product = jnp.einsum("wcn,bwn->wcb", spectrum, parts)
    sensors = spectrum.shape[1] // 2
    real = product[:, :sensors, :batch] - product[:, sensors:, batch:]
    imaginary = product[:, :sensors, batch:] + product[:, sensors:, :batch]
    out = jnp.fft.irfft(real + 1j * imaginary, padded(steps), axis=0)
    return jnp.transpose(out[:steps], (2, 0, 1))


@jax.jit
def _transposed_product(
    spectrum: Float[Array, "frequencies two_sensors sites"], d: Float[Array, "batch times sensors"]
) -> Float[Array, "batch times sites"]:
    """F^T d, by the conjugate transposed transform of F."""
    batch, steps, _ = d.shape
    transformed = jnp.fft.rfft(d, padded(steps), axis=1)
    real, imaginary = jnp.real(transformed), jnp.imag(transformed)
    # Rows for the real part of conj(F)^T d, then for its imaginary part.
    parts = jnp.concatenate(
        [
            jnp.concatenate([real, imaginary], axis=2),
            jnp.concatenate([imaginary, -real], axis=2),
        ]
    )
    product = jnp.einsum("wcn,bwc->wnb", spectrum, parts)
    whole = product[..., :batch] + 1j * product[..., batch:]
    out = jnp.fft.irfft(whole, padded(steps), axis=0)
    return jnp.transpose(out[:steps], (2, 0, 1))
