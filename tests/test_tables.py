"""Plain tables that fit a terminal or stack."""

import pytest

from pipeline.tables import format_table

COLUMNS, ROWS = ("method", "error", "the model is"), [("model", "0.136 [0.130, 0.142]", ""), ("copy the input", "0.343", "better")]


def test_a_table_that_fits_has_a_line_a_row() -> None:
    assert format_table(COLUMNS, ROWS, 80).splitlines() == [
        "method          error                 the model is",
        "model           0.136 [0.130, 0.142]",
        "copy the input  0.343                 better",
    ]


def test_a_table_that_does_not_fit_stacks_and_cuts_nothing() -> None:
    assert format_table(COLUMNS, ROWS, 40).splitlines() == [
        "model",
        "  error         0.136 [0.130, 0.142]",
        "  the model is",
        "copy the input",
        "  error         0.343",
        "  the model is  better",
    ]


def test_wide_characters_take_two_columns() -> None:
    assert format_table(("name", "n"), [("山田", "1"), ("ab", "2")], 80).splitlines() == ["name  n", "山田  1", "ab    2"]


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError):
        format_table(COLUMNS, [("model", "0.1")], 80)
