"""Files as they come, in the manifest: read by their bytes, understood by their values, or named with a reason; none stops the stage."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from pipeline.dataset import manifest
from tests.formats.test_values import CT, MR, volume


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> "dict[str, list[manifest.Row]]":
    """The manifest's rows of some odd files, by the file's place without what numbers its slices."""
    raw = tmp_path_factory.mktemp("raw")
    (raw / "ct").mkdir()
    (raw / "mr").mkdir()
    volume(raw / "ct/x.nii", CT, np.int16).rename(raw / "ct/scan")
    volume(raw / "ct/plus.nii", CT + 1024, np.uint16)
    volume(raw / "ct/odd.nii", CT * 1000, np.float32)
    volume(raw / "ct/mask.nii", CT > 0, np.uint8)
    Image.fromarray((CT[1] + 32768).astype(np.uint16)).save(raw / "ct/plus32768.png")
    Image.fromarray(np.rint(np.clip(CT[1] / 80, 0, 1) * 4095).astype(np.uint16)).save(raw / "ct/12bit.png")
    nibabel.save(nibabel.Nifti1Pair(MR.transpose(2, 1, 0).astype(np.int16), np.diag([-2, -2, 5, 1])), raw / "mr/pair.hdr")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(MR.astype(np.int16)), str(raw / "mr/meta.mhd"))
    volume(raw / "mr/filled.nii", np.where(MR > 60, MR, -1000), np.int16)
    volume(raw / "mr/ct.nii", CT, np.int16)
    Image.fromarray(MR[1].astype(np.uint16)).save(raw / "mr/12bit.png")
    (raw / "mr/notes").write_text("no picture")
    found: dict[str, list[manifest.Row]] = {}
    for row in manifest.build(raw, 1).to_dict("records"):
        found.setdefault(row["slice_id"].split("#")[0], []).append(row)
    return found


@pytest.mark.parametrize("place", ["ct/scan", "ct/plus", "ct/plus32768"])
def test_hounsfield_units_whatever_the_name_and_offset(place: str, rows) -> None:
    assert {row["unit"] for row in rows[place]} == {"hu"}
    assert all(0.3 < row["head_share"] < 0.4 for row in rows[place])


@pytest.mark.parametrize("place", ["ct/12bit", "mr/pair", "mr/meta", "mr/filled", "mr/12bit"])
def test_heads_are_found_and_bright_enough(place: str, rows) -> None:
    assert all(0.3 < row["head_share"] < 0.4 and row["spread"] > 0.1 and not row["complaint"] for row in rows[place])


@pytest.mark.parametrize(
    ("place", "reason"), [("ct/odd", "unknown values"), ("ct/mask", "other modality"), ("mr/notes", "unreadable: no PNG, JPEG")]
)
def test_what_is_not_read_has_a_reason(place: str, reason: str, rows) -> None:
    assert [row["complaint"][: len(reason)] for row in rows[place]] == [reason]


def test_a_ct_among_mr_says_so(rows) -> None:
    assert {row["file_modality"] for row in rows["mr/ct"]} == {"ct"}


def test_voxels_beside_their_header_are_no_image_of_their_own(rows) -> None:
    assert len(rows) == 12
