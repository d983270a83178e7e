"""Records that notice their damage, whatever the bytes are."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import field

from gkc.errors import EarlierFormatError, RecordError
from gkc.store.sealed import Count, Int64, Record, decode_record, encode_record, seal, unseal

FORMAT = "gkc-test/2"


class Inner(Record, frozen=True):
    name: str
    size: Count = 0


class Outer(Record, frozen=True):
    inner: dict[str, Inner] = field(default_factory=dict)
    raw: bytes = b""
    number: Int64 | None = None
    factor: float = 0.0


inners = st.builds(Inner, st.text(), st.integers(0, 2**63 - 1))
outers = st.builds(
    Outer,
    st.dictionaries(st.text(max_size=5), inners, max_size=3),
    st.binary(),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)


def framed(content: bytes, stamp: bytes = FORMAT.encode()) -> bytes:
    crc32 = zlib.crc32(content)
    return b'{"format":"%b","crc32":%d,"content":%b}' % (stamp, crc32, content)


@given(outers)
def test_what_was_sealed_comes_back(record: Outer) -> None:
    assert unseal(seal(record, FORMAT), FORMAT, Outer) == record
    assert decode_record(encode_record(record), Outer) == record


def test_a_sealed_record_is_as_documented() -> None:
    content = b'{"inner":{"a":{"name":"x","size":7}},"raw":"AAE=","number":null,"factor":1.5}'
    assert seal(Outer({"a": Inner("x", 7)}, b"\0\1", None, 1.5), FORMAT) == framed(content)


def test_every_changed_bit_is_noticed() -> None:
    raw = seal(Outer({"a": Inner("x", 7)}, b"\0\1", 5, 1.5), FORMAT)
    for bit in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(RecordError, match=r".+"):
            unseal(bytes(damaged), FORMAT, Outer)


@given(st.binary(max_size=100))
@example(b"[" * 200_000)
@example(b'{"format":' + b"[" * 200_000)
@example(b'{"content":{"format":' + b"{" * 200_000)
@example(b'{"format":"a","crc32":1,"content":' + b"[" * 200_000)
@example(b'{"format":"a","crc32":' + b"9" * 10_000 + b',"content":{}}')
@example(b'{"format":"\\ud800","crc32":1,"content":{}}')
def test_any_bytes_at_all_are_an_error_of_ours(raw: bytes) -> None:
    with pytest.raises(RecordError):
        unseal(raw, FORMAT, Outer)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"inner":{"a":{"name":7}}}', r"\$\.inner\[\.\.\.\]\.name"),
        (b'{"inner":{"a":{}}}', "missing required field `name`"),
        (b'{"inner":[]}', r"\$\.inner"),
        (b'{"number":9223372036854775808}', r"\$\.number"),
        (b'{"number":1e999}', r"\$\.number"),
        (b'{"factor":1e999}', r"\$\.factor"),
        (b'{"factor":NaN}', "malformed"),
        (b'{"raw":"*"}', r"\$\.raw"),
        (b'{"other":1}', "unknown field `other`"),
        (b'{"inner":{"a":{"name":"x","size":-1}}}', r"size"),
        (b"[]", "Expected `object`"),
        (b'{"inner":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ".+"),
    ],
)
def test_an_intact_record_that_does_not_fit_names_the_field(content: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        unseal(framed(content), FORMAT, Outer)


def test_another_format_is_named() -> None:
    with pytest.raises(RecordError, match="'gkc-test/3', this gkc reads 'gkc-test/2'"):
        unseal(framed(b"{}", b"gkc-test/3"), FORMAT, Outer)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"counter":1,"format":"gkc-catalogue/1","versions":{}}',
        b'{"content":{"format":"gkc-generation/1","spec":{}},"crc32":7}',
    ],
)
def test_a_record_of_format_1_is_told_from_damage(raw: bytes) -> None:
    with pytest.raises(EarlierFormatError, match="an earlier gkc, in format 1"):
        unseal(raw, FORMAT, Outer)
