"""Damaged tables and records under the compiled loops; run where a sanitizer watches."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gkc import compiled
from gkc.errors import LayoutError
from gkc.http.json_strings import strings_in
from gkc.knowledge import PARTS
from gkc.rows import GenerationRows, Rows, damaged_record, row_form
from tests.gkc.slow_rows import Asked, Store, questions, stores

FLIPS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), max_size=4)
DAMAGED = ("starts", "ids", "categories", "has_category", "rows")


def run(library: str) -> None:
    """Lay rows of damaged stores by one library; print how many were refused."""
    vars(compiled)["LIBRARY"] = Path(library)  # what this process loads and tries
    loaded = compiled.library()
    refused = 0

    @settings(max_examples=500, deadline=None, database=None, derandomize=True)
    @given(stores(), questions(), st.data())
    def lay(store: Store, asked: Asked, data: st.DataObject) -> None:
        nonlocal refused
        loaded.gkc_choose(data.draw(st.booleans()))
        sections = store.sections()
        damageable = (*DAMAGED, "id_offsets", "id_bytes") if store.has_names else DAMAGED
        name = data.draw(st.sampled_from(damageable))
        sections[name] = damaged(sections[name], data)
        blob, offsets = asked.joined(store)
        records = bytes(damaged(bytearray(blob), data))
        if offsets is not None and data.draw(st.booleans()):
            offsets[data.draw(st.integers(0, len(offsets) - 1))] = data.draw(
                st.integers(-(2**63), 2**63 - 1)
            )
        count = len(store.items) + data.draw(st.sampled_from((0, 0, 0, -1, 1, 2**31)))
        form = row_form(asked.parts, store.dim, store.category_dim, asked.kind)
        knowledge = np.empty((asked.answer_count, form.width), dtype=form.dtype)
        status = np.empty((asked.answer_count, len(PARTS)), dtype=np.uint8)
        rows = Rows(
            len(asked.rows),
            asked.item_column(store),
            asked.categories,
            asked.given,
            asked.user_index,
            asked.answer_rows,
        )
        users = np.zeros(1 if offsets is None else len(offsets) - 1, dtype=np.int64)
        damaged_record(0, users, records, offsets)
        try:
            generation = GenerationRows(
                store.element_type,
                store.dim,
                store.category_dim,
                {name: memoryview(content) for name, content in sections.items()},
                count,
                store.defaults(),
                store.default_category,
            )
            if store.has_names:
                rows.find_items(generation.index)
            rows.laying(generation, records, offsets, form, knowledge, status)(0, rows.n)
        except LayoutError:
            refused += 1

    lay()
    take()
    sys.stdout.write(f"{refused + short_records()}\n")


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.lists(st.sampled_from([b'"', b'"', b'","', b"\\", b" ", b"1234567"]), max_size=12))
def take(pieces: list[bytes]) -> None:
    """Take strings out of text that is JSON or not, up to its last byte."""
    strings_in(b"".join(pieces))


def short_records() -> int:
    """Lay a row of each record that is cut short; return how many were refused."""
    vector = bytes(4)
    store = Store(
        "f16", 2, 2, {1: vector}, {1: 3}, {1: (vector, {3: vector})}, None, None, None, None
    )
    sections = {name: memoryview(content) for name, content in store.sections().items()}
    generation = GenerationRows("f16", 2, 2, sections, 1, store.defaults(), None)
    form = row_form(PARTS, 2, 2, "f32")
    whole, refused = store.record(1), 0
    for size in range(1, len(whole)):
        knowledge = np.empty((1, form.width), dtype=form.dtype)
        rows = Rows(1, np.array([1], dtype=np.int64))
        try:
            rows.laying(generation, whole[:size], None, form, knowledge)(0, 1)
        except LayoutError:
            refused += 1
    assert refused == len(whole) - 1, "a record cut short was laid"
    return refused


def damaged(content: bytearray, data: st.DataObject) -> bytearray:
    """Flip some bytes; sometimes cut the end off."""
    for at, mask in data.draw(FLIPS):
        if content:
            content[at % len(content)] ^= mask
    if data.draw(st.integers(0, 4)) == 0:
        del content[data.draw(st.integers(0, len(content))) :]
    return content
