"""Fit the weights of pipeline/imaging/appearance.json and say how well they do; run by hand: python benchmarks/fit_appearance.py ARCHIVE.

ARCHIVE is the real archive in Kaggle's layout; tests/dataset/real_labels.csv says which of its MR files show a CT and, for 200, which
contrast they show, as labelled by eye. Simulated heads are added with a small weight, so that what is learnt holds beyond one collection.
The CT slices found among the MR files are never fitted on. Scores are from 10-fold cross-validation in which near duplicates stay in one
fold.
"""

import csv
import json
import sys
import tempfile
import zipfile
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from pipeline import phantom
from pipeline.dataset import duplicates
from pipeline.dataset.manifest import perceptual_hash
from pipeline.imaging import appearance, outline, readers

LABELS = Path(__file__).parents[1] / "tests" / "dataset" / "real_labels.csv"
SIMULATED, FIRST_SEED = 800, 2**41
NEAR = 26
SURE = 0.7


def describe(picture):
    found = outline.find(picture, "mr")
    return None if found is None else appearance.features(picture, found)


def describe_file(file):
    picture = readers.read(file)[0].pixels
    return describe(picture), perceptual_hash(picture)


def describe_simulated(seed):
    head = phantom.simulate(seed, size=192)
    pictures = [np.asarray(picture, np.float32) / 255 for picture in phantom.as_files_look(head, seed)]
    return [describe(picture) for picture in pictures], head.contrast


def fit(rows, targets, weights):
    mean, scale = np.average(rows, axis=0, weights=weights), np.maximum(rows.std(axis=0), 1e-3)
    model = LogisticRegression(C=0.1, max_iter=5000, class_weight="balanced")
    model.fit(np.clip((rows - mean) / scale, -5, 5), targets, sample_weight=weights)
    numbers = {"mean": mean, "scale": scale, "weights": model.coef_, "bias": model.intercept_}
    return {name: np.round(value, 5).tolist() for name, value in numbers.items()} | {"classes": model.classes_.tolist()}


def chances(numbers, rows):
    scores = np.clip((rows - numbers["mean"]) / numbers["scale"], -5, 5) @ np.array(numbers["weights"]).T + numbers["bias"]
    return np.array([appearance.special.expit(score[0]) if len(score) == 1 else appearance.special.softmax(score) for score in scores])


def cross_validated(rows, targets, groups, extra, extra_targets, weight):
    predicted = [None] * len(rows)
    for kept, left in GroupKFold(10, shuffle=True, random_state=0).split(rows, targets, groups):
        weights = np.r_[np.ones(len(kept)), np.full(len(extra), weight)]
        numbers = fit(np.r_[rows[kept], extra], np.r_[targets[kept], extra_targets], weights)
        for row, chance in zip(left, chances(numbers, rows[left]), strict=True):
            predicted[row] = chance
    final = fit(np.r_[rows, extra], np.r_[targets, extra_targets], np.r_[np.ones(len(rows)), np.full(len(extra), weight)])
    return np.array(predicted), final


def main():
    with tempfile.TemporaryDirectory() as folder, Pool(2) as pool:
        zipfile.ZipFile(sys.argv[1]).extractall(folder)
        found = {(file.parent.name, file.stem): file for file in sorted(Path(folder).rglob("*.*g")) if "__MACOSX" not in file.parts}
        labels = {(f"{line['split']}B", line["name"]): line for line in csv.DictReader(LABELS.open())}
        described = dict(zip(found, pool.map(describe_file, found.values(), chunksize=20), strict=True))
        simulated = pool.map(describe_simulated, range(FIRST_SEED, FIRST_SEED + SIMULATED), chunksize=10)
    print("no head found:", [name for (_, name), (row, _) in described.items() if row is None])
    names = [key for key in found if described[key][0] is not None]
    hashes = duplicates.hash_bits(described[key][1] for key in names)
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    groups = duplicates.components(len(unique), duplicates.near_pairs(unique, NEAR))[inverse]
    rows = np.array([described[key][0] for key in names])
    shown = np.array([1 if key[0].endswith("A") else 2 if labels[key]["modality"] == "ct" else 0 for key in names])

    pairs = [(row, side) for both, _ in simulated for row, side in zip(both, (1, 0), strict=True) if row is not None]
    extra, extra_targets = np.array([row for row, _ in pairs]), np.array([side for _, side in pairs])
    known = shown < 2
    chance, modality = cross_validated(rows[known], shown[known], groups[known], extra, extra_targets, 0.5)
    misplaced = chances(modality, rows[shown == 2])
    name = np.array([key[1] for key in names])
    print(f"CT files called MR: {name[known][(shown[known] == 1) & (chance < 1 - SURE)].tolist()}")
    print(f"MR files called CT: {name[known][(shown[known] == 0) & (chance > SURE)].tolist()}")
    print(f"CT among MR files found: {(misplaced > SURE).sum()} of {len(misplaced)}; missed {name[shown == 2][misplaced <= SURE].tolist()}")
    print(f"MR files that would be found among CT: {(chance[shown[known] == 0] < 1 - SURE).sum()} of {(shown == 0).sum()}")
    print(f"CT files that would be found among MR: {(chance[shown[known] == 1] > SURE).sum()} of {(shown == 1).sum()}")

    told = np.array([labels.get(key, {}).get("contrast", "") in ("t1", "t2", "flair") for key in names])
    targets = np.array([labels[key]["contrast"] for key, is_told in zip(names, told, strict=True) if is_told])
    pairs = [(both[1], contrast) for both, contrast in simulated if both[1] is not None and contrast != "pd"]
    extra, extra_targets = np.array([row for row, _ in pairs]), np.array([contrast for _, contrast in pairs])
    chance, contrast = cross_validated(rows[told], targets, groups[told], extra, extra_targets, 0.1)
    predicted = np.array(contrast["classes"])[chance.argmax(axis=1)]
    fluid = ((predicted == "t2") == (targets == "t2")).mean()
    print(f"contrast right: {(predicted == targets).mean():.3f} of {len(targets)}; bright fluid or not: {fluid:.3f}")
    for sure in (0.6, 0.8):
        kept = chance.max(axis=1) > sure
        print(f"  confidence above {sure}: {kept.mean():.2f} of slices, {(predicted == targets)[kept].mean():.3f} right")
    for one in contrast["classes"]:
        print(f"  {one} called", {other: int(((targets == one) & (predicted == other)).sum()) for other in contrast["classes"]})
    appearance.WEIGHTS.write_text(json.dumps({"modality": modality, "contrast": contrast}) + "\n")


if __name__ == "__main__":
    main()
