"""Scores and their intervals."""

from dataclasses import replace

from pipeline.domain import Interval


def test_an_interval_ends_where_its_score_does() -> None:
    wide = Interval(0.6, -1.4, 1.3)
    assert wide.as_scores("correlation") == {"correlation": 0.6, "correlation_low": -1.0, "correlation_high": 1.0}
    assert wide.as_scores("bone_dice") == {"bone_dice": 0.6, "bone_dice_low": 0.0, "bone_dice_high": 1.0}
    assert wide.as_scores("mae")["mae_low"] == 0.0
    assert wide.as_scores("me_hu")["me_hu_low"] == -1.4
    difference = replace(wide, signed=True)
    assert difference.as_scores("correlation")["correlation_low"] == -1.4
