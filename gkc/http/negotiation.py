"""Media types: what a body is, what a caller accepts."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from gkc.errors import (
    EncodedBodyError,
    HeadTooLargeError,
    NotAcceptableError,
    UnsupportedMediaTypeError,
)
from gkc.http.limits import MAX_ACCEPT_BYTES
from gkc.knowledge import SAFETENSORS as SAFETENSORS

JSON: Final = "application/json"
MEDIA_TYPES: Final = (JSON, SAFETENSORS)
"""What is read and answered, the preferred one first."""


@lru_cache(maxsize=64)  # of parameters that fill a head: two megabytes
def body_type(content_type: str, content_encoding: str) -> str:
    """Return which of `MEDIA_TYPES` a body is.

    Raises
    ------
    UnsupportedMediaTypeError
        If it is none of them.
    EncodedBodyError
        If it is compressed.
    """
    if {coding.strip() for coding in content_encoding.split(",")} - {"", "identity"}:
        raise EncodedBodyError(content_encoding)
    named = content_type.partition(";")[0].strip().lower()
    if named not in MEDIA_TYPES:
        raise UnsupportedMediaTypeError(content_type, MEDIA_TYPES)
    return named


@lru_cache(maxsize=256)
def answer_type(accept: str) -> str:
    """Return which of `MEDIA_TYPES` an ``Accept`` header prefers (RFC 9110, 12.5.1).

    Raises
    ------
    NotAcceptableError
        If it allows none of them.
    HeadTooLargeError
        If it is longer than anybody needs.
    """
    if len(accept) > MAX_ACCEPT_BYTES:
        raise HeadTooLargeError(f"{MAX_ACCEPT_BYTES} bytes of Accept")
    if not accept.strip():
        return JSON
    ranges = [_media_range(text) for text in accept.split(",") if text.strip()]
    quality = {media_type: _quality(media_type, ranges) for media_type in MEDIA_TYPES}
    best = max(MEDIA_TYPES, key=quality.__getitem__)
    if quality[best] <= 0.0:
        raise NotAcceptableError(accept, MEDIA_TYPES)
    return best


def _media_range(text: str) -> tuple[str, float]:
    """Return one media range and its quality; a quality that is no number counts as 0."""
    named, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            return named, _number(value.strip())
    return named, 1.0


def _number(text: str) -> float:
    digits = text.replace(".", "", 1)
    return min(float(text), 1.0) if digits.isascii() and digits.isdigit() else 0.0


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality that the most specific matching range gives a media type."""
    given = dict(reversed(ranges))
    group = media_type.partition("/")[0] + "/*"
    for pattern in (media_type, group, "*/*"):
        if pattern in given:
            return given[pattern]
    return 0.0
