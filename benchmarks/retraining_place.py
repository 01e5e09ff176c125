"""A project that retrains, for the drills: soak.py and retrain_drill.py; and what must be true of it once all is over."""

import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from kill_drill import Drill

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

    def empty(self) -> None:
        """What retrainings committed as well: they go on from there."""
        super().empty()
        listed = ["git", "for-each-ref", "--format=%(refname)", "refs/exps"]
        for name in subprocess.run(listed, cwd=self.folder, capture_output=True, text=True, check=True).stdout.split():
            subprocess.run(["git", "update-ref", "-d", name], cwd=self.folder, check=True)

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
            with suppress(psutil.Error, ProcessLookupError):  # ended meanwhile
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
                    "select w.name, w.value from model_version_tags w join model_version_tags d using (name, version)"
                    " where w.key = 'weights_digest' and d.key = 'decision' and json_extract(d.value, '$.promoted')"
                ).fetchall()
            records = self.records()
            for model, weights in tags:
                told = [record for record in records if model in record["promoted"]]
                if not any(weights in json.dumps([record["decisions"], record["weights"]]) for record in told):
                    yield f"{model} with the weights {weights[:8]} was promoted, and no record says so"
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
