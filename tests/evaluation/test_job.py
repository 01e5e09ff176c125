"""What of an evaluation MLflow charts: what one compares runs by, not each of some fifty scores."""

from pipeline.evaluation.job import curves

SCORES = {"mae": 0.1, "mae_low": 0.09, "mae_high": 0.11, "cycle_mae": 0.05, "spread": 0.8, "nmi": 1.2, "nmi_low": 1.1, "slices": 9}


def test_headline_scores_with_their_intervals_in_a_section_of_their_own() -> None:
    both = ("ct_to_mr", "mr_to_ct")
    lesions = {"ct_to_mr": {"contrast": 0.4, "kept": 0.2, "by_kind": {}}, "mr_to_ct": {}}
    found = curves({"test": {direction: SCORES for direction in both}, "lesions": lesions})
    for direction in both:
        assert {name.removeprefix(f"test/{direction}/"): found[name] for name in found if name.startswith(f"test/{direction}/")} == {
            "mae": 0.1,
            "cycle_mae": 0.05,
            "spread": 0.8,
            "interval/mae_low": 0.09,
            "interval/mae_high": 0.11,
        }
    assert {name: value for name, value in found.items() if name.startswith("lesions")} == {
        "lesions/ct_to_mr/contrast": 0.4,
        "lesions/ct_to_mr/kept": 0.2,
    }
