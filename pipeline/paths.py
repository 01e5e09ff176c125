"""Where every file of the graph lies, relative to the project's root. The only place that spells a path."""

import os
from pathlib import Path

from pipeline.errors import UserError

PARAMS = Path("params.yaml")
PRESETS = Path("presets")
DVC_LOCK = Path("dvc.lock")
SALT = Path(".salt")

CONTENT = Path("data/content.json")  # what the source holds now
LOOK = Path(".dvc/tmp/look")  # what is remembered of its files, so that only changed ones are read again
RAW = Path("data/raw")
SOURCE_JSON = RAW / "source.json"
PAIRS_CSV = RAW / "pairs.csv"
FILES_CSV = RAW / "files.csv"  # patient and contrast of each file, where its path says them

MANIFEST = Path("data/manifest.parquet")
QUALITY_REPORT = Path("reports/quality")
VALIDATION_JSON = QUALITY_REPORT / "validation.json"
QUALITY_FAILED = Path("reports/quality-failed")  # the report of data that was refused; no output of the graph
DRIFT_JSON = QUALITY_REPORT / "drift.json"
STATISTICS_JSON = QUALITY_REPORT / "statistics.json"
REFERENCES = Path("references")  # statistics of the data that trusted models were trained on; kept in git
QUARANTINE_CSV = QUALITY_REPORT / "quarantine.csv"

SPLIT = Path("data/split.parquet")
SPLIT_JSON = Path("reports/split.json")

SLICES = Path("data/slices")
INDEX = SLICES / "index.parquet"
PREPROCESSING = SLICES / "preprocessing.json"  # the section preprocess of the params that the arrays were made with
HELD_OUT = "teacher_val"  # simulated pairs that no network is trained on

MODELS = Path("models")
MODEL_JSON = MODELS / "model.json"
RUN_JSON = MODELS / "run.json"
TRAIN_REPORT = Path("reports/train")

EVALUATE_REPORT = Path("reports/evaluate")
METRICS_JSON = EVALUATE_REPORT / "metrics.json"
SCORES_JSON = EVALUATE_REPORT / "scores.json"  # the few that one looks at first, for dvc metrics
PER_SLICE = EVALUATE_REPORT / "per_slice.parquet"
REPORT_HTML = EVALUATE_REPORT / "report.html"

REGISTER_REPORT = Path("reports/register")
VERSIONS_JSON = REGISTER_REPORT / "versions.json"
MODEL_CARD = REGISTER_REPORT / "model_card.md"

RETRAIN_REPORT = Path("reports/retrain")  # what each retraining did; no output of the graph
RETRAIN_WORK = Path(".dvc/tmp/retrain")  # its lock and the git worktree that it works in

BOX = Path(__file__).parent / "box"  # the model in the box: part of the package, wherever that is installed
IN_THE_BOX = "box"  # the word that names it in commands and params
BOX_ORIGIN, BOX_CARD, BOX_SCORES = BOX / "origin.json", BOX / "MODEL_CARD.md", BOX / "scores.json"  # beside weights, model.json, params

CHECKPOINTS = Path("checkpoints")
TRAINING_LOCK = CHECKPOINTS / "training.lock"  # held by the one training at work
FINISHED = "finished.json"  # beside the checkpoints of a training that came to its end
SERVING = "ctmr-serve-"  # begins the name of the web page's temporary folder
MLRUNS = Path("mlruns")
WRITTEN_IN = (Path(), Path("data"), Path("reports"), CHECKPOINTS, LOOK, RETRAIN_WORK)  # folders in which outputs appear

MODALITIES = ("ct", "mr")
DIRECTIONS = ("ct_to_mr", "mr_to_ct")
SPLITS = ("train", "val", "test")
# What lies in data/slices: slices of each split, the other side of paired ones and where it is known, simulated pairs.
ARRAY_KINDS = (*SPLITS, "truth", "train_truth", "train_known", "val_truth", "val_known", "teacher", HELD_OUT)


def slices(kind: str, modality: str) -> Path:
    """Array of all slices of one of ARRAY_KINDS and one modality, shape (N, pixels, pixels)."""
    return SLICES / f"{kind}_{modality}.npy"


def partner_kinds(split: str) -> tuple[str, ...]:
    """The kinds of array that hold the other side of the paired slices of `split`, and, for training, where it is known."""
    return ("truth",) if split == "test" else (f"{split}_truth", f"{split}_known")


def weights(direction: str) -> Path:
    """Generator weights of one direction."""
    return MODELS / f"{direction}.safetensors"


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working folder) that holds dvc.yaml and params.yaml.

    Raises UserError when there is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / PARAMS).is_file():
            return folder
    raise UserError(f"{start}: no dvc.yaml and params.yaml here or above; change into the project's folder")


def home(start: Path | None = None) -> Path:
    """The project's folder; for a copy of it below `.dvc` (of `dvc exp run --temp`, of a retraining), the project it was copied from."""
    root = project_root(start)
    return Path(*root.parts[: root.parts.index(".dvc")]) if ".dvc" in root.parts else root


def models_named(name: str) -> Path:
    """The folder of models that a person names: `box` is the model in the box, everything else a folder, as `as_given`."""
    return BOX if name == IN_THE_BOX else as_given(name)


def has_box() -> bool:
    """Whether this copy of the package has the weights of the model in the box."""
    return any(BOX.glob("*.safetensors"))


def as_given(name: str) -> Path:
    """A file or folder that the user named, relative to the project or absolute.

    In a copy of the project below `.dvc` it may be absent, since a copy holds what git tracks; then it is the project's own.
    """
    place, here = Path(os.path.expanduser(name)), Path.cwd()  # noqa: PTH111 - Path's own raises for a user that is none
    if place.exists() or ".dvc" not in here.parts:
        return place
    return Path(*here.parts[: here.parts.index(".dvc")]) / place
