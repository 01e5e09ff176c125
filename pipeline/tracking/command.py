"""`ctmr models`, `ctmr promote` and `ctmr rollback`: what the registry holds, and a person's word about it."""

import json

from pipeline.errors import UserError
from pipeline.tables import print_table
from pipeline.tracking import promotion, registry, store
from pipeline.tracking.registry import CHAMPION


def show_models() -> None:
    """Print a table of all versions: aliases, scores on the test slices, whether it was promoted and why not."""
    uri = store.tracking_uri()
    rows = []
    for name in registry.NAMES.values():
        for version in registry.versions(uri, name):
            scores = json.loads(version.tags.get(registry.SCORES, "{}"))
            figures = [f"{scores[key]:.3f}" if key in scores else "–" for key in ("mae", "ssim", "cycle_mae")]
            rows.append((f"{name}/{version.version}", ", ".join(sorted(version.aliases)), *figures, promotion.verdict(version)))
    if rows:
        print_table(("model", "aliases", "MAE", "SSIM", "cycle MAE", "verdict when registered"), rows)
    else:
        print(f"the registry {uri} is empty; dvc repro --single-item --force register fills it from models/")


def promote(name: str, number: str) -> None:
    """Make a version champion by a person's word, whatever the gate said. Raises UserError when there is no such version."""
    uri = store.tracking_uri()
    version = registry.version(uri, f"{name}/{number}")
    current = registry.alias(uri, name, CHAMPION)
    if current is not None and str(current.version) == str(version.version):
        print(f"{name} version {number} is the champion already")
        return
    before = promotion.promote(uri, version)
    store.client(uri).set_model_version_tag(name, version.version, "promoted", "by hand")
    print(f"{name}: version {number} is champion" + (f", version {before.version} is previous" if before else ""))


def rollback(name: str) -> None:
    """Champion and previous change places. Raises UserError when there is no previous champion."""
    if name not in registry.NAMES.values():
        raise UserError(f"model {name}: expected {' or '.join(registry.NAMES.values())}")
    now, before = promotion.rollback(store.tracking_uri(), name)
    print(f"{name}: version {now.version} is champion again, version {before.version} is previous")
