"""Small JSON records that notice their own damage."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """Serialise a JSON object together with its own CRC-32."""
    return canonical_json({"crc32": zlib.crc32(canonical_json(value)), "content": value})


def unsealed_json(raw: bytes) -> dict[str, Any]:
    """Return the object that `sealed_json` serialised.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    value = json.loads(raw)
    if not isinstance(value, dict) or sealed_json(content := value.get("content", {})) != raw:
        raise ValueError("its checksum differs")
    return dict(content)


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Serialise a JSON object so that equal ones have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
