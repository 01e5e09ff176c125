"""What is installed from a wheel works: all data files are in it, all imports are declared, ctmr runs and translates."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from packaging.requirements import Requirement
from PIL import Image

from pipeline import paths, phantom
from tests.evaluation import projects

PROJECT = Path(__file__).parents[1]
OURS = {"pipeline", "stages"}
PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT_TABLE["optional-dependencies"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy of what git knows."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((PROJECT / name).read_bytes())
    if not paths.has_box():  # of a checkout that has no weights yet
        black = np.zeros((2, 64, 64), np.uint8)
        models = projects.make_project(tmp_path_factory.mktemp("box") / "project", {"ct": black, "mr": black}) / "models"
        shutil.copytree(models, source / "pipeline/box", dirs_exist_ok=True)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "-q", "-w", target)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def ctmr(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command installed from the wheel into an environment of its own, which sees the dependencies but not this folder."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "-q")
    subprocess.run([sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", *options, wheel], check=True)
    (next(folder.glob("lib/python*/site-packages")) / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/ctmr"


def run(program: Path, folder: Path, *arguments: str | Path) -> str:
    ended = subprocess.run([program, *arguments], cwd=folder, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_data_file_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    files = {file.relative_to(PROJECT).as_posix() for folder in OURS for file in (PROJECT / folder).rglob("*") if file.is_file()}
    assert {file for file in files if "__pycache__" not in file} - names == set()


def test_the_command_runs_from_the_wheel(ctmr: Path, tmp_path: Path) -> None:
    assert "translate" in run(ctmr, tmp_path, "--help")
    assert '"preprocess"' in run(ctmr, tmp_path, "params", "--schema")
    assert str(ctmr.parents[1]) in run(ctmr.with_name("python"), tmp_path, "-c", "import pipeline; print(pipeline.__file__)")


def test_it_translates_from_the_wheel(ctmr: Path, tmp_path: Path) -> None:
    mr = phantom.render_pair(phantom.simulate(3, size=96), 3)[1].astype(np.uint8)
    models = projects.make_project(tmp_path / "project", {"ct": mr[None, :64, :64], "mr": mr[None, :64, :64]}) / "models"
    Image.fromarray(mr).save(tmp_path / "in.png")
    run(ctmr, tmp_path, "translate", "in.png", "out.png", "--to", "ct", "--model", models)
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (96, 96)


def test_the_model_in_the_box_comes_with_the_wheel(ctmr: Path, tmp_path: Path) -> None:
    mr = phantom.render_pair(phantom.simulate(3, size=96), 3)[1].astype(np.uint8)
    Image.fromarray(mr).save(tmp_path / "in.png")
    said = run(ctmr, tmp_path, "translate", "in.png", "out.png", "--to", "ct")
    assert said.startswith("MR → CT by mr-to-ct in the box")
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (96, 96)


def test_translation_needs_only_what_is_installed_without_extras(tmp_path: Path) -> None:
    """A picture, NIfTI and NRRD by the model in the box, and the page: with all else hidden, torch and MLflow among it."""
    mr = phantom.render_pair(phantom.simulate(3, size=96), 3)[1].astype(np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(mr).save(tmp_path / "in/mr.png")
    nibabel.save(nibabel.Nifti1Image(mr.T[:, ::-1, None].astype(np.int16), np.diag([2.0, 2, 2, 1])), tmp_path / "in/mr.nii.gz")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mr[None].astype(np.int16)), tmp_path / "in/mr.nrrd")
    needed = closure_of([Requirement(line) for line in PROJECT_TABLE["dependencies"]])
    hidden = {module for module, owners in packages_distributions().items() if not {name(owner) for owner in owners} & needed} - OURS
    assert {"torch", "mlflow", "prefect", "pandas", "yaml"} <= hidden
    code = f"""
import importlib.machinery, sys
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, fullname, *more):
        return None if fullname.partition(".")[0] in {hidden!r} else super().find_spec(fullname, *more)
sys.meta_path = [Finder if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
import pipeline.serving.app
from pipeline.cli import main
main()
"""
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"}

    def ctmr(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    ended = ctmr("translate", "in", "out", "--to", "ct")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"mr.png", "mr.nii.gz", "mr.nrrd"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlflow.db").touch()
    ended = ctmr("translate", "in", "again", "--to", "ct")
    assert ended.returncode == 2
    assert "mlflow.db: this needs mlflow, which is not installed: pip install" in ended.stderr


def closure_of(waiting: list[Requirement]) -> set[str]:
    """Names of the distributions that these requirements bring, by what is installed here."""
    found: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        key = name(wanted.name), frozenset(wanted.extras)
        if key in found:
            continue
        found.add(key)
        lines = map(Requirement, requires(wanted.name) or [])
        extras = [{"extra": extra} for extra in ("", *wanted.extras)]
        waiting += [line for line in lines if line.marker is None or any(line.marker.evaluate(extra) for extra in extras)]
    return {distribution for distribution, _ in found}


def test_every_import_is_declared() -> None:
    used = ("train", "registry", "cluster", "storage")  # the last two only where one asks for them
    declared = {name(line) for lines in (PROJECT_TABLE["dependencies"], *(EXTRAS[extra] for extra in used)) for line in lines}
    known = packages_distributions()
    undeclared = {
        module: sorted({name(distribution) for distribution in known.get(module, ["?"])})
        for module in imported() - OURS - sys.stdlib_module_names
        if not {name(distribution) for distribution in known.get(module, [])} & declared
    }
    assert undeclared == {}


def imported() -> set[str]:
    """Names of all packages that our code imports, wherever."""
    found = set()
    for file in (file for folder in OURS for file in (PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    return found


def name(requirement: str) -> str:
    """The normalised name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()
