"""Examples that come with the package."""

from __future__ import annotations

import os

import numpy as np
import pytest

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.runfiles.schema import read


def test_data():
    heads = pag.examples.load("wolfcamp")
    assert heads.sizes == {"observation": 85}
    assert {heads[k].attrs["units"] for k in ("x", "y", "head")} == {"m"}
    assert np.all((heads["head"] > 300) & (heads["head"] < 1100))
    ice = pag.examples.load("greenland")
    assert ice["ice_thickness"].shape == ice["bed_elevation"].shape == (176, 96)
    assert 3000 < float(ice["ice_thickness"].max()) < 3500


@pytest.mark.parametrize("name", pag.examples.names())
def test_copies(name, tmp_path):
    """Whole, and never over what is there."""
    made = pag.examples.copy(name, tmp_path)
    assert made and {p.name for p in made} == set(os.listdir(tmp_path))
    for path in made:
        assert path.stat().st_size > 0
    made[-1].write_text("mine")
    for path in made[:-1]:
        path.unlink()
    with pytest.raises(DataError, match="is there already"):
        pag.examples.copy(name, tmp_path)
    assert os.listdir(tmp_path) == [made[-1].name] and made[-1].read_text() == "mine"


@pytest.mark.parametrize("name", ["wolfcamp", "greenland"])
def test_a_run_file_has_its_data_beside_it(name, tmp_path):
    pag.examples.copy(name, tmp_path)
    problem = read(tmp_path / f"{name}.toml").build()
    assert problem.initial.size > 0


def test_names():
    assert {"wolfcamp", "greenland", "geothermal", "slip", "tsunami"} <= set(pag.examples.names())
    with pytest.raises(ConfigError, match="found 'wolfcmp'; did you mean 'wolfcamp'"):
        pag.examples.load("wolfcmp")
    with pytest.raises(ConfigError, match="did you mean 'greenland'"):
        pag.examples.copy("grenland")
    with pytest.raises(DataError, match="folder: found 'nowhere', expected an existing folder"):
        pag.examples.copy("slip", "nowhere")
