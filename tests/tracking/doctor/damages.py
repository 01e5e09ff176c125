"""What the doctor finds, and damages that a test can do to a file."""

import os
from pathlib import Path

from pipeline.tracking import doctor
from pipeline.tracking.doctor import Examined


def examine(fix: bool = False) -> list[Examined]:
    found = list(doctor.examine_store(fix))
    return [*found, *doctor.examine_rest(fix, store_usable=not found)]


def only_problem() -> Examined:
    (examined,) = examine()
    assert not examined.mended
    return examined


def flip_a_byte(file: Path) -> None:
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
