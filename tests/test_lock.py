"""The lock: it pins all that is asked for, directly or not, and has hashes of every file."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
WITH_HASHES = ("requirements.hashes", "requirements-cuda.hashes")


def read_pins(name: str) -> dict[str, str]:
    """Versions by package."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (PROJECT / name).read_text(), re.MULTILINE))


def test_both_ways_of_installing_take_the_same_versions() -> None:
    general, cuda = map(read_pins, WITH_HASHES)
    assert not general.keys() & cuda.keys()
    assert general | cuda == read_pins("requirements.lock"), "make lock"


def test_every_pin_has_hashes() -> None:
    entry = re.compile(r"[\w.-]+==[\w.]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n")
    for name in WITH_HASHES:
        assert entry.sub("", (PROJECT / name).read_text()) == ""


def test_a_cpu_needs_nothing_of_the_cuda_file() -> None:
    assert all(re.match("cuda-|nvidia-|triton$", name) for name in read_pins("requirements-cuda.hashes"))


def test_the_lock_pins_whatever_gets_installed() -> None:
    """From pyproject.toml on, through what each installed package asks for."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    ahead = [Requirement(line) for lines in (project["dependencies"], *project["optional-dependencies"].values()) for line in lines]
    seen, pins = set(), read_pins("requirements.lock")
    while ahead:
        wanted = ahead.pop()
        package = canonicalize_name(wanted.name)
        if package == project["name"]:  # an extra that takes another in
            continue
        for extra in {"", *wanted.extras}:
            if (package, extra) in seen:
                continue
            seen.add((package, extra))
            assert wanted.specifier.contains(pins[package], prereleases=True), f"{wanted}, locked {pins[package]}: make lock"
            ahead += [need for need in needs_of(package) if applies(need, extra)]


def needs_of(package: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(package) or []]
    except PackageNotFoundError:
        return []  # of an extra that is not installed here


def applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({**default_environment(), "extra": extra})
