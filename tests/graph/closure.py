"""Which files of ours a stage runs, read from its imports: what dvc.yaml must list under `deps`.

python -m tests.graph.closure            # print the deps block of every stage
python -m tests.graph.closure --write    # bring dvc.yaml up to date
"""

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
OURS = ("pipeline", "stages")
BOX = Path("pipeline/box/model.json")  # of the model in the box: it has the digests of the weights
WIDTH = 132  # of a line in dvc.yaml


@cache
def imports(module: Path, root: Path = ROOT) -> frozenset[Path]:
    """Files of ours that `module` uses, relative to `root`: what it imports anywhere, modules it names in strings, data files beside it,
    the model in the box.

    Imports under `if TYPE_CHECKING` do not count.
    """
    return frozenset(_imports(module, root))


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _imports(module: Path, root: Path) -> Iterator[Path]:
    for node in _running_code(parse(root / module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name, root)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(module.parts[: len(module.parts) - node.level]) if node.level else ""
            name = ".".join(filter(None, (package, node.module)))
            yield from _files(name, root)
            for alias in node.names:
                yield from _files(f"{name}.{alias.name}", root)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("paths.BOX", "paths.models_named"):
            yield BOX
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _named(node.value, module, root)


def _running_code(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from (other, *_running_code(other))
            continue
        yield node
        yield from _running_code(node)


def _files(name: str, root: Path) -> Iterator[Path]:
    """The files that importing the dotted `name` runs; none when it is not ours, or no module but a name in one."""
    parts = name.split(".")
    if parts[0] not in OURS:
        return
    place = Path(*parts)
    own = [file for file in (place.with_suffix(".py"), place / "__init__.py") if (root / file).is_file()]
    if own:
        packages = (Path(*parts[:count]) / "__init__.py" for count in range(1, len(parts)))
        yield from (file for file in (*packages, *own) if (root / file).is_file() and not _says_nothing(root / file))


@cache
def _says_nothing(file: Path) -> bool:
    """Whether it is a package's file without any code but its docstring."""
    if file.name != "__init__.py":
        return False
    return all(isinstance(node, ast.Expr) for node in parse(file).body)


def _named(text: str, module: Path, root: Path) -> Iterator[Path]:
    """Modules that a string names (`python -m pipeline.x`; `pipeline.x.` means every module there), and data files beside the module."""
    if re.fullmatch(r"(pipeline|stages)(\.\w+)+", text):
        yield from _files(text, root)
    elif re.fullmatch(r"(pipeline|stages)(\.\w+)*\.", text):
        folder = Path(*text.rstrip(".").split("."))
        yield from (file.relative_to(root) for file in (root / folder).glob("*.py"))
    elif re.fullmatch(r"[\w.-]*\.\w+", text):
        file = module.with_suffix(text) if text.startswith(".") and text.count(".") == 1 else module.with_name(text)
        if (root / file).is_file() and file != module:
            yield file


@cache
def closure(start: Path, root: Path = ROOT) -> set[Path]:
    """`start` with all files of ours that it uses, directly or not; paths relative to `root`."""
    seen: set[Path] = set()
    waiting = {start}
    while waiting:
        file = waiting.pop()
        seen.add(file)
        if file.suffix == ".py":
            waiting |= imports(file, root) - seen
    return seen


def code_deps(stage: str, root: Path = ROOT) -> list[str]:
    """What dvc.yaml lists as code of `stage`: files, or a folder where all of its files are used."""
    used = set(closure(Path(f"stages/{stage}.py"), root))
    folders = sorted({parent for file in used for parent in file.parents if len(parent.parts) > 1})
    for folder in folders:
        if {file.relative_to(root) for file in code_files(root / folder)} <= used:
            used = {file for file in used if not file.is_relative_to(folder)} | {folder}
    order = {"stages": 0, "pipeline": 1}
    return [path.as_posix() for path in sorted(used, key=lambda path: (order[path.parts[0]], path.suffix != "", path))]


def code_files(folder: Path) -> list[Path]:
    """Every file below `folder` that is code or read by code."""
    files = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return [file for file in files if not _says_nothing(file)]


def is_code(dep: str) -> bool:
    """Whether a dependency in dvc.yaml is code, not data."""
    return dep.split("/")[0] in OURS


def stages(root: Path = ROOT) -> dict[str, list[str]]:
    """The stages of dvc.yaml with their deps."""
    content = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    return {name: stage.get("deps", []) for name, stage in content["stages"].items()}


def block(stage: str, deps: list[str], root: Path = ROOT) -> str:
    """The lines of dvc.yaml with `deps` of `stage`: data as `deps` has it, code by the imports."""
    words = ", ".join([*(dep for dep in deps if not is_code(dep)), *code_deps(stage, root)])
    lines = textwrap.wrap(f"deps: [{words}]", WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 11, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def write(root: Path = ROOT) -> None:
    """Rewrite the deps blocks of dvc.yaml; everything else stays as it is."""
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    for stage, deps in stages(root).items():
        pattern = rf"(^  {stage}:\n(?:    .*\n|\n)*?)    deps:.*\n(?:     .*\n)*"
        text, count = re.subn(pattern, lambda match: match.group(1) + block(stage, deps, root), text, flags=re.MULTILINE)  # noqa: B023
        assert count == 1, f"dvc.yaml: no deps of {stage} found"
    (root / "dvc.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite dvc.yaml")
    if parser.parse_args().write:
        write()
    else:
        for stage, deps in stages().items():
            sys.stdout.write(f"  {stage}:\n{block(stage, deps)}")
