"""The parts of a row and their columns."""

from __future__ import annotations

from gkc.knowledge import PARTS, part_spans, row_width


def test_spans_have_the_fixed_order() -> None:
    assert part_spans(PARTS, 64, 32) == {
        "user": (0, 64),
        "item": (64, 128),
        "user_item": (128, 192),
        "user_category": (192, 224),
    }
    chosen = part_spans(["user_category", "item"], 64, 32)
    assert list(chosen.items()) == [("item", (0, 64)), ("user_category", (64, 96))]
    assert part_spans([], 64, 32) == {}


def test_pairs_without_elements_take_no_columns() -> None:
    assert part_spans(PARTS, 3, 0)["user_category"] == (9, 9)


def test_a_row_of_all_parts_ends_where_its_last_part_does() -> None:
    assert row_width(64, 32) == 224
    assert row_width(3, 0) == 9
