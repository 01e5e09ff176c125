"""Draw docs/images/team.svg from deploy/compose.yaml: which service asks which, as their commands and variables name each other."""

import re
from html import escape
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SVG = ROOT / "docs/images/team.svg"
ABOUT = {
    "worker": "clones, retrains, shares",
    "dask-worker": "reads, checks, prepares slices",
    "serve": "the web page, by the champion",
    "dask-scheduler": "spreads the data stages",
    "prefect": "schedule, runs, approval",
    "mlflow": "runs, models, champions; log-in",
    "s3": "data/ · dvc/ · mlflow/",
    "postgres": "mlflow, mlflow_users, prefect",
}
PEOPLE = "a clone"  # what a person has: it uses the servers as the workers do
WIDTH, HEIGHT, GAP = 250, 62, 24
ROWS = ((PEOPLE, "worker", "dask-worker", "serve"), ("dask-scheduler", "prefect", "mlflow"), ("postgres", "s3"))
TOPS = (62, 232, 400)
SHIFTS = (0, 0.5, 1.5)  # of rows to the right, in boxes
STYLE = """text{font:14px sans-serif;fill:#1b2733} .name{font-weight:bold} .small{font-size:12px;fill:#4a5a68}
rect{fill:#fff;stroke:#41637f;stroke-width:1.5} .band{fill:#eef4f8;stroke:#b9cbd8} path{stroke:#41637f;stroke-width:1.5;fill:none}"""


def asked(service: dict[str, Any], names: set[str]) -> dict[str, str]:
    """Whom a service asks, with the port: every name that a port follows in its command and variables."""
    words = [*service.get("command", ()), *map(str, service.get("environment", {}).values())]
    return {name: port for word in words for name, port in re.findall(r"(?<![\w.-])([\w-]+):(\d{4,5})\b", word) if name in names}


def edges(content: dict[str, Any]) -> set[tuple[str, str, str]]:
    """(who, whom, port); all that use the servers as a client does are one: `clients`."""
    services = content["services"]
    found = {("clients", name, port) for name, port in asked({"environment": content["x-client"]}, set(services)).items()}
    for who, service in services.items():
        if who not in ROWS[0]:
            found |= {(who, whom, port) for whom, port in asked(service, set(services)).items() if whom != who}
    return found


def draw(content: dict[str, Any]) -> str:
    """The picture as SVG."""
    width = 4 * WIDTH + 5 * GAP
    boxes = {
        name: (GAP + (WIDTH + GAP) * (number + SHIFTS[row_number]), top)
        for row_number, (row, top) in enumerate(zip(ROWS, TOPS, strict=True))
        for number, name in enumerate(row)
    }
    band_bottom = TOPS[0] + HEIGHT + 18
    parts = [f'<rect class="band" x="8" y="12" width="{width - 16}" height="{band_bottom - 12}" rx="10"/>']
    parts.append('<text class="small" x="24" y="38">on any host; all find the servers by the same variables (x-client)</text>')
    for who, whom, port in sorted(edges(content)):
        (x, y), (left, top) = boxes[whom], boxes.get(who, (0, 0))
        middle, beside = x + WIDTH / 2, width - 40
        if who == "clients" and whom in ROWS[2]:  # past the servers between them
            path, label = f"M{beside} {band_bottom} V{y + HEIGHT / 2} H{x + WIDTH + 4}", (beside + 6, band_bottom + 26)
        elif who == "clients":
            path, label = f"M{middle} {band_bottom} V{y - 4}", (middle + 6, band_bottom + 26)
        elif left == x:
            path, label = f"M{middle} {top + HEIGHT} V{y - 4}", (middle + 6, top + HEIGHT + 40)
        else:
            path, label = f"M{left + 30} {top + HEIGHT} L{x + WIDTH - 30} {y - 4}", ((left + x + WIDTH) / 2 + 10, (top + HEIGHT + y) / 2)
        parts += [f'<path d="{path}" marker-end="url(#tip)"/>', f'<text class="small" x="{label[0]}" y="{label[1]}">{port}</text>']
    for name, (x, y) in boxes.items():
        about = "dvc repro · dvc push · ctmr translate" if name == PEOPLE else ABOUT[name]
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>')
        parts.append(f'<text class="name" x="{x + 14}" y="{y + 25}">{escape(name)}</text>')
        parts.append(f'<text class="small" x="{x + 14}" y="{y + 46}">{escape(about)}</text>')
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    tip += '<path d="M0 0L8 4L0 8z" style="fill:#41637f;stroke:none"/></marker>'
    height = TOPS[-1] + HEIGHT + 16
    frame = f'<rect x="0" y="0" width="{width}" height="{height}" style="fill:#fff;stroke:none"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"><title>A team’s servers</title>'
    return "\n".join([head, f"<style>{STYLE}</style><defs>{tip}</defs>", frame, *parts, "</svg>\n"])


if __name__ == "__main__":
    SVG.write_text(draw(yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))), encoding="utf-8")
