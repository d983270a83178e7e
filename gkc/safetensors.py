"""The safetensors format, bytes to arrays and back, with the metadata that the library withholds.

Layout: the header's length as 8 bytes little-endian, the header (a JSON object: tensor name →
``dtype``, ``shape``, ``data_offsets``; ``__metadata__`` → strings), then the tensors' bytes, one
after the other without gaps. Reading is strict: bytes that the format does not explain are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np

from gkc.arrays import Array
from gkc.errors import MalformedBodyError

_LENGTH_BYTES: Final = 8
_ALIGNMENT: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000
"""The reference implementation's limit."""
_MOST_DIMENSIONS: Final = 8
"""Tensors of a question have one."""
_LARGEST: Final = 1 << 40
_FEW_BYTES: Final = 1024
"""Headers up to so many bytes are remembered: few are different among many."""

_Entry = tuple[str, np.dtype[Any], int, tuple[int, ...], int]
"""A tensor's name, dtype, count, shape and first byte."""

_DTYPES: Final = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}


def load(body: bytes | memoryview) -> tuple[dict[str, Array], dict[str, str]]:
    """Read tensors and metadata.

    Parameters
    ----------
    body : bytes-like

    Returns
    -------
    dict of str to ndarray
        Views of ``body``, perhaps unaligned; read-only if it is.
    dict of str to str
        The metadata; empty if there is none.

    Raises
    ------
    MalformedBodyError
        If the bytes are not safetensors, or hold an element type that numpy has no name for.
    """
    raw = header_of(body)
    header_end = _LENGTH_BYTES + len(raw)
    read = _read_header if len(raw) <= _FEW_BYTES else _read_header.__wrapped__
    entries, metadata = read(raw, len(body) - header_end)
    tensors = {
        name: np.frombuffer(body, dtype, count, header_end + start).reshape(shape)
        for name, dtype, count, shape, start in entries
    }
    return tensors, dict(metadata)


@lru_cache(maxsize=1024)
def _read_header(raw: bytes, size: int) -> tuple[tuple[_Entry, ...], tuple[tuple[str, str], ...]]:
    """Return the tensors and the metadata of a header, before so many bytes of tensors."""
    header = _header(raw)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _malformed("__metadata__ is not an object of strings")
    entries = {name: _entry(name, value) for name, value in header.items()}
    _check_contiguous(entries, size)
    told = tuple(
        (name, dtype, math.prod(shape), shape, start)
        for name, (dtype, shape, start, _) in entries.items()
    )
    return told, tuple(metadata.items())


def dump(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """Write tensors and metadata, as consecutive pieces of one body.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        C-contiguous, little-endian, of any shape.
    metadata : mapping of str to str

    Returns
    -------
    list of bytes-like
        The header, then views of the tensors: nothing is copied.
    """
    shapes = tuple([(name, tensor.dtype.str, tensor.shape) for name, tensor in tensors.items()])
    header, order = _dumped_header(shapes, tuple(metadata.items()))
    return [header, *[tensors[name].data.cast("B") for name in order]]


@lru_cache(maxsize=4096)
def _dumped_header(
    shapes: tuple[tuple[str, str, tuple[int, ...]], ...], metadata: tuple[tuple[str, str], ...]
) -> tuple[bytes, tuple[str, ...]]:
    """Return the header with its length, and the order of the tensors that have elements.

    Few are different among many answers. In this order each tensor is aligned wherever the first
    one is, and the largest goes last where that is so: what is small then leaves in one write with
    the header.
    """
    dtypes = {name: np.dtype(code) for name, code, _ in shapes}
    sizes = {name: math.prod(shape) * dtypes[name].itemsize for name, _, shape in shapes}
    widest = max((dtype.itemsize for dtype in dtypes.values()), default=1)
    if any(size % widest for size in sizes.values()):
        ordered = sorted(shapes, key=lambda tensor: -dtypes[tensor[0]].itemsize)
    else:
        ordered = sorted(shapes, key=lambda tensor: sizes[tensor[0]])
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, _, shape in ordered:
        end = start + sizes[name]
        header[name] = {
            "dtype": _NAMES[dtypes[name]],
            "shape": shape,
            "data_offsets": [start, end],
        }
        start = end
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % _ALIGNMENT)
    raw = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return raw, tuple(name for name, *_ in ordered if sizes[name])


def header_of(body: bytes | memoryview) -> bytes:
    """Return the JSON text of a header, unread.

    Raises
    ------
    MalformedBodyError
        If the bytes end before it does.
    """
    if len(body) < _LENGTH_BYTES:
        raise _malformed("it is shorter than the length of a header")
    length = int.from_bytes(body[:_LENGTH_BYTES], "little")
    if length > _MAX_HEADER_BYTES or length > len(body) - _LENGTH_BYTES:
        raise _malformed(f"its header of {length} bytes does not fit into it")
    return bytes(body[_LENGTH_BYTES : _LENGTH_BYTES + length])


def _header(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise _malformed("its header is not a JSON object")
    try:
        header: dict[str, Any] = json.loads(
            raw.decode(), object_pairs_hook=_object, parse_int=_integer
        )
    except (ValueError, RecursionError) as exc:
        raise _malformed(f"its header is not JSON: {exc}") from exc
    return header


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; readers differ in which of two equal names counts."""
    names = dict(pairs)
    if len(names) < len(pairs):
        raise _malformed("its header has a name twice in one object")
    return names


def _integer(digits: str) -> float:
    return -0.0 if digits == "-0" else int(digits)  # no size, to the reference implementation


def _entry(name: str, value: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Return one tensor's dtype, shape, first byte and end byte."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _malformed(f"tensor {name!r} needs exactly dtype, shape and data_offsets")
    dtype = _DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise _malformed(f"tensor {name!r} has the unknown dtype {value['dtype']!r}")
    shape, offsets = value["shape"], value["data_offsets"]
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise _malformed(f"tensor {name!r} has a shape or offsets that are no sizes")
    if len(shape) > _MOST_DIMENSIONS or math.prod(size or 1 for size in shape) > _LARGEST:
        raise _malformed(f"tensor {name!r} has too many dimensions, or too large ones")
    start, end = offsets
    if end - start != math.prod(shape) * dtype.itemsize:
        raise _malformed(f"tensor {name!r} of shape {shape} does not take {end - start} bytes")
    return dtype, tuple(shape), start, end


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _check_contiguous(entries: Mapping[str, Sequence[Any]], size: int) -> None:
    """Check that the tensors cover the whole buffer of ``size`` bytes, each byte once."""
    position = 0
    for start, end in sorted((entry[2], entry[3]) for entry in entries.values()):
        if start != position:
            raise _malformed(f"its tensors leave a gap or overlap at byte {min(start, position)}")
        position = end
    if position != size:
        raise _malformed(f"its tensors take {position} bytes, but {size} follow the header")


def _malformed(reason: str) -> MalformedBodyError:
    return MalformedBodyError("safetensors", reason)
