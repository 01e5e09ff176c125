"""What is installed from a wheel works: all data files are in it, all imports are declared, ctmr runs and translates."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import paths, phantom
from tests.evaluation import projects

PROJECT = Path(__file__).parents[1]
OURS = {"pipeline", "stages"}


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


def test_every_import_is_declared() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    used_on_request = [project["optional-dependencies"][extra] for extra in ("cluster", "storage")]  # imported only where one asks for them
    declared = {name(line) for lines in (project["dependencies"], *used_on_request) for line in lines}
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
