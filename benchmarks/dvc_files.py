"""What DVC takes for data/raw as download leaves it, many files in packs: python benchmarks/dvc_files.py [--files 1000 100000].

The graph is that of dvc.yaml, with all its dependencies. `look` is real; the other stages only make what dvc.yaml says that they make.
Files are random, a few KiB each. Up to `--push` of them go to moto's S3 server, and come back into an empty cache. Seconds by the clock,
and by the processor, which other work on the machine does not count in; the server's own are not in either.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import yaml

from pipeline import paths
from pipeline.processes import environment, group
from pipeline.sources import packs

PROJECT = Path(__file__).parents[1]
HEADER = "| files | command | seconds | processor's seconds |\n| --- | --- | --- | --- |"
STAGE = """\
import pathlib, sys
for place in map(pathlib.Path, sys.argv[1:]):
    place = place if place.suffix else place / "made.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("{}")
"""


def make_project(folder: Path, files: int, kilobytes: float) -> None:
    """The graph in a git repository, with data/raw as `look` and `download` leave it."""
    for name in ("pipeline", "stages"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(PROJECT / name, folder / name)
    content = yaml.safe_load((folder / "dvc.yaml").read_text())
    read = {dep for stage in content["stages"].values() for dep in stage["deps"]}
    for name, stage in content["stages"].items():
        outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
        inside = [dep for dep in read if dep.startswith(tuple(f"{out}/" for out in outs))]
        if name != "look":
            stage["cmd"] = " ".join([sys.executable, "made.py", *outs, *inside])
    (folder / "made.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": content["stages"]}))
    random, length = np.random.default_rng(0), int(1024 * kilobytes)
    for number in range(files):
        file = folder / paths.RAW / ("ct", "mr")[number % 2] / f"p{number // 40:05d}" / f"{number:06d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.bytes(length))
    (folder / paths.SOURCE_JSON).write_text("{}")
    began = (time.monotonic(), time.process_time())
    packs.pack(folder / paths.RAW)
    report(files, "download's packing", *began)
    began = (time.monotonic(), time.process_time())
    with packs.unpacked(folder / paths.RAW):
        pass
    report(files, "a stage's unpacking", *began)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "repro", "-q", "look"]):
        subprocess.run(command, cwd=folder, env=environment(), check=True)


def report(files: int, what: str, wall: float, processor: float) -> None:
    print(f"| {files:,} | {what} | {time.monotonic() - wall:.1f} | {time.process_time() - processor:.1f} |", flush=True)


def measure(files: int, folder: Path, command: str) -> None:
    """Run a command; print its row."""
    began = time.monotonic()
    process = subprocess.Popen(command.split(), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed:\n{said[-2000:]}")
    print(f"| {files:,} | `{command}` | {time.monotonic() - began:.1f} | {used.ru_utime + used.ru_stime:.1f} |", flush=True)


@contextmanager
def s3_server(folder: Path) -> Iterator[None]:
    """moto's server with a bucket, which is the project's remote."""
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret", AWS_DEFAULT_REGION="us-east-1")
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    with group([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], folder, log=folder / "s3.log") as server:
        while not any(one.laddr.port == port for one in psutil.Process(server.pid).net_connections()):
            time.sleep(0.1)
        boto3.client("s3").create_bucket(Bucket="ctmr")
        subprocess.run(["dvc", "remote", "add", "-q", "-d", "team", "s3://ctmr/dvc"], cwd=folder, env=environment(), check=True)
        yield


def run(files: int, kilobytes: float, push: bool) -> None:
    """Every row for so many files."""
    with tempfile.TemporaryDirectory(prefix="ctmr-dvc-files-") as place:
        folder = Path(place) / "project"
        os.environ["DVC_SITE_CACHE_DIR"] = f"{place}/site"
        make_project(folder, files, kilobytes)
        for command in ("dvc commit -f download", "dvc repro", "dvc repro", "dvc status"):  # store; the other stages; nothing; nothing
            measure(files, folder, command)
        if push:
            with s3_server(folder):
                measure(files, folder, "dvc push")
                shutil.rmtree(folder / ".dvc/cache")
                shutil.rmtree(folder / paths.RAW)
                measure(files, folder, "dvc pull")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 20_000, 100_000])
    parser.add_argument("--push", type=int, default=20_000, help="push and pull up to so many files")
    parser.add_argument("--kilobytes", type=float, default=8)
    given = parser.parse_args()
    print(f"{given.kilobytes:g} KiB a file; load average {os.getloadavg()[0]:.0f} at the start\n\n{HEADER}", flush=True)
    for files in given.files:
        run(files, given.kilobytes, files <= given.push)


if __name__ == "__main__":
    main()
