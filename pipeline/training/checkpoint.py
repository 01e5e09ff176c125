"""Checkpoints: written beside and renamed, checksummed by their name, the last three stay, never unpickled freely.

They lie in a folder named by a digest of all that shapes the weights, which also notes whether that training has ended.
"""

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from pipeline import paths
from pipeline.atomic import new_file, write_json
from pipeline.params import Params

COUNT = 3  # checkpoints that stay
CODE = Path(__file__).parents[2]
SHAPES_NOTHING = {"device", "devices", "precision", "threads", "start_from", "checkpoint_seconds"}  # or stands below as what it means here


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as `<step>-<sha256>.pt` and drop all but the last three."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    target = folder / f"{step:09d}-{hashlib.sha256(content).hexdigest()}.pt"
    with new_file(target) as beside:
        beside.write_bytes(content)
    for old in _list_newest_first(folder)[COUNT:]:
        old.unlink()
    return target


def read_latest_checkpoint(folder: Path) -> bytes:
    """The newest sound checkpoint as it lies on the disk, empty where there is none; a damaged one is passed over with a warning."""
    for file in _list_newest_first(folder):
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() == file.stem.partition("-")[2]:
            return content
        print(f"warning: {file}: damaged checkpoint passed over", file=sys.stderr)
    return b""


def parse_checkpoint(content: bytes) -> dict[str, Any]:
    """The state that `content`, of a checkpoint, holds; never unpickled freely."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def _list_newest_first(folder: Path) -> list[Path]:
    """Files still being written begin with a dot."""
    return sorted((file for file in folder.glob("*.pt") if not file.name.startswith(".")), reverse=True)


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
    write_json(folder / paths.FINISHED, {"dvc.lock": _recorded()})


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
