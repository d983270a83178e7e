"""Files that are there whole or not at all, whenever a process that writes them is killed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replaced(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a place to write a file at, which takes the place of ``path`` when the block ends.

    Its folder is made. After an error there is what was there before. A file has one writer at a
    time. A durable one is on the disk, in its folder, before this returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a UTF-8 file whole or not at all."""
    with replaced(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON values whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what ``write_json`` wrote; empty if it is not there yet."""
    if not path.exists():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def json_values(value: Any, digits: int | None = None) -> Any:  # noqa: ANN401 - any JSON value
    """Turn tuples into lists and numbers that JSON lacks into null, at any depth.

    Numbers with a fraction are rounded to so many decimals, if any are named.
    """
    if isinstance(value, Mapping):
        return {str(name): json_values(part, digits) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(part, digits) for part in value]
    if isinstance(value, float):
        rounded = value if digits is None else round(value, digits)
        return rounded if math.isfinite(value) else None
    return value


def sync(path: Path) -> None:
    """Force a file or directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
