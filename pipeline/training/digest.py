"""Which training a checkpoint belongs to: a digest of all that shapes the weights, and whether that training has ended."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml

from pipeline import atomic, paths
from pipeline.params import Params

CODE = Path(__file__).parents[2]
SHAPES_NOTHING = {"device", "devices", "precision", "threads", "start_from", "checkpoint_seconds"}  # or stands below as what it means here


def job_digest(params: Params, device: torch.device, precision: str, slices: Path = paths.SLICES) -> str:
    """Digest of params, slices, code, starting weights and what computes; a job that differs in any of them starts afresh."""
    digest = hashlib.sha256()
    facts = {
        "model": params.model.model_dump(),
        "train": params.train.model_dump(exclude=SHAPES_NOTHING),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability(),
        "devices": params.train.devices,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for file in _files(params, slices):
        with file.open("rb") as opened:
            digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _files(params: Params, slices: Path) -> Iterator[Path]:
    """The slices, the code as dvc.yaml lists it for train (a test holds that to the imports), the weights to start from."""
    yield from sorted(file for file in slices.iterdir() if file.is_file())
    graph = yaml.load((CODE / "dvc.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    for dep in graph["stages"]["train"]["deps"]:
        if dep.startswith(("pipeline/", "stages/")) and not dep.endswith(".json"):  # the box counts where training starts from it
            yield from sorted((CODE / dep).rglob("*.py")) if (CODE / dep).is_dir() else [CODE / dep]
    if params.train.start_from:
        folder = paths.models_named(params.train.start_from)
        yield from sorted(file for file in (folder / paths.MODEL_JSON.name, *folder.glob("*.safetensors")) if file.is_file())


def mark_finished(folder: Path) -> None:
    """Note in the checkpoints' folder that this training came to its end, and what DVC knew then."""
    atomic.write_json(folder / paths.FINISHED, {"dvc.lock": _recorded()})


def forget_finished(folder: Path) -> None:
    """Remove the checkpoints of a training that came to its end and was recorded: run again, it is meant to train again (--force).

    Where its outputs were never recorded, since dvc was killed or failed just then, they can be written from the last checkpoint.
    """
    file = folder / paths.FINISHED
    if not file.is_file():
        return
    if paths.MODELS.exists() or json.loads(file.read_text(encoding="utf-8")) != {"dvc.lock": _recorded()}:
        shutil.rmtree(folder)


def _recorded() -> str:
    """Digest of what dvc.lock says of train; it changes with each training that DVC records, since models/run.json does."""
    try:
        entry = yaml.load(paths.DVC_LOCK.read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"].get("train")
    except FileNotFoundError:
        entry = None
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]
