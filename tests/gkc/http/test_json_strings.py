"""Strings taken out of JSON text against those that a parser of JSON reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gkc.http.json_strings import strings_in
from gkc.strings import MAX_STRING_BYTES

SIZES = (7, 8, 9, MAX_STRING_BYTES, MAX_STRING_BYTES + 1)
texts = st.text(max_size=20) | st.sampled_from(["x" * size for size in SIZES])
blanks = st.text(" \t\r\n", max_size=2)


def is_plain(text: str) -> bool:
    """Tell whether JSON can say a string as it is, and it could be an id."""
    fits = 1 <= len(text.encode()) <= MAX_STRING_BYTES
    return fits and json.dumps(text, ensure_ascii=False) == f'"{text}"'


@given(st.lists(texts, max_size=20), st.tuples(blanks, blanks))
def test_plain_strings_are_taken_and_no_others(listed: list[str], between: tuple[str, str]) -> None:
    before, after = between
    said = (f"{before}{json.dumps(text, ensure_ascii=False)}{after}" for text in listed)
    taken = strings_in(f"[{','.join(said)}]".encode())
    if listed and all(map(is_plain, listed)):
        assert taken is not None
        assert taken.tolist() == [text.encode() for text in listed]
        assert taken.data.size == taken.offsets[-1]
    else:
        assert taken is None


pieces = st.sampled_from([b'"', b'"', b",", b'","', b"\\", b" ", b"a", b"12345678", b"\n", b"\xc3"])


@given(st.lists(pieces | st.binary(max_size=2), max_size=12).map(b"".join))
@example(b'"a"')
@example(b'"a",')
@example(b'"a""b"')
@example(b'"a",1')
@example(b'"\xed\xa0\x80"')
@example(b'"12345678')
def test_what_is_taken_is_what_a_parser_reads(inside: bytes) -> None:
    taken = strings_in(b"[" + inside + b"]")
    if taken is not None:
        assert [name.decode() for name in taken.tolist()] == json.loads(b"[" + inside + b"]")


@pytest.mark.parametrize("text", [b"[]", b"[1]", b'[["a"]]', b"[null]", b'[{"a":"b"}]'])
def test_other_lists_are_left(text: bytes) -> None:
    assert strings_in(text) is None
