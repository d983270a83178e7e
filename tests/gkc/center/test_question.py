"""The fixed order of parts."""

from __future__ import annotations

from gkc.center.question import in_row_order


def test_parts_are_put_in_row_order_each_once() -> None:
    assert in_row_order(["user_category", "item", "user", "item"]) == (
        "user",
        "item",
        "user_category",
    )
    assert in_row_order([]) == ()
