"""Figures of the residuals of inversions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.statistics.residuals import BAND, normal_quantiles

Y, X = (a.ravel() for a in np.meshgrid([0.2, 0.5, 0.8], np.linspace(0.1, 1.4, 6), indexing="ij"))


def result(*, scale: float = 1.0, timed: bool = False, sets: bool = False) -> xr.Dataset:
    """Residuals as an inversion gives them."""
    white = scale * np.random.default_rng(0).standard_normal(X.size)
    found = xr.Dataset(
        {"residual_whitened": ("observation", white)},
        {
            "observation_y": ("observation", Y),
            "observation_x": ("observation", X),
            "x": ("x", X[:6], {"units": "km"}),
            "x_face": ("x_face", np.linspace(0.0, 1.5, 7)),
        },
        {"kind": "inversion", "title": "a title"},
    )
    if timed:
        found["observation_time"] = "observation", np.arange(X.size, 0.0, -1.0)
        found = found.set_coords("observation_time")
    if sets:
        found["observation_set_chi2"] = "observation_set", np.mean(white.reshape(3, 6) ** 2, axis=1)
        found["observation_set_size"] = "observation_set", [6, 6, 6]
        found = found.assign_coords(observation_set=["north", "middle", "south"])
    return found


def titles(figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.has_data() and ax.get_title()]


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("sets", [False, True])
def test_panels_are_those_of_the_data(timed: bool, sets: bool, tmp_path: Path):
    figure = result(timed=timed, sets=sets).pag.plot(tmp_path / "r.png", kind="residuals")
    assert (tmp_path / "r.png").stat().st_size > 20_000
    first, second, *more = titles(figure)
    assert first.startswith("18 observations, chi² ")
    assert second.startswith("in order, runs test p ")
    assert more == ["by position"] * (not timed) + ["by data set"] * sets
    assert figure.get_suptitle() == "a title"


@pytest.mark.parametrize(("scale", "inside"), [(1.0, True), (8.0, False)])
def test_quantiles_lie_in_their_band_if_sigma_is_right(scale: float, inside: bool):
    figure = result(scale=scale).pag.plot(kind="residuals")
    ax = figure.axes[0]
    low, high = ax.get_ylim()
    x, w = ax.lines[-1].get_data()
    assert low < np.min(w) < np.max(w) < high
    (band,) = (c.get_paths()[0] for c in ax.collections)
    drawn = {tuple(p) for p in band.vertices}
    middle, *ends = normal_quantiles(18)
    assert all({*zip(middle, end, strict=True)} <= drawn for end in ends)
    assert (np.mean((ends[0] < w) & (w < ends[1])) > BAND - 0.1) == inside
    np.testing.assert_array_equal(x, middle)


def test_large_residuals_are_not_lost_on_the_map():
    figure = result(scale=8.0).pag.plot(kind="residuals")
    marks = figure.axes[2].collections[0]
    assert marks.colorbar is not None
    assert marks.colorbar.extend == "both"
    assert marks.get_clim() == (-4.0, 4.0)


def test_the_command_line_draws_residuals(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    result().pag.save(tmp_path / "run.nc")
    assert main(["plot", str(tmp_path / "run.nc"), "--kind", "residuals"]) == 0
    assert f"wrote {tmp_path / 'run_residuals.png'}" in capsys.readouterr().out
    assert (tmp_path / "run_residuals.png").is_file()
    assert not (tmp_path / "run.png").exists()


def test_what_has_no_residuals_is_refused(tmp_path: Path):
    with pytest.raises(pag.ConfigError, match="kind: found 'maps', expected one of residuals"):
        result().pag.plot(kind="maps")
    bare = result().drop_vars("residual_whitened")
    with pytest.raises(pag.DataError, match="the result has no 'residual_whitened'"):
        bare.pag.plot(tmp_path / "no.png", kind="residuals")
    assert not (tmp_path / "no.png").exists()
