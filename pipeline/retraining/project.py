"""What tells this project from others on a Prefect server that several share."""

import hashlib
import re
from pathlib import Path

import yaml

from pipeline.retraining.workspace import git

VARIABLE = "CTMR_PROJECT"  # by which prefect.yaml learns the name


def repository(folder: Path) -> str:
    """The same for every clone, on any machine: `name` in prefect.yaml and the first commit. One retraining at a time is for these.

    Raises UserError where `folder` is no git repository with a commit.
    """
    first = git(folder, "rev-list", "--max-parents=0", "HEAD", or_else="its history cannot be read").split()[0]
    return f"{_given_name(folder)}-{first[:12]}"


def name(folder: Path) -> str:
    """Of this folder alone: begins the names of its deployments and their pool, which know the folder. Lower case, digits and dashes."""
    digest = hashlib.sha256(f"{repository(folder)} {folder.resolve()}".encode()).hexdigest()
    return f"{_given_name(folder)}-{digest[:6]}"


def _given_name(folder: Path) -> str:
    file = folder / "prefect.yaml"
    given = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("name") if file.is_file() else None
    return re.sub("[^a-z0-9]+", "-", str(given or folder.resolve().name).lower()).strip("-") or "project"
