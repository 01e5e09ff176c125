"""The most memory that a command takes, all its processes together, by kind.

python benchmarks/memory.py COMMAND ...         (for example: dvc repro train)
python benchmarks/memory.py --process 1234      (a command that runs already, until it ends)

"anonymous": what programs have made, which the kernel cannot give up; a page that several processes share counts once.
"of files": libraries and memory-mapped arrays, which the kernel drops when others need the room, and reads again; a page counts in each
process that holds it. Linux only.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

KINDS = ("anonymous", "of files")
SECONDS = 1.0  # between two looks
GIB = 2**20  # in the unit of /proc, 1024 bytes


@dataclass
class Peak:
    """The most so far: GiB of each kind, and of all together; and what each process held when the anonymous memory was at its most."""

    most: dict[str, float] = field(default_factory=dict)
    processes: dict[str, float] = field(default_factory=dict)

    def look(self, root: psutil.Process) -> None:
        """Add what `root` and its children hold now."""
        held = {process: measure(process) for process in family(root)}
        now = {kind: sum(memory[kind] for memory in held.values()) for kind in KINDS}
        if now["anonymous"] > self.most.get("anonymous", 0):
            self.processes = {name(process): memory["anonymous"] for process, memory in held.items() if memory["anonymous"] > 0.01}
        for kind, size in {**now, "together": sum(now.values())}.items():
            self.most[kind] = max(size, self.most.get(kind, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--process", type=int, help="id of a command that runs already")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    if bool(asked.process) == bool(asked.command):
        parser.error("give a command, or --process with the id of one that runs")
    peak = Peak()
    if asked.process:
        root = psutil.Process(asked.process)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            peak.look(root)
            time.sleep(SECONDS)
        status = 0
    else:
        with subprocess.Popen(asked.command) as command:
            root = psutil.Process(command.pid)
            while command.poll() is None:
                peak.look(root)
                time.sleep(SECONDS)
            status = command.returncode
    for kind, size in peak.most.items():
        print(f"{kind:10} {size:6.2f} GiB at most")
    for title, size in sorted(peak.processes.items(), key=lambda item: -item[1]):
        print(f"  {size:6.2f} GiB anonymous: {title}")
    sys.exit(status)


def family(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def measure(process: psutil.Process) -> dict[str, float]:
    """GiB of each kind; nothing where the process has ended meanwhile."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        lines = []
    sizes = {key.rstrip(":"): int(size) for key, size, *_ in map(str.split, lines[1:])}
    anonymous = sum(sizes.get(part, 0) for part in ("Pss_Anon", "Pss_Shmem", "SwapPss"))
    return dict(zip(KINDS, (anonymous / GIB, (sizes.get("Rss", 0) - sizes.get("Anonymous", 0)) / GIB), strict=True))


def name(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:90]}"
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return f"{process.pid} (ended)"


if __name__ == "__main__":
    main()
