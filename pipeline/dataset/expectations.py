"""Great Expectations over tables: named expectations with a severity, run in an ephemeral context, results as plain facts.

The results carry no time stamp, id or address, so that what is written from them is the same for the same data.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

import pandas as pd

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # before its import, wherever that happens
FAILING, WARNING = "critical", "warning"
# Great Expectations imports them for charts and for tests of distributions, which nobody asks for here: a third of its import.
SELDOM = ("altair", "scipy.stats")


@dataclass(frozen=True)
class Expectation:
    """`kind`: class name in great_expectations.expectations without "Expect"; `severity`: critical fails the stage, warning does not."""

    kind: str
    meaning: str
    arguments: dict[str, Any] = field(default_factory=dict)
    severity: str = FAILING


def between(
    column: str, meaning: str, low: float | None = None, high: float | None = None, severity: str = FAILING, of: str = "Values", **more: Any
) -> Expectation:
    """That the values of a column, or their mean or median (`of`), lie between `low` and `high`, both included."""
    return Expectation(f"Column{of}ToBeBetween", meaning, {"column": column, "min_value": low, "max_value": high, **more}, severity)


def among(column: str, meaning: str, values: Sequence[object], severity: str = FAILING) -> Expectation:
    """That the values of a column are some of these."""
    return Expectation("ColumnValuesToBeInSet", meaning, {"column": column, "value_set": list(values)}, severity)


def load() -> None:
    """Import Great Expectations, which takes seconds, ahead of `check`."""
    finder = _Postponing()
    sys.meta_path.insert(0, finder)
    try:
        import great_expectations.expectations  # noqa: F401
    finally:
        sys.meta_path.remove(finder)


def check(name: str, table: pd.DataFrame, expectations: list[Expectation]) -> list[dict[str, Any]]:
    """One result per expectation, in order: its table, column, meaning and severity, whether it holds, what was observed, exceptions."""
    load()
    import great_expectations as gx
    import great_expectations.expectations as gxe

    source = _context().data_sources.add_or_update_pandas("checked")  # with none of the last call's tables
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    suite = gx.ExpectationSuite(name=name)
    for number, expected in enumerate(expectations):
        kind = getattr(gxe, f"Expect{expected.kind}")
        suite.add_expectation(kind(**expected.arguments, severity=expected.severity, meta={"number": number}))
    outcome = batch.get_batch(batch_parameters={"dataframe": table}).validate(suite, result_format="SUMMARY")
    by_number = {result["expectation_config"]["meta"]["number"]: result for result in outcome.to_json_dict()["results"]}
    return [_plain(name, expected, by_number[number]) for number, expected in enumerate(expectations)]


def failed(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results that fail the stage."""
    return [result for result in results if not result["success"] and result["severity"] == FAILING]


@cache
def _context() -> Any:
    """Great Expectations' memory of what it is set to; making it takes as long as a check."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


class _Postponing(MetaPathFinder):
    """Finds the modules in SELDOM where Python does; they run only when something in them is first asked for."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in SELDOM else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _plain(name: str, expectation: Expectation, result: dict[str, Any]) -> dict[str, Any]:
    facts = result["result"]
    failure = (result.get("exception_info") or {}).get("exception_message")
    if failure:
        raise RuntimeError(f"expectation {expectation.kind} on {name} could not be evaluated: {failure}")
    return {
        "table": name,
        "expectation": expectation.kind,
        "column": ", ".join(expectation.arguments[name] for name in ("column", "column_A", "column_B") if name in expectation.arguments),
        "meaning": expectation.meaning,
        "severity": expectation.severity,
        "success": bool(result["success"]),
        "observed": facts.get("observed_value"),
        "unexpected": int(facts.get("unexpected_count") or 0),
        "examples": [str(value) for value in (facts.get("partial_unexpected_list") or [])[:5]],
    }
