"""Source `phantom`: simulated heads written as a folder of real-looking files; needs no network.

A training subject gives CT or MR, never both; a test subject gives both on one pixel grid, listed in pairs.csv with the contrast.
"""

from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import paths
from pipeline.domain import CONTRASTS
from pipeline.parallel import in_parallel
from pipeline.params import Data, Phantom
from pipeline.phantom import simulate_subject
from pipeline.phantom.atlas import load_atlas
from pipeline.phantom.damage import draw_look, render_ct, render_mr
from pipeline.sources import layout, pairs
from pipeline.sources.provenance import Fetched, News, Provenance


@dataclass(frozen=True)
class Job:
    """One subject to write: which modalities it gives, and into which of the source's own splits."""

    seed: int
    name: str
    split: str
    modalities: tuple[str, ...]
    contrast: str | None


def fetch(data: Data, target: Path, *, workers: int | None = None) -> Fetched:
    """Write ct/, mr/ and pairs.csv below `target`. The bytes depend on `data.phantom` only."""
    phantom = data.phantom
    load_atlas()  # loaded here once and shared by the forked workers
    draw = partial(_draw_subject, slices=phantom.slices, pixels=phantom.pixels)
    jobs = _jobs(phantom)
    paired, owners = [], []
    for job, (files, rows) in zip(jobs, in_parallel(draw, jobs, workers), strict=True):
        paired += rows
        owners += [(name, job.name, "") for name in files]
        for name, content in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
    pairs.write(paired, target)
    layout.write_table(owners, target / paths.FILES_CSV.name)
    facts: dict[str, object] = {"layout": f"patients: {len(jobs)}, each a simulated head"}
    facts |= {"seed": phantom.seed, "subjects": phantom.subjects, "test_subjects": phantom.test_subjects}
    return Fetched("Simulated heads", version="1", simulated=True, facts=facts)


def look(data: Data, used: Provenance | None) -> News:
    """Simulated heads depend on params alone, whose change DVC sees."""
    return News(False, "simulated heads depend on params alone")


def _jobs(phantom: Phantom) -> list[Job]:
    jobs = []
    first = phantom.seed * 1_000_000
    for n in range(2 * phantom.subjects):
        modality = "ct" if n % 2 == 0 else "mr"
        jobs.append(Job(first + n, f"s{n:04d}", "train", (modality,), None))
    for n in range(phantom.test_subjects):
        contrast = CONTRASTS[(0, 1, 2, 0, 1)[n % 5]]  # t1, t2 and flair, which the real sets are made of
        jobs.append(Job(first + 500_000 + n, f"t{n:04d}", "test", ("ct", "mr"), contrast))
    return jobs


def _draw_subject(job: Job, *, slices: int, pixels: int) -> tuple[dict[str, bytes], list[pairs.Pair]]:
    """One subject's files (PNG by name) and its rows of pairs.csv (none for a training subject)."""
    g = np.random.default_rng([job.seed, 8])
    positions = np.sort((np.arange(slices) + g.uniform(0.1, 0.9, slices)) / slices)
    looks = {modality: draw_look(g) for modality in ("ct", "mr")}
    files, rows = {}, []
    for n, head in enumerate(simulate_subject(job.seed, [float(p) for p in positions], size=pixels, contrast=job.contrast)):
        names = {modality: f"{modality}/{job.split}/{job.name}_{n}.png" for modality in job.modalities}
        for modality, name in names.items():
            with BytesIO() as file:
                picture = render_ct(head.ct, looks["ct"]) if modality == "ct" else render_mr(head.mr, looks["mr"])
                Image.fromarray(picture).save(file, "PNG", compress_level=1)
                files[name] = file.getvalue()
        if len(names) == 2:
            rows.append({**names, "contrast": str(head.contrast), "group": job.name, "place": "test"})
    return files, rows
