"""dvc.yaml tells the truth: every stage lists the code that it runs and the files that it reads, and nothing else."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from pipeline import paths
from pipeline.params import Params
from tests.graph import closure

STAGES = closure.stages()
GRAPH = yaml.safe_load((closure.ROOT / "dvc.yaml").read_text())["stages"]
MEND = "python -m tests.graph.closure --write brings dvc.yaml up to date"
# Read only to be told to MLflow, no output of the graph (as a dependency it would train again for another name of the same slices),
# or read for another stage by code of tracking/ that several stages share; look only asks whether there is data.
TOLD = {"look": {paths.RAW}, "train": {paths.SOURCE_JSON, paths.TRAIN_REPORT, paths.EVALUATE_REPORT}, "register": {paths.TRAIN_REPORT}}


@pytest.mark.parametrize("stage", STAGES)
def test_code_is_the_closure_of_imports(stage: str) -> None:
    listed, used = {dep for dep in STAGES[stage] if closure.is_code(dep)}, set(closure.code_deps(stage))
    assert sorted(used - listed) == [], f"{stage} uses what dvc.yaml does not list; {MEND}"
    assert sorted(listed - used) == [], f"{stage} does not use what dvc.yaml lists; {MEND}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_output_of_another_stage_that_is_read_is_listed(stage: str) -> None:
    own, others = outputs(stage), {out for name in GRAPH if name != stage for out in outputs(name)}
    read = {place for file in closure.closure(Path(f"stages/{stage}.py")) for place in places_named(file)}
    inputs = {place for place in read if under(place, others) and not under(place, own)} - TOLD.get(stage, set())
    listed = {Path(dep) for dep in STAGES[stage]}
    assert {place.as_posix() for place in inputs if not under(place, listed)} == set(), f"{stage} reads them"


@pytest.mark.parametrize("stage", STAGES)
def test_every_section_of_params_that_is_used_is_listed(stage: str) -> None:
    """Values of Params are called `params` everywhere."""
    listed = {param.split(".")[0] for param in GRAPH[stage]["params"]}
    used = {section for file in closure.closure(Path(f"stages/{stage}.py")) for section in sections_used(file)}
    assert used - listed == set()


@pytest.mark.parametrize("stage", ["download", "validate", "split", "preprocess", "train"])
def test_wording_of_reports_trains_nothing_again(stage: str) -> None:
    written = [file.as_posix() for file in closure.closure(Path(f"stages/{stage}.py")) if "evaluation" in file.parts]
    assert written == []


def test_closure_sees_every_way_to_use_a_file(tmp_path: Path) -> None:
    files = {
        "stages/one.py": "from pipeline import a\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pipeline.types_only\n",
        "pipeline/__init__.py": '"""Nothing but a docstring."""\n',
        "pipeline/a.py": "def late():\n    from pipeline.inner import name\n    import pipeline.inner.deep\n",
        "pipeline/inner/__init__.py": "name = 1\n",
        "pipeline/inner/deep.py": 'COMMAND = ["python", "-m", "pipeline.run_apart"]\nPAGE = "page.html"\nWEIGHTS = ".json"\n',
        "pipeline/inner/page.html": "",
        "pipeline/inner/deep.json": "",
        "pipeline/run_apart.py": "from .relative import thing\nimport os.path\n",
        "pipeline/relative.py": "thing = 1\n",
        "pipeline/types_only.py": "",
        "pipeline/unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    used = {file.as_posix() for file in closure.closure(Path("stages/one.py"), tmp_path)}
    assert set(files) - used == {"pipeline/__init__.py", "pipeline/types_only.py", "pipeline/unused.py"}


def outputs(stage: str) -> set[Path]:
    return {Path(out if isinstance(out, str) else next(iter(out))) for out in GRAPH[stage]["outs"]}


def under(place: Path, folders: set[Path]) -> bool:
    return any(place.is_relative_to(folder) for folder in folders)


@cache
def places_named(file: Path) -> set[Path]:
    """Constants of pipeline/paths.py that a file of code mentions, and what its functions there give."""
    if file.suffix != ".py" or file.name == "paths.py":
        return set()
    names = {node.attr for node in ast.walk(closure.parse(closure.ROOT / file)) if is_of(node, "paths")}
    constants = {getattr(paths, name, None) for name in names}
    return {place for place in constants if isinstance(place, Path)}


@cache
def sections_used(file: Path) -> set[str]:
    if file.suffix != ".py":
        return set()
    names = {node.attr for node in ast.walk(closure.parse(closure.ROOT / file)) if is_of(node, "params", "load()", "stage.params")}
    return {field.alias or name for name, field in Params.model_fields.items() if name in names}


def is_of(node: ast.AST, *values: str) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) in values
