from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import redis
from msgspec.structs import replace

from exporter.check import Sample, StorePlace, rounding, user_at, verify_generation
from exporter.errors import VerificationError
from exporter.progress import PhaseProgress
from exporter.run import ExportOptions, Report, check_version
from gkc.errors import GkcError, VersionNotFoundError
from gkc.store import (
    ElementType,
    GenerationManifest,
    GenerationSpec,
    ItemBlock,
    UserBlock,
    decode_vectors,
    encode_vectors,
)
from tests.exporter.bundles import STRING_IDS, Built, Recipe, build
from tests.exporter.conftest import Export
from tests.exporter.places import Place, stored

UNKNOWN: dict[str, Any] = {"user": {"user_id": 0, "history": []}}


def check(built: Built, place: Place, version: str = "v1") -> Report:
    options = ExportOptions(version, built.path, place.url, place.namespace)
    return check_version(options, PhaseProgress(on_terminal=False))


NO_PAIRS = Recipe(unknown=UNKNOWN, category_dim=0, user_category=[])


@pytest.mark.parametrize("element_type", get_args(ElementType))
@pytest.mark.parametrize(
    ("recipe", "users", "items", "pairs"),
    [(Recipe(unknown=UNKNOWN), 12, 20, 18), (NO_PAIRS, 12, 20, 0), (STRING_IDS, 5, 3, 4)],
)
def test_what_was_exported_is_found_as_stored(
    recipe: Recipe,
    users: int,
    items: int,
    pairs: int,
    element_type: ElementType,
    place: Place,
    export: Export,
    tmp_path: Path,
) -> None:
    built = build(tmp_path / "bundle", recipe)
    report = export(built, place, element_type=element_type)
    checked = check(built, place)
    assert checked == Report(checked.store, "v1", report.generation or "", users, items, pairs)


def test_strings_are_not_numbers_and_their_differences_are_named(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle", STRING_IDS)
    export(built, file_place)
    numbers = dataclasses.replace(
        STRING_IDS,
        users={"user_id": [1, 2, 3, 4, 5], "age": [1] * 5},
        user_categories={"user_id": [1, 2, 3, 4], "category_id": ["Aachen"] * 4},
    )
    other = build(tmp_path / "numbers", numbers)
    with pytest.raises(VerificationError, match="has user_id_type string, but the bundle int64"):
        check(other, file_place)
    assert STRING_IDS.items is not None
    others = {**STRING_IDS.items, "category_id": ["other", None, "Zürich"]}
    built.set_table("items", pa.table(others))
    with pytest.raises(VerificationError, match=r"item '(i1|Zürich)' has another category"):
        check(built, file_place)
    built.set_table("items", pa.table(others | {"category_id": ["new", None, "newer"]}))
    with pytest.raises(VerificationError, match="its categories are not those of the bundle"):
        check(built, file_place)


def test_a_bundle_without_user_category_is_not_one_with_it(
    file_place: Place, export: Export, tmp_path: Path
) -> None:
    whole = build(tmp_path / "whole")
    export(whole, file_place)
    with pytest.raises(VerificationError, match="has category_dim 4, but the bundle 0"):
        check(build(tmp_path / "without", NO_PAIRS), file_place)
    export(build(tmp_path / "other", NO_PAIRS), file_place)
    with pytest.raises(VerificationError, match="has category_dim 0, but the bundle 4"):
        check(whole, file_place)


def test_a_version_that_is_not_there(file_place: Place, export: Export, tmp_path: Path) -> None:
    built = build(tmp_path / "bundle")
    export(built, file_place)
    with pytest.raises(VersionNotFoundError, match="v1"):
        check(built, file_place, "v2")


def change_price(built: Built) -> None:
    prices = built.tables["items"].column("price").to_pylist()
    built.set_column("items", "price", [*prices[:7], prices[7] + 0.5, *prices[8:]])


def change_history(built: Built) -> None:
    lists = built.tables["users"].column("history").to_pylist()
    built.set_column("users", "history", [*lists[:4], [9], *lists[5:]])


def change_category_of_item(built: Built) -> None:
    categories = built.tables["items"].column("category_id").to_pylist()
    built.set_column("items", "category_id", [*categories[:4], 77, *categories[5:]])


def change_category_of_pair(built: Built) -> None:
    categories = built.tables["user_categories"].column("category_id").to_pylist()
    built.set_column("user_categories", "category_id", [*categories[:-1], 99])


def other_user(built: Built) -> None:
    users = built.tables["users"].column("user_id").to_pylist()
    pairs = built.tables["user_categories"].column("user_id").to_pylist()
    built.set_column("users", "user_id", [12345 if u == 100 else u for u in users])
    built.set_column("user_categories", "user_id", [12345 if u == 100 else u for u in pairs])


def other_item(built: Built) -> None:
    items = built.tables["items"].column("item_id").to_pylist()
    built.set_column("items", "item_id", [*items[:-1], 54321])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (change_price, r"item 1004 has .* but item\.onnx gives .*\(items\.parquet, row 7, "),
        (change_history, r"user 9223372036854775807 has .*\(users\.parquet, row 4, "),
        (change_category_of_item, r"item 1001 has another category \(items\.parquet, row 4, "),
        (change_category_of_pair, r"user 106 has other categories \(users\.parquet, row 11, "),
        (other_user, r"user 12345 is missing \(users\.parquet, row 5, "),
        (other_item, r"item 54321 is missing \(items\.parquet, row 19, "),
    ],
)
def test_the_first_difference_is_named(
    change: Any, text: str, place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    export(built, place, element_type="int8")
    change(built)
    with pytest.raises(VerificationError, match=text):
        check(built, place)


def test_other_counts_and_other_defaults(file_place: Place, export: Export, tmp_path: Path) -> None:
    built = build(tmp_path / "bundle", Recipe(unknown=UNKNOWN))
    export(built, file_place)
    built.change_manifest(lambda m: m["unknown"]["user"].update(user_id=1))
    with pytest.raises(VerificationError, match="default for user is not what the model gives"):
        check(built, file_place)
    built.change_manifest(lambda m: m.pop("unknown"))
    with pytest.raises(VerificationError, match="default for user is not the bundle's"):
        check(built, file_place)
    built.set_table("items", built.tables["items"].slice(1))
    with pytest.raises(VerificationError, match="has items 20, but the bundle 19"):
        check(built, file_place)


def test_a_tampered_vector_is_found(place: Place, export: Export, tmp_path: Path) -> None:
    built = build(tmp_path / "bundle")
    export(built, place, element_type="f32")
    truth = stored(place, "v1", [100], []).users[100].tobytes()
    tampered = bytes([truth[0], truth[1], truth[2], truth[3] ^ 0x01, *truth[4:]])
    assert replace_in_store(place, truth, tampered) == 1
    with pytest.raises(GkcError, match=r"user 100|damaged"):
        check(built, place)


def replace_in_store(place: Place, old: bytes, new: bytes) -> int:
    """Replace a vector's bytes wherever the store holds them, around the store."""
    if place.url.startswith("file:"):
        changed = 0
        for path in Path(place.url.removeprefix("file:")).rglob("*.gkt"):
            raw = path.read_bytes()
            if old in raw:
                path.write_bytes(raw.replace(old, new))
                changed += 1
        return changed
    changed = 0
    with redis.Redis.from_url(place.url) as client:
        for key in client.scan_iter(f"*{place.namespace}*"):
            if client.type(key) != b"hash":
                continue
            for name, value in client.hgetall(key).items():
                if old in value:
                    client.hset(key, name, value.replace(old, new))
                    changed += 1
    return changed


@pytest.mark.parametrize("element_type", get_args(ElementType))
def test_rounding_bounds_what_storing_changes(element_type: ElementType) -> None:
    random = np.random.default_rng(0)
    sizes = 10.0 ** random.uniform(-9, 4, (500, 1))
    vectors = (random.standard_normal((500, 16)) * sizes).astype(np.float32)
    stored = decode_vectors(encode_vectors(vectors, element_type), element_type, 16)
    slack = np.float32(1e-6) * np.abs(vectors)
    assert (np.abs(stored - vectors) <= rounding(vectors, element_type) + slack).all()


def spec(users: int, items: int, pairs: int, dim: int = 4) -> GenerationSpec:
    return GenerationSpec("v", "f32", dim, dim, users, items, pairs, "b", "f")


def items(start: int, count: int) -> ItemBlock:
    ids = np.arange(start, start + count)
    k_i = np.repeat(ids.astype(np.uint8)[:, None], 16, axis=1)
    return ItemBlock(ids, k_i, ids * 2, ids % 2 == 0)


def users(start: int, count: int) -> UserBlock:
    """User k has k % 3 pairs."""
    ids = np.arange(start, start + count)
    offsets = np.concatenate([[0], np.cumsum(ids % 3)])
    return UserBlock(
        ids,
        np.repeat(ids.astype(np.uint8)[:, None], 16, axis=1),
        offsets,
        np.arange(offsets[-1]),
        np.zeros((offsets[-1], 16), np.uint8),
    )


def test_few_rows_are_all_kept() -> None:
    sample = Sample(spec(10, 20, 10))
    sample.see_items(items(0, 7))
    sample.see_items(items(7, 13))
    sample.see_users(users(0, 10))
    assert np.concatenate([b.ids for b in sample.items]).tolist() == list(range(20))
    assert [int(u.ids[0]) for u in sample.users] == list(range(10))
    assert [len(u.categories) for u in sample.users] == [k % 3 for k in range(10)]


def test_of_many_rows_evenly_spaced_ones_are_kept_whatever_the_blocks() -> None:
    chosen = []
    for block in (17, 1000, 10_000):
        sample = Sample(spec(0, 10_000, 0))
        for start in range(0, 10_000, block):
            sample.see_items(items(start, min(block, 10_000 - start)))
        chosen.append(np.concatenate([b.ids for b in sample.items]).tolist())
    assert chosen[0] == chosen[1] == chosen[2] == list(range(0, 10_000, 10))


def test_large_records_make_a_small_sample() -> None:
    sample = Sample(spec(1000, 0, 100_000, dim=1024))
    sample.see_users(users(0, 1000))
    assert 30 < len(sample.users) < 60


def test_a_user_is_copied_with_the_pairs_that_are_theirs() -> None:
    block = users(3, 4)
    one = user_at(block, 2)
    assert one.ids.tolist() == [5]
    assert one.categories.tolist() == block.categories[1:3].tolist()
    assert one.pair_offsets.tolist() == [0, 2]
    assert not np.shares_memory(one.k_u, block.k_u)


@pytest.fixture
def manifest(place: Place, export: Export, tmp_path: Path) -> GenerationManifest:
    export(build(tmp_path / "bundle"), place)
    return stored(place, "v1", [], []).manifest


def verify(place: Place, manifest: GenerationManifest, sample: Sample) -> int:
    counted: list[int] = []
    asyncio.run(
        verify_generation(StorePlace(place.url, place.namespace), manifest, sample, counted.append)
    )
    return sum(counted)


def zero_item(manifest: GenerationManifest, item: int) -> ItemBlock:
    k_i = np.zeros((1, manifest.spec.vector_stride), np.uint8)
    return ItemBlock(np.array([item]), k_i, np.zeros(1, np.int64), np.ones(1, np.bool_))


def zero_user(manifest: GenerationManifest, user: int) -> UserBlock:
    spec = manifest.spec
    return UserBlock(
        np.array([user]),
        np.zeros((1, spec.vector_stride), np.uint8),
        np.zeros(2, np.int64),
        np.zeros(0, np.int64),
        np.zeros((0, spec.category_stride), np.uint8),
    )


def test_all_rows_are_read_again(place: Place, manifest: GenerationManifest) -> None:
    assert verify(place, manifest, Sample(manifest.spec)) > 0


def test_another_manifest_is_found(place: Place, manifest: GenerationManifest) -> None:
    other = replace(manifest, totals=replace(manifest.totals, users=11))
    with pytest.raises(VerificationError, match="manifest is not the one sealed"):
        verify(place, other, Sample(manifest.spec))


@pytest.mark.parametrize("item", [0, 31337])
def test_another_item_is_found(item: int, place: Place, manifest: GenerationManifest) -> None:
    sample = Sample(manifest.spec)
    sample.items.append(zero_item(manifest, item))
    with pytest.raises(VerificationError, match=f"item {item} reads back otherwise"):
        verify(place, manifest, sample)


@pytest.mark.parametrize("user", [100, 31337])
def test_another_user_is_found(user: int, place: Place, manifest: GenerationManifest) -> None:
    sample = Sample(manifest.spec)
    sample.users.append(zero_user(manifest, user))
    with pytest.raises(VerificationError, match=f"user {user} reads back otherwise"):
        verify(place, manifest, sample)
