"""What a run says about itself: a name that tells it from others, the code, data and machine behind it."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from pipeline import paths, presets, privacy
from pipeline.errors import mask_credentials
from pipeline.params import Params
from pipeline.params import flatten as flatten_section
from pipeline.processes import ask_git
from pipeline.sources import provenance

Flat = dict[str, Any]
_BEFORE_TRAINING = ("download", "validate", "split", "preprocess")


def flatten(params: Params) -> Flat:
    """Every knob under its dotted name in params.yaml, such as `train.batch_size`; a folder of the user's, whose name may tell of a
    patient, as keyed hash, and addresses without credentials."""
    knobs = flatten_section(params.model_dump(by_alias=True))
    knobs |= {key: mask_credentials(value) for key, value in knobs.items() if isinstance(value, str)}
    if knobs["data.folder"]:
        privacy.make_salt()
        knobs["data.folder"] = f"p-{privacy.pseudonym('folder', knobs['data.folder'])}"
    return knobs


def preset_of(knobs: Flat) -> str:
    """The preset that all `knobs` agree with; "" when there is none."""
    return presets.name_of(knobs) if paths.PRESETS.is_dir() else ""


def run_name(knobs: Flat, preset: str, now: datetime) -> str:
    """A name that a person can tell from others: the DVC experiment or preset, what is trained on what, for how long, and when it began."""
    begin = os.environ.get("DVC_EXP_NAME") or preset or "custom"
    what = f"{knobs['data.source']} {knobs['preprocess.pixels']}px, {knobs['model.generator']} × {knobs['model.generator_width']}"
    return f"{begin}: {what}, {knobs['train.images']} images, seed {knobs['train.seed']}, {now:%d %b %H:%M}"


def tags(knobs: Flat) -> dict[str, str]:
    """Git commit (or why there is none), whether the tree was dirty, digest of DVC's lock for the data, preset, device, DVC experiment."""
    commit = ask_git("rev-parse", "--verify", "HEAD")
    # DVC's lock apart, which the graph itself rewrites.
    changed = ask_git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{paths.DVC_LOCK}")
    found = {
        "mlflow.source.git.commit": commit,
        "git.commit": commit or f"none: {why_no_commit()}",
        "git.branch": ask_git("rev-parse", "--abbrev-ref", "HEAD"),
        "git.dirty": str(bool(changed)).lower() if commit else "",
        "dvc.lock.data": lock_digest(*_BEFORE_TRAINING),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "preset": preset_of(knobs) or "custom",
        "device": device(str(knobs["train.device"])),
        "mlflow.source.name": "dvc repro train",
        "mlflow.source.type": "LOCAL",
    }
    return {key: value for key, value in found.items() if value}


def lock_digest(*stages: str) -> str:
    """Digest of what DVC's lock says about `stages` (default: all): dependencies, params, outputs. "" without a lock."""
    try:
        lock = yaml.load(paths.DVC_LOCK.read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"]
    except (FileNotFoundError, TypeError, KeyError):
        return ""
    kept = {name: lock[name] for name in sorted(lock) if not stages or name in stages}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16] if kept else ""


def device(wanted: str) -> str:
    """The device that `wanted` (auto, cpu, cuda) means on this machine, by name."""
    torch = sys.modules.get("torch")  # whoever trains has it; nobody else should wait for it
    if wanted != "cpu" and torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"cpu, {torch.get_num_threads()} threads" if torch is not None else "cpu"


def data_digest(folder: Path = paths.SLICES) -> str:
    """Digest (36 hexadecimal digits, MLflow's limit) over names and bytes of all stored slices; "" when there are none."""
    files = sorted(file for file in folder.glob("*") if file.suffix in (".npy", ".parquet"))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:36] if files else ""


def data_set(folder: Path = paths.SLICES) -> dict[str, str]:
    """The prepared slices as an MLflow data set: name, digest, where they came from, how many there are of what."""
    import numpy as np

    source = provenance.read()
    counts = {file.stem: int(np.load(file, mmap_mode="r").shape[0]) for file in sorted(folder.glob("*.npy"))}
    facts = {"source": source.source, "version": source.version, "sha256": source.sha256, **source.facts} if source else {}
    name = source.title if source else "slices"
    return {"name": name, "digest": data_digest(folder), "source": json.dumps(facts), "profile": json.dumps(counts)}


def why_no_commit() -> str:
    """Why git does not tell the commit that is run here; "" where it does."""
    try:
        command, english = ["git", "rev-parse", "--verify", "HEAD"], {**os.environ, "LC_ALL": "C"}
        ended = subprocess.run(command, env=english, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "git is not installed"
    if ended.returncode == 0:
        return ""
    reasons = {"dubious ownership": "the repository belongs to another user", "not a git repository": "no git repository"}
    return next((reason for words, reason in reasons.items() if words in ended.stderr), "no commit yet")
