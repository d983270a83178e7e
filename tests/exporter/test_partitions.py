from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from exporter.features import Feature
from exporter.partitions import Rows, load_rows
from exporter.spill import CATEGORY, KEY, ROW
from gkc.store import hash_ids

NUMBER = Feature("x", np.dtype(np.float32), is_list=False)
FLAG = Feature("flag", np.dtype(np.bool_), is_list=False)
LIST = Feature("list", np.dtype(np.int32), is_list=True)
FEATURES = [NUMBER, FLAG, LIST]


def load(ids: list[int], categories: list[int | None] | None = None) -> Rows:
    columns: dict[str, pa.Array] = {
        KEY: pa.array(ids, pa.int64()),
        ROW: pa.array(range(len(ids)), pa.int64()),
        NUMBER.key: pa.array([k / 2 for k in range(len(ids))], pa.float32()),
        FLAG.key: pa.array([k % 2 for k in range(len(ids))], pa.uint8()),
        LIST.key: pa.array([[k] * (k % 3) for k in range(len(ids))], pa.large_list(pa.int32())),
    }
    if categories is not None:
        columns[CATEGORY] = pa.array(categories, pa.int64())
    return load_rows(pa.table(columns).combine_chunks(), FEATURES)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=30))
def test_rows_are_in_the_order_of_hashes_with_all_that_belongs_to_them(ids: list[int]) -> None:
    rows = load(ids)
    assert rows.ids.tolist() == sorted(
        ids, key=lambda i: int(hash_ids(np.array([i], dtype=np.int64))[0])
    )
    assert [ids[r] for r in rows.rows] == rows.ids.tolist()
    assert rows.numbers[NUMBER.key].tolist() == [r / 2 for r in rows.rows]
    assert rows.numbers[FLAG.key].tolist() == [r % 2 == 1 for r in rows.rows]
    assert rows.numbers[FLAG.key].dtype == np.bool_
    places = np.arange(len(ids))
    expected = [([r] * (r % 3) + [0, 0])[:2] for r in rows.rows.tolist()]
    assert rows.lists[LIST.key].padded(places, 2).tolist() == expected
    assert not rows.has_category.any()


def test_pairs_of_one_user_are_in_ascending_order_of_categories() -> None:
    pairs = load([5, 9, 5, 9, 5], [3, 2**60, -7, 1, 0])
    of_user = {u: pairs.categories[pairs.ids == u].tolist() for u in (5, 9)}
    assert of_user == {5: [-7, 0, 3], 9: [1, 2**60]}
    assert (np.diff(np.flatnonzero(pairs.ids == 5)) == 1).all()


def test_an_item_may_have_no_category() -> None:
    items = load([1, 2, 3], [None, 0, 8])
    found = {
        int(i): int(c) if h else None
        for i, c, h in zip(items.ids, items.categories, items.has_category, strict=True)
    }
    assert found == {1: None, 2: 0, 3: 8}


@given(
    st.lists(st.integers(-50, 50), unique=True, max_size=30),
    st.lists(st.integers(-60, 60), max_size=30),
)
def test_owners_are_found_or_minus_one(ids: list[int], asked: list[int]) -> None:
    rows = load(ids)
    places = rows.owners(np.array(asked, dtype=np.int64))
    assert [None if p < 0 else int(rows.ids[p]) for p in places] == [
        a if a in ids else None for a in asked
    ]
