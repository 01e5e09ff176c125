"""Series of several acquisitions: passes and rotations are one volume, two of the same place are not."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.formats import table
from tests.formats.dicom_files import STORED, write


@pytest.mark.parametrize(("shift", "thickness", "acquisitions", "refused"), [
    (0.3, 5, [1, 2], True), (2.5, 5, [1, 2], True),  # the patient has moved in between
    (2.5, 2.5, [1, 2], False),  # in two passes
    (2.5, 5, [1, 1], False), (2.5, 5, [None, None], False),  # reconstructed with overlap
])  # fmt: skip
def test_two_acquisitions_through_each_other_are_no_volume(
    shift: float, thickness: float, acquisitions: list[int | None], refused: bool, tmp_path: Path
) -> None:
    for number in range(12):
        place, acquisition = number // 2 * 5 + number % 2 * shift, acquisitions[number % 2]
        told = {} if acquisition is None else {"AcquisitionNumber": acquisition}
        write(tmp_path / f"{number}.dcm", STORED, place, SliceThickness=thickness, InstanceNumber=number, **told)
    with pytest.raises(UserError, match="several acquisitions") if refused else nullcontext():
        assert table.read_volume(tmp_path).voxels.shape[2] == 12


def test_rotations_of_a_scanner_are_one_volume(tmp_path: Path) -> None:
    for number in range(12):  # with overlap, each rotation an acquisition of its own
        write(tmp_path / f"{number}.dcm", STORED, 2.5 * number, SliceThickness=5, InstanceNumber=number, AcquisitionNumber=number // 4)
    assert table.read_volume(tmp_path).voxels.shape[2] == 12
