"""Table files: look-ups against a dict, damage, resuming, and the check that re-reads them."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gkc.arrays import I64
from gkc.errors import (
    GenerationCorruptError,
    GenerationImmutableError,
    GenerationNotFoundError,
    LayoutError,
    RecordError,
)
from gkc.store import ItemBlock, hash_ids
from gkc.store.backends.file.writer import FileTarget
from gkc.store.ids import hash_id, hash_strings
from gkc.store.sealed import decode_record, encode_record
from gkc.store.table import MappedItemTable, MappedUserTable
from gkc.store.table_check import verify_table
from gkc.store.table_format import (
    PAGE_BYTES,
    TableHeader,
    TableKind,
    TableShape,
    bucket_bits,
)
from gkc.store.table_writer import (
    ItemTableWriter,
    StartsBuilder,
    TableProgress,
    UserTableWriter,
)
from gkc.strings import IdType, StringIds
from gkc.testing.samples import EXTREME_IDS, make_ids, twins

int64s = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5) | st.sampled_from(EXTREME_IDS)


def unhash(hashes: list[int]) -> I64:
    """Return the ids that have these hashes: the mix of `hash_ids`, backwards."""
    mask = (1 << 64) - 1
    ids = []
    for h in hashes:
        h ^= (h >> 31) ^ (h >> 62)
        h = h * pow(0x94D049BB133111EB, -1, 1 << 64) & mask
        h ^= (h >> 27) ^ (h >> 54)
        h = h * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & mask
        h ^= (h >> 30) ^ (h >> 60)
        ids.append(h)
    return np.array(ids, dtype=np.uint64).view(np.int64)


def in_order(ids: set[int]) -> I64:
    array = np.array(sorted(ids), dtype=np.int64)
    return array[np.argsort(hash_ids(array))]


def item_block(ids: I64, stride: int = 3) -> ItemBlock:
    rows = np.arange(len(ids) * stride, dtype=np.int64).astype(np.uint8).reshape(-1, stride)
    return ItemBlock(ids, rows, ids // 2, ids % 2 == 0)


def cut(block: ItemBlock, start: int, end: int) -> ItemBlock:
    return block.take(slice(start, end))


@contextmanager
def item_writer(
    path: Path, count: int, stride: int = 3, resume: TableProgress | None = None
) -> Iterator[ItemTableWriter]:
    target = FileTarget(path, is_resumed=resume is not None)
    try:
        yield ItemTableWriter(target, "g", TableShape("items", count, stride), resume)
    finally:
        target.close()


def write_items(path: Path, ids: I64, block_rows: int = 7, stride: int = 3) -> TableHeader:
    block = item_block(ids, stride)
    target = FileTarget(path)
    writer = ItemTableWriter(target, "g", TableShape("items", len(ids), stride))
    for start in range(0, len(ids), block_rows):
        writer.append(cut(block, start, start + block_rows))
    return finish(writer, target)


def write_users(path: Path, ids: I64, records: list[bytes], block_rows: int = 7) -> TableHeader:
    target = FileTarget(path)
    writer = UserTableWriter(target, "g", TableShape("users", len(ids)))
    for start in range(0, len(ids), block_rows):
        at = slice(start, start + block_rows)
        writer.append(ids[at], records[at])
    return finish(writer, target)


def finish(writer: ItemTableWriter | UserTableWriter, target: FileTarget) -> TableHeader:
    header = writer.finish()
    target.finish(header)
    target.close()
    return header


def fresh(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def test_unhash_is_the_inverse() -> None:
    ids = make_ids(500, 3)
    np.testing.assert_array_equal(unhash(hash_ids(ids).tolist()), ids)


@given(int64s)
def test_one_id_hashes_like_many(one: int) -> None:
    assert hash_id(one) == int(hash_ids(np.array([one], dtype=np.int64))[0])


@given(ids=st.sets(int64s, max_size=60), asked=st.lists(int64s, max_size=30))
@settings(deadline=None)
@example(ids=set(), asked=[0])
@example(ids={0}, asked=[0, 0, 1])
@example(ids={1, 2, 3}, asked=[0])
def test_look_ups_equal_a_dict(
    tmp_path_factory: pytest.TempPathFactory, ids: set[int], asked: list[int]
) -> None:
    path = fresh(tmp_path_factory.getbasetemp() / "lookups.gkt")
    ordered = in_order(ids)
    write_items(path, ordered)
    expected = {int(i): row for row, i in enumerate(ordered)}
    table = MappedItemTable(path, "g")
    everything = asked + sorted(ids)
    rows = table.rows_of(np.array(everything, dtype=np.int64))
    assert rows.tolist() == [expected.get(i, -1) for i in everything]
    one_by_one = [table.rows_of(np.array([i], dtype=np.int64)).tolist() for i in everything]
    assert one_by_one == [[expected.get(i, -1)] for i in everything]
    found = table.take(rows[rows >= 0])
    assert found.ids.tolist() == [i for i in everything if i in expected]
    table.close()
    verify_table(path, "items", "g", lambda rows: None)


@given(records=st.dictionaries(int64s, st.binary(max_size=20), max_size=40))
@settings(deadline=None)
def test_records_equal_a_dict(
    tmp_path_factory: pytest.TempPathFactory, records: dict[int, bytes]
) -> None:
    path = fresh(tmp_path_factory.getbasetemp() / "records.gkt")
    ordered = in_order(set(records))
    write_users(path, ordered, [records[int(i)] for i in ordered])
    table = MappedUserTable(path, "g")
    asked = [*records, 77, -77]
    found = table.records_of(np.array(asked, dtype=np.int64))
    assert [None if r is None else bytes(r) for r in found] == [records.get(i) for i in asked]
    table.close()
    verify_table(path, "users", "g", lambda rows: None)


@pytest.mark.parametrize("crowd", [7, 8, 9, 16, 17, 100])
@pytest.mark.parametrize("bucket", [0, 5, -1])
def test_a_crowded_bucket_is_searched_to_its_end(tmp_path: Path, crowd: int, bucket: int) -> None:
    count = 256
    bits = bucket_bits(count)
    first = (bucket % (1 << bits)) << (64 - bits)
    crowded = [first + k for k in range(crowd)]
    others = [h for h in hash_ids(make_ids(2 * count, 9)).tolist() if h >> (64 - bits) != bucket]
    ids = unhash(sorted(crowded + others[: count - crowd]))
    write_items(tmp_path / "t", ids)
    table = MappedItemTable(tmp_path / "t", "g")
    assert table.rows_of(ids).tolist() == list(range(count))
    strangers = unhash([first + crowd, first + (1 << 40)])
    assert table.rows_of(strangers).tolist() == [-1, -1]
    assert table.rows_of(np.tile(strangers, 5)).tolist() == [-1] * 10
    assert [int(table.rows_of(ids[k : k + 1])[0]) for k in range(count)] == list(range(count))
    table.close()


def test_what_fills_up_the_page_behind_the_ids_is_never_found(tmp_path: Path) -> None:
    for count in range(1, 20):
        ids = in_order(set(range(1, count + 1)))  # zeros fill it up, which is no id here
        write_items(fresh(tmp_path / "t"), ids)
        table = MappedItemTable(tmp_path / "t", "g")
        assert len(table.sections["ids"]) == 8 * count
        for asked in (1, 9):
            assert table.rows_of(np.zeros(asked, dtype=np.int64)).tolist() == [-1] * asked
        table.close()


def test_a_large_table_in_blocks_of_any_size_is_the_same_file(tmp_path: Path) -> None:
    ids = make_ids(20_000, 1)
    files = []
    for block_rows in (1_000, 20_000, 7_777):
        write_items(tmp_path / str(block_rows), ids, block_rows)
        files.append((tmp_path / str(block_rows)).read_bytes())
    assert files[0] == files[1] == files[2]
    table = MappedItemTable(tmp_path / "1000", "g")
    assert (table.rows_of(ids) == np.arange(20_000)).all()
    assert (table.rows_of(make_ids(20_000, 2)) >= 0).sum() == len(EXTREME_IDS)
    assert table.size_bytes == len(files[0])
    table.close()


def test_prefaulting_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = make_ids(5_000, 1)
    write_items(tmp_path / "t", ids, 5_000)
    for advice in (22, 9999):  # one that a kernel may not know: then the pages are touched
        monkeypatch.setattr("gkc.store.table._MADV_POPULATE_READ", advice)
        table = MappedItemTable(tmp_path / "t", "g")
        table.prefault()
        assert (table.rows_of(ids) == np.arange(5_000)).all()
        table.close()


def test_several_threads_read_one_table(tmp_path: Path) -> None:
    ids = make_ids(5_000, 1)
    write_items(tmp_path / "t", ids, 5_000)
    table = MappedItemTable(tmp_path / "t", "g")
    wrong: list[int] = []

    def read(seed: int) -> None:
        picks = np.random.default_rng(seed).integers(0, 5_000, 300)
        wrong.extend(int((table.rows_of(ids[picks]) != picks).sum()) for _ in range(50))

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 200
    table.close()


def test_a_closed_table_finds_nothing(tmp_path: Path) -> None:
    ids = make_ids(10, 1)
    write_items(tmp_path / "items", ids)
    items = MappedItemTable(tmp_path / "items", "g")
    items.close()
    items.close()
    with pytest.raises(GenerationNotFoundError):
        items.rows_of(ids)
    with pytest.raises(GenerationNotFoundError):
        items.rows_of(ids[:1])
    with pytest.raises(GenerationNotFoundError):
        items.take(np.zeros(1, dtype=np.int64))
    write_users(tmp_path / "users", ids, [b"record"] * 10)
    users = MappedUserTable(tmp_path / "users", "g")
    (kept,) = users.records_of(ids[:1])
    users.close()
    assert kept is not None
    assert bytes(kept) == b"record"  # a record keeps the mapping for as long as it is held
    with pytest.raises(GenerationNotFoundError):
        users.records_of(ids)


def test_a_table_may_be_closed_while_threads_look_things_up(tmp_path: Path) -> None:
    ids = make_ids(10, 1)
    write_items(tmp_path / "items", ids)
    write_users(tmp_path / "users", ids, [b"record"] * 10)

    def look_up(items: MappedItemTable, users: MappedUserTable) -> None:
        while True:
            items.rows_of(ids)
            items.rows_of(ids[:1])
            items.require_whole()
            assert len(users.records_of(ids)) == 10
            assert bytes(users.records_of(ids[:1])[0] or b"") == b"record"

    with ThreadPoolExecutor() as pool:
        for _ in range(30):
            items, users = (
                MappedItemTable(tmp_path / "items", "g"),
                MappedUserTable(tmp_path / "users", "g"),
            )
            threads = [pool.submit(look_up, items, users) for _ in range(3)]
            time.sleep(0.005)
            users.close()
            items.close()
            assert [type(t.exception()) for t in threads] == [GenerationNotFoundError] * 3


# ---- writing


def test_rows_must_come_in_order_and_once(tmp_path: Path) -> None:
    ids = make_ids(10, 1)
    block = item_block(ids)
    for wrong in (ids[::-1], np.repeat(ids[:2], 2), ids[[0, 0]]):
        with (
            item_writer(fresh(tmp_path / "t"), 10) as writer,
            pytest.raises(LayoutError, match="ascending order"),
        ):
            writer.append(item_block(wrong))
    with item_writer(fresh(tmp_path / "t"), 10) as writer:
        writer.append(cut(block, 0, 5))
        with pytest.raises(LayoutError, match="ascending order"):
            writer.append(cut(block, 4, 6))


def test_the_promised_rows_and_no_others(tmp_path: Path) -> None:
    ids = make_ids(10, 1)
    with item_writer(tmp_path / "t", 9) as writer:
        with pytest.raises(LayoutError, match="more than the 9 items"):
            writer.append(item_block(ids))
        with pytest.raises(LayoutError, match="0 items were written of the 9"):
            writer.finish()
        with pytest.raises(LayoutError, match="3 bytes"):
            writer.append(item_block(ids[:5], stride=4))


def test_a_finished_table_takes_no_more(tmp_path: Path) -> None:
    ids = make_ids(10, 1)
    target = FileTarget(tmp_path / "t")
    writer = UserTableWriter(target, "g", TableShape("users", 10))
    writer.append(ids, [b"x"] * 10)
    finish(writer, target)
    with pytest.raises(GenerationImmutableError):
        writer.append(ids, [b"x"] * 10)
    with pytest.raises(GenerationImmutableError):
        writer.finish()
    assert (tmp_path / "t").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("stop", [0, 1, 50, 100])
def test_a_resumed_table_is_the_same_file(tmp_path: Path, stop: int) -> None:
    ids = make_ids(100, 1)
    block = item_block(ids)
    write_items(tmp_path / "whole", ids)
    path = tmp_path / "resumed"
    with item_writer(path, 100) as writer:
        writer.append(cut(block, 0, stop))
        progress = writer.sync()
        writer.append(cut(block, stop, 100))  # not synced: as good as not written
    restored = decode_record(encode_record(progress), TableProgress)
    target = FileTarget(path, is_resumed=True)
    writer = ItemTableWriter(target, "g", TableShape("items", 100, 3), restored)
    assert writer.rows == stop
    if stop:
        with pytest.raises(LayoutError):
            writer.append(cut(block, stop - 1, stop))
    writer.append(cut(block, stop, 100))
    finish(writer, target)
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()


@given(
    hashes=st.sets(st.integers(0, 2**64 - 1), min_size=1, max_size=50),
    cuts=st.lists(st.integers(1, 49), max_size=5),
)
def test_starts_are_the_first_rows_of_the_buckets(hashes: set[int], cuts: list[int]) -> None:
    ordered = np.array(sorted(hashes), dtype=np.uint64)
    builder = StartsBuilder(len(ordered))
    parts = [p for p in np.split(ordered, sorted(c for c in cuts if c < len(ordered))) if len(p)]
    starts = np.concatenate([*(builder.add(part) for part in parts), builder.rest()])
    bits = bucket_bits(len(ordered))
    buckets = [h >> (64 - bits) for h in sorted(hashes)]
    expected = [sum(b < k for b in buckets) for k in range((1 << bits) + 1)]
    assert starts.tolist() == expected
    assert starts.dtype == np.uint32


def test_a_bucket_has_one_to_two_ids_on_average() -> None:
    for count in (4, 5, 1000, 1024, 1025, 10**9):
        assert 1 <= count / (1 << bucket_bits(count)) <= 2
    assert bucket_bits(0) == bucket_bits(1) == 1


def test_sections_begin_on_pages_and_do_not_overlap() -> None:
    offsets = TableShape("items", 1000, 7).offsets()
    assert list(offsets) == ["starts", "ids", "categories", "has_category", "rows"]
    assert all(offset % PAGE_BYTES == 0 for offset in offsets.values())
    assert offsets["categories"] - offsets["ids"] >= 8 * 1008
    assert offsets["rows"] - offsets["has_category"] == PAGE_BYTES


# ---- damage


@pytest.mark.parametrize("kind", ["items", "users"])
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path, kind: TableKind) -> None:
    ids = make_ids(30, 1)
    if kind == "items":
        header = write_items(tmp_path / kind, ids)
    else:
        header = write_users(tmp_path / kind, ids, [bytes([k]) * k for k in range(30)])
    whole = (tmp_path / kind).read_bytes()
    offsets = set(range(0, len(whole), 211)) | set(range(0, 200, 3))
    for section in header.sections.values():
        offsets |= set(range(section.offset, section.offset + section.length, 3))
    missed = []
    for offset in sorted(offsets):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << (offset % 8)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            verify_table(tmp_path / "damaged", kind, "g", lambda rows: None)
        except GenerationCorruptError:
            continue
        missed.append(offset)
    assert missed == []


def test_a_damaged_pointer_is_damage_not_an_unknown_id(tmp_path: Path) -> None:
    ids = make_ids(30, 1)
    header = write_users(tmp_path / "t", ids, [b"abc"] * 30)
    for name in ("starts", "offsets"):
        section = header.sections[name]
        raw = bytearray((tmp_path / "t").read_bytes())
        raw[section.offset : section.offset + section.length] = b"\xfe" * section.length
        (tmp_path / "damaged").write_bytes(raw)
        table = MappedUserTable(tmp_path / "damaged", "g")
        for asked in (ids, ids[:1]):
            with pytest.raises(GenerationCorruptError, match=name):
                table.records_of(asked)
        table.close()


@pytest.mark.parametrize("size", [0, 1, 15, PAGE_BYTES - 1, PAGE_BYTES, -1, +1])
def test_a_file_of_another_size_is_not_mapped(tmp_path: Path, size: int) -> None:
    write_items(tmp_path / "t", make_ids(30, 1))
    whole = (tmp_path / "t").stat().st_size
    os.truncate(tmp_path / "t", size if size > 1 or size == 0 else whole + size)
    with pytest.raises(GenerationCorruptError, match="generation g is damaged"):
        MappedItemTable(tmp_path / "t", "g")


def test_an_unfinished_file_is_not_mapped(tmp_path: Path) -> None:
    ids = make_ids(30, 1)
    with item_writer(tmp_path / "t", 30) as writer:
        writer.append(item_block(ids))
        writer.sync()
    with pytest.raises(GenerationCorruptError, match="no intact header"):
        MappedItemTable(tmp_path / "t", "g")


def test_a_table_of_another_kind_or_generation_is_not_mapped(tmp_path: Path) -> None:
    write_items(tmp_path / "t", make_ids(30, 1))
    with pytest.raises(GenerationCorruptError, match="holds items of generation g"):
        MappedItemTable(tmp_path / "t", "other")
    with pytest.raises(GenerationCorruptError, match="holds items of generation g"):
        MappedUserTable(tmp_path / "t", "g")
    with pytest.raises(FileNotFoundError):
        MappedItemTable(tmp_path / "none", "g")


def test_a_header_of_a_later_format_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gkc.store.table_format.TABLE_FORMAT", "gkc-table/3")
    write_items(tmp_path / "t", make_ids(30, 1))
    monkeypatch.undo()
    with pytest.raises(GenerationCorruptError, match="format 'gkc-table/3', this gkc reads"):
        MappedItemTable(tmp_path / "t", "g")


def test_the_check_counts_rows_and_names_what_is_wrong(tmp_path: Path) -> None:
    ids = make_ids(20_000, 1)
    header = write_items(tmp_path / "t", ids, 20_000)
    seen: list[int] = []
    assert verify_table(tmp_path / "t", "items", "g", seen.append) == header
    assert seen == [16_384, 20_000 - 16_384]
    raw = bytearray((tmp_path / "t").read_bytes())
    raw[header.sections["ids"].offset + 8 * 17_000] ^= 1
    (tmp_path / "ids").write_bytes(raw)
    with pytest.raises(GenerationCorruptError, match="after row 16384"):
        verify_table(tmp_path / "ids", "items", "g", seen.append)
    raw = bytearray((tmp_path / "t").read_bytes())
    raw[header.sections["rows"].offset] ^= 1
    (tmp_path / "rows").write_bytes(raw)
    with pytest.raises(GenerationCorruptError, match="checksum of section rows"):
        verify_table(tmp_path / "rows", "items", "g", seen.append)


# ---- the header


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b'"count":30', b'"count":31'),
        (b'"count":30', b'"count":4294967296'),
        (b'"count":30', b'"count":-1'),
        (b'"stride":3', b'"stride":4'),
        (b'"id_type":"int64"', b'"id_type":"string"'),
        (b'"kind":"items"', b'"kind":"users"'),
        (b'"rows":{', b'"other":{'),
        (b'"offset":4096', b'"offset":8192'),
        (b'"categories":0', b'"categories":{}'),
    ],
)
def test_a_sealed_header_that_does_not_fit_itself_is_refused(
    tmp_path: Path, field: bytes, value: bytes
) -> None:
    header = write_items(tmp_path / "t", make_ids(30, 1))
    content = encode_record(header)
    assert content.count(field) == 1
    changed = content.replace(field, value)
    text = b'{"format":"gkc-table/2","crc32":%d,"content":%b}' % (zlib.crc32(changed), changed)
    page = (b"gkctable" + len(text).to_bytes(4, "little") + bytes(4) + text).ljust(4096, b"\0")
    with pytest.raises(RecordError, match=r"\$|kind|rows"):
        TableHeader.from_page(page)


@given(st.binary(max_size=300))
def test_any_page_is_a_header_or_an_error(noise: bytes) -> None:
    for page in (noise, noise.ljust(4096), b"gkctable" + noise.ljust(4096, b"[")):
        with pytest.raises(RecordError):
            TableHeader.from_page(page)


def test_a_table_of_format_1_says_what_to_do(tmp_path: Path) -> None:
    text = b'{"count": 0, "format": "gkc-table/1", "kind": "items"}'
    head = b"gkctable" + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little")
    (tmp_path / "t").write_bytes((head + text).ljust(4096, b"\0"))
    with pytest.raises(GenerationCorruptError, match=r"earlier gkc.*export its version again"):
        MappedItemTable(tmp_path / "t", "g")


@pytest.mark.parametrize("kind", ["items", "users"])
def test_a_table_of_2_to_the_32_rows_is_refused_by_name(kind: TableKind) -> None:
    assert TableShape(kind, 2**32 - 1).lengths()["starts"] == 4 * (2**31 + 1)
    with pytest.raises(LayoutError, match=f"4294967296 {kind} are too many"):
        TableShape(kind, 2**32)


# ---- strings

NAMES = st.sets(st.text(min_size=1, max_size=30).map(str.encode), max_size=40)


def ordered_names(names: set[bytes]) -> list[bytes]:
    listed = sorted(names)
    hashes = hash_ids(hash_strings(listed)).tolist()
    return [name for _, name in sorted(zip(hashes, listed, strict=True))]


def string_shape(kind: TableKind, names: list[bytes]) -> TableShape:
    return TableShape(kind, len(names), id_type="string", id_bytes=sum(map(len, names)))


def write_named_items(
    path: Path, names: list[bytes], dictionary: list[bytes], block_rows: int = 7
) -> TableHeader:
    shape = TableShape(
        "items",
        len(names),
        3,
        id_type="string",
        id_bytes=sum(map(len, names)),
        category_type="string",
        categories=len(dictionary),
        category_bytes=sum(map(len, dictionary)),
    )
    target = FileTarget(path)
    writer = ItemTableWriter(target, "g", shape, categories=dictionary)
    for start in range(0, len(names), block_rows):
        some = names[start : start + block_rows]
        block = item_block(hash_strings(some))
        places = np.arange(start, start + len(some)) % max(len(dictionary), 1)
        has_category = np.full(len(some), bool(dictionary))
        writer.append(replace(block, categories=places, has_category=has_category, names=some))
    return finish(writer, target)


def strings(table: MappedItemTable | MappedUserTable, name: str) -> list[bytes]:
    """Read the strings of a table as docs/store-format.md says that they lie."""
    ends = table.sections[f"{name}_offsets"].cast("q").tolist()
    raw = bytes(table.sections[f"{name}_bytes"])
    return [raw[start:end] for start, end in pairwise(ends)]


@given(names=NAMES, dictionary=NAMES)
@settings(deadline=None)
def test_strings_lie_in_order(
    tmp_path_factory: pytest.TempPathFactory, names: set[bytes], dictionary: set[bytes]
) -> None:
    path = fresh(tmp_path_factory.getbasetemp() / "strings.gkt")
    ordered = ordered_names(names)
    write_named_items(path, ordered, sorted(dictionary))
    table = MappedItemTable(path, "g")
    assert strings(table, "id") == ordered
    assert strings(table, "category") == sorted(dictionary)
    assert table.rows_of(StringIds.of(ordered)).tolist() == list(range(len(ordered)))
    table.close()
    verify_table(path, "items", "g", lambda rows: None)


def test_strings_of_one_key_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(names: list[bytes]) -> I64:
        return np.array([len(name) % 3 for name in names], dtype=np.int64)

    monkeypatch.setattr("gkc.store.table_writer.hash_strings", crowded)
    names = [b"x" * k for k in range(1, 100)]
    keys = hash_ids(crowded(names)).tolist()
    ordered = [name for _, name in sorted(zip(keys, names, strict=True))]
    target = FileTarget(tmp_path / "t")
    writer = UserTableWriter(target, "g", string_shape("users", ordered))
    for start in range(0, 99, 10):
        some = ordered[start : start + 10]
        writer.append(crowded(some), [b"record" + name for name in some], some)
    with pytest.raises(LayoutError, match="more than the 99"):
        writer.append(crowded([b"z"]), [b""], [b"z"])
    finish(writer, target)
    verify_table(tmp_path / "t", "users", "g", lambda rows: None)
    table = MappedUserTable(tmp_path / "t", "g")
    assert strings(table, "id") == ordered
    table.close()


def test_records_are_found_by_strings_of_one_key(tmp_path: Path) -> None:
    ordered = ordered_names({*twins(np.random.default_rng(0)), b"a", b"b"})
    target = FileTarget(tmp_path / "t")
    writer = UserTableWriter(target, "g", string_shape("users", ordered))
    writer.append(hash_strings(ordered), [name.ljust(16) for name in ordered], ordered)
    finish(writer, target)
    table = MappedUserTable(tmp_path / "t", "g")
    asked = [*ordered, b"c"]
    for ids in (StringIds.of(asked), *(StringIds.of([name]) for name in asked)):
        expected = [name.ljust(16) if name in ordered else None for name in ids.tolist()]
        found = table.records_of(ids)
        assert [None if record is None else bytes(record) for record in found] == expected
    table.close()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([b""], "no string id"),
        ([b"x" * 129], "no string id"),
        ([b"\xff"], "no string id"),
        ([b"a", b"a"], "ascending order"),
        (None, "not of type string"),
    ],
)
def test_strings_that_are_no_ids_are_refused(
    tmp_path: Path, names: list[bytes] | None, message: str
) -> None:
    target = FileTarget(tmp_path / "t")
    writer = UserTableWriter(target, "g", TableShape("users", 2, id_type="string", id_bytes=2))
    keys = hash_strings(names or [b"a"])
    with pytest.raises(LayoutError, match=message):
        writer.append(keys, [b""] * len(keys), names)
    target.close()


def test_keys_that_are_not_those_of_the_strings_are_refused(tmp_path: Path) -> None:
    target = FileTarget(tmp_path / "t")
    writer = UserTableWriter(target, "g", TableShape("users", 1, id_type="string", id_bytes=1))
    with pytest.raises(LayoutError, match="not those of their strings"):
        writer.append(np.array([5]), [b""], [b"a"])
    writer.append(hash_strings([b"a"]), [b""], [b"a"])
    target.close()
    fewer = TableShape("users", 1, id_type="string", id_bytes=3)
    target = FileTarget(tmp_path / "t")
    writer = UserTableWriter(target, "g", fewer)
    writer.append(hash_strings([b"a"]), [b""], [b"a"])
    with pytest.raises(LayoutError, match="1 bytes of section id_bytes were written of the 3"):
        writer.finish()
    target.close()


@pytest.mark.parametrize("dictionary", [[b"b", b"a"], [b"a", b"a"], [b"a"], [b"", b"a"]])
def test_a_dictionary_is_in_order_and_whole(tmp_path: Path, dictionary: list[bytes]) -> None:
    shape = TableShape("items", 0, 3, category_type="string", categories=2, category_bytes=2)
    target = FileTarget(tmp_path / "t")
    with pytest.raises(LayoutError, match=r"dictionary|category"):
        ItemTableWriter(target, "g", shape, categories=dictionary)
    target.close()


def test_a_category_outside_the_dictionary_is_refused(tmp_path: Path) -> None:
    shape = TableShape("items", 1, 3, category_type="string", categories=1, category_bytes=1)
    target = FileTarget(tmp_path / "t")
    writer = ItemTableWriter(target, "g", shape, categories=[b"a"])
    block = item_block(np.array([4]))
    with pytest.raises(LayoutError, match="not in the dictionary"):
        writer.append(replace(block, categories=np.array([1]), has_category=np.array([True])))
    target.close()


@pytest.mark.parametrize("kind", ["items", "users"])
def test_a_flipped_bit_of_a_table_of_strings_is_found(tmp_path: Path, kind: TableKind) -> None:
    names = ordered_names({f"name {k}".encode() for k in range(20)})
    if kind == "items":
        header = write_named_items(tmp_path / kind, names, [b"a", b"bc"])
    else:
        target = FileTarget(tmp_path / kind)
        writer = UserTableWriter(target, "g", string_shape("users", names))
        writer.append(hash_strings(names), [b"record"] * 20, names)
        header = finish(writer, target)
    whole = (tmp_path / kind).read_bytes()
    for section in header.sections.values():
        for offset in range(section.offset, section.offset + section.length, 5):
            damaged = bytearray(whole)
            damaged[offset] ^= 1 << (offset % 8)
            (tmp_path / "damaged").write_bytes(damaged)
            with pytest.raises(GenerationCorruptError):
                verify_table(tmp_path / "damaged", kind, "g", lambda rows: None)


@pytest.mark.parametrize("id_type", ["int64", "string"])
def test_progress_that_is_none_of_this_table_is_refused(tmp_path: Path, id_type: IdType) -> None:
    shape = TableShape("users", 9, id_type=id_type, id_bytes=9)
    target = FileTarget(tmp_path / "t")
    progress = UserTableWriter(target, "g", shape).sync()
    for name in progress.sections:
        section = structs.replace(progress.sections[name], length=2**40)
        wrong = structs.replace(progress, sections={**progress.sections, name: section})
        if name != "records":
            with pytest.raises(RecordError, match=name):
                UserTableWriter(target, "g", shape, wrong)
    target.close()
