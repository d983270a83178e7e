"""The compiled rule answers what the contract says, to the bit, and refuses what does not fit."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkc.arrays import I64
from gkc.compiled import library
from gkc.errors import LayoutError
from gkc.knowledge import PARTS
from gkc.rows import GenerationRows, Rows, damaged_record, distinct, row_form
from gkc.strings import Ids, StringIds
from tests.gkc.slow_rows import (
    ONE,
    AnswerType,
    Asked,
    ElementType,
    Store,
    ids,
    questions,
    row_bytes,
    stores,
)
from tests.native import build_sanitized, run_sanitized

LOADED = library()


def opened(store: Store) -> GenerationRows:
    sections = {name: memoryview(content) for name, content in store.sections().items()}
    return GenerationRows(
        store.element_type,
        store.dim,
        store.category_dim,
        sections,
        len(store.items),
        store.defaults(),
        store.default_category,
    )


@settings(max_examples=400, deadline=None)
@given(
    store=stores(),
    asked=questions(),
    plain=st.booleans(),
    early=st.booleans(),
    at=st.integers(0, 30),
)
def test_rows_are_what_the_contract_says(
    store: Store, asked: Asked, plain: bool, early: bool, at: int
) -> None:
    LOADED.gkc_choose(plain)
    generation = opened(store)
    n = len(asked.rows)
    form = row_form(asked.parts, store.dim, store.category_dim, asked.kind)
    knowledge = np.full((asked.answer_count, form.width), 7, dtype=form.dtype)
    status = np.full((asked.answer_count, len(PARTS)), 9, dtype=np.uint8)
    resolved = np.full(n, 5, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    items = asked.item_column(store)
    rows = Rows(n, items, asked.categories, asked.given, asked.user_index, asked.answer_rows)
    if early or store.has_names:
        rows.find_items(generation.index)
    lay = rows.laying(generation, *asked.joined(store), form, knowledge, status, resolved)
    lay(0, min(at, n))
    lay(min(at, n), n)
    LOADED.gkc_choose(0)
    told, statuses, counts, categories = asked.expected(store)
    answer_rows = np.arange(n) if asked.answer_rows is None else asked.answer_rows
    assert row_bytes(knowledge[answer_rows]) == told
    assert status[answer_rows].tolist() == statuses.tolist()
    assert rows.counts.tolist() == counts.tolist()
    assert [c if has else None for c, has in zip(*resolved, strict=True)] == categories
    untouched = np.setdiff1d(np.arange(asked.answer_count), answer_rows)
    assert (knowledge[untouched] == 7).all()
    assert (status[untouched] == 9).all()


def test_strings_that_were_not_looked_up_are_not_laid() -> None:
    form = row_form(PARTS, 2, 2, "f32")
    rows = Rows(1, StringIds.of([b"a"]))
    assert rows.must_find_items
    with pytest.raises(LayoutError, match="not looked up"):
        rows.laying(opened(ONE), b"", None, form, np.zeros((1, form.width), np.float32))


def test_ids_of_another_type_than_the_table_has_are_refused() -> None:
    numbers, strings = opened(ONE).index, opened(replace(ONE, has_names=True)).index
    with pytest.raises(LayoutError, match="no table of numbers"):
        numbers.rows_of(StringIds.of([b"a"]))
    with pytest.raises(LayoutError, match="no table of strings"):
        strings.rows_of(np.zeros(1, dtype=np.int64))
    with pytest.raises(LayoutError, match="other types"):
        Rows(1, None, StringIds.of([b"a"]), np.ones(1, dtype=np.bool_))


def summed(crc32: int, user: bytes, content: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(user, crc32)).to_bytes(4, "little") + content


@given(
    contents=st.lists(st.none() | st.binary(min_size=4, max_size=400), min_size=1, max_size=9),
    crc32=st.integers(0, 2**32 - 1),
    has_names=st.booleans(),
    plain=st.booleans(),
    flip=st.integers(0, 2**20),
)
def test_a_damaged_record_is_found_as_zlib_finds_it(
    contents: list[bytes | None], crc32: int, has_names: bool, plain: bool, flip: int
) -> None:
    numbers = np.arange(len(contents), dtype=np.int64) * 2**58
    users: Ids = numbers
    fields = [number.tobytes() for number in numbers]
    if has_names:
        fields = [b"name" * (k + 1) for k in range(len(contents))]
        users = StringIds.of(fields)
    records = [
        b"" if content is None else summed(crc32, field, content)
        for field, content in zip(fields, contents, strict=True)
    ]
    raw = b"".join(records)
    offsets = np.cumsum([0, *map(len, records)], dtype=np.int64)
    LOADED.gkc_choose(plain)
    assert damaged_record(crc32, users, raw, offsets) == -1
    if raw:
        at = flip % len(raw)
        damaged = raw[:at] + bytes([raw[at] ^ 1 << flip % 8]) + raw[at + 1 :]
        row = int(np.searchsorted(offsets, at, side="right")) - 1
        assert damaged_record(crc32, users, damaged, offsets) == row
        assert damaged_record(crc32, users[row : row + 1], records[row], None) == -1
        assert damaged_record(crc32 ^ 1, users[row : row + 1], records[row], None) == 0
    LOADED.gkc_choose(0)


@pytest.mark.parametrize("offsets", [[0, 9], [-1, 8], [8, 0], [0, 2**62]])
def test_a_record_outside_of_all_is_damaged(offsets: list[int]) -> None:
    users, record = np.zeros(1, dtype=np.int64), summed(0, bytes(8), b"abcd")
    assert damaged_record(0, users, record, np.array([0, 8], dtype=np.int64)) == -1
    assert damaged_record(0, users, record, np.array(offsets, dtype=np.int64)) == 0


@given(st.lists(st.tuples(ids(), st.none() | ids()), max_size=300), st.booleans())
def test_distinct_values_in_order_of_first_appearance(
    pairs: list[tuple[int, int | None]], alone: bool
) -> None:
    values = np.array([value for value, _ in pairs], dtype=np.int64)
    # Where there is no second value, whatever stands there does not matter.
    seconds = np.array([k if s is None else s for k, (_, s) in enumerate(pairs)], dtype=np.int64)
    has = np.array([s is not None for _, s in pairs], dtype=np.bool_)
    keys: list[object] = [value for value, _ in pairs] if alone else list(pairs)
    first, index = distinct(values, None if alone else (seconds, has))
    seen = list(dict.fromkeys(keys))
    assert first.tolist() == [keys.index(key) for key in seen]
    assert index.tolist() == [seen.index(key) for key in keys]


def test_every_half_is_converted_alike_both_ways() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).astype("<u2")
    floats = halves.view(np.float16).astype(np.float32)
    for plain in (True, False):
        widened = converted(halves.view(np.float16), "f32", plain)
        nan = np.isnan(floats)
        assert (widened.view(np.uint32) == floats.view(np.uint32))[~nan].all()
        quiet = (halves[nan] & 0x8000).astype(np.uint32) << 16 | 0x7FC00000
        quiet |= (halves[nan] & 0x3FF).astype(np.uint32) << 13
        assert (widened.view(np.uint32)[nan] == quiet).all()
        again = converted(widened.astype(np.float32), "f16", plain)
        assert (again.view(np.uint16)[~nan] == halves[~nan]).all()
        assert (again.view(np.uint16)[nan] == halves[nan] | 0x200).all()


def test_floats_around_every_tie_are_rounded_alike() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    above = np.append(halves[1:], 65536.0)
    ties = ((halves + above) / 2).astype(np.float32).view(np.uint32)
    bits = np.concatenate([ties - 1, ties, ties + 1, np.array([0, 1, 0x7F800000], np.uint32)])
    bits = np.concatenate([bits, bits | np.uint32(0x80000000)])
    with np.errstate(over="ignore"):
        expected = bits.view(np.float32).astype(np.float16)
    for plain in (True, False):
        made = converted(bits.view(np.float32), "f16", plain)
        assert (made.view(np.uint16) == expected.view(np.uint16)).all()


def converted(
    numbers: npt.NDArray[np.floating[Any]], kind: AnswerType, plain: bool
) -> npt.NDArray[np.floating[Any]]:
    """Have one vector of numbers laid in another type."""
    element_type: ElementType = "f16" if numbers.dtype == np.float16 else "f32"
    vector, n = numbers.tobytes(), len(numbers)
    store = Store(element_type, n, 0, {}, {}, {}, None, vector, None, None)
    form = row_form(("item",), n, 0, kind)
    laid: npt.NDArray[np.floating[Any]] = np.empty((1, n), dtype=form.dtype)
    LOADED.gkc_choose(plain)
    rows = Rows(1, np.array([0], dtype=np.int64))
    rows.laying(opened(store), b"", None, form, laid)(0, 1)
    LOADED.gkc_choose(0)
    row: npt.NDArray[np.floating[Any]] = laid[0]
    return row


def lay_one(record: bytes, offsets: I64 | None = None, user: int = 0, place: int = 0) -> None:
    form = row_form(PARTS, 2, 2, "f32")
    index = np.array([user], dtype=np.int64)
    rows = Rows(1, np.array([1]), user_index=index, answer_rows=np.array([place]))
    rows.laying(opened(ONE), record, offsets, form, np.empty((1, form.width), form.dtype))(0, 1)


@pytest.mark.parametrize("pairs", [0, 2, 2**31, 2**32 - 1])
def test_a_record_of_another_number_of_pairs_is_refused(pairs: int) -> None:
    record = ONE.record(1)
    lay_one(record)
    with pytest.raises(LayoutError, match="record has another length"):
        lay_one(record[:4] + pairs.to_bytes(4, "little") + record[8:])


@pytest.mark.parametrize("size", [1, 7, 8, 15, 16, 24, 33])
def test_a_record_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(LayoutError, match="record has another length"):
        lay_one((ONE.record(1) + bytes(8))[:size])


@pytest.mark.parametrize("offsets", [[0, 2**40], [-8, 32], [32, 0], [2**62, -(2**62)]])
def test_records_outside_what_was_read_are_refused(offsets: list[int]) -> None:
    with pytest.raises(LayoutError, match="record"):
        lay_one(ONE.record(1), np.array(offsets, dtype=np.int64))


@pytest.mark.parametrize("user", [-1, 1, 2**62])
def test_a_user_who_was_not_read_is_refused(user: int) -> None:
    with pytest.raises(LayoutError, match="record"):
        lay_one(ONE.record(1), None, user)


@pytest.mark.parametrize("place", [-1, 1, 2**62])
def test_a_row_outside_its_answer_is_refused(place: int) -> None:
    with pytest.raises(LayoutError, match="outside its answer"):
        lay_one(ONE.record(1), place=place)


def test_columns_and_answers_of_other_sizes_are_refused() -> None:
    three, two = np.arange(3), np.arange(2)
    form, generation = row_form(PARTS, 2, 2, "f32"), opened(ONE)
    has = np.ones(2, dtype=np.bool_)
    for wrong in ((two,), (three, two, has), (three, two), (three, None, None, two)):
        with pytest.raises(LayoutError, match="other lengths"):
            Rows(3, *wrong)
    with pytest.raises(LayoutError, match="other lengths"):
        Rows(3, three, answer_rows=two)
    rows = Rows(3, three)
    wide = np.zeros((3, form.width), np.float32)
    with pytest.raises(LayoutError, match="another form"):
        rows.laying(generation, b"", None, form, wide.astype(np.float16))
    with pytest.raises(LayoutError, match="another form"):
        rows.laying(generation, b"", None, form, wide[:, 1:])
    with pytest.raises(LayoutError, match="statuses"):
        rows.laying(generation, b"", None, form, wide, np.empty((2, 4), np.uint8))
    with pytest.raises(LayoutError, match="resolved"):
        rows.laying(generation, b"", None, form, wide, resolved=(two, has))
    with pytest.raises(LayoutError, match="outside its answer"):
        rows.laying(generation, b"", None, form, wide[:2])(0, 3)
    with pytest.raises(LayoutError, match="outside its answer"):
        rows.laying(generation, b"", None, form, wide)(0, 4)


def test_faults_never_end_the_process(tmp_path: Path) -> None:
    code = "import sys; from tests.gkc.rows_faults import run; run(sys.argv[1])"
    done = run_sanitized(code, build_sanitized(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) > 100
