"""Arrays to bytes and back: the element types, and the packed record of one user.

A stored vector is ``width`` elements, little-endian, preceded by its float32 scale for int8; one of
no elements takes no bytes. A user's record, little-endian::

    uint32  CRC-32 over the generation's name, the user's id field, and the record from byte 4 on
    uint32  pairs
    K_u     then zeros to a multiple of 8
    int64   category of each pair, ascending; of strings, its place in the items' dictionary
    K_uc    of each pair, one after the other, then zeros to a multiple of 8

A user's id field is its id, 8 bytes, little-endian, or the bytes of a string. So whoever reads a
record knows that it is whole, and whose it is.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from gkc.arrays import F32, I64, U8, Bools
from gkc.errors import LayoutError, NotStorableError
from gkc.id_index import keys_of
from gkc.rows import damaged_record
from gkc.rows_library import stride
from gkc.strings import Ids, IdType, StringIds

ElementType = Literal["f16", "f32", "int8"]
ELEMENT_TYPES: Final[tuple[ElementType, ...]] = get_args(ElementType)

ID_BYTES: Final = 8
_SCALE_BYTES: Final = 4
_ALIGNMENT: Final = 8
_HEAD: Final = struct.Struct("<II")
_CRC_BYTES: Final = 4
_DAMAGED: Final = "is damaged, or of another user or generation"
_INT8_MAX: Final = np.float32(127)


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
    if not vectors.shape[1]:
        return np.zeros((len(vectors), 0), dtype=np.uint8)
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
    if not width:
        return np.zeros((len(rows), 0), dtype=np.float32)
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
class ItemBlock:
    """Items and what is stored of them.

    Attributes
    ----------
    ids : ndarray, shape (n,), int64
        Of strings, their keys.
    k_i : ndarray, shape (n, stride), uint8
        Stored K_i of each item.
    categories : ndarray, shape (n,), int64
        Each item's own category; 0 where it has none.
    has_category : ndarray, shape (n,), bool
    names : sequence of bytes, length n, or None
        The ids themselves where they are strings.
    """

    ids: I64
    k_i: U8
    categories: I64
    has_category: Bools
    names: Sequence[bytes] | None = None

    @property
    def id_column(self) -> Ids:
        """The ids as readers are asked for them."""
        return self.ids if self.names is None else StringIds.of(self.names)

    def take(self, places: I64 | slice) -> ItemBlock:
        """Return some of the items: copies, or, by a slice, views."""
        names = self.names
        if names is not None:
            names = (
                names[places] if isinstance(places, slice) else [names[k] for k in places.tolist()]
            )
        return ItemBlock(
            self.ids[places],
            self.k_i[places],
            self.categories[places],
            self.has_category[places],
            names,
        )


@dataclass(frozen=True, slots=True)
class UserBlock:
    """Users and what is stored of them, before packing or after reading.

    Attributes
    ----------
    ids : ndarray, shape (n,), int64
        Of strings, their keys.
    k_u : ndarray, shape (n, stride), uint8
        Stored K_u of each user.
    pair_offsets : ndarray, shape (n + 1,), int64
        The pairs of user ``k`` are ``pair_offsets[k]`` to ``pair_offsets[k + 1]``.
    categories : ndarray, shape (P,), int64
        Category of each pair, ascending within a user.
    k_uc : ndarray, shape (P, category stride), uint8
        Stored K_uc of each pair.
    names : sequence of bytes, length n, or None
        The ids themselves where they are strings.
    """

    ids: I64
    k_u: U8
    pair_offsets: I64
    categories: I64
    k_uc: U8
    names: Sequence[bytes] | None = None

    def span(self, start: int, end: int) -> UserBlock:
        """Return the users from one place to another, with their pairs, as views."""
        first, last = self.pair_offsets[start], self.pair_offsets[end]
        return UserBlock(
            ids=self.ids[start:end],
            k_u=self.k_u[start:end],
            pair_offsets=self.pair_offsets[start : end + 1] - first,
            categories=self.categories[first:last],
            k_uc=self.k_uc[first:last],
            names=self.names and self.names[start:end],
        )

    @property
    def id_column(self) -> Ids:
        """The ids as readers are asked for them."""
        return self.ids if self.names is None else StringIds.of(self.names)

    @property
    def fields(self) -> Sequence[bytes]:
        """The id field of each user, as bytes."""
        return id_fields(self.ids) if self.names is None else self.names


def id_fields(ids: Ids) -> list[bytes]:
    """Return the id field of each id: of a number 8 bytes, little-endian."""
    if isinstance(ids, StringIds):
        return ids.tolist()
    raw = np.ascontiguousarray(ids, dtype="<i8").tobytes()
    return [raw[k : k + ID_BYTES] for k in range(0, len(raw), ID_BYTES)]


def ids_of(fields: Collection[bytes], id_type: IdType) -> Ids:
    """Return the ids whose fields these are."""
    if id_type == "string":
        return StringIds.of(list(fields))
    return np.frombuffer(b"".join(fields), dtype="<i8")


def joined(records: Sequence[bytes | memoryview | None]) -> tuple[bytes, I64]:
    """Put records one behind the other, as rows are laid from them.

    Returns
    -------
    bytes
    ndarray, shape (n + 1,), int64
        Where each begins and ends; one that is None has no bytes.

    Raises
    ------
    LayoutError
        If another one has none.
    """
    pieces = [b"" if record is None else record for record in records]
    offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
    sizes = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
    if np.count_nonzero(sizes) + sum(record is None for record in records) != len(pieces):
        raise LayoutError(_DAMAGED)
    np.cumsum(sizes, out=offsets[1:])
    return b"".join(pieces), offsets


def record_bytes(user_stride: int, pair_stride: int, pairs: int) -> int:
    """Return the bytes of the record of a user with so many pairs."""
    users = _HEAD.size + _padded(user_stride)
    return users + _padded(pairs * pair_stride) + pairs * ID_BYTES


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class RecordCodec:
    """Packs and unpacks the records of one generation's users.

    Parameters
    ----------
    generation : str
    element_type : {"f16", "f32", "int8"}
    dim, category_dim : int
        Width of K_u and of K_uc.
    """

    def __init__(
        self, generation: str, element_type: ElementType, dim: int, category_dim: int
    ) -> None:
        self._seed = zlib.crc32(generation.encode())
        self._user_bytes = stride(element_type, dim)
        self._pair_bytes = stride(element_type, category_dim)
        self._ids_at = _HEAD.size + _padded(self._user_bytes)

    def pack(self, block: UserBlock) -> list[bytes]:
        """Pack one record per user of ``block``, in its order."""
        size, pair_bytes = self._ids_at - _HEAD.size, self._pair_bytes
        k_u = np.zeros((len(block.ids), size), dtype=np.uint8)
        k_u[:, : self._user_bytes] = block.k_u
        counts = np.diff(block.pair_offsets).astype("<u4").view(np.uint8)
        categories = np.ascontiguousarray(block.categories, dtype="<i8").view(np.uint8)
        k_uc = np.ascontiguousarray(block.k_uc)
        arrays = (counts, k_u, categories, k_uc)
        counts_at, k_u_at, ids_at, k_uc_at = (a.reshape(-1).data for a in arrays)
        offsets, fields, seed = block.pair_offsets.tolist(), block.fields, self._seed
        records = []
        for row, (start, end) in enumerate(pairwise(offsets)):
            body = b"".join(
                (
                    counts_at[row * 4 : row * 4 + 4],
                    k_u_at[row * size : (row + 1) * size],
                    ids_at[start * ID_BYTES : end * ID_BYTES],
                    k_uc_at[start * pair_bytes : end * pair_bytes],
                    bytes(-(end - start) * pair_bytes % _ALIGNMENT),
                )
            )
            crc32 = zlib.crc32(body, zlib.crc32(fields[row], seed))
            records.append(crc32.to_bytes(_CRC_BYTES, "little") + body)
        return records

    def check(self, field: bytes, record: bytes | memoryview) -> int:
        """Return how many pairs a record has, having checked that it is whole and this user's.

        Raises
        ------
        LayoutError
            If it is not.
        """
        size = len(record)
        if size < self._ids_at or size % _ALIGNMENT:
            raise LayoutError(f"has {size} bytes")
        crc32, pairs = _HEAD.unpack_from(record)
        body = memoryview(record)[_CRC_BYTES:]
        if zlib.crc32(body, zlib.crc32(field, self._seed)) != crc32:
            raise LayoutError(_DAMAGED)
        if size != self._ids_at + pairs * ID_BYTES + _padded(pairs * self._pair_bytes):
            raise LayoutError(f"has {size} bytes, which are not those of {pairs} pairs")
        return int(pairs)

    def check_joined(self, users: Ids, records: bytes, offsets: I64 | None = None) -> None:
        """Check what `joined` gives of some users, or one user's record.

        Raises
        ------
        LayoutError
            If one is damaged, or another user's.
        """
        if damaged_record(self._seed, users, records, offsets) >= 0:
            raise LayoutError(_DAMAGED)

    def unpack(self, ids: Ids, records: Sequence[bytes | memoryview | None]) -> UserBlock:
        """Unpack the records of some users, None standing for a user who was not exported.

        Parameters
        ----------
        ids : ndarray, shape (n,), int64, or StringIds
            The users, kept as they are.
        records : sequence of bytes-like or None, length n

        Returns
        -------
        UserBlock
            K_u zeros and no pairs for a user without a record.

        Raises
        ------
        LayoutError
            If a record is damaged, or not that user's; names the user.
        """
        k_u = np.zeros((len(records), self._user_bytes), dtype=np.uint8)
        counts = np.zeros(len(records) + 1, dtype=np.int64)
        categories, k_uc = [], []
        names = ids.tolist() if isinstance(ids, StringIds) else None
        keys = keys_of(ids) if isinstance(ids, StringIds) else ids
        fields = id_fields(ids)
        for row, record in enumerate(records):
            if record is None:
                continue
            try:
                user = self._unpack_one(keys[row : row + 1], fields[row], record)
            except LayoutError as exc:
                who = keys[row] if names is None else names[row].decode()
                raise LayoutError(f"the record of user {who} {exc}") from exc
            k_u[row] = user.k_u
            counts[row + 1] = len(user.categories)
            categories.append(user.categories)
            k_uc.append(user.k_uc)
        none = np.zeros((0, self._pair_bytes), dtype=np.uint8)
        return UserBlock(
            ids=keys,
            names=names,
            k_u=k_u,
            pair_offsets=np.cumsum(counts, dtype=np.int64),
            categories=np.concatenate(categories) if categories else np.zeros(0, dtype=np.int64),
            k_uc=np.concatenate(k_uc) if k_uc else none,
        )

    def _unpack_one(self, ids: I64, field: bytes, record: bytes | memoryview) -> UserBlock:
        """Unpack the record of one user, as views of it."""
        pairs = self.check(field, record)
        raw, k_uc_at = np.frombuffer(record, dtype=np.uint8), self._ids_at + pairs * ID_BYTES
        return UserBlock(
            ids=ids,
            k_u=raw[_HEAD.size : _HEAD.size + self._user_bytes].reshape(1, self._user_bytes),
            pair_offsets=np.array([0, pairs], dtype=np.int64),
            categories=np.frombuffer(record, dtype="<i8", count=pairs, offset=self._ids_at),
            k_uc=raw[k_uc_at : k_uc_at + pairs * self._pair_bytes].reshape(pairs, self._pair_bytes),
        )
