"""Which files an ONNX model keeps its weights in besides its own, told from its bytes.

The package ``onnx`` is no dependency of the exporter, so the few fields that matter are read as
protobuf lays them down. Nothing else is looked at: a model with gigabytes of weights is stepped
over, not read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Numbers of the fields, by message, that may hold a tensor further down (onnx.proto)."""

_EXTERNAL_DATA: Final = 13
_DATA_LOCATION: Final = 14
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

Field = tuple[int, int, int]
"""Number of a field, then where its bytes begin and end; of a whole number its value, then -1."""


def external_files(path: Path) -> list[str]:
    """List the files that hold tensors of a model, relative to the model's folder, sorted.

    Raises
    ------
    ValueError
        If the file is no protobuf message.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as stream:
        if not path.stat().st_size:
            return []
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return sorted(_locations(buffer))


def _locations(buffer: mmap.mmap) -> set[str]:
    """Collect the files that external tensors name; by a list, lest a deep graph end Python."""
    locations: set[str] = set()
    waiting = [("model", 0, len(buffer))]
    while waiting:
        message, start, end = waiting.pop()
        if message == "tensor":
            locations.update(_location(buffer, start, end))
            continue
        kinds = _MESSAGES[message]
        for number, first, last in _fields(buffer, start, end):
            if number in kinds and last >= 0:
                waiting.append((kinds[number], first, last))
    return locations


def _location(buffer: mmap.mmap, start: int, end: int) -> list[str]:
    """Return the one file that a tensor lies in, if that is not the model's own."""
    entries: dict[bytes, bytes] = {}
    external = False
    for number, first, last in _fields(buffer, start, end):
        if number == _DATA_LOCATION:
            external = first == 1
        elif number == _EXTERNAL_DATA and last >= 0:
            pair = {n: buffer[a:b] for n, a, b in _fields(buffer, first, last) if b >= 0}
            entries[pair.get(_KEY, b"")] = pair.get(_VALUE, b"")
    location = entries.get(b"location")
    return [location.decode()] if external and location is not None else []


def _fields(buffer: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    at = start
    while at < end:
        key, at = _varint(buffer, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(buffer, at, end)
            yield number, value, -1
        elif wire == _BYTES:
            size, at = _varint(buffer, at, end)
            if at + size > end:
                raise ValueError("a field ends behind its message")
            yield number, at, at + size
            at += size
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no field is of the kind {wire}")


def _varint(buffer: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Read a whole number of seven bits a byte; return it, and where what follows begins."""
    value = shift = 0
    while at < end and shift < 70:
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a whole number does not end")
