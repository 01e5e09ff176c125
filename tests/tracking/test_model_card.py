"""The model card and the stage's line say what is so: what taught the model, its range of CT, and the registry as it is."""

import pytest

from pipeline.domain import Direction, Modality
from pipeline.tracking.model_card import Card, Slices
from pipeline.tracking.promotion import Check, Decision
from pipeline.tracking.registration import Registered

COUNTS = {split: {Modality.CT: ct, Modality.MR: ct + 1} for split, ct in (("train", 147), ("val", 30), ("test", 31))}
REFUSED = Decision(False, "auto", [Check("spread", False, 0.1, 0.3)])
PROMOTED = Decision(True, "auto", [Check("spread", True, 0.8, 0.3)])


def write_card(hounsfield: str = "all", teacher_pairs: int = 100, registered: Registered | None = None) -> str:
    window = {"level": 40, "width": 80}
    model = {"model": {"generator": "resnet_6", "generator_width": 16}, "preprocess": {"teacher_pairs": teacher_pairs, "ct_window": window}}
    card = Card(model, {}, None, Slices(COUNTS, hounsfield), teacher_pairs)
    return card.markdown({Direction.CT_TO_MR: registered} if registered else {})


def test_slices_to_train_to_watch_and_to_judge_are_told_apart() -> None:
    said = "Slices: 147 CT and 148 MR to train, 30 CT and 31 MR to watch training, 31 CT and 32 MR to judge."
    assert said in write_card()
    assert "208" not in write_card()


@pytest.mark.parametrize(
    ("hounsfield", "teacher_pairs", "said"),
    [
        ("all", 100, "CT from -1000 to 3000 HU was taught; what lies outside is not known"),
        ("all", 0, "CT from -1000 to 3000 HU was taught; what lies outside is not known"),
        ("some", 100, "Some of the CT slices it learned from are grey pictures whose window is not known"),
        ("none", 100, "CT from -1000 to 3000 HU was taught by simulated heads alone"),
        ("none", 0, "So its CT has no scale in Hounsfield units"),
    ],
)
def test_a_range_is_given_only_where_one_was_taught(hounsfield: str, teacher_pairs: int, said: str) -> None:
    card = write_card(hounsfield, teacher_pairs)
    assert said in card
    assert ("window is not known" in card or "window made them is not known" in card) == (hounsfield != "all")
    assert ("HU was taught" in card) == (hounsfield != "none" or teacher_pairs > 0)


@pytest.mark.parametrize(
    ("unpaired", "taught", "pairs", "said"),
    [
        (True, 0, 0, "unpaired slices alone."),
        (True, 100, 0, "unpaired slices, and from simulated heads with known truth (100 images)."),
        (False, 100, 20, "simulated heads with known truth (100 images), and from 20 registered pairs of slices."),
        (False, 0, 20, "20 registered pairs of slices alone."),
    ],
)
def test_what_taught_it_is_told(unpaired: bool, taught: int, pairs: int, said: str) -> None:
    model = {"model": {"generator": "resnet_6", "generator_width": 16}, "preprocess": {"teacher_pairs": taught}}
    card = Card(model, {}, None, Slices(COUNTS, "all", pairs), taught, unpaired, paired=True)
    assert f"Translation was learned from {said}" in card.markdown({})


@pytest.mark.parametrize(
    ("decision", "champion", "line", "card"),
    [
        (PROMOTED, "1", "version 1, promoted (decided D); it is champion", "it is champion"),
        (REFUSED, "1", "version 1, not promoted (decided D); it was made champion before and stays so", "it was made champion before"),
        (PROMOTED, "3", "version 1, promoted (decided D); champion is version 3", "champion is another model, feed1234"),
        (REFUSED, "", "version 1, not promoted (decided D); there is no champion", "there is no champion"),
    ],
)
def test_the_registry_stands_as_it_is_beside_what_was_decided(decision: Decision, champion: str, line: str, card: str) -> None:
    """A decision under another rule takes no champion back; a promoted version may have been overtaken since."""
    registered = Registered("1", decision, "D", champion, "feed12345678")
    assert str(registered).startswith(line)
    text = write_card(registered=registered)
    assert f"## ct-to-mr: {'promoted' if decision.promoted else 'not promoted'}" in text
    assert f"- {card}" in text
