"""Step, simulator, translator and stages beside their plain references, in one run: make bench. Writes benchmarks/RESULTS.md anew.

By hand, on an idle machine if possible: what is compared runs in turn, so ratios stay valid under load, seconds do not.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
SECTIONS = (  # title, command, what --quick adds to it, what its output is
    (
        "The training step on a CPU",
        "train_step.py",
        "--pixels 64 --batch 1 --repeats 3",
        "Ratios are pairs a second over the plain float32 step of the paper.",
    ),
    ("The simulator", "render.py", "--pixels 64 --batch 4", "Pairs a second of one core; a step takes one pair for each pair of slices."),
    ("The stage evaluate", "evaluate.py", "8", "A small generator at 256×256, both ways; ratio to the time of the bare networks."),
    ("The translator", "translate.py", "", "A full-size generator on slices of 256×256; ratios are to the bare network."),
    ("The graph", "stages.py", "--preset smoke", "`dvc repro` stage by stage; reading stages as multiples of decoding the same files."),
)
HEAD = """# Speed and memory

Written by `make bench`; do not edit. Notes by hand are in [NOTES.md](NOTES.md).
{day}, {cpu}, {cores} cores, {threads}, torch {torch}; load average {before} before and {after} after.{warning}
"""
BUSY = "\n\nOther programs ran meanwhile: ratios hold, since what they compare ran in turn; seconds and rates are too slow."
CARD = """
## On a card

Not measured: none was at hand. `python benchmarks/gpu.py` prints the table for this place, in at most 8 minutes, after it has checked that
training is right there. Goals: 4 times the reference step, at 256×256 a share of 0.4 of the card's bfloat16 matrix rate, 120 pairs/s on an
H200.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, for a machine that has little time")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="1 on a busy machine: two wait for each other")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    before, parts = load(), []
    for title, script, quick, meaning in SECTIONS:
        command = f"{script} {quick}".strip() if asked.quick else script
        print(f"== {title}", flush=True)
        printed = run(command)
        table = printed if printed.startswith("|") else "".join(f"    {line}".rstrip() + "\n" for line in printed.splitlines())
        parts.append(f"\n## {title}\n\n`python benchmarks/{command}`. {meaning}\n\n{table}")
    (HERE / "RESULTS.md").write_text(compose(before, load(), asked.threads, parts), encoding="utf-8")
    print(f"== written to {HERE.name}/RESULTS.md")


def run(command: str) -> str:
    """What the benchmark prints, also shown as it comes."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "100", "PYTHONPATH": str(HERE.parent)}
    name, *options = command.split()
    arguments = [sys.executable, str(HERE / name), *options]
    lines = []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"error: benchmarks/{name} ended with {process.returncode}; RESULTS.md stays as it was")
    return "".join(lines)


def compose(before: float, after: float, threads: int, parts: list[str]) -> str:
    """The whole file; before and after: load averages."""
    cores = os.cpu_count() or 1
    head = HEAD.format(
        day=datetime.date.today().strftime("%-d %B %Y"),
        cpu=name_cpu(),
        cores=cores,
        threads=f"{threads} thread{'s' * (threads > 1)}",
        torch=torch.__version__,
        before=f"{before:.1f}",
        after=f"{after:.1f}",
        warning=BUSY if max(before, after) > cores else "",
    )
    return head + "".join(parts) + CARD


def name_cpu() -> str:
    """The processor and what it multiplies in."""
    kinds = [kind for kind in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(kind)]
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name} ({', '.join(kinds) or 'no wide vectors'})"


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


if __name__ == "__main__":
    main()
