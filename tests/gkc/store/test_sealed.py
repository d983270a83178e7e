from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.store.sealed import canonical_json, sealed_json, unsealed_json

VALUES = st.dictionaries(
    st.text(), st.none() | st.integers() | st.text() | st.lists(st.integers()), max_size=5
)


@given(VALUES)
def test_what_was_sealed_comes_back(value: dict[str, object]) -> None:
    assert unsealed_json(sealed_json(value)) == value


def test_every_changed_bit_is_noticed() -> None:
    raw = sealed_json({"generation": "0000000001-abcdef01", "users": 7})
    for bit in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ValueError, match=r".+"):
            unsealed_json(bytes(damaged))


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b'{"content":{}}', b"{", b"null"])
def test_other_json_is_no_sealed_record(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        unsealed_json(raw)


def test_equal_objects_have_equal_bytes() -> None:
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1}) == b'{"a":2,"b":1}'
