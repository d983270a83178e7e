from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter import inputs, partitions
from exporter.bundle import load_bundle
from exporter.inputs import (
    Prepared,
    item_batches,
    pair_offsets,
    prepare,
    user_batches,
)
from gkc.store import hash_ids
from tests.exporter.bundles import Recipe, Term, build

PAIRS = [0, 3, 1, 0, 9, 2, 2, 0, 4, 5]
USERS = list(range(-5, 5))
ITEMS = list(range(100, 130))


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prepared]:
    """Ten users of unequal numbers of pairs and thirty items, in four partitions each."""
    monkeypatch.setattr(partitions, "_PARTITION_ROWS", 3)
    monkeypatch.setattr(partitions, "_PARTITION_PAIRS", 100)
    with prepare(load_bundle(build(tmp_path / "bundle", recipe()).path), 1000, ignore) as prepared:
        yield prepared


def ignore(_: int) -> None:
    """What nobody is to be told of the progress."""


def recipe(**changes: Any) -> Recipe:
    return Recipe(
        users={"user_id": USERS, "history": [[k] for k in range(10)]},
        items={"item_id": ITEMS, "category_id": ITEMS, "price": [i / 10 for i in ITEMS]},
        user_categories={
            "user_id": np.repeat(USERS, PAIRS),
            "category_id": np.concatenate([np.arange(n)[::-1] for n in PAIRS]),
        },
        **changes,
    )


def in_order(ids: list[int]) -> list[int]:
    values = np.array(ids)
    return [int(i) for i in values[np.argsort(hash_ids(values))]]


@pytest.mark.parametrize("size", [1, 4, 100])
def test_items_come_once_in_the_order_of_hashes(
    size: int, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_BATCH_ITEMS", size)
    found = list(item_batches(prepared, 0))
    assert [int(i) for b in found for i in b.ids] == in_order(ITEMS)
    assert max(len(b.ids) for b in found) <= size
    for batch in found:
        assert batch.inputs["item_id"].tolist() == batch.ids.tolist()
        assert np.allclose(batch.inputs["price"][:, 0], batch.ids / 10)
        assert batch.categories.tolist() == batch.ids.tolist()
        assert [ITEMS[r] for r in batch.rows] == batch.ids.tolist()


@pytest.mark.parametrize(("users", "pairs"), [(1, 100), (3, 5), (100, 1), (100, 100)])
def test_users_come_whole_with_their_pairs_in_order(
    users: int, pairs: int, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_BATCH_USERS", users)
    monkeypatch.setattr(inputs, "_BATCH_PAIRS", pairs)
    found = list(user_batches(prepared, 0))
    assert [int(u) for b in found for u in b.ids] == in_order(USERS)
    for batch in found:
        counts = np.diff(batch.pair_offsets).tolist()
        assert counts == [PAIRS[u + 5] for u in batch.ids]
        assert len(batch.ids) <= users
        assert len(batch.categories) <= pairs or len(batch.ids) == 1
        assert batch.categories.tolist() == [c for n in counts for c in range(n)]
        owners = np.repeat(batch.ids, counts)
        assert batch.pair_inputs["user_id"].tolist() == owners.tolist()
        assert batch.pair_inputs["history"][:, 0].tolist() == (owners + 5).tolist()
        assert batch.pair_inputs["category_id"].tolist() == batch.categories.tolist()


@pytest.mark.parametrize("skip", [0, 1, 7, 10])
def test_a_batch_that_is_partly_stored_comes_whole(
    skip: int, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_BATCH_USERS", 3)
    monkeypatch.setattr(inputs, "_BATCH_ITEMS", 3)
    whole = [b.ids.tolist() for b in user_batches(prepared, 0)]
    rest = list(user_batches(prepared, skip))
    assert [b.ids.tolist() for b in rest] == whole[len(whole) - len(rest) :]
    assert [int(u) for b in rest for u in b.ids[b.skip :]] == in_order(USERS)[skip:]
    left = list(item_batches(prepared, 3 * skip))
    assert [int(i) for b in left for i in b.ids[b.skip :]] == in_order(ITEMS)[3 * skip :]


def test_long_lists_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_BATCH_BYTES", 2_500_000)
    built = build(tmp_path / "bundle", recipe(pad={"history": 100_000}))
    with prepare(load_bundle(built.path), 1000, ignore) as prepared:
        found = list(user_batches(prepared, 0))
    assert max(len(b.ids) for b in found) <= 3
    assert max(b.user_inputs["history"].nbytes for b in found) <= 2_500_000
    assert [int(u) for b in found for u in b.ids] == in_order(USERS)


def test_pair_offsets_count_users_without_pairs(prepared: Prepared) -> None:
    users = prepared.tables["users"].load(0)
    offsets = pair_offsets(users, prepared.tables["user_categories"].load(0))
    assert np.diff(offsets).tolist() == [PAIRS[u + 5] for u in users.ids]


HISTORY = Term("history", width="T", is_list=True)


def test_every_row_is_counted_once_and_lists_are_measured(tmp_path: Path) -> None:
    counted: list[int] = []
    bundle = load_bundle(build(tmp_path / "b").path)
    with prepare(bundle, 1000, counted.append) as prepared:
        assert sum(counted) == 12 + 20 + 18
        assert prepared.tables["users"].longest == {"history": 5}
        assert {k: int(t.sizes.sum()) for k, t in prepared.tables.items()} == {
            "users": 12,
            "items": 20,
            "user_categories": 18,
        }
        assert len(prepared.tables["users"].sizes) == len(prepared.tables["user_categories"].sizes)


def test_a_column_is_kept_once_for_each_type_that_models_take(tmp_path: Path) -> None:
    recipe = Recipe(
        users={"user_id": [1, 2], "history": [[1], [2, 3]]},
        user_categories={"user_id": [1], "category_id": [1]},
        user=[Term("user_id"), Term("history", "int32", "T", is_list=True)],
        user_category=[Term("category_id"), HISTORY],
    )
    with prepare(load_bundle(build(tmp_path / "b", recipe).path), 1000, ignore) as prepared:
        keys = {f.key for f in prepared.tables["users"].features}
        assert keys == {"user_id|int64", "history|int32", "history|int64"}


@pytest.mark.parametrize(("pad", "expected"), [({}, 8 + 5 * 8), ({"history": 9}, 8 + 9 * 8)])
def test_the_bytes_of_a_row_follow_from_the_lists_width(
    pad: dict[str, int], expected: int, tmp_path: Path
) -> None:
    bundle = load_bundle(build(tmp_path / "b", Recipe(pad=pad)).path)
    with prepare(bundle, 1000, ignore) as prepared:
        assert prepared.row_bytes("user") == expected
