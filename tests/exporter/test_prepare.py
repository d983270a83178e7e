from __future__ import annotations

from pathlib import Path

import pytest

from exporter.bundle import load_bundle
from exporter.prepare import prepare
from tests.exporter.bundles import Recipe, Term, build

HISTORY = Term("history", width="T", is_list=True)


def test_every_row_is_counted_once_and_lists_are_measured(tmp_path: Path) -> None:
    counted: list[int] = []
    bundle = load_bundle(build(tmp_path / "b").path)
    with prepare(bundle, 1000, counted.append) as prepared:
        assert sum(counted) == 12 + 20 + 18
        assert prepared.longest["users", "history"] == 5
        assert {k: int(s.rows.sum()) for k, s in prepared.spills.items()} == {
            "users": 12,
            "items": 20,
            "user_categories": 18,
        }
        assert prepared.spills["users"].partitions == prepared.spills["user_categories"].partitions


def test_a_column_is_kept_once_for_each_type_that_models_take(tmp_path: Path) -> None:
    recipe = Recipe(
        users={"user_id": [1, 2], "history": [[1], [2, 3]]},
        user_categories={"user_id": [1], "category_id": [1]},
        user=[Term("user_id"), Term("history", "int32", "T", is_list=True)],
        user_category=[Term("category_id"), HISTORY],
    )
    with prepare(load_bundle(build(tmp_path / "b", recipe).path), 1000, lambda _: None) as prepared:
        keys = {f.key for f in prepared.features("users")}
        assert keys == {"user_id|int64", "history|int32", "history|int64"}


@pytest.mark.parametrize(("pad", "expected"), [({}, 8 + 5 * 8), ({"history": 9}, 8 + 9 * 8)])
def test_the_bytes_of_a_row_follow_from_the_lists_width(
    pad: dict[str, int], expected: int, tmp_path: Path
) -> None:
    bundle = load_bundle(build(tmp_path / "b", Recipe(pad=pad)).path)
    with prepare(bundle, 1000, lambda _: None) as prepared:
        assert prepared.row_bytes("user") == expected
