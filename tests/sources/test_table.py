"""A source is one file and one line in the table: fetching, news and its name for people come from there."""

import sys
import types
from pathlib import Path
from typing import get_args

import pytest

from pipeline import paths
from pipeline.params import Data, load
from pipeline.sources import provenance
from pipeline.sources.provenance import Fetched, News
from pipeline.sources.table import SOURCES, download, look

DATA = load(Path(__file__).parents[2] / paths.PARAMS).data


def test_every_source_that_params_know_is_in_the_table() -> None:
    assert set(get_args(Data.model_fields["source"].annotation)) == set(SOURCES)


def test_a_new_source_is_one_module_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(data: Data, target: Path) -> Fetched:
        for modality in ("ct", "mr"):
            (target / modality).mkdir()
            (target / modality / "1.png").write_text(modality)
        return Fetched("Archive of the ward", version=7, facts={"ward": "K3"})

    module = types.ModuleType("ward")
    module.fetch, module.look = fetch, lambda data, used: News(used is None or used.version != 8, "tape 8 is there")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ward", module)
    monkeypatch.setitem(SOURCES, "ward", "ward")
    data = DATA.model_copy(update={"source": "ward"})
    content = download(data, tmp_path / "raw")
    assert str(content) == "Archive of the ward: 1 CT and 1 MR files"
    assert provenance.read(tmp_path / "raw/source.json") == content
    assert (content.source, content.version, content.facts) == ("ward", 7, {"ward": "K3"})
    assert look(data, content).new


def test_the_phantom_never_has_news(tmp_path: Path) -> None:
    assert not look(DATA, None).new
