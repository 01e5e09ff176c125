"""What a registered model consists of: weights, this package's code for translation, signature, requirements. Nothing is unpickled."""

import ast
import functools
import shutil
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.atomic import write_json
from pipeline.domain import Direction
from pipeline.models.folder import read_weights, refuse

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

    from pipeline.tracking.runs import Run

ARTIFACT = "translator"  # folder of a version's files with model.json and the weights
_PACKAGE = Path(__file__).parents[1]
_ENTRY = _PACKAGE / "serving/pyfunc.py"
# Decoders that pydicom finds by itself: no import names them.
_PLUGINS = ("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle")


def log_model(run: "Run", direction: Direction, models: Path) -> Any:
    """Log the generator of `direction` in the folder `models` into `run`, as MLflow's ModelInfo."""
    import mlflow
    from mlflow.models import Model

    mlflow.set_experiment(experiment_id=run.experiment)  # else its files would lie beside the run's
    with TemporaryDirectory() as folder:
        return Model.log(
            artifact_path=None,
            name=direction.model_name,
            flavor=mlflow.pyfunc,
            run_id=run.id,
            python_model=str(_ENTRY),
            artifacts={ARTIFACT: str(_one_direction(models, direction, Path(folder) / ARTIFACT))},
            code_paths=[str(_code(Path(folder) / _PACKAGE.name))],
            signature=_signature(),
            input_example=_example(),
            pip_requirements=requirements(),
        )


def _one_direction(models: Path, direction: Direction, target: Path) -> Path:
    """A folder like models/, with the weights of one direction only and nothing about the run."""
    target.mkdir(parents=True)
    try:
        facts, file = read_weights(models, direction)
        facts["directions"] = {direction: facts["directions"][direction]}
        shutil.copyfile(file, target / file.name)
    except (FileNotFoundError, ValueError) as error:
        raise refuse(models, direction, error) from None
    write_json(target / paths.MODEL_JSON.name, facts)
    return target


def _code(target: Path) -> Path:
    """The part of this package that translation imports, so that a registered model works where the project is not installed."""
    for file in code_files():
        place = target / file.relative_to(_PACKAGE)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    return target


@functools.cache  # the same for both directions, and seconds to find out
def code_files() -> list[Path]:
    """Every file of this package that the model's entry needs: what it imports, directly or not, and data that lies beside it."""
    found: set[Path] = set()
    waiting = [_ENTRY]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += [folder / "__init__.py" for folder in file.parents if folder.is_relative_to(_PACKAGE)]
        waiting += [place for name in _imports(file) if (place := _module_file(name)) and _PACKAGE / "tracking" not in place.parents]
    return sorted(found | {data for file in found for data in file.parent.glob("*.json")})


@functools.cache
def requirements() -> list[str]:
    """What a registered model needs, pinned to the versions in use; a local build such as torch 2.13.0+cpu under its public version."""
    imported = {name for file in code_files() if file.suffix == ".py" for name in _imports(file)}
    known = metadata.packages_distributions()
    needed = {_distribution(name, known[top]) for name in imported if (top := name.partition(".")[0]) in known and top != _PACKAGE.name}
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in sorted({name.lower() for name in needed} | set(_PLUGINS))]


def _distribution(module: str, candidates: list[str]) -> str:
    """Which of the distributions that share a top-level package has `module`: the one of its name, else the first."""
    parts = module.lower().split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((candidate for name in names for candidate in candidates if candidate.lower() == name), candidates[0])


@functools.cache
def _imports(file: Path) -> set[str]:
    """Full names of the modules that a file imports; of `from x import y` both x and x.y, since y may be a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _module_file(name: str) -> Path | None:
    """The file of a module of this package; None for every other name."""
    place = _PACKAGE.parent.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if _PACKAGE in file.parents and file.is_file()), None)


def _signature() -> "ModelSignature":
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    pixels = Schema([TensorSpec(np.dtype(np.float32), (-1, -1, -1))])
    defaults = {"unit": "picture", "contrast": "", "image": "", "ct_values": "auto"}
    choices = ParamSchema([ParamSpec(name, "string", default) for name, default in defaults.items()])
    return ModelSignature(inputs=pixels, outputs=pixels, params=choices)


def _example() -> Any:
    """One drawn slice (1, 64, 64): a bright ring around a grey disk, in which either direction finds a head."""
    import numpy as np

    down, right = np.mgrid[-1:1:64j, -1:1:64j]
    distance = np.hypot(down / 0.8, right / 0.65)
    return np.where(distance < 0.85, 0.4, np.where(distance < 1, 0.9, 0))[None].astype(np.float32)
