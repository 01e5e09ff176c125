"""Fail when a test was skipped although what it needs is here. Usage: skipped.py JUNIT_XML"""

import os
import sys
from pathlib import Path
from xml.etree import ElementTree

ABSENT_DATA = "real slices absent"
ABSENT_GPU = "no CUDA device"


def unjustified(report: Path, real_data: Path, gpu: bool) -> list[str]:
    """One line for each skipped test whose reason doesn't hold on this machine."""
    lines = []
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        if skipped is None:
            continue
        reason = skipped.get("message") or skipped.text or ""
        if ABSENT_DATA in reason and not real_data.exists():
            continue
        if ABSENT_GPU in reason and not gpu:
            continue
        lines.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    return lines


def main() -> None:
    real_data = Path(os.environ.get("REAL_DATA", "../shared/data"))
    lines = unjustified(Path(sys.argv[1]), real_data, gpu=Path("/dev/nvidia0").exists())
    if lines:
        print(f"{len(lines)} tests were skipped that should have run here:", *lines, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
