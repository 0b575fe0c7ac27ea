"""Run files' kinds, their JSON Schema, and files to start from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from placement_files import RUN_FILE as PLACEMENT
from run_files import RUN_FILE as INVERSION
from slip_files import RUN_FILE as SLIP

from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.models import CATALOGUE
from pyadjoint_gpu.runfiles import KINDS
from pyadjoint_gpu.runfiles.schema import json_schema, kind_of, read
from pyadjoint_gpu.runfiles.template import toml

EXAMPLES = Path(__file__).parents[2] / "examples"
WANTED = {"inversion": "truth.nc", "sampling": "gnss.nc", "placement": None}
"""The first file that a new run file does not find."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_run_file_lacks_no_more_than_data(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", kind]) == 0
    assert capsys.readouterr().out == f"wrote {kind}.toml\n"
    text = Path(f"{kind}.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["kind"] == kind
    assert max(map(len, text.splitlines())) <= 110
    file = read(f"{kind}.toml")
    assert type(file) is kind_of({"kind": kind})
    if WANTED[kind] is None:
        file.build()
    else:
        with pytest.raises(DataError, match=f"no file {WANTED[kind]}$"):
            file.build()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_a_comment_in_a_new_run_file_is_right_too(kind, tmp_path):
    """Where it has a default."""
    assert main(["new", kind, "-o", str(tmp_path / "a.toml")]) == 0
    lines = (tmp_path / "a.toml").read_text(encoding="utf-8").splitlines()
    used = [re.sub(r"^# (?=\w+ = |\[[\w.]+\]$)", "", x) for x in lines]
    kept = [x for x in used if not x.endswith(" = ...")]
    assert kept != lines
    (tmp_path / "a.toml").write_text("\n".join(kept), encoding="utf-8")
    assert type(read(tmp_path / "a.toml")) is kind_of({"kind": kind})


def test_a_new_run_file_is_never_written_over_another(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    assert main(["new", "inversion", "-o", str(path)]) == 2
    assert "mine.toml is there already" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert main(["new", "inversoin", "-o", str(path)]) == 2
    assert "kind: found 'inversoin'; did you mean 'inversion'?" in capsys.readouterr().err
    assert main(["new", "placement", "-o", str(tmp_path / "none" / "a.toml")]) == 2
    assert "none/a.toml: No such file or directory" in capsys.readouterr().err


def test_the_schema_is_for_editors(capsys):
    """Every key has its description; models are told apart by their names."""
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["discriminator"]["propertyName"] == "kind"
    names = {t["properties"]["name"]["const"] for t in schema["$defs"].values()
             if "name" in t["properties"]}  # fmt: skip
    assert names == set(CATALOGUE)
    for kind in KINDS:
        assert main(["schema", kind]) == 0
        table = json.loads(capsys.readouterr().out)
        assert table == json_schema(kind)
        assert table["additionalProperties"] is False
        for name, node in table["properties"].items():
            assert node.get("description") or "$ref" in node, name
    inversion = json_schema("inversion")
    assert set(inversion["required"]) == {"grid", "model", "controls", "misfit"}
    extent = inversion["$defs"]["GridTable"]["properties"]["extent"]
    assert extent["description"] == "Length of the box along each axis, in units."
    assert extent["items"] == {"type": "number"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (INVERSION, "inversion"),
        (SLIP, "sampling"),
        (PLACEMENT, "placement"),
        ("", "inversion"),
        ("[data]", "sampling"),
        ("[data]\n[grid]", "inversion"),
        ("[sensors]", "placement"),
        ('kind = "placement"\n[fault]', "placement"),
    ],
)
def test_kinds(text, kind):
    assert kind_of(tomllib.loads(text)) is kind_of({"kind": kind})


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("geothermal.toml", "inversion"),
        ("greenland/greenland.toml", "inversion"),
        ("wolfcamp/wolfcamp.toml", "inversion"),
        ("slip.toml", "sampling"),
        ("tsunami.toml", "placement"),
    ],
)
def test_examples_state_no_kind_and_may(path, kind):
    assert type(read(EXAMPLES / path)) is type(read(EXAMPLES / path, [f"kind={kind}"]))
    other = "inversion" if kind == "placement" else "placement"
    with pytest.raises(ConfigError, match="unknown key"):
        read(EXAMPLES / path, [f"kind={other}"])


@pytest.mark.parametrize("kind", ["inversoin", 3, ["inversion"]])
def test_an_unknown_kind(kind):
    with pytest.raises(ConfigError, match=r"^kind: found .*inversion"):
        read(EXAMPLES / "slip.toml", [f"kind={toml(kind)}"])


def test_a_transient_model_has_another_in_it():
    model = "model={name = 'transient', step = 1.0, steps = 4, model = {name = 'darcy'}}"
    assert read(EXAMPLES / "wolfcamp/wolfcamp.toml", [model]).model.given()["steps"] == 4
    for wrong, match in (
        ("model.model.name=darci", r"model\.model\.name: found 'darci'; did you mean 'darcy'"),
        ("model.model={}", r"model\.model\.name is missing"),
        ("model.model.wels=[]", r"model\.model\.wels: unknown key; did you mean 'wells'"),
        ("model.model=3", r"model\.model: found 3, expected a table"),
    ):
        with pytest.raises(ConfigError, match=f"^{match}"):
            read(EXAMPLES / "wolfcamp/wolfcamp.toml", [model, wrong])


def test_pydantic_is_imported_on_use():
    code = "import sys, pyadjoint_gpu as p; p.Grid, p.examples; print('pydantic' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
