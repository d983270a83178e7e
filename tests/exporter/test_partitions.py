from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.features import TEXT, Feature
from exporter.partitions import (
    CATEGORY,
    NAME,
    NO_ROWS,
    ROW,
    TableRows,
    partition_count,
    sort_rows,
)
from exporter.spill import KEY
from gkc.id_index import keys_of
from gkc.store import hash_ids
from gkc.strings import StringIds

IDS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("needed", "count"), [((0.0,), 1), ((0.2, 3.1), 4), ((1e9,), 4096), ((5.0, 2.0), 5)]
)
def test_partition_count_takes_the_largest_wish(needed: tuple[float, ...], count: int) -> None:
    assert partition_count(*needed) == count


NUMBER = Feature("x", np.dtype(np.float32), is_list=False)
FLAG = Feature("flag", np.dtype(np.bool_), is_list=False)
LIST = Feature("list", np.dtype(np.int32), is_list=True)
TEXT_SCALAR = Feature("city", TEXT, is_list=False)
TEXT_LIST = Feature("tags", TEXT, is_list=True)
FEATURES = [NUMBER, FLAG, LIST, TEXT_SCALAR, TEXT_LIST]


def load(ids: list[int], categories: list[int | None] | None = None) -> TableRows:
    columns: dict[str, pa.Array] = {
        KEY: pa.array(ids, pa.int64()),
        ROW: pa.array(range(len(ids)), pa.int64()),
        NUMBER.key: pa.array([k / 2 for k in range(len(ids))], pa.float32()),
        FLAG.key: pa.array([k % 2 for k in range(len(ids))], pa.uint8()),
        LIST.key: pa.array([[k] * (k % 3) for k in range(len(ids))], pa.large_list(pa.int32())),
        TEXT_SCALAR.key: pa.array([f"ö{k % 4}" for k in range(len(ids))], pa.large_string()),
        TEXT_LIST.key: pa.array(
            [[f"t{k % 5}"] * (k % 3) for k in range(len(ids))], pa.large_list(pa.large_string())
        ),
    }
    if categories is not None:
        columns[CATEGORY] = pa.array(categories, pa.int64())
    return sort_rows(pa.table(columns).combine_chunks(), FEATURES)


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
    cities = rows.words[TEXT_SCALAR.key][rows.numbers[TEXT_SCALAR.key]]
    assert cities.tolist() == [f"ö{r % 4}" for r in rows.rows]
    tags = rows.words[TEXT_LIST.key][rows.lists[TEXT_LIST.key].padded(places, 2)]
    assert tags.tolist() == [([f"t{r % 5}"] * (r % 3) + ["", ""])[:2] for r in rows.rows.tolist()]
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


def load_names(names: list[str], categories: list[int]) -> TableRows:
    raw = [name.encode() for name in names]
    columns = {
        KEY: pa.array(keys_of(StringIds.of(raw))),
        ROW: pa.array(range(len(raw)), pa.int64()),
        NAME: pa.array(raw, pa.large_binary()),
        CATEGORY: pa.array(categories, pa.int64()),
    }
    places = np.array([2, 0, 1], dtype=np.int64)
    return sort_rows(pa.table(columns).combine_chunks(), [], places)


ONE_KEY = ["the samekey, too", "pcrjcphj{\tA/TpoR"]
some_names = st.lists(st.sampled_from(["a", "b", "é", *ONE_KEY]), max_size=12)


@given(some_names, st.data())
def test_strings_are_in_the_order_of_hashes_then_bytes(
    names: list[str], data: st.DataObject
) -> None:
    numbers = st.lists(st.integers(0, 2), min_size=len(names), max_size=len(names))
    categories = data.draw(numbers)
    rows = load_names(names, categories)
    places = [(2, 0, 1)[number] for number in categories]

    def place(row: int) -> tuple[int, bytes, int, int]:
        raw = names[row].encode()
        return int(hash_ids(keys_of(StringIds.of([raw])))[0]), raw, places[row], row

    expected = sorted(range(len(names)), key=place)
    assert rows.rows.tolist() == expected
    assert rows.names_at(np.arange(len(names))) == [names[row].encode() for row in expected]
    assert rows.categories.tolist() == [places[row] for row in expected]
    again = [names[b] == names[a] for a, b in pairwise(expected)]
    assert rows.is_repeated().tolist() == again


def test_owners_of_one_key_are_told_apart() -> None:
    users = load_names(["a", *ONE_KEY], [0, 0, 0])
    pairs = load_names([ONE_KEY[1], "b", ONE_KEY[0], "a"], [0, 0, 0, 0])
    owners = users.owners(pairs).tolist()
    shown = [users.shown(owner) if owner >= 0 else None for owner in owners]
    assert shown == [None if pairs.shown(k) == "'b'" else pairs.shown(k) for k in range(4)]


@given(
    st.lists(st.integers(-50, 50), unique=True, max_size=30),
    st.lists(st.integers(-60, 60), max_size=30),
)
def test_owners_are_found_or_minus_one(ids: list[int], asked: list[int]) -> None:
    rows = load(ids)
    places = rows.owners(replace(NO_ROWS, ids=np.array(asked, dtype=np.int64)))
    assert [None if p < 0 else int(rows.ids[p]) for p in places] == [
        a if a in ids else None for a in asked
    ]
