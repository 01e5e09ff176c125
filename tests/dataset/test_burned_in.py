"""Text in the pixels may name a patient: where a header says so, slices train no model and come into no picture of a report."""

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest

from pipeline import paths
from pipeline.dataset import manifest, quality, quality_report
from pipeline.formats.table import read_slices, read_volume
from pipeline.params import Quality
from pipeline.serving.translator import Translator
from tests.serving.examinations import dicom_series, heads

SAID = "BurnedInAnnotation (0028,0301) is YES"


def mark(files: list[Path], **attributes: Any) -> None:
    for file in files:
        dataset = pydicom.dcmread(file)
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.save_as(file)


def test_they_are_quarantined_with_the_reason_and_drawn_nowhere(tmp_path: Path) -> None:
    ct, mr = heads()
    mark(dicom_series(tmp_path / "raw/ct/a", ct, "CT")[1:2], BurnedInAnnotation="YES")
    mark(dicom_series(tmp_path / "raw/mr/b", mr, "MR"), BurnedInAnnotation="NO")
    judged = quality.judge(manifest.build(tmp_path / "raw", workers=1), Quality(min_side=32))
    reasons = {modality: set(mine["reason"]) for modality, mine in judged.groupby("modality")}
    assert reasons == {"ct": {"burned-in text"}, "mr": {""}}  # one slice with text speaks for its volume
    quality_report.write(tmp_path / "report", judged, [], tmp_path / "raw")
    assert [file.name for file in (tmp_path / "report/sheets").iterdir()] == ["mr_accepted.png"]
    assert SAID in (tmp_path / "report" / paths.QUARANTINE_CSV.name).read_text()
    counts = json.loads((tmp_path / "report" / paths.VALIDATION_JSON.name).read_text())["counts"]
    assert counts["ct"]["quarantined"] == {"burned-in text": 3}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"BurnedInAnnotation": "YES"}, SAID),
        (
            {"ConversionType": "DF"},
            f"ConversionType (0008,0064) is DF (a digitised film), and {SAID.removesuffix('is YES')}does not say NO",
        ),
        ({"ConversionType": "DF", "BurnedInAnnotation": "NO"}, ""),
        ({"ConversionType": "WSD"}, ""),
        ({"RecognizableVisualFeatures": "YES"}, ""),
    ],
)
def test_what_says_that_text_may_be_burned_in(attributes: dict[str, str], expected: str, tmp_path: Path) -> None:
    files = dicom_series(tmp_path / "mr", heads()[1], "MR")
    mark(files, **attributes)
    assert read_slices(files[0])[0].burned_in == expected
    volume = read_volume(tmp_path / "mr", "mr")
    assert [warning for warning in volume.warnings if "burned" in warning] == (
        [f"text may be burned into the pixels, a patient's name among it: {expected}; look before you pass anything on"] if expected else []
    )


def test_a_translation_says_of_itself_what_its_source_said(tmp_path: Path) -> None:
    mark(dicom_series(tmp_path / "mr", heads()[1], "MR"), BurnedInAnnotation="YES")
    summary = Translator.from_box("mr_to_ct").translate(tmp_path / "mr", tmp_path / "ct")
    assert any(SAID in warning for warning in summary.warnings)
    assert {pydicom.dcmread(file).BurnedInAnnotation for file in (tmp_path / "ct").iterdir()} == {"YES"}
