"""Small typed records that notice their own damage, and say which field is wrong.

::

    {"format":"gkc-catalogue/2","crc32":NUMBER,"content":{...}}

The CRC-32 is that of the content's bytes. Whatever the bytes are, reading them gives a record of
the type that was asked for, or `RecordError`.
"""

from __future__ import annotations

import zlib
from typing import Annotated, Final, TypeVar

import msgspec

from gkc.errors import EarlierFormatError, RecordError

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Count32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Width = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Crc32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Magnitude = Annotated[float, msgspec.Meta(ge=0)]

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything that is stored as a record."""


RecordT = TypeVar("RecordT", bound=msgspec.Struct)


class _Sealed(Record, frozen=True):
    format: str
    crc32: int
    content: msgspec.Raw


class _Stamp(msgspec.Struct):
    """All that is looked at of a record of another format."""

    format: str = ""


class _MaybeSealed(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()


def encode_record(record: Record) -> bytes:
    """Return a record as JSON; equal records have equal bytes."""
    return _ENCODER.encode(record)


def decode_record(raw: bytes | msgspec.Raw, kind: type[RecordT]) -> RecordT:
    """Return the record that some JSON holds.

    Raises
    ------
    RecordError
        If it holds none of this type; names the field.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise RecordError(str(exc)) from exc


def decode_old(raw: bytes, kind: type[RecordT]) -> RecordT:
    """Return the record that gkc's first format kept, bare or sealed as that one was.

    Raises
    ------
    RecordError
        If it holds none of this type; names the field.
    """
    return decode_record(decode_record(raw, _MaybeSealed).content or raw, kind)


def seal(record: Record, stamp: str) -> bytes:
    """Serialise a record together with the name of its format and its own CRC-32.

    Parameters
    ----------
    record : Record
    stamp : str
        Such as ``gkc-catalogue/2``.
    """
    return _frame(stamp, encode_record(record))


def unseal(raw: bytes, stamp: str, kind: type[RecordT]) -> RecordT:
    """Return the record that `seal` serialised.

    Raises
    ------
    EarlierFormatError
        If an earlier gkc wrote it.
    RecordError
        If it is damaged, or not such a record; names the field.
    """
    try:
        sealed = decode_record(raw, _Sealed)
        content = bytes(sealed.content)
        if _frame(sealed.format, content) != raw:
            raise RecordError("its checksum differs")
        if sealed.format != stamp:
            raise RecordError(f"is of format {sealed.format!r}, this gkc reads {stamp!r}")
    except RecordError as exc:
        if _is_of_format_1(raw):
            raise EarlierFormatError from exc
        raise
    return decode_record(content, kind)


def _frame(stamp: str, content: bytes) -> bytes:
    crc32 = zlib.crc32(content)
    return b'{"format":"%b","crc32":%d,"content":%b}' % (stamp.encode(), crc32, content)


def _is_of_format_1(raw: bytes) -> bool:
    """Tell whether this is a record of gkc's first format."""
    try:
        stamp = decode_old(raw, _Stamp).format
    except RecordError:
        return False  # not even JSON of that shape
    return stamp.startswith("gkc-") and stamp.endswith("/1")
