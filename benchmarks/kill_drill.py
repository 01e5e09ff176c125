"""Kill `dvc repro` at random moments, many times, and see that the next one makes everything good.

    python benchmarks/kill_drill.py --rounds 200                       # about two minutes a round on two idle cores; by hand
    python benchmarks/kill_drill.py --rounds 50 --kinds stage --folder /tmp/drill      # cheaper; goes on with what the folder holds
    python benchmarks/kill_drill.py --rounds 50 --kinds stage --signals INT,TERM,HUP   # stopped by a person: no traceback either

Each round brings the whole graph up with the smallest settings in a project of its own, cold (nothing but the code) or warm (one knob
changed), and sends SIGKILL, or one of --signals, after a random time: to dvc with all it started, to dvc alone, or to the stage alone.
Then it starts again and kills again, up to MOST_KILLS times: stages that ended are done, so that the kills fall into all of the graph,
and a round costs little more than the graph itself. A stage round does so with one stage of a finished graph, whose earlier stages stay.

Then `dvc repro` must end well: outputs with the bytes of an undisturbed project, one version of each model in the registry for each
training, no run left RUNNING, no temporary file or folder, no process. Where DVC stops at its own half-written rwlock, which it does
before any stage of ours runs, `ctmr doctor --fix` must mend it.
"""

import argparse
import os
import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from pipeline import presets
from pipeline.atomic import WRITING

SOURCE = Path(__file__).parents[1]
OUTPUTS = (
    "data",
    "models/ct_to_mr.safetensors",
    "models/mr_to_ct.safetensors",
    "models/model.json",
    "reports/split.json",
    "reports/evaluate",
)
CHANGES = ("train.seed=3", "train.lambda_cycle=2.0", "preprocess.margin=0.06", "evaluate.examples=3")  # a warm round makes one of them
MOST_KILLS = 12
LONGEST = 4 * 3600  # seconds; a machine may be very busy


@dataclass
class Drill:
    """A project in `folder`; what undisturbed runs gave, by the knob that was changed ("": none); the seconds that the cold one took."""

    folder: Path
    expected: dict[str, dict[str, bytes]] = field(default_factory=dict)
    seconds: float = 0.0
    lock: bytes = b""  # dvc.lock after the last cold round
    mended: int = 0  # times that `ctmr doctor --fix` had to mend DVC's record of readers and writers

    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        site = {"DVC_SITE_CACHE_DIR": str(self.folder.parent / "dvc-site")}
        return {**os.environ, **site, "PATH": path, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "CTMR_SALT": "the drill's salt"}

    def make(self) -> None:
        """A copy of every file that git knows, with the smallest settings, in a repository of its own."""
        listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=SOURCE, capture_output=True, text=True, check=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (SOURCE / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(SOURCE / name, self.folder / name)
        (self.folder / "dvc.lock").unlink(missing_ok=True)
        self.change()
        identity = ("-c", "user.name=drill", "-c", "user.email=drill@example.org")
        for command in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "drill")):
            subprocess.run(["git", *command], cwd=self.folder, check=True)

    def change(self, *settings: str) -> None:
        small = ("train.images=16", "train.teacher.images=16", "train.checkpoint_seconds=0.1")
        presets.apply(["smoke"], [*small, *settings], self.folder / "params.yaml", SOURCE / "presets")

    def empty(self) -> None:
        """Remove all that ever was made."""
        for name in ("data", "models", "reports", "checkpoints", "mlruns", ".dvc/cache", ".dvc/tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "dvc.lock").unlink(missing_ok=True)
        (self.folder / "mlruns").mkdir()

    def go_back(self, stage: str | None = None) -> None:
        """To where the last cold round ended, or to before `stage`. DVC forgets its runs, which it would restore without working."""
        lock = yaml.safe_load(self.lock)
        gone = [] if stage is None else self.stages()[self.stages().index(stage) :]
        for out in (out for name in gone for out in self.outs(name)):
            shutil.rmtree(self.folder / out) if (self.folder / out).is_dir() else (self.folder / out).unlink(missing_ok=True)
        lock["stages"] = {name: content for name, content in lock["stages"].items() if name not in gone}
        (self.folder / "dvc.lock").write_text(yaml.safe_dump(lock))
        shutil.rmtree(self.folder / ".dvc/cache/runs", ignore_errors=True)
        if lock["stages"]:
            subprocess.run(["dvc", "checkout", "-q", "--force", *lock["stages"]], cwd=self.folder, env=self.environment(), check=True)

    def stages(self) -> list[str]:
        return list(yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"])

    def outs(self, stage: str) -> list[str]:
        named = yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"][stage]["outs"]
        return [out if isinstance(out, str) else next(iter(out)) for out in named]

    def start(self, *target: str) -> "subprocess.Popen[bytes]":
        log = (self.folder.parent / "log").open("ab")
        return subprocess.Popen(
            ["dvc", "repro", *target],
            cwd=self.folder,
            env=self.environment(),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def finish(self, *target: str) -> str:
        """Run the graph to its end, or to that of the stage `target`; what is wrong, "" when nothing is."""
        for doctor in (True, False):
            (self.folder.parent / "log").unlink(missing_ok=True)
            if self.start(*target).wait(timeout=LONGEST) == 0:
                return ""
            said = (self.folder.parent / "log").read_text(errors="replace")[-1500:]
            if not doctor or not ("RWLock" in said or "dvc.lock' " in said):
                break
            # DVC writes dvc.lock and its record of who reads and writes in place, and stops at half of one before any stage of ours runs.
            # It ends with 2 where more is to be done: outputs of the killed stage, which dvc repro makes again. So the next try judges.
            subprocess.run(["ctmr", "doctor", "--fix"], cwd=self.folder, env=self.environment(), check=False, capture_output=True)
            self.mended += 1
        return "dvc repro failed: " + said

    def outputs(self) -> dict[str, bytes]:
        places = [self.folder / name for name in OUTPUTS]
        files = (file for place in places for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file())
        return {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in files if file.name != ".gitignore"}


def kill(process: "subprocess.Popen[bytes]", whom: str, number: signal.Signals) -> None:
    """The signal to `whom`: everything, dvc, or the stage (what dvc started); wait until all of the session are gone."""
    members = list(session(process.pid))
    victims = {"all": members, "dvc": [m for m in members if m.pid == process.pid], "stage": [m for m in members if m.pid != process.pid]}
    for member in victims[whom]:
        try:
            member.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    process.wait(timeout=LONGEST)  # a stage that had not begun leaves dvc undisturbed
    end = time.monotonic() + 90
    while any(session(process.pid)):
        if time.monotonic() > end:
            raise AssertionError(f"processes outlive dvc: {[member.cmdline() for member in session(process.pid)]}")
        time.sleep(0.1)


def session(leader: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue


def faults(drill: Drill, key: str, last: str) -> Iterator[str]:
    """What is not as it must be after a round that went up to the stage `last`."""
    made = [out for stage in drill.stages()[: drill.stages().index(last) + 1] for out in drill.outs(stage)]
    expected = {name: content for name, content in drill.expected[key].items() if any(f"{name}/".startswith(f"{out}/") for out in made)}
    found = drill.outputs()
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        yield f"other bytes: {', '.join(differing[:5])}"
    hidden = [file for file in drill.folder.rglob(f".*{WRITING}*") if ".git" not in file.parts]
    if hidden:
        yield f"left behind: {', '.join(str(file.relative_to(drill.folder)) for file in hidden[:5])}"
    with sqlite3.connect(drill.folder / "mlruns/mlflow.db") as store:
        running = store.execute("select run_uuid from runs where status = 'RUNNING'").fetchall()
        doubled = store.execute(
            "select name, value, count(*) from model_version_tags where key = 'weights_digest' group by 1, 2 having count(*) > 1"
        )
        if running:
            yield f"runs left RUNNING: {len(running)}"
        if twice := doubled.fetchall():
            yield f"one training registered twice: {twice}"


def learn(drill: Drill, setting: str) -> None:
    """See what an undisturbed run gives with `setting`, unless that is known."""
    if setting in drill.expected:
        return
    drill.change(*filter(None, [setting]))
    began = time.monotonic()
    if wrong := drill.finish():
        raise AssertionError(f"undisturbed, {setting or 'cold'}: {wrong}")
    drill.seconds = drill.seconds or time.monotonic() - began
    drill.expected[setting] = drill.outputs()
    if not setting:
        drill.lock = (drill.folder / "dvc.lock").read_bytes()


def play(drill: Drill, dice: random.Random, kinds: Sequence[str], signals: Sequence[signal.Signals]) -> tuple[str, list[str]]:
    """One round; what was done, and what is wrong after it."""
    kind, last = dice.choice(kinds), drill.stages()[-1]
    setting, target, pace = "", [], drill.seconds / 10
    if kind == "cold":
        drill.empty()
    elif kind == "stage":
        last = dice.choice(drill.stages())
        target, pace = [last], drill.seconds / 4 / len(drill.stages())
        drill.go_back(last)
    else:
        setting = dice.choice(CHANGES)
        learn(drill, setting)
        drill.go_back()
    drill.change(*filter(None, [setting]))
    done = [setting or " ".join([kind, *target])]
    log = drill.folder.parent / "log"
    log.unlink(missing_ok=True)
    for _ in range(dice.randint(1, MOST_KILLS)):
        process, moment, whom = drill.start(*target), 0.3 + dice.expovariate(1 / pace), dice.choice(("all", "dvc", "stage"))
        try:
            process.wait(timeout=moment)
            done.append("ended by itself")
            break
        except subprocess.TimeoutExpired:
            number = dice.choice(signals)
            kill(process, whom, number)
            done.append(f"{number.name} to {whom} at {moment:.1f} s")
    said = log.read_text(errors="replace")
    wrong = drill.finish(*target)
    if kind == "cold" and not wrong:
        drill.lock = (drill.folder / "dvc.lock").read_bytes()
    wrongs = [wrong] if wrong else list(faults(drill, setting, last))
    if f'File "{drill.folder.absolute()}/' in said and signal.SIGKILL not in signals:  # DVC prints its own where it is stopped as it starts
        wrongs.append(f"a traceback: {said[said.index('Traceback') :][:3000]}")
    if kind == "stage":
        drill.go_back()
    return ", ".join(done), wrongs


def prepare(drill: Drill) -> None:
    """Make the project and see what it gives undisturbed, unless its folder holds both already."""
    known = drill.folder.parent / "known"
    if known.is_file():
        drill.seconds, drill.lock, drill.expected = pickle.loads(known.read_bytes())
        drill.go_back()
        return
    if not (drill.folder / ".git").is_dir():
        drill.make()
    learn(drill, "")
    known.write_bytes(pickle.dumps((drill.seconds, drill.lock, drill.expected)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kinds", default="cold,warm", help="of rounds: cold, warm, stage; several with commas")
    parser.add_argument("--folder", type=Path, help="where the project lies and stays; default: a temporary folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", default="KILL", help="of kills: KILL, INT, TERM, HUP; several with commas")
    asked = parser.parse_args()
    signals = [signal.Signals[f"SIG{name}"] for name in asked.signals.split(",")]
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, handler)  # ignored behind nohup and &, and then by dvc and the stages as well
    dice, counted = random.Random(asked.seed), Counter[str]()
    with nullcontext(asked.folder) if asked.folder else tempfile.TemporaryDirectory(prefix="ctmr-drill-") as place:
        drill = Drill(Path(place) / "project")
        prepare(drill)
        print(f"undisturbed: {drill.seconds:.0f} s from nothing", flush=True)
        for number in range(1, asked.rounds + 1):
            done, wrong_now = play(drill, dice, asked.kinds.split(","), signals)
            counted["kills"] += done.count(" at ")
            counted["wrong"] += bool(wrong_now)
            print(f"round {number}: {done}: {'; '.join(wrong_now) or 'good'}", flush=True)
    print(
        f"{asked.rounds} rounds, {counted['kills']} kills: {counted['wrong']} rounds with a fault; doctor mended DVC {drill.mended} times"
    )
    raise SystemExit(bool(counted["wrong"]))


if __name__ == "__main__":
    main()
