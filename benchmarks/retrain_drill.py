"""`ctmr retrain` killed at random moments, then run again: python benchmarks/retrain_drill.py --rounds 20.

The next retraining must give the same bytes as an undisturbed one, and leave nothing behind (see retraining_place.py).
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from kill_drill import Drill
from retraining_place import Place

WORKTREE = ".dvc/tmp/retrain/workspace"
MOST_KILLS = 5


def play_kill(place: Place, dice: random.Random, expected: dict[str, bytes], seconds: float) -> tuple[str, list[str]]:
    """A retraining from nothing, killed at random moments up to MOST_KILLS times, then run to its end."""
    place.empty()
    done = []
    for _ in range(dice.randint(1, MOST_KILLS)):
        process, moment, whom = place.begin("ctmr", "retrain"), dice.uniform(1, 0.7 * seconds), dice.choice(("itself", "all"))
        try:
            process.wait(timeout=moment)
            done.append("ended by itself")
            break
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
    seconds, expected, wrong, killed = time.monotonic() - began, worktree_outputs(place), 0, 0
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    for number in range(1, rounds + 1):
        done, faults = play_kill(place, dice, expected, seconds)
        wrong += bool(faults)
        killed += done.count(" at ")
        print(f"round {number}: {done}: {'; '.join(faults) or 'good'}", flush=True)
    print(f"{rounds} rounds, {killed} kills: {wrong} rounds with a fault")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="ctmr-retrain-") as folder:
        place = Place(Path(folder) / "project")
        place.fill()
        wrong = kills(place, asked.rounds, random.Random(asked.seed))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
