"""What must hold of the split and of the stored arrays, checked by Great Expectations before they are used."""

from typing import TYPE_CHECKING, Any

from pipeline import params, paths
from pipeline.dataset import expectations
from pipeline.dataset.expectations import Expectation
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


SMALLEST_HEAD = 0.36  # share of a tight square that a narrow head covers


def check(index: "pd.DataFrame", stored: "pd.DataFrame", preprocess: params.Preprocess) -> dict[str, Any]:
    """Results for the lines of index.parquet and for what was `stored` of each (mean and largest value, 0..1, head's share).

    Raises UserError naming the first critical expectation that does not hold, with examples.
    """
    import pandas as pd

    groups = index.groupby("group").agg(splits=("split", "nunique")).reset_index()
    filled = pd.DataFrame({"part": sorted(index["split"] + " " + index["modality"])}).drop_duplicates()
    every = [f"{split} {modality}" for split in paths.SPLITS for modality in paths.MODALITIES]
    lines = index.assign(**{str(name): stored[name].to_numpy() for name in stored}, range=index["intensity_high"] - index["intensity_low"])
    results = [
        *expectations.check(
            "split",
            index,
            [
                Expectation("ColumnValuesToBeUnique", "each slice is in one split, once", {"column": "slice_id"}),
                Expectation("ColumnValuesToBeInSet", "train, val or test", {"column": "split", "value_set": list(paths.SPLITS)}),
            ],
        ),
        *expectations.check(
            "groups", groups, [Expectation("ColumnValuesToBeBetween", "no group crosses splits", {"column": "splits", "max_value": 1})]
        ),
        *expectations.check(
            "pairs",
            index[index["pair"] >= 0],
            [Expectation("ColumnValuesToBeInSet", "pairs are for testing only", {"column": "split", "value_set": ["test"]})],
        ),
        *expectations.check(
            "parts",
            filled,
            [Expectation("ColumnDistinctValuesToContainSet", "no split is empty", {"column": "part", "value_set": every})],
        ),
        *expectations.check(
            "arrays",
            lines,
            [
                Expectation("ColumnValuesToBeBetween", "crop boxes have a size", {"column": "crop_side", "min_value": 1}),
                Expectation("ColumnValuesToBeBetween", "intensities have a range", {"column": "range", "min_value": 0, "strict_min": True}),
                Expectation("ColumnValuesToBeBetween", "no stored slice is black", {"column": "stored_largest", "min_value": 0.2}),
                Expectation(
                    "ColumnValuesToBeBetween",
                    "heads are neither black nor white",
                    {"column": "stored_mean", "min_value": 0.02, "max_value": 0.9},
                    expectations.WARNING,
                ),
                Expectation(
                    "ColumnValuesToBeBetween",
                    "heads fill their crop as the margin says",
                    {"column": "stored_head", "min_value": SMALLEST_HEAD * (1 - 2 * preprocess.margin) ** 2, "max_value": 1, "mostly": 0.9},
                    expectations.WARNING,
                ),
            ],
        ),
    ]
    broken = [result for result in results if not result["success"] and result["severity"] == expectations.FAILING]
    if broken:
        first = broken[0]
        examples = f", e.g. {', '.join(first['examples'])}" if first["examples"] else ""
        raise UserError(
            f"preprocess: expectation not met: {first['meaning']} ({first['unexpected']} exceptions in {first['table']}.{first['column']}"
            f"{examples}); look at these slices and run dvc repro validate again"
        )
    return {"success": True, "expectations": results}
