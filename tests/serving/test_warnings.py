"""What a person should know before believing a result is said with it: stripped skulls, necks, what range the model knows."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.formats.synthetic import Label
from pipeline.imaging.integrity import SENTENCES, Fault
from pipeline.params import Preprocess
from pipeline.serving.translator import Translator
from tests.imaging.formula import affine_of, depth, head
from tests.serving.examinations import heads
from tests.serving.test_orientations import Fixed


@pytest.fixture(scope="module")
def to_ct() -> Translator:
    return Translator(Fixed(), "mr_to_ct", Preprocess(pixels=64, field_of_view=150), conditional=False, label=Label("mr-to-ct"))


def places(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return (affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]).reshape(3, *shape)


def test_a_stripped_head_is_said_and_a_whole_one_is_not(to_ct: Translator, tmp_path: Path) -> None:
    affine, shape = affine_of((0, 1, 2), (-1, -1, 1), (3.0, 3.0, 5.0))
    where = places(affine, shape)
    whole = head(*where)
    for name, voxels, warnings in (
        ("whole", whole, []),
        ("stripped", np.where(depth(*where) < 0.8, whole, 0), [SENTENCES[Fault.SKULL_STRIPPED]]),
    ):
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), affine), tmp_path / f"{name}.nii.gz")
        summary = to_ct.translate(tmp_path / f"{name}.nii.gz", tmp_path / f"{name}-ct.nii.gz")
        assert [warning for warning in summary.warnings if "no head" not in warning] == warnings


@pytest.mark.parametrize(("low", "high", "said"), [(0, 80, False), (-20, 120, False), (-1000, 1000, True), (-700, 1300, True)])
def test_a_window_of_bone_is_said(low: float, high: float, said: bool, tmp_path: Path) -> None:
    to_mr = Translator(Fixed(), "ct_to_mr", Preprocess(pixels=64, field_of_view=150), conditional=False, label=Label("ct-to-mr"))
    shown = (np.clip(heads()[0][1], low, high) - low) / (high - low)
    Image.fromarray(np.uint8(shown * 255)).save(tmp_path / "ct.png")
    summary = to_mr.translate(tmp_path / "ct.png", tmp_path / "mr.png")
    assert any("brain and fluid are of one grey" in warning for warning in summary.warnings) == said


def test_a_neck_is_left_empty_counted_and_said(to_ct: Translator, tmp_path: Path) -> None:
    affine, shape = np.diag([-4.0, -4.0, 6.0, 1.0]), (32, 38, 40)
    affine[:3, 3] = (62, 74, -180)
    where = places(affine, shape)
    neck = (np.hypot(where[0], where[1]) < 40) & (where[2] < 0) & (depth(*where) > 1)
    nibabel.save(nibabel.Nifti1Image(np.where(neck, 300, head(*where)).astype(np.int16), affine), tmp_path / "mr.nii.gz")
    summary = to_ct.translate(tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz")
    assert 8 <= summary.below <= 13
    assert f"{summary.below} of 40 slices lie below the teeth, where models were taught nothing, and are left empty" in summary.warnings
    ct = np.asarray(nibabel.load(tmp_path / "ct.nii.gz").dataobj)
    assert ct[:, :, : summary.below].max() == -1000
    assert ct[:, :, summary.below + 1].max() > -500


def test_a_model_knows_the_range_that_it_was_taught() -> None:
    facts = {"conditional": False, "label": Label("mr-to-ct")}
    assert Translator(Fixed(), "mr_to_ct", Preprocess(), **facts).known_range == (-1000, 3000)
    pictures_only = Preprocess(teacher_pairs=0, ct_window={"level": 40, "width": 80})
    assert Translator(Fixed(), "mr_to_ct", pictures_only, **facts).known_range == (0, 80)


def test_pictures_that_are_unfit_for_training_are_said_or_refused(tmp_path: Path) -> None:
    ct, mr = (np.rint(picture * 255).astype(np.uint8) for picture in (_window(heads()[0][1]), heads()[1][1]))
    colours = np.stack([mr, np.zeros_like(mr), 255 - mr], axis=2)
    for name, picture, direction, said in (
        ("mr", mr, "mr_to_ct", []),
        ("ct", ct, "ct_to_mr", []),
        ("mr as ct", mr, "ct_to_mr", ["looks like MR rather than CT; if it is, the result means nothing"]),
        ("ct as mr", ct, "mr_to_ct", ["looks like CT rather than MR; if it is, the result means nothing"]),
        ("colours", colours, "mr_to_ct", ["1 of 1 slices are coloured (drawings, a colour map); there the result is wrong"]),
    ):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        translator = Translator(Fixed(), direction, Preprocess(pixels=64), conditional=False, label=Label("a"))
        assert translator.translate(tmp_path / f"{name}.png", tmp_path / "out.png").warnings == said, name
    Image.fromarray(255 - ct).save(tmp_path / "inverted.png")
    with pytest.raises(UserError, match="black and white exchanged"):
        Translator(Fixed(), "ct_to_mr", Preprocess(pixels=64), conditional=False, label=Label("a")).translate(
            tmp_path / "inverted.png", tmp_path / "out.png"
        )


def _window(ct: np.ndarray) -> np.ndarray:
    return np.clip(ct / 80, 0, 1)


@pytest.mark.parametrize("factor", [0.1, 4])
def test_a_spacing_in_another_unit_is_refused(factor: float, to_ct: Translator, tmp_path: Path) -> None:
    affine, shape = affine_of((0, 1, 2), (-1, -1, 1), (3.0, 3.0, 5.0))
    voxels = head(*places(affine, shape)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, affine @ np.diag([factor, factor, factor, 1])), tmp_path / "mr.nii.gz")
    with pytest.raises(UserError, match=r"a head of [\d.]+ mm by the spacing of its file, expected 40 to 350; correct the spacing"):
        to_ct.translate(tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz")
