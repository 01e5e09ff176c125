"""Fit pipeline/imaging/appearance.json on simulated heads, and write it anew: python benchmarks/fit_appearance.py [ARCHIVE].

Real slices are never fitted on. With ARCHIVE, the real archive in Kaggle's layout, it says how well the weights do there:
tests/dataset/real_labels.csv tells which of its MR files show a CT and, for 200, which contrast they show, as labelled by eye.
"""

import argparse
import csv
import json
import tempfile
import zipfile
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from pipeline import params, phantom
from pipeline.formats import table
from pipeline.imaging import appearance, outline

PROJECT = Path(__file__).parents[1]
LABELS = PROJECT / "tests" / "dataset" / "real_labels.csv"
SIMULATED, FIRST_SEED = 1200, 2**41  # heads that neither the demo's data nor the teacher draws


def describe(picture):
    head = outline.find_outline(picture, "mr")
    return None if head is None else appearance.features(picture, head)


def describe_file(file):
    return describe(table.read_slices(file)[0].pixels)


def describe_simulated(seed):
    head = phantom.simulate(seed, size=192)
    pictures = [np.asarray(picture, np.float32) / 255 for picture in phantom.render_pair(head, seed)]
    return [describe(picture) for picture in pictures], head.contrast


def fit(model, rows, targets):
    rows = np.array(rows)[:, appearance.columns(model)]
    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-3)
    fitted = LogisticRegression(C=0.1, max_iter=5000, class_weight="balanced").fit(np.clip((rows - mean) / scale, -5, 5), targets)
    numbers = {"mean": mean, "scale": scale, "weights": fitted.coef_, "bias": fitted.intercept_}
    return {name: np.round(value, 5).tolist() for name, value in numbers.items()} | {"classes": fitted.classes_.tolist()}


def score(archive, threshold):
    """Print how the weights in appearance.json judge the real slices."""
    with tempfile.TemporaryDirectory() as folder, Pool(2) as pool:
        zipfile.ZipFile(archive).extractall(folder)
        files = {(file.parent.name, file.stem): file for file in sorted(Path(folder).rglob("*.*g")) if "__MACOSX" not in file.parts}
        described = dict(zip(files, pool.map(describe_file, files.values(), chunksize=20), strict=True))
    labels = {(f"{line['split']}B", line["name"]): line for line in csv.DictReader(LABELS.open())}
    print("no head found:", [name for (_, name), row in described.items() if row is None])
    kinds = {"CT": [], "MR": [], "CT among MR": []}
    contrasts = []
    for key, row in described.items():
        if row is None:
            continue
        kind = "CT" if key[0].endswith("A") else "CT among MR" if labels[key]["modality"] == "ct" else "MR"
        kinds[kind].append((appearance.ct_likelihood(row), key[1]))
        if labels.get(key, {}).get("contrast") in ("t1", "t2", "flair"):
            contrasts.append((labels[key]["contrast"], *appearance.mr_contrast(row)))
    for kind, judged in kinds.items():
        called_ct = [name for chance, name in judged if chance > threshold]
        called_mr = [name for chance, name in judged if chance < 1 - threshold]
        print(f"{kind}: {len(judged)} slices, {len(called_ct)} called CT, {len(called_mr)} called MR")
    print("CT files called MR:", [name for chance, name in kinds["CT"] if chance < 1 - threshold])
    print("CT among MR files not found:", [name for chance, name in kinds["CT among MR"] if chance <= threshold])
    labelled, called, chance = (np.array(column) for column in zip(*contrasts, strict=True))
    fluid = ((labelled == "t2") == (called == "t2")).mean()
    print(f"contrast right: {(labelled == called).mean():.3f} of {len(labelled)}; bright fluid or not: {fluid:.3f}")
    for least in (0.6, 0.8, 0.95):
        sure = chance > least
        print(f"  confidence above {least}: {sure.mean():.2f} of slices, {(labelled == called)[sure].mean():.3f} right")
    for contrast in ("t1", "t2", "flair"):
        print(f"  {contrast} called", {other: int(((labelled == contrast) & (called == other)).sum()) for other in ("t1", "t2", "flair")})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", nargs="?", help="the real archive, to say how well the weights do there")
    arguments = parser.parse_args()
    with Pool(2) as pool:
        simulated = pool.map(describe_simulated, range(FIRST_SEED, FIRST_SEED + SIMULATED), chunksize=10)
    sides = [(row, side) for both, _ in simulated for row, side in zip(both, (1, 0), strict=True) if row is not None]
    # Proton density is told by files only, so that a regression is not asked to split hairs between it and T2.
    contrasts = [(both[1], contrast) for both, contrast in simulated if both[1] is not None and contrast != "pd"]
    weights = {"modality": fit("modality", *zip(*sides, strict=True)), "contrast": fit("contrast", *zip(*contrasts, strict=True))}
    appearance.WEIGHTS.write_text(json.dumps(weights) + "\n")
    if arguments.archive:
        score(arguments.archive, params.load(PROJECT / "params.yaml").quality.wrong_modality)


if __name__ == "__main__":
    main()
