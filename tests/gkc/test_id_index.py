"""Ids are found where they are, to the byte, and damaged indexes are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.errors import LayoutError
from gkc.id_index import SortedStrings, TableIndex, keys_of, table_index
from gkc.strings import StringIds
from tests.gkc.slow_rows import ONE, Store, ids, name_of, slow_hash


@given(
    stored=st.sets(ids() | st.integers(-(2**63), 2**63 - 1)), asked=st.lists(ids(), max_size=600)
)
def test_ids_are_found_where_they_are(stored: set[int], asked: list[int]) -> None:
    store = Store("f16", 1, 0, dict.fromkeys(stored, bytes(2)), {}, {}, None, None, None, None)
    sections = store.sections()
    index = TableIndex(memoryview(sections["starts"]), memoryview(sections["ids"]), len(stored))
    ordered = sorted(stored, key=slow_hash)
    asked = [*asked, *ordered]
    expected = [ordered.index(id_) if id_ in stored else -1 for id_ in asked]
    assert index.rows_of(np.array(asked, dtype=np.int64)).tolist() == expected


@given(stored=st.sets(ids()), asked=st.lists(ids(), max_size=600))
def test_strings_are_found_where_they_are(stored: set[int], asked: list[int]) -> None:
    vectors = dict.fromkeys(stored, bytes(2))
    store = Store("f16", 1, 0, vectors, {}, {}, None, None, None, None, has_names=True)
    sections = {name: memoryview(content) for name, content in store.sections().items()}
    index = table_index(sections, len(stored))
    names = StringIds(
        np.frombuffer(sections["id_bytes"], np.uint8),
        np.frombuffer(sections["id_offsets"], np.int64),
    ).tolist()
    assert sorted(names) == sorted(map(name_of, stored))
    wanted = [*map(name_of, asked), *names, b""]
    expected = [names.index(name) if name in names else -1 for name in wanted]
    assert index.rows_of(StringIds.of(wanted)).tolist() == expected
    ordered = sorted(names)
    expected = [ordered.index(name) if name in ordered else -1 for name in wanted]
    assert SortedStrings(StringIds.of(ordered)).places_of(StringIds.of(wanted)).tolist() == expected


def _two_buckets(keys: list[int]) -> dict[str, memoryview]:
    """Return the sections of a table in which the rows of these keys are hardly told apart."""
    starts = [0, sum(slow_hash(key) < 2**63 for key in keys), len(keys)]
    return {
        "starts": memoryview(np.array(starts, dtype="<u4").tobytes()),
        "ids": memoryview(np.array(keys, dtype="<i8").tobytes()),
    }


def test_ids_are_found_in_long_buckets() -> None:
    keys = sorted(range(-200, 200), key=slow_hash)
    index = TableIndex(**_two_buckets(keys), count=len(keys))
    assert index.rows_of(np.array(keys, dtype=np.int64)).tolist() == [*range(len(keys))]
    assert (index.rows_of(np.arange(200, 600, dtype=np.int64)) == -1).all()


def _of_one_key(count: int) -> list[bytes]:
    """Return strings of 16 bytes of one key, as anyone can make them up."""
    first = np.arange(count, dtype=np.uint64)
    product = (first ^ np.uint64(17 * 0x9E3779B97F4A7C15 % 2**64)) * np.uint64(0xBF58476D1CE4E5B9)
    second = product ^ product >> np.uint64(32)
    return [a.tobytes() + b.tobytes() for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("stored", [1, 2, 3, 4, 5, 8, 300])
def test_strings_of_one_key_are_found(stored: int) -> None:
    alike = _of_one_key(stored + 3)
    assert len(set(keys_of(StringIds.of(alike)).tolist())) == 1
    names = [*alike[1:-2], *(b"other %d" % k for k in range(20))]
    keys = dict(zip(names, keys_of(StringIds.of(names)).tolist(), strict=True))
    names.sort(key=lambda name: (slow_hash(keys[name]), name))
    of_names = {
        "id_offsets": memoryview(np.cumsum([0, *map(len, names)], dtype="<i8").tobytes()),
        "id_bytes": memoryview(b"".join(names)),
    }
    index = table_index(_two_buckets([keys[name] for name in names]) | of_names, len(names))
    asked = [*names, alike[0], *alike[-2:]]
    assert index.rows_of(StringIds.of(asked)).tolist() == [*range(len(names)), -1, -1, -1]


@pytest.mark.parametrize("offsets", [[0, 2], [-1, 1], [1, 0], [0, 2**62]])
def test_strings_outside_their_column_are_refused(offsets: list[int]) -> None:
    one = StringIds.of([b"a"])
    wrong = StringIds(one.data, np.array(offsets, dtype=np.int64))
    with pytest.raises(LayoutError, match="outside of its column"):
        keys_of(wrong)
    with pytest.raises(LayoutError, match="outside itself"):
        SortedStrings(wrong).places_of(one)
    sections = replace(ONE, has_names=True).sections()
    sections["id_offsets"] = bytearray(wrong.offsets.tobytes())
    index = table_index({name: memoryview(raw) for name, raw in sections.items()}, 1)
    with pytest.raises(LayoutError, match="outside itself"):
        index.rows_of(StringIds.of([name_of(id_) for id_ in ONE.items]))


@pytest.mark.parametrize("size", [0, 7, 8, 24])
def test_offsets_of_another_number_of_rows_are_refused(size: int) -> None:
    sections = replace(ONE, has_names=True).sections()
    sections["id_offsets"] = bytearray(size)
    with pytest.raises(LayoutError, match="section id_offsets"):
        table_index({name: memoryview(raw) for name, raw in sections.items()}, 1)


@pytest.mark.parametrize("first", [2, 2**32 - 1])
def test_a_bucket_outside_its_table_is_refused(first: int) -> None:
    sections = ONE.sections()
    for at in (0, 4, 8):
        starts = bytearray(sections["starts"])
        starts[at : at + 4] = first.to_bytes(4, "little")
        index = TableIndex(memoryview(starts), memoryview(sections["ids"]), 1)
        with pytest.raises(LayoutError, match="outside itself"):
            index.rows_of(np.arange(64, dtype=np.int64))


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_ids_of_another_number_of_rows_are_refused(size: int) -> None:
    with pytest.raises(LayoutError, match=f"section ids of {size} bytes does not hold 1 ids"):
        TableIndex(memoryview(ONE.sections()["starts"]), memoryview(bytes(size)), 1)


def test_ids_that_cannot_be_written_are_found_alike() -> None:
    sections = ONE.sections()
    index = TableIndex(memoryview(sections["starts"]), memoryview(sections["ids"]), 1)
    ids = np.arange(-3, 9, dtype=np.int64)
    found = index.rows_of(ids).tolist()
    ids.flags.writeable = False
    assert index.rows_of(ids).tolist() == found


def test_sections_at_odd_places_are_refused() -> None:
    sections = ONE.sections()
    odd = memoryview(bytearray(b"x" + sections["ids"]))[1:]
    with pytest.raises(LayoutError, match="section ids does not begin at a multiple of 8"):
        TableIndex(memoryview(sections["starts"]), odd, 1)
