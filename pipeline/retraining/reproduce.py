"""`ctmr reproduce`: a retraining built once more from its commit, and whether bytes and scores agree.

The source's files come from DVC's cache as they were then (the source itself may have changed since); every later stage up to the scores
runs again, without the first one's checkpoints and with an MLflow store of its own, so that the project's is left alone.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.errors import UserError
from pipeline.retraining import history, results, workspace
from pipeline.retraining.stages import checkout, order, run_stage
from pipeline.retraining.workspace import Busy, Workspace

LEFT_OUT = ("download", "register")  # not repeated: the source, and the registry


def reproduce(repo: Path, name: str) -> bool:
    """Rebuild the retraining `name` and print what agrees; True when all bytes do, or all scores lie within the first one's intervals.

    Raises UserError when there is no such retraining, or another one is at work.
    """
    record = history.find(repo, name)
    try:
        with workspace.only_one(repo, f"ctmr reproduce {name}"):
            work = workspace.prepare(repo, "reproduce", record.commit)
            before = work.lock()
            with suppress(FileNotFoundError):
                shutil.rmtree(work.folder / paths.CHECKPOINTS)
            checkout(work.folder, work.env)
            if not (work.folder / paths.SOURCE_JSON).is_file():
                raise UserError(f"{name}: its files from the source are no longer in DVC's cache; dvc pull may bring them")
            store = work.folder.with_name("reproduce.mlflow") / "mlflow.db"
            shutil.rmtree(store.parent, ignore_errors=True)
            env = {**work.env, "MLFLOW_TRACKING_URI": f"sqlite:///{store}", "DVC_EXP_NAME": f"again {name}"}
            for stage in order(work.folder):
                if stage not in LEFT_OUT:
                    print(f"== {stage}", flush=True)
                    run_stage(stage, work.folder, lambda line: print(line, flush=True), force=True, env=env)
            bytes_agree, scores_agree = _compare_bytes(work, before), _compare_scores(work, record)
    except Busy as other:
        raise UserError(f"another retraining is at work: {other}; wait for it") from None
    print(f"{name}: " + ("rebuilt, byte for byte" if bytes_agree else "scores agree" if scores_agree else "NOT reproduced"))
    return bytes_agree or scores_agree


def _compare_bytes(work: Workspace, before: dict[str, Any]) -> bool:
    """Print each file of the rebuilt stages' outputs that differs; models/run.json names the MLflow run, and always does."""
    agree = True
    after = work.lock()
    for stage in (name for name in before if name not in LEFT_OUT):
        old, new = _files(work, before[stage]), _files(work, after[stage])
        differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name) and name != str(paths.RUN_JSON))
        print(
            f"{stage}: {len(new) - len(differing)} of {len(new)} files have the same bytes"
            + "".join(f"\n  {name} differs" for name in differing)
        )
        agree = agree and not differing
    return agree


def _files(work: Workspace, stage: dict[str, Any]) -> dict[str, str]:
    """Digest of every file that a stage wrote."""
    found: dict[str, str] = {}
    for out in stage["outs"]:
        if out["md5"].endswith(".dir"):
            found |= {f"{out['path']}/{name}": digest for name, digest in workspace.listing(work.cache, out["md5"]).items()}
        else:
            found[out["path"]] = out["md5"]
    return found


def _compare_scores(work: Workspace, record: history.Record) -> bool:
    """Print each score beside the first one's; True when every new one lies within the first one's interval."""
    again = results.read_json(work.folder / paths.METRICS_JSON).get("test", {})
    agree = True
    for direction, scores in record.scores.items():
        for name, low in ((name.removesuffix("_low"), low) for name, low in scores.items() if name.endswith("_low")):
            high, now = scores[f"{name}_high"], again[direction][name]
            agree = agree and low <= now <= high
            print(f"{direction} {name}: {now:.4f}, was {scores[name]:.4f} [{low:.4f}, {high:.4f}]")
    return agree
