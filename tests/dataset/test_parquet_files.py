"""A table that is empty, cut off or damaged is one line wherever it is read, and never a new split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from pipeline.dataset import slice_arrays, split
from pipeline.dataset.parquet_files import read_table
from pipeline.errors import UserError
from pipeline.params import Split
from pipeline.retraining import summary
from stages import preprocess as preprocess_stage
from stages import split as split_stage

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut off": lambda whole: whole[: len(whole) // 2],
    "last bytes lost": lambda whole: whole[:-5],
    "zeros": lambda whole: bytes(len(whole)),
    "footer damaged": lambda whole: whole[:-60] + bytes(52) + whole[-8:],
    "no table at all": lambda whole: b"slice_id,split\n1,train\n",
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "a.parquet"
    pd.DataFrame({"slice_id": [str(i) for i in range(1000)], "row": np.arange(1000)}).to_parquet(file)
    return file


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_one_line_for_every_reader(table: Path, damage: str) -> None:
    table.write_bytes(DAMAGE[damage](table.read_bytes()))
    table.with_name(paths.INDEX.name).write_bytes(table.read_bytes())
    readers: list[Callable[[], object]] = [
        lambda: read_table(table, "split"),
        lambda: split.read_earlier(table, Split()),
        lambda: slice_arrays.load_index(table.parent),
        lambda: summary.measure_drift(table, {"ct": {}}),
    ]
    for read in readers:
        with pytest.raises(UserError, match=r"empty, cut off or damaged; bring it back with dvc checkout --force .*parquet, or delete it"):
            read()


@pytest.mark.parametrize(("stage", "broken"), [("split", paths.MANIFEST), ("preprocess", paths.MANIFEST), ("preprocess", paths.SPLIT)])
def test_stages_end_in_that_line(
    stage: str, broken: Path, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(table.parent)
    (table.parent / paths.PARAMS).write_text((Path(__file__).parents[2] / paths.PARAMS).read_text())
    for file in (paths.MANIFEST, paths.SPLIT):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(table.read_bytes())
    broken.write_bytes(broken.read_bytes()[:-5])
    with pytest.raises(SystemExit) as ended:
        {"split": split_stage, "preprocess": preprocess_stage}[stage].main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {broken}: empty, cut off or damaged")
    assert said.count("\n") == 1
