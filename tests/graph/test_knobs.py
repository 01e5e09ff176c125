"""Every knob counts: DVC leaves some keys out of its hashes, and a knob named like one would be changed without effect."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.annotations import ANNOTATION_FIELDS
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import Stage
from dvc_data.hashfile.meta import Meta

PROJECT = Path(__file__).parents[2]
PARAMS = yaml.safe_load((PROJECT / "params.yaml").read_text())
# dvc/stage/cache.py leaves out size and nfiles at any depth, dvc/stage/utils.py the others.
DROPPED = {
    *ANNOTATION_FIELDS,
    *(value for name, value in vars(Meta).items() if name.startswith("PARAM_")),
    Output.PARAM_METRIC,
    Output.PARAM_PERSIST,
    Stage.PARAM_LOCKED,
    Stage.PARAM_FROZEN,
    Stage.PARAM_MD5,
    Stage.PARAM_META,
    Stage.PARAM_DESC,
}


def knobs(section: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from knobs(value, *above, key)
        else:
            yield (*above, key)


def test_no_knob_is_named_like_a_key_that_dvc_leaves_out() -> None:
    assert {"size", "nfiles"} <= DROPPED
    assert [".".join(knob) for knob in knobs(PARAMS) if DROPPED & set(knob)] == []


def test_dvc_reruns_when_any_knob_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that copies params.yaml, run by DVC after a change of each knob; a knob left out of DVC's hashes brings back an old copy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    Path("code").write_text("")
    stage = {"cmd": "cp params.yaml seen.yaml", "deps": ["code"], "params": list(PARAMS), "outs": ["seen.yaml"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"copy": stage}}))
    repo = Repo.init(str(tmp_path), no_scm=True)

    def changed_to(content: dict[str, Any]) -> dict[str, Any]:
        Path("params.yaml").write_text(yaml.safe_dump(content))
        repo.reproduce()
        return yaml.safe_load(Path("seen.yaml").read_text())

    assert changed_to(PARAMS) == PARAMS
    for knob in knobs(PARAMS):
        other = yaml.safe_load(yaml.safe_dump(PARAMS))
        section = other
        for key in knob[:-1]:
            section = section[key]
        section[knob[-1]] = "another value"
        assert changed_to(other) == other, f"{'.'.join(knob)} changed, and DVC brought back what was made without the change"
