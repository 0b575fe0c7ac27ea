"""Bad settings and run files are refused before any solve, by name, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_files import GRID, RUN_FILE, settings

from pyadjoint_gpu.runfiles.schema import read


def test_the_run_file_itself_is_good(folder: Path):
    problem = read(folder / "run.toml").build()
    assert problem.size == GRID.size


# Settings: one wrong value each, what names it, what was found, what was expected

WELL = "{position = [400.0, 350.0], rate = -1.0}"
WRONG_VALUES = [
    # Types
    ("title=3", "title", "3", "text"),
    ("engine=3", "engine", "3", "embedded"),
    ("grid=3", "grid", "3", "table"),
    ("grid=[8, 12]", "grid", r"\[8, 12\]", "table"),
    ('grid.shape="8x12"', r"grid\.shape", "'8x12'", "cell counts|whole numbers"),
    ("grid.shape=true", r"grid\.shape", "True", "whole numbers"),
    ("grid.shape=[8, 12.5]", r"grid\.shape", "12.5", "whole numbers"),
    ("grid.shape=[8, true]", r"grid\.shape", "True", "whole numbers"),
    ("grid.shape={y = 8, x = 12}", r"grid\.shape", "'y': 8", "whole numbers|cell counts"),
    ('grid.extent="large"', r"grid\.extent", "'large'", "numbers"),
    ('grid.extent=["800", "1200"]', r"grid\.extent", "'800'", "numbers"),
    ("grid.extent=[true, 1200.0]", r"grid\.extent", "True", "numbers"),
    ("grid.extent=[[800.0], [1200.0]]", r"grid\.extent", r"\[\[800", "numbers"),
    ("grid.origin={y = 0}", r"grid\.origin", "'y': 0", "numbers"),
    ("grid.units=3", r"grid\.units", "3", "text"),
    ('model="darcy"', "model", "'darcy'", "table"),
    ("model.name=3", r"model\.name", "3", "darcy"),
    ('model.name=["darcy"]', r"model\.name", r"\['darcy'\]", "darcy"),
    ("model.wells=3", r"model\.wells", "3", "list|position"),
    ("model.wells=[3]", r"model\.wells\[0\]", "3", "position"),
    (f"model.wells={WELL}", r"model\.wells", "position", "expected"),
    ('model.wells=[{position = "middle", rate = 0.0}]', "well", "'middle'", "numbers"),
    ('model.wells=[{position = [400.0, 0.0], rate = "none"}]', "well", "'none'", "number"),
    ('model.wells=[{position = [400.0, 0.0], rate = "0"}]', "well", "'0'", "number"),
    ("model.wells=[{position = [400.0, 0.0], rate = false}]", "well", "False", "number"),
    ("model.wells=[{position = [400.0, 0.0], rate = [0.0, 0.0]}]", "well", r"\[0", "number"),
    ("model.face_mean=3", "face_mean", "3", "harmonic"),
    ("model.pressure_units=3", "pressure_units", "3", "text"),
    ("model.fixed_pressure=3", "fixed_pressure", "3", "side|expected"),
    ("model.fixed_pressure=[3]", "side|fixed_pressure", "3", "x_min"),
    ("model.fixed_pressure=[[1]]", "side|fixed_pressure", "1", "x_min"),
    ("model.fixed_pressure.x_min=true", r"fixed_pressure\.x_min", "True", "number"),
    ('model.fixed_pressure.x_min="high"', r"fixed_pressure\.x_min", "'high'", "number"),
    ('model.fixed_pressure.x_min={value = "a", gradient = [0, 0]}', "x_min", "'a'", "number"),
    ('model.fixed_pressure.x_min={value = 0, gradient = "a"}', "x_min", "'a'", "number"),
    ("parameters=3", "parameters", "3", "table"),
    ("parameters.porosity=true", "porosity", "True", "number"),
    ('parameters.porosity="high"', r"parameters\.porosity", "'high'", "number"),
    ("parameters.porosity={value = 0.2}", "porosity", "value", "gradient"),
    ('parameters.porosity={value = "a", gradient = [0, 0]}', "porosity", "'a'", "number"),
    ("controls=[]", "controls", r"\[\]", "table"),
    ("controls.permeability=1.0", r"controls\.permeability", "1.0", "table"),
    ("controls.permeability.initial=true", r"permeability\.initial", "True", "number"),
    ('controls.permeability.initial="low"', r"permeability\.initial", "'low'", "number"),
    ('controls.permeability.initial=[["a"]]', r"permeability\.initial", "a", "number"),
    ("controls.permeability.transform=3", r"permeability\.transform", "3", "log"),
    ("controls.permeability.transform=[]", r"permeability\.transform", r"\[\]", "log"),
    ("controls.permeability.basis=false", r"permeability\.basis", "False", "field"),
    ('controls.permeability.bounds="wide"', r"permeability\.bounds", "'wide'", "two numbers"),
    ('controls.permeability.bounds=["1", "2"]', r"permeability\.bounds", "'1'", "two numbers"),
    ("controls.permeability.bounds=[0.5, true]", r"permeability\.bounds", "True", "two numbers"),
    ("controls.permeability.bounds=2", r"permeability\.bounds", "2", "two numbers"),
    ("controls.permeability.bounds=[1, 2, 3]", r"permeability\.bounds", "3", "two numbers"),
    ("controls.permeability.bounds=[[1, 2], [3]]", r"permeability\.bounds", r"\[3", "two numbers"),
    ("controls.permeability.bounds={low = 1}", r"permeability\.bounds", "'low'", "two numbers"),
    ("misfit=[]", "misfit", r"\[\]", "table"),
    ("misfit.observations=3", r"misfit\.observations", "3", "text"),
    ("misfit.observations=[]", r"misfit\.observations", r"\[\]", "text"),
    ('misfit.sigma="small"', r"misfit\.sigma", "'small'", "number"),
    ("misfit.sigma=true", r"misfit\.sigma", "True", "number"),
    ("misfit.sigma={a = 1}", r"misfit\.sigma", "'a'", "number"),
    ("penalty=3", "penalty", "3", "table"),
    ("penalty.permeability=3", r"penalty\.permeability", "3", "table"),
    ("penalty.permeability.kind=3", r"penalty\.permeability\.kind", "3", "smoothness"),
    ('penalty.permeability.weight="a"', r"penalty\.permeability\.weight", "'a'", "number"),
    ("penalty.permeability.weight=true", r"penalty\.permeability\.weight", "True", "number"),
    ("penalty.permeability.length=[1]", r"penalty\.permeability\.length", r"\[1\]", "number"),
    ("solver=1e-8", "solver", "1e-08", "table"),
    ("solver.tolerance=true", r"solver\.tolerance", "True", "number"),
    ('solver.tolerance="tight"', r"solver\.tolerance", "'tight'", "number"),
    ("solver.adjoint_tolerance=[]", "adjoint_tolerance", r"\[\]", "number"),
    ("solver.max_iterations=1e4", r"solver\.max_iterations", "10000", "whole number"),
    ("solver.max_iterations=false", r"solver\.max_iterations", "False", "whole number"),
    ("solver.dtype=64", "dtype", "64", "float64"),
    ("solver.method=3", r"solver\.method", "3", "multigrid"),
    ("solver.method=[]", r"solver\.method", r"\[\]", "multigrid"),
    ('solver.tolerance="adapted"', r"solver\.tolerance", "'adapted'", "number"),
    ("inversion=50", "inversion", "50", "table"),
    ("inversion.method=3", "method", "3", "L-BFGS-B"),
    ('inversion.method=["CG"]', "method", r"\['CG'\]", "L-BFGS-B"),
    ('inversion.max_iterations="many"', r"inversion\.max_iterations", "'many'", "whole number"),
    ("inversion.max_iterations=2.5", r"inversion\.max_iterations", "2.5", "whole number"),
    ("inversion.tolerance=true", r"inversion\.tolerance", "True", "number"),
    ('inversion.discrepancy="yes"', "discrepancy", "'yes'", "true"),
    ("output=3", "output", "3", "table"),
    ("output.path=3", r"output\.path", "3", "text"),
    ("output.journal=true", r"output\.journal", "True", "text"),
    ("output.figure=[]", r"output\.figure", r"\[\]", "text"),
    # Values
    ("grid.shape=[8, 0]", r"grid\.shape", r"\[8, 0\]", "whole numbers >= 2"),
    ("grid.shape=[8, -12]", r"grid\.shape", r"-12", "whole numbers >= 2"),
    ("grid.shape=[2, 2, 2, 2]", r"grid\.shape", r"2, 2, 2, 2", "1 to 3"),
    ("grid.extent=[800.0, -1200.0]", r"grid\.extent", "-1200", "positive"),
    ("grid.extent=[800.0]", r"grid\.extent", "1 number", "2"),
    ("grid.extent=[800.0, nan]", r"grid\.extent", "nan", "finite"),
    ("grid.origin=[0.0, inf]", r"grid\.origin", "inf", "finite"),
    ("model.wells=[{position = [400.0, 900.0], rate = 0.0}]", "position", "900", "600"),
    ("model.wells=[{position = [400.0], rate = 0.0}]", "position", "1 number", "2"),
    ("model.wells=[{position = [nan, 0.0], rate = 0.0}]", "position", "nan", "outside|finite"),
    ("model.wells=[{position = [400.0, 0.0], rate = inf}]", "well", "inf", "finite"),
    ("model.wells=[{position = [400.0, 0.0], rate = 1.5}]", "wells", "1.5", "zero"),
    ('model.fixed_pressure=["left"]', "side|fixed_pressure", "'left'", "x_min"),
    ('model.fixed_pressure=["z_min"]', "side|fixed_pressure", "'z_min'", "x_min"),
    ('model.fixed_pressure=["x_min", "x_min"]', "side", "x_min", "twice"),
    ('model.fixed_pressure=["x_min"]', "boundary_pressure", "not given|missing"),
    ("model.fixed_pressure.x_min=nan", r"fixed_pressure\.x_min", "1 NaN", "finite"),
    ("model.fixed_pressure.x_min=[1.0, 2.0]", r"x_min", r"\(2,\)", r"\(8,\)"),
    ("model.fixed_pressure.x_min={value = 1, gradient = [1]}", "x_min", "1 number", "2"),
    ("parameters.porosity=-0.1", "porosity", "-0.1", "> 0"),
    ("parameters.porosity=nan", "porosity", "NaN", "finite"),
    ("parameters.porosity=[0.1, 0.2]", "porosity", r"\(2,\)", r"\(8, 12\)"),
    ("parameters.permeability=1.0", "permeability", "parameter", "control"),
    ("controls={}", "controls", "none", "at least one"),
    ("controls.permeability.initial=0", "permeability", "smallest 0", "> 0"),
    ("controls.permeability.initial=-1.0", "permeability", "smallest -1", "> 0"),
    ("controls.permeability.initial=nan", r"permeability\.initial", "NaN", "finite"),
    ("controls.permeability.initial=1e3", "permeability", "1000", r"1e-06, 100"),
    ("controls.permeability.initial=[1.0, 2.0]", r"initial", r"\(2,\)", r"\(8, 12\)"),
    ("controls.permeability.truth=[1.0]", r"permeability\.truth", r"\(1,\)", r"\(8, 12\)"),
    ("controls.permeability.bounds=[1e2, 1e-6]", r"bounds", r"100.*1e-06", "low < high"),
    ("controls.permeability.bounds=[1.0, 1.0]", "bounds", "1.0", "low < high"),
    ("controls.permeability.bounds=[nan, 1.0]", "bounds", "nan", "low < high"),
    ("controls.permeability.bounds=[0.0, 1e2]", "bounds", " 0", "> 0"),
    ("controls.permeability.bounds=[-1.0, 1e2]", "bounds", "-1", "> 0"),
    ('controls.permeability.basis="plane"', "bounds", "plane", "logistic"),
    ("misfit.sigma=-0.01", r"misfit\.sigma", "-0.01", "> 0"),
    ("misfit.sigma=0", r"misfit\.sigma", "0", "> 0"),
    ("misfit.sigma=nan", r"misfit\.sigma", "nan", "> 0"),
    ("misfit.sigma=inf", "sigma", "inf", "finite"),
    ("misfit.sigma=[0.1, 0.2]", "sigma", r"\(2,\)", r"\(6,\)"),
    ("misfit.sigma=1e-300", "sigma|misfit", "inf"),
    ("penalty.permeability.weight=-1", r"penalty\.permeability\.weight", "-1", ">= 0"),
    ("penalty.permeability.length=nan", r"penalty\.permeability\.length", "nan", ">= 0"),
    ("penalty.porosity={weight = 1, length = 1}", "penalty.*porosity", "control", "permeability"),
    ('solver.method="multi"', r"solver\.method", "'multi'", "multigrid"),
    ('solver={method = "multigrid", backend = "cuda"}', "solver", "julia", "embedded"),
    ("solver.tolerance=0", r"solver\.tolerance", "0", r"\(0, 1\)"),
    ("solver.tolerance=2", r"solver\.tolerance", "2", r"\(0, 1\)"),
    ("solver.adjoint_tolerance=nan", "adjoint_tolerance", "nan", r"\(0, 1\)"),
    ("solver.max_iterations=0", r"solver\.max_iterations", "0", ">= 1"),
    ("inversion.max_iterations=-5", r"inversion\.max_iterations", "-5", ">= 1"),
    ("inversion.tolerance=1e9", r"inversion\.tolerance", "1e\\+09", r"\(0, 1\)"),
    ('inversion.method="CG"', "method", "'CG'", "bounds"),
    ("controls.pressure.initial=1.0", "pressure", "not a parameter", "permeability"),
    # Names; the nearest right one is told
    ('engine="embeded"', "engine", "'embeded'", "'embedded'"),
    ('model.name="darci"', r"model\.name", "'darci'", "'darcy'"),
    ('model.face_mean="harmonc"', "face_mean", "'harmonc'", "harmonic"),
    ('controls.permeability.transform="logg"', r"transform", "'logg'", r"\blog\b"),
    ('controls.permeability.basis="plan"', "basis", "'plan'", r"\bplane\b"),
    ('penalty.permeability.kind="smooth"', r"permeability\.kind", "'smooth'", "smoothness"),
    ('inversion.method="LBFGS"', "method", "'LBFGS'", "L-BFGS-B"),
    ('solver.dtype="float16"', "dtype", "'float16'", "float32"),
    # Keys
    ("modle={}", "modle", "unknown", "'model'"),
    ("grid.shap=[8, 12]", r"grid\.shap\b", "unknown", "'shape'"),
    ("model.wels=[]", r"model\.wels", "unknown", "'wells'"),
    ("model.wells=[{positon = [400, 0], rate = 0}]", r"model\.wells\[0\]", "positon", "position"),
    ("model.fixed_pressure.x_mn=0", "side|fixed_pressure", "x_mn", "x_min"),
    ("model.fixed_pressure.x_min={value = 0, gradint = [0, 0]}", "x_min", "gradint", "gradient"),
    ("parameters.porosty=0.2", "porosty", "not a parameter|unknown", "did you mean 'porosity'"),
    ("controls.permeabilty.initial=1", "permeabilty", "not|unknown", "did you mean 'permeability'"),
    ("controls.permeability.inital=1", r"controls\.permeability\.inital", "unknown", "'initial'"),
    ("misfit.sigm=0.01", r"misfit\.sigm\b", "unknown", "'sigma'"),
    (
        "penalty.permeabilty={weight = 1, length = 1}",
        "permeabilty", "not a control", "did you mean 'permeability'",
    ),
    ("penalty.permeability.wieght=1", r"penalty\.permeability\.wieght", "unknown", "'weight'"),
    ("solver.tolerence=1e-8", r"solver\.tolerence", "unknown", "'tolerance'"),
    ('inversion.metod="CG"', r"inversion\.metod", "unknown", "'method'"),
    ('output.pth="a.nc"', r"output\.pth", "unknown", "'path'"),
    ("inversion.seed=1", r"inversion\.seed", "unknown", "method"),
    # Files
    ('misfit.observations="none.nc"', r"misfit\.observations", "none.nc", "no file"),
    ('misfit.observations="."', r"misfit\.observations", "no file|directory"),
    ('misfit.observations="observations.nc:presure"', "observations", "'presure'", "pressure"),
    ('controls.permeability.initial="none.nc:k"', r"permeability\.initial", "none.nc", "no file"),
    ('controls.permeability.initial="fields.nc"', r"initial", "'fields.nc'", "file.nc:variable"),
    (
        'controls.permeability.initial="fields.nc:permeabilty"',
        r"controls\.permeability\.initial", "'permeabilty'", "did you mean 'permeability'",
    ),
    ('parameters.porosity="none.nc:porosity"', r"parameters\.porosity", "none.nc", "no file"),
    ('output.path="none/result.nc"', r"output\.path", "none", "no such directory"),
    ('output.journal="none/result.h5"', r"output\.journal", "none", "no such directory"),
    ('output.figure="none/figure.png"', r"output\.figure", "none", "no such directory"),
    ('output.path="."', r"output\.path", "is a directory"),
    ('output.figure="figure.xyz"', r"output\.figure", "xyz", "png|format|ending"),
    ('output.journal="result.nc"', r"output\.journal|result\.nc", "same|not a journal"),
    ('output.path="result.h5"', r"output\.path|output\.journal", "result.h5", "same|both"),
    # --set itself
    ("grid.shape", "--set", "'grid.shape'", "a.b=value"),
    ("=3", "--set", "'=3'", "a.b=value"),
    ("grid..shape=3", "--set", r"'grid\.\.shape=3'", "a.b=value"),
    ("title.text=3", "--set", "'title'", "table"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG_VALUES, ids=lambda case: case[0][:70])
def test_settings(case: tuple[str, ...], refused):
    override, *patterns = case
    refused(settings(override), *patterns)


@pytest.mark.parametrize(
    ("overrides", "patterns"),
    [
        (['engine="julia"'], ["'julia'", "install-julia", "'embedded' needs no"]),
        (['engine="julia"', "solver.dtype=float64"], ["'julia'", "install-julia"]),
        (['launcher=["sh"]'], ["'julia'", "install-julia"]),
        (['launcher=["no-such-launcher", "-n", "4"]'], ["launcher", "no-such-launcher"]),
        (['launcher="mpiexec"'], ["launcher", "'mpiexec'", "words"]),
        (['launcher=["sh"]', 'topology=["a"]'], ["topology", "whole numbers"]),
        (["topology=[1, 2]"], ["topology", "no launcher"]),
        (['launcher=["sh"]', 'engine="embedded"'], ["launcher", "julia"]),
        (['solver.backend="cuda"', 'engine="embedded"'], ["backend", "julia"]),
        (['engine="julia"', 'solver.backend="cude"'], ["backend", "'cude'", "cuda"]),
        (['engine="julia"', 'solver.dtype="float16"'], ["dtype", "'float16'", "float32"]),
    ],
)
def test_without_julia(overrides, patterns, refused, no_julia):
    refused(settings(*overrides), *patterns)


BOUNDED = 'transform = "log"\nbounds = [1e-6, 1e2]\n'
REPLACED = [
    (BOUNDED, "", r"controls\.permeability", "positive", "bounds"),
    ("[grid]", "[grid", "run.toml", "line 4|TOML"),
    ("weight = 1e-3", "weight = ", "run.toml", "TOML", "line"),
    ("weight = 1e-3", "weight = 1\nweight = 2", "run.toml", "TOML"),
    (RUN_FILE[RUN_FILE.index("[grid]") : RUN_FILE.index("[model]")], "", r"\[grid\]", "missing"),
    (RUN_FILE[RUN_FILE.index("[model]") : RUN_FILE.index("[param")], "", r"\[model\]", "missing"),
    (RUN_FILE[RUN_FILE.index("[controls") : RUN_FILE.index("[misfit]")], "", "controls", "missing"),
    (RUN_FILE[RUN_FILE.index("[misfit]") : RUN_FILE.index("[penal")], "", r"\[misfit\]", "missing"),
    (RUN_FILE, "", r"\[grid\]", "missing"),
    ("shape = [8, 12]", "", r"grid\.shape", "missing"),
    ("extent = [800.0, 1200.0]", "", r"grid\.extent", "missing"),
    ('name = "darcy"', "", r"model\.name", "missing|expected one of .*darcy"),
    ("initial = 1.0", "", r"controls\.permeability\.initial", "missing"),
    ('observations = "observations.nc"', "", r"misfit\.observations", "missing"),
    ("weight = 1e-3", "", r"penalty\.permeability\.weight", "missing"),
    ("length = 100.0", "", r"penalty\.permeability\.length", "missing"),
    ('path = "result.nc"', "", r"output\.path", "missing"),
    ("bounds = [1e-6, 1e2]", 'bounds = [1e-6, 1e2]\nbasis = "point"', "basis", "'point'", "field"),
]


@pytest.mark.parametrize("case", REPLACED, ids=lambda case: case[0][:30].splitlines()[0])
def test_run_file_texts(case: tuple[str, ...], folder: Path, refused):
    old, new, *patterns = case
    assert RUN_FILE.count(old) == 1
    (folder / "run.toml").write_text(RUN_FILE.replace(old, new))
    refused(["run", "run.toml"], *patterns)


def test_no_run_file(refused):
    refused(["run", "rum.toml"], "rum.toml", "No such file")
    refused(["check", "rum.toml"], "rum.toml", "No such file")
    refused(["run", "."], "directory")


def test_a_run_file_that_is_no_text(folder: Path, refused):
    (folder / "run.toml").write_bytes(b"\xff\xfe\x00[grid]")
    refused(["run", "run.toml"], "run.toml", "TOML")
    refused(["run", "observations.nc"], "observations.nc", "TOML")


def test_check_refuses_as_run_does(refused):
    refused(["check", "run.toml", "--set", "grid.shap=[8, 12]"], r"grid\.shap\b", "'shape'")
    refused(["check", "run.toml", "--set", "misfit.sigma=-1"], r"misfit\.sigma", "-1", "> 0")
