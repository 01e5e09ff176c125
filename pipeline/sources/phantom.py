"""Source `phantom`: simulated heads written as a folder of real-looking files; needs no network.

A training subject gives CT or MR, never both; a test subject gives both on one pixel grid, listed in pairs.csv with the contrast.
"""

import csv
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline import params
from pipeline.domain import CONTRASTS
from pipeline.phantom import Head, simulate_subject
from pipeline.phantom.atlas import load_atlas
from pipeline.phantom.damage import draw_look, render_ct, render_mr


@dataclass(frozen=True)
class Job:
    """One subject to write: which modalities it gives, and into which of the source's own splits."""

    seed: int
    name: str
    split: str
    modalities: tuple[str, ...]
    contrast: str | None


def fetch(data: params.Data, folder: Path, *, workers: int | None = None) -> dict[str, Any]:
    """Write ct/, mr/ and pairs.csv below `folder`; returns the facts for source.json. The bytes depend on `data.phantom` only."""
    settings = data.phantom
    jobs = _jobs(settings)
    for modality in ("ct", "mr"):
        for split in ("train", "test"):
            (folder / modality / split).mkdir(parents=True, exist_ok=True)
    write = partial(_write_subject, folder=folder, slices=settings.slices, size=settings.pixels)
    workers = workers or os.cpu_count() or 1
    load_atlas()  # loaded here once and shared by the forked workers
    if workers == 1:
        rows = [row for job in jobs for row in write(job)]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            rows = [row for found in pool.map(write, jobs) for row in found]
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["ct", "mr", "contrast", "group"])
        table.writerows(rows)
    return {"version": "1", "seed": settings.seed, "subjects": settings.subjects, "test_subjects": settings.test_subjects}


def _jobs(settings: params.Phantom) -> list[Job]:
    jobs = []
    first = settings.seed * 1_000_000
    for n in range(2 * settings.subjects):
        modality = "ct" if n % 2 == 0 else "mr"
        jobs.append(Job(first + n, f"s{n:04d}", "train", (modality,), None))
    for n in range(settings.test_subjects):
        contrast = CONTRASTS[(0, 1, 2, 0, 1)[n % 5]]  # t1, t2 and flair, which the real sets are made of
        jobs.append(Job(first + 500_000 + n, f"t{n:04d}", "test", ("ct", "mr"), contrast))
    return jobs


def _write_subject(job: Job, *, folder: Path, slices: int, size: int) -> list[tuple[str, str, str, str]]:
    """Write one subject's files; returns its rows of pairs.csv (none for a training subject)."""
    g = np.random.default_rng([job.seed, 8])
    positions = np.sort((np.arange(slices) + g.uniform(0.1, 0.9, slices)) / slices)
    looks = {modality: draw_look(g) for modality in ("ct", "mr")}
    rows: list[tuple[str, str, str, str]] = []
    for n, head in enumerate(simulate_subject(job.seed, [float(p) for p in positions], size=size, contrast=job.contrast)):
        names = {modality: f"{modality}/{job.split}/{job.name}_{n}.png" for modality in job.modalities}
        for modality, name in names.items():
            Image.fromarray(_picture(head, modality, looks)).save(folder / name, compress_level=1)
        if len(names) == 2:
            rows.append((names["ct"], names["mr"], head.contrast, job.name))
    return rows


def _picture(head: Head, modality: str, looks: dict[str, Any]) -> Any:
    return render_ct(head.ct, looks["ct"]) if modality == "ct" else render_mr(head.mr, looks["mr"])
