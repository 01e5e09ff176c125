"""Simulated heads: the same seed gives the same head, CT and MR show one anatomy, and tissues look as a radiologist knows them."""

from collections import Counter

import numpy as np
import pytest

from pipeline import phantom
from pipeline.phantom import anatomy, lesions
from pipeline.phantom.heads import draw_head, simulate_shares
from pipeline.phantom.tissues import Tissue

SIZE = 128


@pytest.fixture(scope="module")
def heads() -> dict[str, phantom.Head]:
    """One slice through the ventricles in every contrast."""
    return {c: phantom.simulate_subject(7, [0.6], size=SIZE, contrast=c)[0] for c in ("t1", "t2", "flair", "pd")}


def tissue_mean(head: phantom.Head, picture: str, tissue: Tissue) -> float:
    return float(getattr(head, picture)[head.labels == tissue].mean())


def test_same_seed_same_head() -> None:
    first, again, other = (phantom.simulate(seed, size=SIZE) for seed in (3, 3, 4))
    assert first.ct.tobytes() == again.ct.tobytes()
    assert first.mr.tobytes() == again.mr.tobytes()
    assert first.ct.tobytes() != other.ct.tobytes()


@pytest.mark.parametrize("seed", range(8))
def test_ranges_and_shapes(seed: int) -> None:
    head = phantom.simulate(seed, size=96)
    assert head.ct.shape == head.mr.shape == head.mask.shape == head.labels.shape == (96, 96)
    assert head.ct.dtype == head.mr.dtype == np.float32
    assert head.ct.min() >= -1024
    assert head.ct.max() > 300, "no bone"
    assert head.mr.min() >= 0
    assert head.mr.max() <= 1
    assert 0.05 < head.mask.mean() < 0.7
    assert head.contrast in ("t1", "t2", "flair", "pd")


def test_ct_and_mr_show_the_same_skull(heads: dict[str, phantom.Head]) -> None:
    for contrast, head in heads.items():
        assert tissue_mean(head, "ct", Tissue.BONE) > 300
        assert tissue_mean(head, "mr", Tissue.BONE) < 0.6 * tissue_mean(head, "mr", Tissue.GREY), contrast


def test_fluid_is_bright_in_t2_and_dark_elsewhere(heads: dict[str, phantom.Head]) -> None:
    def fluid_to_brain(contrast: str, picture: str = "mr") -> float:
        return tissue_mean(heads[contrast], picture, Tissue.CSF) / tissue_mean(heads[contrast], picture, Tissue.WHITE)

    assert fluid_to_brain("t2") > 1.3
    assert fluid_to_brain("t1") < 0.75
    assert fluid_to_brain("flair") < 0.75
    assert fluid_to_brain("t1", "ct") < 0.75


def test_grey_matter_is_brighter_than_white_but_in_t1(heads: dict[str, phantom.Head]) -> None:
    for contrast, picture, brighter in (("t2", "mr", 1), ("flair", "mr", 1), ("pd", "mr", 1), ("t1", "mr", -1), ("t1", "ct", 1)):
        difference = tissue_mean(heads[contrast], picture, Tissue.GREY) - tissue_mean(heads[contrast], picture, Tissue.WHITE)
        assert difference * brighter > 0, (contrast, picture)


def test_neighbouring_slices_of_a_subject_fit_together() -> None:
    first, near, far = phantom.simulate_subject(5, [0.60, 0.61, 0.95], size=SIZE, contrast="t2")

    def overlap(a: phantom.Head, b: phantom.Head) -> float:
        return float((a.mask & b.mask).sum() / (a.mask | b.mask).sum())

    assert overlap(first, near) > 0.95 > overlap(first, far)
    assert {first.contrast, near.contrast, far.contrast} == {"t2"}


@pytest.mark.parametrize("kind", lesions.KINDS)
def test_lesions_show(kind: lesions.Kind) -> None:
    """Each kind changes CT and MR where its mask says, beside the same subject without it."""
    lesion = lesions.Lesion(kind, (28.0, -20.0, 25.0), 45.0 if kind == "spots" else 14.0, 8.0, 5)
    position = (25.0 - anatomy.BOTTOM) / (anatomy.TOP - anatomy.BOTTOM)
    with_it = draw_head(9, position, size=SIZE, contrast="t2", lesion=lesion)
    without = draw_head(9, position, size=SIZE, contrast="t2", lesion=None)
    assert with_it.lesion.sum() > 20
    assert not without.lesion.any()
    change = np.abs(with_it.mr - without.mr)[with_it.lesion].mean()
    assert change > 3 * np.abs(with_it.mr - without.mr)[~with_it.mask].mean()
    assert np.abs(with_it.ct - without.ct)[with_it.lesion].mean() > 2


def test_some_subjects_have_lesions_and_most_have_none() -> None:
    share = np.mean([anatomy.draw_subject(seed).lesion is not None for seed in range(300)])
    assert 0.2 < share < 0.5


def test_slices_that_teach_often_show_a_lesion_and_always_a_head() -> None:
    drawn = [simulate_shares(seed, 64) for seed in range(40)]
    lesion = [np.isin(shares.tissue, range(Tissue.OEDEMA, Tissue.CAVITY + 1)) & (shares.weight > 127) for shares, _ in drawn]
    assert 0.2 < np.mean([pixels.sum() > 5 for pixels in lesion]) < 0.6
    assert all((shares.depth > 0).sum() * shares.spacing**2 > 2000 for shares, _ in drawn)
    assert all(50 < facts["side"] < 260 and facts["orientation"] == "axial" for _, facts in drawn)


def test_a_share_of_the_slices_that_teach_is_coronal_and_sagittal() -> None:
    drawn = [simulate_shares(seed, 64, across=0.8) for seed in range(40)]
    count = Counter(facts["orientation"] for _, facts in drawn)
    assert all(count[orientation] > 2 for orientation in ("axial", "coronal", "sagittal"))
    for shares, facts in drawn:
        rows, _ = np.nonzero(shares.depth)
        if facts["orientation"] == "coronal":  # the head is at the top, and the cut below it straight
            assert (shares.depth[rows.max()] > 0).sum() > 3


def test_unknown_contrast_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of t1, t2, flair, pd"):
        phantom.simulate(1, size=64, contrast="dwi")


def test_files_are_eight_bit_and_show_what_the_head_shows() -> None:
    head = phantom.simulate_subject(7, [0.6], size=SIZE, contrast="t2")[0]
    ct, mr = phantom.render_pair(head, 1)
    assert ct.dtype == mr.dtype == np.uint8
    assert ct.shape == mr.shape == (SIZE, SIZE)
    assert np.corrcoef(mr.ravel(), head.mr.ravel())[0, 1] > 0.95
    assert np.median(ct[head.labels == Tissue.BONE]) > 240, "bone saturates"
    assert 60 < np.median(ct[head.labels == Tissue.WHITE]) < 160, "brain is mid grey"
    assert all(np.array_equal(one, again) for one, again in zip((ct, mr), phantom.render_pair(head, 1), strict=True))
