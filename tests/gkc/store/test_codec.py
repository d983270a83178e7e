"""The stored bytes are the contract's, to the bit."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gkc.arrays import F32, I64
from gkc.errors import LayoutError, NotStorableError
from gkc.rows_library import stride
from gkc.store import (
    ELEMENT_TYPES,
    ElementType,
    ItemBlock,
    UserBlock,
    decode_vectors,
    encode_vectors,
)
from gkc.store.codec import RecordCodec, id_fields, joined, largest_magnitude, record_bytes

LARGEST = float(np.finfo(np.float32).max)
F16_LIMIT = 65519.996  # from 65520 on, rounding to the nearest f16 gives infinity


def matrices(limit: float = LARGEST) -> st.SearchStrategy[F32]:
    return hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
        elements=st.floats(-limit, limit, width=32) | st.sampled_from([0.0, -0.0, 1e-45, -1e-41]),
    )


def round_trip(vectors: F32, element_type: ElementType) -> F32:
    rows = encode_vectors(vectors, element_type)
    assert rows.shape == (len(vectors), stride(element_type, vectors.shape[1]))
    assert rows.dtype == np.uint8
    return decode_vectors(rows, element_type, vectors.shape[1])


def bits(array: F32) -> list[int]:
    return [int(b) for b in array.view(np.uint32).ravel()]


@given(matrices())
def test_f32_keeps_every_bit(vectors: F32) -> None:
    assert bits(round_trip(vectors, "f32")) == bits(vectors)


@given(matrices(float(np.float32(F16_LIMIT))))
def test_f16_rounds_to_the_nearest_even(vectors: F32) -> None:
    # struct's half is CPython's own implementation of the rounding, not numpy's.
    expected = [struct.unpack("<e", struct.pack("<e", float(x)))[0] for x in vectors.ravel()]
    decoded = round_trip(vectors, "f16")
    assert bits(decoded) == bits(np.array(expected, dtype=np.float32))


@given(matrices(LARGEST / 2))
@example(np.array([[1e-45, -1e-45]], dtype=np.float32))
@example(np.array([[5e-44, 1e-44]], dtype=np.float32))
@example(np.array([[190 * 2.0**-149, 7 * 2.0**-149]], dtype=np.float32))
@example(np.array([[1.0, 0.5, -0.25, 0.003937008]], dtype=np.float32))
def test_int8_follows_the_contracts_rule(vectors: F32) -> None:
    rows = encode_vectors(vectors, "int8")
    decoded = decode_vectors(rows, "int8", vectors.shape[1])
    for row, stored, values in zip(vectors, rows, decoded, strict=True):
        scale = np.float32(max((abs(float(x)) for x in row), default=0.0)) / np.float32(127)
        assert not len(row) or stored[:4].tobytes() == struct.pack("<f", scale)
        q = [0 if scale == 0 else max(-127, min(127, int(np.rint(x / scale)))) for x in row]
        assert stored[4:].view(np.int8).tolist() == q
        assert bits(values) == bits(np.array(q, dtype=np.float32) * scale)


@given(matrices(LARGEST / 2), st.sampled_from(ELEMENT_TYPES))
def test_the_largest_magnitude_is_read_from_the_bits(
    vectors: F32, element_type: ElementType
) -> None:
    if element_type == "f16":
        vectors = np.clip(vectors, np.float32(-60000), np.float32(60000))
    rows = encode_vectors(vectors, element_type)
    decoded = decode_vectors(rows, element_type, vectors.shape[1])
    expected = float(np.abs(decoded).max(initial=np.float32(0)))
    found = largest_magnitude(rows, element_type)
    if element_type == "int8":
        assert expected <= found * (1 + 1e-6)
        assert found <= expected * 1.01 + 1e-38
    else:
        assert found == expected


@pytest.mark.parametrize("element_type", ELEMENT_TYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(element_type: ElementType, value: float) -> None:
    vectors = np.ones((5, 3), dtype=np.float32)
    vectors[2, 1] = vectors[4, 0] = value
    with pytest.raises(NotStorableError) as caught:
        encode_vectors(vectors, element_type)
    assert caught.value.row == 2
    assert caught.value.element_type == element_type


def test_what_does_not_stay_finite_is_refused() -> None:
    vectors = np.ones((3, 2), dtype=np.float32)
    vectors[1, 0] = 65519.0
    assert np.isfinite(round_trip(vectors, "f16")).all()
    vectors[1, 0] = -65520.0
    with pytest.raises(NotStorableError, match=r"row 1 holds -65520\.0, .* f16"):
        encode_vectors(vectors, "f16")
    # The scale of the largest float32 is rounded up, so that 127 times it is infinite.
    vectors[2, 1] = LARGEST
    with pytest.raises(NotStorableError, match=r"row 2 holds 3\.40.*e\+38, .* int8"):
        encode_vectors(vectors, "int8")
    assert bits(round_trip(vectors, "f32")) == bits(vectors)


@pytest.mark.parametrize("element_type", ELEMENT_TYPES)
def test_decoded_vectors_are_no_view(element_type: ElementType) -> None:
    rows = encode_vectors(np.ones((2, 4), dtype=np.float32), element_type)
    before = rows.copy()
    decode_vectors(rows, element_type, 4)[:] = 7
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("element_type", ELEMENT_TYPES)
def test_rows_need_not_be_contiguous(element_type: ElementType) -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    rows = encode_vectors(vectors, element_type)
    wide = np.zeros((6, rows.shape[1] + 5), dtype=np.uint8)
    wide[:, 3 : 3 + rows.shape[1]] = rows
    part = wide[::2, 3 : 3 + rows.shape[1]]
    expected = decode_vectors(rows, element_type, 4)[::2]
    np.testing.assert_array_equal(decode_vectors(part, element_type, 4), expected)
    assert largest_magnitude(part, element_type) == largest_magnitude(part.copy(), element_type)


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(LayoutError, match="float32"):
        encode_vectors(np.ones((2, 2), dtype=np.float64), "f16")
    with pytest.raises(LayoutError, match=r"\(n, width\)"):
        encode_vectors(np.ones(3, dtype=np.float32), "f16")
    with pytest.raises(LayoutError, match="not 4 elements of int8"):
        decode_vectors(np.zeros((2, 9), dtype=np.uint8), "int8", 4)


# ---- blocks


@pytest.mark.parametrize("places", [slice(1, None), np.array([2, 1])])
def test_some_items_of_a_block_are_taken_with_all_their_columns(places: I64 | slice) -> None:
    ids, k_i = np.array([5, 6, 7]), np.arange(6, dtype=np.uint8).reshape(3, 2)
    taken = ItemBlock(ids, k_i, ids * 10, ids > 5).take(places)
    np.testing.assert_array_equal(taken.ids, ids[places])
    np.testing.assert_array_equal(taken.k_i, k_i[places])
    np.testing.assert_array_equal(taken.categories, ids[places] * 10)
    np.testing.assert_array_equal(taken.has_category, ids[places] > 5)


def test_a_span_of_users_has_the_pairs_that_are_theirs() -> None:
    block = UserBlock(
        ids=np.array([1, 2, 3]),
        k_u=np.arange(6, dtype=np.uint8).reshape(3, 2),
        pair_offsets=np.array([0, 2, 2, 5]),
        categories=np.array([4, 5, 6, 7, 8]),
        k_uc=np.arange(5, dtype=np.uint8).reshape(5, 1),
        names=[b"a", b"b", b"c"],
    )
    span = block.span(1, 3)
    assert span.ids.tolist() == [2, 3]
    assert span.k_u.tolist() == [[2, 3], [4, 5]]
    assert span.pair_offsets.tolist() == [0, 0, 3]
    assert span.categories.tolist() == [6, 7, 8]
    assert span.k_uc.tolist() == [[2], [3], [4]]
    assert span.names == [b"b", b"c"]
    assert replace(block, names=None).span(0, 1).names is None


# ---- records


@st.composite
def user_blocks(draw: st.DrawFn) -> tuple[UserBlock, ElementType, int, int]:
    element_type = draw(st.sampled_from(ELEMENT_TYPES))
    dim, category_dim = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    per_user = draw(
        st.lists(st.sets(st.integers(-(2**63), 2**63 - 1), max_size=4).map(sorted), max_size=6)
    )
    offsets = np.cumsum([0, *map(len, per_user)], dtype=np.int64)
    categories = np.array([c for cs in per_user for c in cs], dtype=np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 99)))

    def vectors(count: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        return rng.integers(0, 256, (count, stride(element_type, width)), dtype=np.uint8)

    block = UserBlock(
        ids=np.arange(len(per_user), dtype=np.int64),
        k_u=vectors(len(per_user), dim),
        pair_offsets=offsets,
        categories=categories,
        k_uc=vectors(len(categories), category_dim),
    )
    return block, element_type, dim, category_dim


@given(user_blocks())
def test_records_round_trip(made: tuple[UserBlock, ElementType, int, int]) -> None:
    block, element_type, dim, category_dim = made
    codec = RecordCodec("g1", element_type, dim, category_dim)
    records = codec.pack(block)
    found = codec.unpack(block.ids, records)
    for name in ("ids", "k_u", "pair_offsets", "categories", "k_uc"):
        np.testing.assert_array_equal(getattr(found, name), getattr(block, name), err_msg=name)
    pairs = np.diff(block.pair_offsets).tolist()
    strides = stride(element_type, dim), stride(element_type, category_dim)
    assert [len(r) for r in records] == [record_bytes(*strides, count) for count in pairs]
    assert all(len(r) % 8 == 0 for r in records)


def test_a_record_is_laid_out_as_documented() -> None:
    block = UserBlock(
        ids=np.array([5], dtype=np.int64),
        k_u=encode_vectors(np.array([[1.0, 2.0, 5.0]], dtype=np.float32), "f32"),
        pair_offsets=np.array([0, 3], dtype=np.int64),
        categories=np.array([-1, 9, 10], dtype=np.int64),
        k_uc=encode_vectors(np.array([[3.0], [4.0], [6.0]], dtype=np.float32), "f32"),
    )
    body = struct.pack("<Ifff4xqqqfff4x", 3, 1.0, 2.0, 5.0, -1, 9, 10, 3.0, 4.0, 6.0)
    crc32 = zlib.crc32(b"0000000001-ab" + struct.pack("<q", 5) + body)
    codec = RecordCodec("0000000001-ab", "f32", 3, 1)
    assert codec.pack(block) == [struct.pack("<I", crc32) + body]
    named = replace(block, names=[b"somebody"])
    crc32 = zlib.crc32(b"0000000001-ab" + b"somebody" + body)
    assert codec.pack(named) == [struct.pack("<I", crc32) + body]


def test_users_without_a_record_have_zeros_and_no_pairs() -> None:
    codec = RecordCodec("g", "f32", 2, 1)
    ids = np.array([1, 2, 3], dtype=np.int64)
    (record,) = codec.pack(
        UserBlock(
            ids=ids[1:2],
            k_u=encode_vectors(np.array([[1.0, 2.0]], dtype=np.float32), "f32"),
            pair_offsets=np.array([0, 1], dtype=np.int64),
            categories=np.array([7], dtype=np.int64),
            k_uc=encode_vectors(np.array([[3.0]], dtype=np.float32), "f32"),
        )
    )
    block = codec.unpack(ids, [None, memoryview(record), None])
    assert block.k_u.view("<f4").tolist() == [[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]
    assert block.pair_offsets.tolist() == [0, 0, 1, 1]
    assert block.categories.tolist() == [7]
    nobody = codec.unpack(ids[:0], [])
    assert (nobody.k_u.shape, nobody.k_uc.shape) == ((0, 8), (0, 4))


@given(user_blocks(), st.data())
def test_a_changed_record_is_refused(
    made: tuple[UserBlock, ElementType, int, int], data: st.DataObject
) -> None:
    block, element_type, dim, category_dim = made
    codec = RecordCodec("g1", element_type, dim, category_dim)
    for row, record in enumerate(codec.pack(block)):
        ids = block.ids[row : row + 1]
        damaged = bytearray(record)
        damaged[data.draw(st.integers(0, len(record) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        cut = record[: data.draw(st.integers(0, len(record) - 1))]
        for wrong in (bytes(damaged), cut, record + bytes(8), b""):
            with pytest.raises(LayoutError, match=f"the record of user {ids[0]} "):
                codec.unpack(ids, [wrong])
            with pytest.raises(LayoutError, match="damaged"):
                codec.check_joined(ids, *joined([wrong]))


@given(user_blocks(), st.lists(st.booleans(), min_size=9, max_size=9))
def test_records_behind_one_another_are_whole(
    made: tuple[UserBlock, ElementType, int, int], are_there: list[bool]
) -> None:
    block, element_type, dim, category_dim = made
    codec = RecordCodec("g1", element_type, dim, category_dim)
    packed = codec.pack(block)
    records = [r if is_there else None for r, is_there in zip(packed, are_there, strict=False)]
    raw, offsets = joined(records)
    assert raw == b"".join(record or b"" for record in records)
    codec.check_joined(block.ids[: len(records)], raw, offsets)
    for row, record in enumerate(packed):
        codec.check_joined(block.ids[row : row + 1], record)
        with pytest.raises(LayoutError, match="of another user"):
            codec.check_joined(block.ids[row : row + 1] ^ 1, record)


def test_a_sealed_record_of_too_many_pairs_is_refused() -> None:
    body = struct.pack("<Iff", 2**32 - 1, 1.0, 2.0)
    crc32 = zlib.crc32(b"g" + struct.pack("<q", 5) + body)
    with pytest.raises(LayoutError, match="not those of 4294967295 pairs"):
        RecordCodec("g", "f32", 2, 1).unpack(np.array([5]), [struct.pack("<I", crc32) + body])


@pytest.mark.parametrize("element_type", ELEMENT_TYPES)
def test_vectors_of_no_elements_take_no_bytes(element_type: ElementType) -> None:
    assert stride(element_type, 0) == 0
    none = np.zeros((3, 0), dtype=np.float32)
    assert encode_vectors(none, element_type).shape == (3, 0)
    assert decode_vectors(np.zeros((3, 0), dtype=np.uint8), element_type, 0).shape == (3, 0)
    codec = RecordCodec("g", element_type, 2, 0)
    block = UserBlock(
        ids=np.array([1, 2]),
        k_u=encode_vectors(np.ones((2, 2), dtype=np.float32), element_type),
        pair_offsets=np.zeros(3, dtype=np.int64),
        categories=np.zeros(0, dtype=np.int64),
        k_uc=np.zeros((0, 0), dtype=np.uint8),
    )
    found = codec.unpack(block.ids, codec.pack(block))
    np.testing.assert_array_equal(found.k_u, block.k_u)
    assert found.k_uc.shape == (0, 0)


def test_fields_are_the_eight_bytes_of_an_id() -> None:
    ids = np.array([1, -1, 2**63 - 1, -(2**63)], dtype=np.int64)
    assert id_fields(ids) == [int(i).to_bytes(8, "little", signed=True) for i in ids]
