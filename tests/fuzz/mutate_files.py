"""Feed mutated files to every reader, the series sorter, the archive code and the folder source; only UserError may come out.

Run by hand: `python tests/fuzz/mutate_files.py --minutes 10`. Seeds are the files that pydicom and nibabel ship
and files made here; a mutation flips, overwrites, cuts, repeats or moves bytes, splices two seeds, or changes what the header says
(headers.py). What can be read is also written, in its own format and in another. Work is done in child processes, so
that a crash of a C decoder, a hang or a hunger for memory is caught and counted like any other finding. Findings are kept in `--keep`.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import nibabel
import numpy as np

from pipeline.errors import UserError
from pipeline.formats import table
from pipeline.formats.synthetic import Label, Synthetic
from pipeline.formats.table import named
from pipeline.formats.volume import Volume
from pipeline.phantom import simulate_subject
from pipeline.sources import archive, folder

sys.path.insert(0, str(Path(__file__).parents[2]))  # where it is run as a file

from tests.formats.dicom_files import write as write_dicom
from tests.fuzz.headers import CHANGES

SECONDS = 20  # for one input; more is a hang
MEMORY = 3 * 2**30
MAX_SEED = 200_000  # bytes: larger seeds take longer and find no more


def seeds(scratch: Path) -> list[tuple[str, bytes]]:
    """(suffix, content) of sound files of every kind."""
    import pydicom.data.data_manager
    from PIL import Image

    found = []
    for package, subfolder in ((pydicom.data.data_manager, "test_files"), (nibabel, "tests/data")):
        for file in sorted((Path(str(package.__file__)).parent / subfolder).rglob("*")):
            if file.is_file() and file.stat().st_size <= MAX_SEED and file.name.endswith((".dcm", ".nii", ".nii.gz")):
                found.append(("".join(file.suffixes[-2:]) if file.name.endswith(".gz") else file.suffix, file.read_bytes()))
    for suffix in (".png", ".jpg", ".tif", ".bmp"):
        for mode in ("L", "RGB", "P", "I;16", "RGBA", "LA", "F", "1", "CMYK"):
            packed = io.BytesIO()
            with contextlib.suppress(OSError, KeyError, ValueError):
                ramp = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)
                picture = (
                    Image.fromarray(ramp * np.uint16(31))
                    if mode == "I;16"
                    else Image.fromarray((ramp % 251).astype(np.uint8)).convert(mode)
                )
                picture.save(packed, {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".bmp": "BMP"}[suffix])
                found.append((suffix, packed.getvalue()))
    found += made_here(scratch) * 20
    files = {f"set/{name}/{number}.png": os.urandom(200) for name in ("trainA", "trainB") for number in range(3)}
    with zipfile.ZipFile(scratch / "a.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    for mode, suffix in (("w", ".tar"), ("w:gz", ".tar.gz"), ("w:bz2", ".tar.bz2"), ("w:xz", ".tar.xz")):
        with tarfile.open(scratch / f"a{suffix}", mode) as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return found + [("".join(file.suffixes), file.read_bytes()) for file in sorted(scratch.iterdir())] * 6


def made_here(scratch: Path) -> list[tuple[str, bytes]]:
    """A head as a volume of every format, a DICOM slice of it, and MR intensities."""
    head = np.stack([slice_.ct for slice_ in simulate_subject(5, [0.5, 0.6], size=64)])
    voxels = head.transpose(2, 1, 0).astype(np.int16)
    place = scratch.parent / "made"
    place.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-2, -2, 5, 1])), place / "a.nii")
    volume = table.read_volume(place / "a.nii", "ct")
    synthetic = Synthetic(volume.voxels, "hu", Label("mr-to-ct"), "", (40, 80))
    for ending in (".mha", ".nrrd", ".mgz", ".nii.gz"):
        table.write(volume, synthetic, place / "a.nii", place / f"a{ending}")
    write_dicom(place / "a.dcm", (head[0] + 1024).astype(np.int16), 12.0)
    write_dicom(place / "b.dcm", np.abs(head[0]).astype(np.uint16), 12.0, Modality="MR")
    return [("".join(file.suffixes), file.read_bytes()) for file in sorted(place.iterdir())]


def mutate(chance: random.Random, content: bytes, other: bytes) -> bytes:
    """`content` with a few changes, most of them near its beginning, where headers are."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        place = min(int(chance.expovariate(1 / 300)), len(data) - 1) if chance.random() < 0.6 else chance.randrange(len(data))
        length = chance.choice((1, 1, 2, 4, 8, 64, 1000))
        kind = chance.randrange(8)
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place : place + length] = chance.randbytes(length)
        elif kind == 2:
            data[place : place + length] = chance.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * length
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length] * chance.choice((1, 2, 50))
        elif kind == 5:
            del data[chance.randrange(len(data)) :]
        elif kind == 6:
            start = chance.randrange(len(other) or 1)
            data[place : place + length] = other[start : start + length]
        else:
            number = chance.choice((0, 1, 65535, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000))
            data[place : place + 4] = number.to_bytes(4, chance.choice(("little", "big")))
    return bytes(data)


def take(suffix: str, content: bytes, modality: str, scratch: Path) -> str:
    """What became of the input: "read", or the kind of UserError. Anything else is raised."""
    file = scratch / f"input{suffix}"
    file.write_bytes(content)
    try:
        if suffix.startswith((".zip", ".tar")):
            target = scratch / "target"
            shutil.rmtree(target, ignore_errors=True)
            (target / "tree").mkdir(parents=True)
            archive.extract(file, target / "tree")
            folder.copy_tree(target / "tree", target, "fuzz")
            return "read"
        with contextlib.suppress(UserError):  # the whole may be read where the slices cannot, and the other way round
            for slice_ in table.read_slices(file, modality):
                assert slice_.pixels.ndim == 2
                assert slice_.pixels.dtype == np.float32
                assert np.isfinite(slice_.pixels).all()
        source = file
        if suffix == ".dcm":
            source = _series(file, scratch / "series")
        _write_again(table.read_volume(source, modality), source, scratch / "out")
        return "read"
    except UserError as error:
        return type(error).__name__


def _series(file: Path, place: Path) -> Path:
    """The file among four sound slices of its series, as far as it has one."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for number in range(4):
        write_dicom(place / f"{number}.dcm", np.full((16, 16), number, np.int16), 5.0 * number)
    shutil.copy(file, place / "mutated.dcm")
    return place


def _write_again(volume: Volume, source: Path, place: Path) -> None:
    """What was read, written as a translation would be."""
    assert np.isfinite(volume.voxels).all()
    voxels = np.clip(volume.voxels, -1000, 3000)
    synthetic = Synthetic(voxels, "hu", Label("mr-to-ct", "1", "abc"), "", (40, 80))
    if volume.format == "picture":
        synthetic = replace(synthetic, voxels=np.clip(voxels, 0, 1), unit="grey")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in ("own", "other.mha"):
        target = place / (f"own{named(volume.format).ENDINGS[0]}" if name == "own" and not source.is_dir() else name)
        if volume.format == "picture" and voxels.shape[2] > 1:
            target = place / "own.tif"
        with contextlib.suppress(UserError):  # of a geometry that the other format cannot hold, say
            table.write(volume, synthetic, source, target)


def child(inputs: Connection, outputs: Connection, scratch: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + 4 * 2**30, MEMORY + 4 * 2**30))
    sys.stderr = io.StringIO()
    while True:
        suffix, content, modality = inputs.recv()
        try:
            outputs.send((take(suffix, content, modality, scratch), ""))
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            outputs.send((f"CRASH {type(error).__name__} at {Path(place.filename).name}:{place.lineno}", traceback.format_exc()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "ctmr-fuzz")
    options = parser.parse_args()
    os.environ.setdefault("CTMR_SALT", "salt of the fuzzer")
    chance = random.Random(options.seed)
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "seeds").mkdir()
        (Path(name) / "work").mkdir()
        known = seeds(Path(name) / "seeds")
        worker = None
        end = time.monotonic() + options.minutes * 60
        while time.monotonic() < end:
            if worker is None:
                theirs_in, ours_in = multiprocessing.Pipe(duplex=False)
                ours_out, theirs_out = multiprocessing.Pipe(duplex=False)
                worker = multiprocessing.Process(target=child, args=(theirs_in, theirs_out, Path(name) / "work"), daemon=True)
                worker.start()
                theirs_in.close()
                theirs_out.close()
            suffix, content = chance.choice(known)
            change = CHANGES.get(suffix)
            if change and chance.random() < 0.5:
                with contextlib.suppress(Exception):  # pydicom will not write some of it
                    content = change(chance, content)
            if not change or chance.random() < 0.5:
                content = mutate(chance, content, chance.choice(known)[1])
            detail, result = "", "CRASH of the process"
            try:
                ours_in.send((suffix, content, chance.choice(("ct", "mr", ""))))
                if ours_out.poll(SECONDS):
                    result, detail = ours_out.recv()
                else:
                    result = "CRASH hang"
            except (EOFError, BrokenPipeError):
                pass
            counts[result] += 1
            kinds[suffix] += 1
            if result.startswith("CRASH"):
                options.keep.mkdir(parents=True, exist_ok=True)
                kept = options.keep / f"{counts.total()}{suffix}"
                kept.write_bytes(content)
                print(f"{result}: {kept}\n{detail}", flush=True)
                if not detail:
                    worker.kill()
                    worker.join()
                    print(f"exit code {worker.exitcode}", flush=True)
                    worker = None
    print(f"{counts.total()} inputs, {sum(count for what, count in counts.items() if what.startswith('CRASH'))} findings")
    for counted in (counts, kinds):
        print(", ".join(f"{count} {what}" for what, count in counted.most_common()))


if __name__ == "__main__":
    main()
