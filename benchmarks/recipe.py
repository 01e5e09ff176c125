"""The recipe and what it is made of, several seeds each, scored on registered pairs and on the archive's own test slices.

python benchmarks/recipe.py ARCHIVE PAIRS --patient '^(\\d+)\\d{3}$' --work FOLDER, on an idle machine, for hours. Two trainings at a time,
a core each. What FOLDER holds already is not made again. Prints the tables of docs/results.md: means and extremes over the seeds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from pipeline.domain import DIRECTIONS, SCORES
from pipeline.evaluation.intervals import compare

REPOSITORY = Path(__file__).parents[1]
SHORT = ["train.images=0", "train.teacher.images=6000"]
AFTER = ["train.teacher.images=0"]  # the unpaired phase alone, from the weights of "short teacher" with the same seed
NO_IDENTITY = [*AFTER, "train.lambda_identity=0.0"]
VARIANTS = {
    "shipped": [],
    "teacher alone": ["train.images=0"],
    "short teacher": SHORT,
    "short teacher, pairs as they are": [*SHORT, "train.teacher.augment=false"],
    "short teacher, learning rate 0.0002": [*SHORT, "train.teacher.learning_rate=0.0002"],
    "short teacher, contrast not told": [*SHORT, "model.condition_on_contrast=false"],
    "then unpaired": AFTER,
    "then unpaired, no identity loss": NO_IDENTITY,
    "then unpaired, no identity loss, adversarial weight 1": [*NO_IDENTITY, "train.lambda_adversarial=1.0"],
    "then unpaired, no identity loss, teacher dropped": [*NO_IDENTITY, "train.teacher.weight=0"],
    "plain CycleGAN": [  # takes as long as a short teacher and the unpaired phase
        "train.images=3200", "train.teacher.images=0", "train.teacher.weight=0", "train.lambda_adversarial=1.0",
        "train.lambda_cycle=10.0", "train.lambda_identity=0.5", "model.condition_on_contrast=false",
    ],
}  # fmt: skip
TRUTH = ("mae", "correlation", "ssim")
WITHOUT_TRUTH = ("texture_frechet", "texture_kernel", "spread", "gradient_correlation", "cycle_mae")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--patient", required=True, help="regular expression whose group names the patient in the pairs' file names")
    parser.add_argument("--work", type=Path, required=True, help="folder for clones, models and reports")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument(
        "--against", choices=list(VARIANTS), help="compare the others with this one on the registered pairs, slice by slice"
    )
    options = parser.parse_args()
    base = options.work / "base"
    if not (base / "data/slices/index.parquet").is_file():
        options.work.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(base)], check=True)
        run(base, "ctmr", "preset", "kaggle-cpu", "--set", "data.source=folder", "--set", f"data.folder={options.archive.resolve()}")
        run(base, "dvc", "repro", "preprocess")
    after = [name for name in options.variants if VARIANTS[name][:1] == AFTER]
    first = [name for name in options.variants if name not in after]
    if after and "short teacher" not in first:
        first.insert(0, "short teacher")
    for names in (first, after):
        with ThreadPoolExecutor(2) as workers:
            jobs = [workers.submit(train, options, name, seed) for name in names for seed in options.seeds]
        for job in jobs:
            job.result()
    print_scores("Registered pairs", options, "reports/pairs", TRUTH)
    print_scores("Test slices of the archive", options, "reports/evaluate", WITHOUT_TRUTH)
    if options.against:
        print_differences(options)


def train(options: argparse.Namespace, name: str, seed: int) -> None:
    folder = place(options, name, seed)
    if not (folder / "models/model.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(options.work / "base", folder, symlinks=True)
        changes = [f"train.seed={seed}", "train.threads=1", *VARIANTS[name]]  # two trainings share the machine
        if VARIANTS[name][:1] == AFTER:
            changes.append(f"train.start_from={place(options, 'short teacher', seed).resolve() / 'models'}")
        run(folder, "ctmr", "preset", *(part for change in changes for part in ("--set", change)))
        run(folder, "dvc", "repro", "train")
    if not (folder / "reports/evaluate/metrics.json").is_file():
        run(folder, sys.executable, "-m", "stages.evaluate")
    if not (folder / "reports/pairs/metrics.json").is_file():
        run(folder, "ctmr", "evaluate", str(options.pairs.resolve()), "--patient", options.patient)


def place(options: argparse.Namespace, name: str, seed: int) -> Path:
    folder: Path = options.work / f"{name.replace(',', '').replace(' ', '-')}-{seed}"
    return folder


def run(folder: Path, *command: str) -> None:
    """Run `command` of this environment with the code of the clone in `folder`; its output goes to a file beside."""
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": search, "PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1"}
    with (folder.parent / f"{folder.name}.log").open("a", encoding="utf-8") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=True)


def print_scores(title: str, options: argparse.Namespace, report: str, scores: tuple[str, ...]) -> None:
    """A Markdown table: mean over the seeds, and their extremes."""
    print(f"\n{title}, {len(options.seeds)} seeds\n\n| | {' | '.join(scores)} |\n| --- |{' --- |' * len(scores)}")
    for direction in DIRECTIONS:
        for name in options.variants:
            files = [place(options, name, seed) / report / "metrics.json" for seed in options.seeds]
            seeds = [json.loads(file.read_text(encoding="utf-8"))["test"][direction] for file in files]
            cells = [cell([test[score] for test in seeds]) for score in scores]
            print(f"| {direction.arrow}, {name} | {' | '.join(cells)} |")


def print_differences(options: argparse.Namespace) -> None:
    """A Markdown table: paired differences on the registered pairs, means over seeds, then over patients, with 95 % intervals."""
    scores = TRUTH[:2]
    comparisons = len(DIRECTIONS) * len(scores) * (len(options.variants) - 1)
    print(f"\nDifference to {options.against}\n\n| | {' | '.join(scores)} |\n| --- |{' --- |' * len(scores)}")
    for direction in DIRECTIONS:
        base = per_slice(options, options.against, direction)
        for name in options.variants:
            if name == options.against:
                continue
            rows = per_slice(options, name, direction).join(base.add_suffix("_base"))
            cells = []
            for score in scores:
                differences = (rows[score] - rows[f"{score}_base"]).to_numpy()
                comparison = compare(
                    differences, rows["group"].tolist(), lower_is_better=SCORES[score].lower_is_better, comparisons=comparisons
                )
                assert comparison is not None
                cells.append(f"{comparison.difference} {comparison.verdict}")
            print(f"| {direction.arrow}, {name} | {' | '.join(cells)} |")


def per_slice(options: argparse.Namespace, name: str, direction: str) -> pd.DataFrame:
    """Scores of each registered slice, means over the seeds, with its patient."""
    tables = [pd.read_parquet(place(options, name, seed) / "reports/pairs/per_slice.parquet") for seed in options.seeds]
    rows = pd.concat([table[(table["direction"] == direction) & (table["method"] == "model")] for table in tables])
    return rows.groupby("slice_id").agg({**dict.fromkeys(TRUTH, "mean"), "group": "first"})


def cell(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
