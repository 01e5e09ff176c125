"""An hour of a schedule with all that happens to servers: python benchmarks/soak.py --minutes 80, by hand.

`ctmr schedule` fires each minute while data is added, runs are killed, the server is killed and away, and the disk is full. It must
end with what retraining_place.py asks for. For the full disk the project lies on a file system of its own, which only root can mount;
without, that is left out.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from retraining_place import Place

DISK_MIB = 4000


def soak(place: Place, minutes: float, away: float, dice: random.Random, disk: Path | None) -> int:
    """A schedule each minute while things happen; then all is stopped and looked at."""
    place.address = "http://127.0.0.1:4299/api"
    start_server(place)
    schedule = place.begin("ctmr", "schedule", "--cron", "* * * * *", "--keep", "5")
    end, next_event, memory, counted = time.monotonic() + 60 * minutes, time.monotonic() + 90, [], Counter[str]()
    events: list[Callable[[], str]] = [
        place.add_data,
        lambda: kill_run(place, dice),
        lambda: server_away(place, 0.2),
    ]
    if disk:
        events.append(lambda: fill_disk(disk))
    queue = [*events, lambda: server_away(place, away)]
    while time.monotonic() < end:
        time.sleep(5)
        memory.append(sum(process.memory_info().rss for process in alive([schedule.pid])) / 2**20)
        if time.monotonic() > next_event:
            said = queue.pop(0)()
            queue = queue or dice.sample(events, len(events))  # all of them again, but for the long absence, which takes firings away
            next_event = time.monotonic() + 60 * dice.uniform(1, 3)
            left, disk_use = (end - time.monotonic()) / 60, size(place.folder)
            print(f"{left:.0f} minutes left: {said}; schedule {memory[-1]:.0f} MiB, project {disk_use:.0f} MiB", flush=True)
        if schedule.poll() is not None:
            said = (place.folder.parent / "ctmr.log").read_text(errors="replace")[-3000:]
            print(f"the schedule ended by itself with {schedule.returncode}:\n{said}", flush=True)
            counted["ended"] += 1
            break
    with suppress(ProcessLookupError):
        os.killpg(schedule.pid, signal.SIGINT)
    schedule.wait(timeout=180)
    last = place.begin("ctmr", "retrain").wait(timeout=1800)  # tells what became of a promotion in the midst of which all was stopped
    faults = list(place.faults())
    if last:
        faults.append(f"the last ctmr retrain ended with {last}")
    if counted["ended"]:
        faults.append("the schedule ended by itself")
    stop_server(place)
    outcomes = Counter(str(record["outcome"]) for record in place.records())
    print(f"{sum(outcomes.values())} retrainings: {dict(outcomes)}")
    print(f"firings: {place.firings()}")
    print(f"memory of the schedule's process: {min(memory):.0f} to {max(memory):.0f} MiB, at the end {memory[-1]:.0f}")
    print("; ".join(faults) or "no fault")
    return len(faults)


def start_server(place: Place) -> None:
    place.server = place.begin("prefect", "server", "start", "--host", "127.0.0.1", "--port", "4299")
    end = time.monotonic() + 300
    while time.monotonic() < end:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{place.address}/health", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError("the Prefect server did not start")


def stop_server(place: Place) -> None:
    assert place.server is not None
    with suppress(ProcessLookupError):
        os.killpg(place.server.pid, signal.SIGKILL)
    place.server.wait()


def server_away(place: Place, minutes: float) -> str:
    stop_server(place)
    time.sleep(60 * minutes)
    start_server(place)
    return f"the server was killed and away for {minutes:g} minutes"


def kill_run(place: Place, dice: random.Random) -> str:
    """Kill the flow's process in the midst of its work, waiting for the next firing where none is at work."""
    end, runs = time.monotonic() + 90, list[psutil.Process]()
    while not runs and time.monotonic() < end:
        time.sleep(0.5)
        runs = [process for process in place.processes() if any("prefect" in part and "engine" in part for part in process.cmdline())]
    time.sleep(dice.uniform(0, 10))
    for run in runs:
        with suppress(psutil.Error):
            run.kill()
    return f"{len(runs)} runs killed"


def fill_disk(disk: Path) -> str:
    file = disk / "filler"
    with suppress(OSError), file.open("wb") as filler:
        while True:
            filler.write(bytes(2**20))
    time.sleep(90)
    file.unlink()
    return "the disk was full for 90 s"


def alive(pids: list[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        with suppress(psutil.Error):
            yield psutil.Process(pid)


def size(folder: Path) -> float:
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            total += file.lstat().st_size
    return total / 2**20


@contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """`place` on a file system of its own, None where that cannot be mounted."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", place], capture_output=True, check=False).returncode:
        print("no file system of its own: the full disk is left out")
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--away", type=float, default=10, help="minutes for which the server is away once")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="ctmr-soak-") as folder, small_disk(Path(folder)) as disk:
        place = Place(Path(folder) / "project")
        place.fill()
        wrong = soak(place, asked.minutes, asked.away, random.Random(asked.seed), disk)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
