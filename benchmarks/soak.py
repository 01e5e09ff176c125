"""Retraining under fire: kills at random moments, or hours of a schedule with all that happens to servers; by hand.

    python benchmarks/soak.py --rounds 50             # `ctmr retrain` is killed, then run again
    python benchmarks/soak.py --minutes 60            # `ctmr schedule` each minute; new data, run killed, server away, disk full

Either way it must end with no run left RUNNING in MLflow or at Prefect, no process, no hidden file, no two retrainings at once, and every
champion of the registry in the record of the retraining that promoted it. A killed retraining's next one must give the same bytes as an
undisturbed one. For the full disk the project lies on a file system of its own, which only root can mount; without, that is left out.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from kill_drill import Drill

WORKTREE = ".dvc/tmp/retrain/workspace"
DISK_MIB = 4000
SETTINGS = (
    "data.source=folder",
    "data.folder=../slices",
    "preprocess.teacher_pairs=0",
    "train.teacher.images=0",
    "register.floors.spread=0",
    "register.floors.cycle_mae=1",
    "register.floors.cycle_ssim=0",
    "register.margin=1",
)


@dataclass
class Place(Drill):
    """A project that retrains on slices in a folder beside it; more of them are `spare`."""

    spare: list[Path] = field(default_factory=list)
    server: "subprocess.Popen[bytes] | None" = None
    address: str = ""

    def environment(self) -> dict[str, str]:
        own = {
            "PREFECT_HOME": str(self.folder.parent / "prefect"),
            "PREFECT_API_URL": self.address,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        return {**super().environment(), **own}

    def fill(self) -> None:
        """Slices of simulated heads in ../slices, half of them put aside; then the smallest settings, committed."""
        self.make()
        self._run("dvc", "repro", "--single-item", "look", "download")
        slices = self.folder.parent / "slices"
        for modality in ("ct", "mr"):
            shutil.copytree(self.folder / "data/raw" / modality, slices / modality)
            files = sorted(file for file in (slices / modality).rglob("*") if file.is_file())
            for file in files[len(files) // 2 :]:
                aside = self.folder.parent / "spare" / file.relative_to(slices)
                aside.parent.mkdir(parents=True, exist_ok=True)
                file.rename(aside)
                self.spare.append(aside)
        random.Random(0).shuffle(self.spare)
        self.change(*SETTINGS)
        self._run("git", "-c", "user.name=drill", "-c", "user.email=drill@example.org", "commit", "-qam", "settings")
        self.empty()

    def add_data(self) -> str:
        for file in (self.spare.pop() for _ in range(min(2, len(self.spare)))):
            target = self.folder.parent / "slices" / file.relative_to(self.folder.parent / "spare")
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
        return f"new data, {len(self.spare)} more files to come"

    def begin(self, *command: str) -> "subprocess.Popen[bytes]":
        log = (self.folder.parent / f"{command[0]}.log").open("ab")
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def processes(self) -> list[psutil.Process]:
        """All that were started with this project's environment, the server that the drill itself keeps aside."""
        home, found = str(self.folder.parent / "prefect"), []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                own = self.server is not None and os.getsid(process.pid) == self.server.pid
                if process.environ().get("PREFECT_HOME") == home and process.status() != psutil.STATUS_ZOMBIE and not own:
                    found.append(process)
        return found

    def _run(self, *command: str) -> None:
        subprocess.run(command, cwd=self.folder, env=self.environment(), check=True, capture_output=True)

    def records(self) -> list[dict[str, object]]:
        files = (self.folder / "reports/retrain").glob("*/record.json")
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def faults(self) -> Iterator[str]:
        """What is not as it must be once all is over."""
        end = time.monotonic() + 120
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(1)
        if left:
            yield f"processes left: {[' '.join(process.cmdline())[:80] for process in left]}"
        hidden = [file for file in self.folder.rglob(".*.writing-*") if ".git" not in file.parts]
        if hidden:
            yield f"left behind: {[str(file.relative_to(self.folder)) for file in hidden[:5]]}"
        store = self.folder / "mlruns/mlflow.db"
        if store.exists():
            with closing(sqlite3.connect(store)) as database:
                if running := database.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]:
                    yield f"MLflow runs left RUNNING: {running}"
                tags = database.execute(
                    "select a.name, t.value from registered_model_aliases a join model_version_tags t on t.name = a.name and t.version ="
                    " a.version where a.alias = 'champion' and t.key = 'weights_digest'"
                ).fetchall()
            records = self.records()
            for model, weights in tags:
                if not any(
                    model in record["promoted"] and weights in str(record["decisions"]) + str(record["weights"]) for record in records
                ):
                    yield f"champion {model} is in no record"
        if any(record["registering"] for record in self.records()):
            yield "a record says registering still"
        yield from self._prefect_faults()

    def firings(self) -> dict[str, int]:
        """How many runs the schedule called for until now, by what became of them."""
        with closing(sqlite3.connect(self.folder.parent / "prefect/prefect.db")) as runs:
            return dict(runs.execute("select state_name, count(*) from flow_run where state_name != 'Scheduled' group by state_name"))

    def _prefect_faults(self) -> Iterator[str]:
        database = self.folder.parent / "prefect/prefect.db"
        with closing(sqlite3.connect(database)) as runs:
            if left := runs.execute("select count(*) from flow_run where state_type in ('RUNNING', 'PENDING', 'CANCELLING')").fetchone()[0]:
                yield f"Prefect runs left at work: {left}"
            worked = runs.execute(
                "select start_time, end_time from flow_run where start_time is not null and end_time is not null"
                " and state_name not in ('Skipped', 'Crashed') order by start_time"
            ).fetchall()
        for (_, end), (start, _) in itertools.pairwise(worked):
            if start < end:
                yield f"two at once: one ended {end}, the next began {start}"


def play_kill(place: Place, dice: random.Random, expected: dict[str, bytes], seconds: float) -> tuple[str, list[str]]:
    """A retraining from nothing, killed at a random moment up to twice, then run to its end."""
    place.empty()
    done = []
    for _ in range(dice.randint(1, 2)):
        process, moment, whom = place.begin("ctmr", "retrain"), dice.uniform(1, seconds), dice.choice(("itself", "all"))
        try:
            process.wait(timeout=moment)
            done.append("ended by itself")
        except subprocess.TimeoutExpired:
            for victim in [psutil.Process(process.pid)] if whom == "itself" else place.processes():
                with suppress(psutil.Error):
                    victim.kill()
            process.wait()
            done.append(f"{whom} at {moment:.0f} s")
    code = place.begin("ctmr", "retrain").wait(timeout=3600)
    wrong = [f"ctmr retrain ended with {code}"] if code else []
    outputs = worktree_outputs(place)
    differing = sorted(name for name in expected.keys() | outputs.keys() if expected.get(name) != outputs.get(name))
    return ", ".join(done), [*wrong, *([f"other bytes: {differing[:5]}"] if differing else []), *place.faults()]


def worktree_outputs(place: Place) -> dict[str, bytes]:
    return Drill(place.folder / WORKTREE).outputs()


def kills(place: Place, rounds: int, dice: random.Random) -> int:
    began = time.monotonic()
    assert place.begin("ctmr", "retrain").wait(timeout=3600) == 0, (place.folder.parent / "ctmr.log").read_text()[-2000:]
    seconds, expected, wrong = time.monotonic() - began, worktree_outputs(place), 0
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    for number in range(1, rounds + 1):
        done, faults = play_kill(place, dice, expected, seconds)
        wrong += bool(faults)
        print(f"round {number}: {done}: {'; '.join(faults) or 'good'}", flush=True)
    print(f"{rounds} rounds: {wrong} with a fault")
    return wrong


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
            print(f"the schedule ended by itself with {schedule.returncode}")
            counted["ended"] += 1
            break
    with suppress(ProcessLookupError):
        os.killpg(schedule.pid, signal.SIGINT)
    schedule.wait(timeout=180)
    faults = [*place.faults(), *(["the schedule ended by itself"] if counted["ended"] else [])]
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
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--rounds", type=int)
    what.add_argument("--minutes", type=float)
    parser.add_argument("--away", type=float, default=10, help="minutes for which the server is away once")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="ctmr-soak-") as folder, small_disk(Path(folder)) as disk:
        place = Place(Path(folder) / "project")
        place.fill()
        dice = random.Random(asked.seed)
        wrong = kills(place, asked.rounds, dice) if asked.rounds else soak(place, asked.minutes, asked.away, dice, disk)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
