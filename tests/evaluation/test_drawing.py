"""Differences as colours, text that keeps to its width, and the page of a gallery."""

import numpy as np

from pipeline.domain import Direction
from pipeline.evaluation.drawing import PAPER, colour, draw_scale, write_line
from pipeline.evaluation.gallery import Example, draw_page


def test_no_difference_is_white_and_full_colour_comes_at_the_limit() -> None:
    seen = colour(np.float32([[0, 0.5, -0.5, 9, -9]]), 0.5)[0]
    assert seen[0].tolist() == [1, 1, 1]
    assert seen[1].tolist() == seen[3].tolist()
    assert seen[2].tolist() == seen[4].tolist()
    assert seen[1].argmax() == 0  # too much: red
    assert seen[2].argmax() == 2  # too little: blue


def test_text_ends_where_the_next_begins() -> None:
    alone, long = (write_line([text, ""], [60, 60]) for text in ("short", "a text that is far too long for its place"))
    assert (alone != PAPER).any()
    assert (long[:, 60:] == PAPER).all()


def test_the_page_has_every_line_below_its_title_and_the_scale_at_its_end() -> None:
    random = np.random.default_rng(0)
    lines = [random.integers(0, 255, (128, 512, 3), dtype=np.uint8) for _ in range(2)]
    examples = [Example("a", "best: a, error 0.100"), Example("b", "worst: b, error 0.200")]
    page = draw_page(examples, lines, Direction.CT_TO_MR, has_truth=True)
    starts = [next(top for top in range(len(page) - 128) if (page[top : top + 128] == line).all()) for line in lines]
    assert 0 < starts[0] < starts[1] - 128
    bar = draw_scale(128, 0.5)
    assert (page[-2 - len(bar) : -2, 384:] == bar).all()
    assert bar[0, 0].argmax() == 2
    assert bar[0, -1].argmax() == 0
