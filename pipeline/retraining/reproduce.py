"""`ctmr reproduce`: a retraining built once more from its commit, and whether bytes and scores agree.

The source's files come from DVC's cache as they were then (the source itself may have changed since); every later stage up to the scores
runs again, without the first one's checkpoints and with an MLflow store of its own, so that the project's is left alone.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from pipeline import paths
from pipeline.errors import UserError
from pipeline.retraining import history, workspace
from pipeline.retraining.graph import checkout, load_stage, open_graph, run_stage, stage_names
from pipeline.retraining.history import Record
from pipeline.retraining.summary import read_json
from pipeline.retraining.workspace import Busy, Workspace
from pipeline.tracking.store import sqlite_uri

LEFT_OUT = ("download", "register")  # not repeated: the source, and the registry


def reproduce(repo: Path, name: str) -> bool:
    """Rebuild the retraining `name` and print what agrees; True when all bytes do, or all scores lie within the first one's intervals.

    Raises UserError when there is no such retraining, or another one is at work.
    """
    record = history.find(repo, name)
    try:
        with workspace.hold_lock(repo, f"ctmr reproduce {name}"):
            work = workspace.prepare(repo, "reproduce", record.commit)
            _rebuild(work, record)
            bytes_agree, scores_agree = _compare_bytes(work), _compare_scores(work, record)
    except Busy as other:
        raise UserError(f"another retraining is at work: {other}; wait for it") from None
    print(f"{name}: " + ("rebuilt, byte for byte" if bytes_agree else "scores agree" if scores_agree else "NOT reproduced"))
    return bytes_agree or scores_agree


def _rebuild(work: Workspace, record: Record) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(work.folder / paths.CHECKPOINTS)
    checkout(work.folder)
    if not (work.folder / paths.SOURCE_JSON).is_file():
        raise UserError(f"{record.name}: its files from the source are no longer in DVC's cache; dvc pull may bring them")
    store = work.repo / paths.RETRAIN_WORK / "reproduce.mlflow/mlflow.db"
    shutil.rmtree(store.parent, ignore_errors=True)
    env = {**work.env, "MLFLOW_TRACKING_URI": sqlite_uri(store), "DVC_EXP_NAME": f"again {record.name}"}
    for stage in stage_names(work.folder):
        if stage not in LEFT_OUT:
            print(f"== {stage}", flush=True)
            run_stage(stage, work.folder, lambda line: print(line, flush=True), force=True, env=env)


def _compare_bytes(work: Workspace) -> bool:
    """Print each file of the rebuilt stages' outputs that differs; models/run.json names the MLflow run, and always does."""
    with open_graph(work.folder) as dvc:
        changes = dvc.diff("HEAD")
        rebuilt = {name: [out.def_path for out in load_stage(dvc, name).outs] for name in stage_names(work.folder)}
        files = {name: [file for out in outs for file in dvc.datafs.find(out)] for name, outs in rebuilt.items() if name not in LEFT_OUT}
    differing = {entry["path"] for kind in ("added", "deleted", "modified") for entry in changes.get(kind, [])} - {str(paths.RUN_JSON)}
    agree = True
    for stage, names in files.items():
        outs = tuple(f"{out}/" for out in rebuilt[stage])
        wrong = sorted(name for name in differing if not name.endswith("/") and (name in rebuilt[stage] or name.startswith(outs)))
        print(f"{stage}: {len(names) - len(wrong)} of {len(names)} files have the same bytes")
        for name in wrong:
            print(f"  {name} differs")
        agree = agree and not wrong
    return agree


def _compare_scores(work: Workspace, record: Record) -> bool:
    """Print each score beside the first one's; True when every new one lies within the first one's interval."""
    again = read_json(work.folder / paths.METRICS_JSON).get("test", {})
    agree = True
    for direction, scores in record.scores.items():
        for name, low in ((name.removesuffix("_low"), low) for name, low in scores.items() if name.endswith("_low")):
            high, now = scores[f"{name}_high"], again[direction][name]
            agree = agree and low <= now <= high
            print(f"{direction} {name}: {now:.4f}, was {scores[name]:.4f} [{low:.4f}, {high:.4f}]")
    return agree
