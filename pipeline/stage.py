"""What every stage does around its work: one line on errors, an orderly end when it is stopped, and honest inputs.

Stopped means: Ctrl-C, SIGTERM, a closed terminal, or the end of the dvc that started it (kill -9 of dvc alone would leave it running).
"""

import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline import atomic, paths
from pipeline.dvc_cache import find_cache, read_config
from pipeline.errors import UserError, user_errors
from pipeline.params import Params, flatten, parse, read_yaml
from pipeline.processes import SIGNALS, Stop, dvc_above

ORPHAN_SECONDS = 60.0  # for a stage without its dvc to save and end
AGAIN_SECONDS = 10.0  # until a further signal is a wish of its own: the first one's interrupt may have been lost
CODE = Path(__file__).parents[1]
MIB = 2**20
ROOM = 16 * MIB  # for dvc.lock and the rest of DVC's files, beside the outputs themselves


@dataclass(frozen=True)
class Stage:
    """A running stage: its params, and an event that is set when it is to stop."""

    params: Params
    stop: Stop


@contextmanager
def running(name: str, *, saves: bool = False) -> Iterator[Stage]:
    """The frame of the stage `name` of dvc.yaml; ends the process with exit code 2 and one line when it fails or is stopped.

    `saves`: the stage looks at `stop` by itself, saves and raises; else its work is interrupted. Params or files that the stage depends
    on and that were edited while it ran are an error: DVC would record what is there now, not what the stage ran with.
    """
    stop = Stop()
    with user_errors(), _interruptible(name, stop, saves):
        sweep()
        before = inputs(name)
        params = parse(read_yaml(paths.PARAMS), str(paths.PARAMS))
        yield Stage(params, stop)
        _check_unchanged(name, before, inputs(name))
        _check_room(name)


def sweep() -> None:
    """Remove what killed stages left where outputs are written."""
    atomic.sweep(*paths.WRITTEN_IN, *(folder for folder in paths.CHECKPOINTS.glob("*") if folder.is_dir()))


def read_graph(name: str) -> dict[str, Any]:
    """What dvc.yaml says of the stage `name`; nothing where the stage is run in a folder without it."""
    if not Path("dvc.yaml").is_file():
        return {}
    graph: dict[str, Any] = yaml.load(Path("dvc.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"].get(name) or {}
    return graph


def inputs(name: str) -> dict[str, Any]:
    """The stage's params by their dotted names, and its dependencies: code by its digest, data by the time of its last change."""
    graph = read_graph(name)
    knobs = flatten(read_yaml(paths.PARAMS) or {})
    sections = tuple(graph.get("params", ()))
    found: dict[str, Any] = {
        f"params.yaml: {key}": value for key, value in knobs.items() if f"{key}.".startswith(tuple(f"{s}." for s in sections))
    }
    for dep in map(Path, graph.get("deps", ())):
        is_code = dep.parts[0] in ("pipeline", "stages")
        place = CODE / dep if is_code else dep
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and "__pycache__" not in file.parts:
                state = file.stat()
                found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest() if is_code else (state.st_size, state.st_mtime_ns)
    return found


def _check_unchanged(name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old != new:
            what = f"{key} changed from {old} to {new}" if key.startswith("params.yaml") else f"{key} changed"
            raise UserError(f"{what} while {name} ran, so its outputs are of neither; run dvc repro again")


def _check_room(name: str) -> None:
    """DVC copies the outputs into its cache; where the disk is too full for that it says so, and goes on as if they were there."""
    if "link" in read_config().get("cache", "type", fallback="copy").replace("reflink", ""):
        return  # moved into the cache and linked back
    cache = find_cache()
    place = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    outs = [Path(out if isinstance(out, str) else next(iter(out))) for out in read_graph(name).get("outs", ())]
    files = (file for out in outs for file in (out.rglob("*") if out.is_dir() else [out]) if file.is_file())
    needed, free = sum(file.stat().st_size for file in files), shutil.disk_usage(place).free
    if free < needed + ROOM:
        raise UserError(
            f"{cache}: {free / MIB:.0f} MiB are free on its disk, and DVC needs {(needed + ROOM) / MIB:.0f} to keep what {name} made; "
            "free some and run again"
        )


@contextmanager
def _interruptible(name: str, stop: Stop, saves: bool) -> Iterator[None]:
    """Turn the first signal into `stop`, and into KeyboardInterrupt where the work does not look at it; those right after change nothing.

    An interrupt that falls into a callback of a C library is told to `sys.unraisablehook` and lost: it is raised again outside of it.
    """
    raised, last = -AGAIN_SECONDS, 0

    def on_signal(number: int, _: object) -> None:
        nonlocal raised, last
        last = number
        stop.set()
        if number == signal.SIGHUP:
            _let_go_of_terminal()
        if not saves and time.monotonic() - raised >= AGAIN_SECONDS:
            raised = time.monotonic()
            raise KeyboardInterrupt

    def on_lost(lost: "sys.UnraisableHookArgs") -> None:
        nonlocal raised
        if not issubclass(lost.exc_type, KeyboardInterrupt) or not stop.is_set():
            sys.__unraisablehook__(lost)
            return
        raised = -AGAIN_SECONDS
        threading.Timer(0.1, os.kill, (os.getpid(), last)).start()

    hook, sys.unraisablehook = sys.unraisablehook, on_lost
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup, or a shell that starts it in the background, wants it
            signal.signal(number, on_signal)
    _watch_starters()
    try:
        yield
    except KeyboardInterrupt:
        raise UserError(f"{name} was stopped; dvc repro begins it again") from None
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():  # of a stage that was stopped, another signal does not change how it ends
            signal.signal(number, signal.SIG_IGN if stop.is_set() else handler)


def _watch_starters() -> None:
    """End this process after the dvc, or the torchrun, that started it."""
    above = [dvc_above(), psutil.Process().parent() if "LOCAL_RANK" in os.environ else None]
    for process in filter(None, above):
        threading.Thread(target=_watch, args=(process,), daemon=True).start()


def _watch(process: psutil.Process) -> None:
    """End this process after `process`."""
    psutil.wait_procs([process])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(ORPHAN_SECONDS)
    os._exit(1)


def _let_go_of_terminal() -> None:
    """A terminal that was closed takes no more lines."""
    for stream in (sys.stdout, sys.stderr):
        if os.isatty(stream.fileno()):
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), stream.fileno())
