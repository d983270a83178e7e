"""Columns of strings against lists of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.strings import MAX_STRING_BYTES, StringIds, distinct_strings

names = st.lists(st.binary(max_size=MAX_STRING_BYTES + 2), max_size=20)


@given(names, st.data())
def test_a_column_is_its_strings(listed: list[bytes], data: st.DataObject) -> None:
    column = StringIds.of(listed)
    assert (len(column), column.tolist()) == (len(listed), listed)
    assert column.lengths.tolist() == list(map(len, listed))
    places = data.draw(st.lists(st.integers(0, len(listed) - 1))) if listed else []
    some = column[np.array(places, dtype=np.int64)]
    assert some.tolist() == [listed[k] for k in places]
    assert column[1:3].tolist() == listed[1:3]
    assert column[len(listed) :].tolist() == []


@given(st.lists(st.text(max_size=20), max_size=20))
def test_texts_become_utf8(texts: list[str]) -> None:
    assert StringIds.of_text(texts).tolist() == [text.encode() for text in texts]


def test_what_is_no_text_is_told() -> None:
    with pytest.raises(TypeError):
        StringIds.of_text(["a", 3])  # type: ignore[list-item]
    with pytest.raises(UnicodeEncodeError):
        StringIds.of_text(["a", "\ud800"])


@given(names | st.lists(st.text(min_size=1, max_size=5).map(str.encode)), st.data())
def test_the_first_that_is_no_id(listed: list[bytes], data: st.DataObject) -> None:
    def fits(name: bytes) -> bool:
        try:
            name.decode()
        except UnicodeDecodeError:
            return False
        return 1 <= len(name) <= MAX_STRING_BYTES

    column = StringIds.of(listed)
    unfit = [k for k, name in enumerate(listed) if not fits(name)]
    assert column.first_unfit() == (unfit[0] if unfit else None)
    given = data.draw(st.lists(st.booleans(), min_size=len(listed), max_size=len(listed)))
    unfit = [k for k in unfit if given[k]]
    assert column.first_unfit(np.array(given, dtype=np.bool_)) == (unfit[0] if unfit else None)


def test_a_character_cut_in_two_is_in_neither() -> None:
    column = StringIds.of([b"a", "é".encode()[:1], "é".encode()[1:]])
    assert column.data.tobytes().decode() == "aé"
    assert column.first_unfit() is not None


@given(st.lists(st.sampled_from([b"a", b"b", b"", b"a\0"]), max_size=30))
def test_distinct_strings_in_order_of_first_appearance(listed: list[bytes]) -> None:
    first, index = distinct_strings(StringIds.of(listed))
    seen = list(dict.fromkeys(listed))
    assert first.tolist() == [listed.index(name) for name in seen]
    assert index.tolist() == [seen.index(name) for name in listed]
