"""Arrows go one way, and what is slow to import is imported only where it is used.

stages, cli → retraining, training, tracking, serving → evaluation → dataset, models → imaging → formats, sources → phantom
→ the ground floor: domain, params, paths, errors, atomic, processes, privacy, presets.
"""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import phantom

ROOT = Path(__file__).parents[1]
GROUND = "ground floor"
FLOORS: tuple[set[str], ...] = (
    {GROUND},
    {"phantom"},
    {"formats", "sources"},
    {"imaging"},
    {"dataset", "models"},
    {"evaluation"},
    {"retraining", "training", "tracking", "serving"},
    {"stages", "cli"},
)
# On one floor, packages know nothing of each other, but for these.
BESIDE = {("serving", "tracking"), ("retraining", "tracking"), ("sources", "formats")}
# Less than their floor allows: networks know no formats and sources, phantoms are drawn without knowing who wants them.
ONLY = {"models": {GROUND, "imaging"}, "phantom": {GROUND}}
# Libraries that one package alone talks to.
AT_HOME = {
    "mlflow": {"tracking", "serving/pyfunc.py"},
    "prefect": {"retraining"},
    "great_expectations": {"dataset"},
    "torch": {"models", "training", "evaluation"},
    "onnx": {"models"},
    "onnxruntime": {"models"},
    "kagglehub": {"sources"},
    "gradio": set(),
}
SLOW = ("torch", "mlflow", "prefect", "great_expectations", "pandas", "dvc")
# What takes long to import, or brings much with it, and which of it each command loads. A new name here costs every call of the command.
HEAVY = (*SLOW, "alembic", "distributed", "fastapi", "httpx", "imagehash", "jinja2", "matplotlib", "nibabel", "nilearn", "onnx",
         "onnxruntime", "pyarrow", "pydicom", "requests", "rich", "scipy", "SimpleITK", "skimage", "sqlalchemy")  # fmt: skip
LOADS = {
    "--help": {"rich"},
    "params": set(),
    "history": set(),
    "ui": set(),
    "models": {"scipy"},
    "serve --model none": {"fastapi", "scipy"},
    "translate mr.png ct.png --to ct --model box": {"onnx", "onnxruntime", "rich", "scipy"},
}

# Arrows that still go the wrong way. Only ever remove lines.
ALLOWANCE: set[tuple[str, str]] = set()


def files() -> list[Path]:
    return sorted(file.relative_to(ROOT) for folder in ("pipeline", "stages") for file in (ROOT / folder).rglob("*.py"))


def package(parts: tuple[str, ...]) -> str:
    """The part of the house that a file or a dotted module belongs to."""
    if parts[0] == "stages":
        return "stages"
    name = parts[1].removesuffix(".py") if len(parts) > 1 else GROUND
    return name if any(name in floor for floor in FLOORS) else GROUND


def imported(file: Path) -> set[tuple[str, ...]]:
    """Every module that `file` imports anywhere, for types as well, as its dotted parts."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = file.parts[: len(file.parts) - node.level] if node.level else ()
            module = (*above, *(node.module or "").split("."))
            found |= {(*filter(None, module), alias.name) for alias in node.names}
    return found


def floor(name: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if name in floor)


def is_allowed(importer: str, other: str) -> bool:
    if importer == other or (importer, other) in BESIDE:
        return True
    return other in ONLY[importer] if importer in ONLY else floor(other) < floor(importer)


def test_arrows_go_one_way() -> None:
    wrong = {
        (file.as_posix(), other)
        for file in files()
        for module in imported(file)
        if module[0] in ("pipeline", "stages") and not is_allowed(package(file.parts), other := package(module))
    }
    assert sorted(wrong - ALLOWANCE) == [], "these imports go up; give results back instead, or move the code"
    assert sorted(ALLOWANCE - wrong) == [], "these are mended: remove them from ALLOWANCE"


@pytest.mark.parametrize("library", AT_HOME)
def test_one_package_talks_to_a_library(library: str) -> None:
    users = {file for file in files() for module in imported(file) if module[0] == library}
    homes = [Path("pipeline") / home for home in AT_HOME[library]]
    assert sorted(file.as_posix() for file in users if not any(file.is_relative_to(home) for home in homes)) == []


def test_nobody_below_serving_imports_the_registry() -> None:
    below = [file for file in files() if floor(package(file.parts)) < floor("serving") or package(file.parts) == "training"]
    users = {(file.as_posix(), "tracking") for file in below if ("pipeline", "tracking") in {module[:2] for module in imported(file)}}
    assert users <= ALLOWANCE


def test_what_is_slow_is_imported_late() -> None:
    """One process for all: what the first of them imports, it is to blame for."""
    modules = ["pipeline.cli", *(f"stages.{file.stem}" for file in sorted((ROOT / "stages").glob("[a-z]*.py")))]
    code = (
        f"import sys, importlib\nfor name in {modules!r}:\n"
        f"    importlib.import_module(name); print(name, *sorted(set({SLOW!r}) & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == modules


@pytest.mark.parametrize("command", LOADS)
def test_a_command_loads_no_more_than_it_needs(command: str, tmp_path: Path) -> None:
    """In a folder without a project, where some end before their work begins, but after their imports."""
    if "mr.png" in command:
        Image.fromarray(phantom.render_pair(phantom.simulate(3, size=96), 3)[1].astype(np.uint8)).save(tmp_path / "mr.png")
    listing = f"import atexit, sys; atexit.register(lambda: print('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules))))"
    ended = subprocess.run(
        [sys.executable, "-c", f"{listing}; from pipeline.cli import main; main()", *command.split()],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert set(ended.stdout.rpartition("loaded:")[2].split()) == LOADS[command], ended.stderr
    assert ("mr.png" in command) == (tmp_path / "ct.png").is_file()
