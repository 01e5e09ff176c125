"""What deploy/ says of itself and what docs/scale.md says of it. tests/graph/test_team.py runs the commands of the compose file."""

import re
from pathlib import Path

import pytest
import yaml

from docs import draw_team

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
CONTENT = yaml.safe_load(TEXT)


def test_the_picture_shows_the_compose_file() -> None:
    assert draw_team.draw(CONTENT) == draw_team.SVG.read_text(encoding="utf-8"), "python docs/draw_team.py draws it"
    assert ("mlflow", "postgres", "5432") in draw_team.edges(CONTENT)


def test_the_page_names_every_secret_and_none_has_a_default() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", TEXT))
    line = next(line for line in (ROOT / "docs/scale.md").read_text(encoding="utf-8").splitlines() if "deploy/.env" in line)
    assert set(re.findall(r"(\w+)=", line)) == needed
    assert not re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|SALT)\w*):-", TEXT)


@pytest.mark.parametrize("name", CONTENT["services"])
def test_a_service_needs_only_what_stands_before_it_and_is_ready_when_asked(name: str) -> None:
    services = list(CONTENT["services"])
    for needed, how in CONTENT["services"][name].get("depends_on", {}).items():
        assert services.index(needed) < services.index(name)
        assert how["condition"] == "service_started" or "healthcheck" in CONTENT["services"][needed]
    named = draw_team.asked(CONTENT["services"][name], set(services))
    assert named.keys() <= set(services)


def test_the_image_has_what_its_steps_copy() -> None:
    sources = [
        word for line in re.findall(r"^COPY (.+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE) for word in line.split()[:-1]
    ]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert set(sources) <= set(kept)
