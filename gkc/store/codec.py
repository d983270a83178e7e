"""Arrays to bytes and back: the element types, and the packed record of one user.

A stored vector is ``width`` elements, little-endian, preceded by its float32 scale for int8. A
user's record is its K_u, then the category ids it has K_uc of (int64, ascending), then those K_uc,
nothing else: the number of categories follows from the record's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from gkc.arrays import F32, I64, U8
from gkc.errors import LayoutError, NotStorableError

ElementType = Literal["f16", "f32", "int8"]
ELEMENT_TYPES: Final[tuple[ElementType, ...]] = get_args(ElementType)

_ID_BYTES: Final = 8
_SCALE_BYTES: Final = 4
_INT8_MAX: Final = np.float32(127)


def stride(element_type: ElementType, width: int) -> int:
    """Return the bytes that one stored vector of ``width`` elements takes."""
    if element_type == "int8":
        return _SCALE_BYTES + width
    return width * (2 if element_type == "f16" else 4)


def encode_vectors(vectors: F32, element_type: ElementType) -> U8:
    """Encode vectors to their stored bytes.

    Parameters
    ----------
    vectors : ndarray, shape (n, width), float32
        One vector a row.
    element_type : {"f16", "f32", "int8"}
        f16 rounds to nearest, ties to even. int8 has one scale per vector, max|x| / 127.

    Returns
    -------
    ndarray, shape (n, stride(element_type, width)), uint8

    Raises
    ------
    NotStorableError
        If a value is not finite, or does not stay finite in the stored type; names the first such
        row.
    LayoutError
        If ``vectors`` is not a two-dimensional float32 array.
    """
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise LayoutError(
            f"vectors must be (n, width) float32, not {vectors.shape} {vectors.dtype}"
        )
    _require_finite(vectors, vectors, element_type)
    if element_type == "f32":
        stored: npt.NDArray[np.generic] = np.ascontiguousarray(vectors, dtype="<f4")
    elif element_type == "f16":
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(vectors.astype("<f2"))
        _require_finite(stored, vectors, element_type)
    else:
        stored = _quantise(vectors)
    return stored.view(np.uint8).reshape(len(vectors), stride(element_type, vectors.shape[1]))


def decode_vectors(rows: U8, element_type: ElementType, width: int) -> F32:
    """Decode stored bytes to the float32 values that they stand for.

    Parameters
    ----------
    rows : ndarray, shape (n, stride(element_type, width)), uint8
        Stored vectors; need not be contiguous.
    element_type : {"f16", "f32", "int8"}
    width : int

    Returns
    -------
    ndarray, shape (n, width), float32
        Never a view of ``rows``.

    Raises
    ------
    LayoutError
        If ``rows`` is not as wide as ``width`` elements of this type.
    """
    if rows.ndim != 2 or rows.shape[1] != stride(element_type, width):
        raise LayoutError(
            f"stored rows of shape {rows.shape} are not {width} elements of {element_type}"
        )
    rows = np.ascontiguousarray(rows)
    if element_type == "f32":
        return rows.view("<f4").astype(np.float32, copy=True)
    if element_type == "f16":
        halves: npt.NDArray[np.float16] = rows.view("<f2")
        return halves.astype(np.float32)
    scale = np.ascontiguousarray(rows[:, :_SCALE_BYTES]).view("<f4")
    values: F32 = rows[:, _SCALE_BYTES:].view(np.int8).astype(np.float32)
    values *= scale
    return values


def largest_magnitude(rows: U8, element_type: ElementType) -> float:
    """Return the largest absolute value among stored vectors, 0.0 if there are none.

    Read from the bits, which sort like the magnitudes they stand for, without decoding.

    Parameters
    ----------
    rows : ndarray, shape (n, stride), uint8
        Stored vectors; need not be contiguous.
    element_type : {"f16", "f32", "int8"}
    """
    if not rows.size:
        return 0.0
    if element_type == "f16":
        bits16 = (np.ascontiguousarray(rows).view("<u2") & np.uint16(0x7FFF)).max()
        return float(bits16.view(np.float16))
    if element_type == "f32":
        bits32 = (np.ascontiguousarray(rows).view("<u4") & np.uint32(0x7FFFFFFF)).max()
        return float(bits32.view(np.float32))
    # The largest |q| of a vector is 127, or a little less where the scale is subnormal and coarse.
    scale = np.ascontiguousarray(rows[:, :_SCALE_BYTES]).view("<f4").max()
    return float(scale) * 127.0


def _quantise(vectors: F32) -> npt.NDArray[np.uint8]:
    largest = np.abs(vectors).max(axis=1, initial=np.float32(0))
    scale = (largest / _INT8_MAX).astype("<f4")[:, np.newaxis]
    with np.errstate(over="ignore"):  # a scale rounded up may make the largest float32 infinite
        finite = np.isfinite(scale * _INT8_MAX)
    if not finite.all():
        row = int(finite.argmin())
        raise NotStorableError(row, float(largest[row]), "int8")
    divisor = np.where(scale == 0, np.float32(1), scale)  # values so small round to 0
    # A subnormal scale is coarse, so a quotient may pass 127 by its rounding.
    quotient = np.clip(np.rint(vectors / divisor), -_INT8_MAX, _INT8_MAX)
    out = np.empty((len(vectors), _SCALE_BYTES + vectors.shape[1]), dtype=np.uint8)
    out[:, :_SCALE_BYTES] = scale.view(np.uint8).reshape(len(vectors), _SCALE_BYTES)
    out[:, _SCALE_BYTES:] = quotient.astype(np.int8).view(np.uint8)
    return out


def _require_finite(
    stored: npt.NDArray[np.generic], vectors: F32, element_type: ElementType
) -> None:
    finite = np.isfinite(stored)
    if not finite.all():
        row, column = (int(k) for k in np.argwhere(~finite)[0])
        raise NotStorableError(row, float(vectors[row, column]), element_type)


@dataclass(frozen=True, slots=True)
class UserBlock:
    """Users and what is stored of them, before packing or after reading.

    Attributes
    ----------
    ids : ndarray, shape (n,), int64
    k_u : ndarray, shape (n, stride), uint8
        Stored K_u of each user.
    pair_offsets : ndarray, shape (n + 1,), int64
        The pairs of user ``k`` are ``pair_offsets[k]`` to ``pair_offsets[k + 1]``.
    categories : ndarray, shape (P,), int64
        Category of each pair, ascending within a user.
    k_uc : ndarray, shape (P, category stride), uint8
        Stored K_uc of each pair.
    """

    ids: I64
    k_u: U8
    pair_offsets: I64
    categories: I64
    k_uc: U8


def pack_records(block: UserBlock) -> list[bytes]:
    """Pack one record per user of ``block``, in its order."""
    k_u = np.ascontiguousarray(block.k_u)
    categories = np.ascontiguousarray(block.categories, dtype="<i8").view(np.uint8)
    k_uc = np.ascontiguousarray(block.k_uc)
    user_bytes, pair_bytes = k_u.shape[1], k_uc.shape[1]
    k_u_buffer, id_buffer, k_uc_buffer = (a.reshape(-1).data for a in (k_u, categories, k_uc))
    offsets = block.pair_offsets.tolist()
    return [
        b"".join(
            (
                k_u_buffer[row * user_bytes : (row + 1) * user_bytes],
                id_buffer[start * _ID_BYTES : end * _ID_BYTES],
                k_uc_buffer[start * pair_bytes : end * pair_bytes],
            )
        )
        for row, (start, end) in enumerate(pairwise(offsets))
    ]


def unpack_records(
    ids: I64,
    records: Sequence[bytes | memoryview | None],
    element_type: ElementType,
    dim: int,
    category_dim: int,
) -> UserBlock:
    """Unpack the records of some users, None standing for a user who was not exported.

    Parameters
    ----------
    ids : ndarray, shape (n,), int64
        The users, kept as they are.
    records : sequence of bytes-like or None, length n
    element_type : {"f16", "f32", "int8"}
    dim, category_dim : int
        Width of K_u and of K_uc.

    Returns
    -------
    UserBlock
        K_u zeros and no pairs for a user without a record.

    Raises
    ------
    LayoutError
        If a record has a length that no number of pairs explains; the message names the user's
        position.
    """
    user_bytes = stride(element_type, dim)
    pair_bytes = stride(element_type, category_dim)
    if len(records) == 1 and records[0] is not None:  # the usual request: nothing is copied
        return _unpack_record(ids, records[0], user_bytes, pair_bytes)
    k_u = np.zeros((len(records), user_bytes), dtype=np.uint8)
    counts = np.zeros(len(records) + 1, dtype=np.int64)
    categories, k_uc = [], []
    for row, record in enumerate(records):
        if record is None:
            continue
        one = _unpack_record(ids[row : row + 1], record, user_bytes, pair_bytes, row)
        k_u[row] = one.k_u
        counts[row + 1] = len(one.categories)
        categories.append(one.categories)
        k_uc.append(one.k_uc)
    return UserBlock(
        ids=ids,
        k_u=k_u,
        pair_offsets=np.cumsum(counts, dtype=np.int64),
        categories=np.concatenate(categories) if categories else np.zeros(0, dtype=np.int64),
        k_uc=np.concatenate(k_uc) if k_uc else np.zeros((0, pair_bytes), dtype=np.uint8),
    )


def _unpack_record(
    ids: I64, record: bytes | memoryview, user_bytes: int, pair_bytes: int, row: int = 0
) -> UserBlock:
    """Unpack the record of one user, as views of it."""
    pairs, rest = divmod(len(record) - user_bytes, _ID_BYTES + pair_bytes)
    if rest or pairs < 0:
        raise LayoutError(f"the record of user {row} of the batch has {len(record)} bytes")
    split = user_bytes + pairs * _ID_BYTES
    raw = np.frombuffer(record, dtype=np.uint8)
    return UserBlock(
        ids=ids,
        k_u=raw[:user_bytes].reshape(1, user_bytes),
        pair_offsets=np.array([0, pairs], dtype=np.int64),
        categories=np.frombuffer(record, dtype="<i8", count=pairs, offset=user_bytes),
        k_uc=raw[split:].reshape(pairs, pair_bytes),
    )
