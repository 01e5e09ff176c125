"""What deploy/ says of itself and what docs/scale.md says of it. tests/graph/test_team.py runs the commands of the compose file."""

import re
from pathlib import Path

import pytest
import yaml

from deploy import check_fresh
from docs import draw_team

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
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
    steps = check_fresh.read_dockerfile(DOCKERFILE)
    sources = [word for name, rest in steps if name == "COPY" for word in rest.split()[:-1]]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert set(sources) <= set(kept)


def test_the_dockerfile_is_read_step_by_step_and_ends_without_rights() -> None:
    steps = check_fresh.read_dockerfile(DOCKERFILE)
    assert [name for name, _ in steps] == re.findall(r"^([A-Z]+) ", DOCKERFILE, re.MULTILINE)
    assert steps[0] == ("FROM", check_fresh.BASE_IMAGE)
    assert [rest for name, rest in steps if name == "USER"] == ["ctmr"]
    assert check_fresh.read_dockerfile("RUN a \\\n    # why\n    && b\n") == [("RUN", "a && b")]


@pytest.mark.parametrize("line", ["ADD a b", "COPY --chown=ctmr a b", "RUN --mount=type=cache,target=/c a", "COPY $HERE b", "run a"])
def test_a_step_that_the_check_cannot_carry_out_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check_fresh.read_dockerfile(f"FROM x\n{line}\n")
    assert line in capsys.readouterr().err


def test_a_fresh_root_gets_the_packages_and_runs_the_lines_of_the_readme() -> None:
    packages, commands = check_fresh.read_readme((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"git", "make", "python3-venv"} <= set(packages.split())
    assert commands == ["git clone ADDRESS ctmr && cd ctmr", "make setup && . .venv/bin/activate"]
