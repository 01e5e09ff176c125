"""Checkpoints: written beside and renamed, checksummed by their name, the last three stay, never unpickled freely."""

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import torch

from pipeline.atomic import new_file

COUNT = 3  # checkpoints that stay


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
