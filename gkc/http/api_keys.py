"""Keys of callers: how one is made, and the file of those that are taken.

A line each, ``NAME:SHA256``; empty lines and those that begin with ``#`` are skipped. A name may
have several keys. A key is 256 random bits, so that its plain digest gives nothing away.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gkc.errors import CommandError

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE: Final = re.compile(rf"({NAME.pattern}):([0-9A-Fa-f]{{64}})")
_KEY_BYTES: Final = 32


def new_key() -> str:
    """Return a new key, in characters that need no quoting; secret scanners know it by its head."""
    return f"gkc_{secrets.token_urlsafe(_KEY_BYTES)}"


def line_of(name: str, key: str) -> str:
    """Return the line that lets a key in."""
    return f"{name}:{digest_of(key.encode()).hex()}"


def digest_of(key: bytes) -> bytes:
    """Return the SHA-256 that stands for a key."""
    return hashlib.sha256(key).digest()


def read_bytes(path: Path) -> bytes:
    """Read a small file that someone wrote for us.

    Raises
    ------
    CommandError
        If that cannot be done.
    """
    try:
        if path.exists() and not path.is_file():
            raise CommandError(f"{path} is no file")
        return path.read_bytes()
    except OSError as exc:
        raise CommandError(f"{path} cannot be read: {exc.strerror}") from exc


def parse_keys(content: bytes, path: Path) -> Mapping[bytes, str]:
    """Return the names of callers by the digests of their keys.

    Raises
    ------
    CommandError
        If a line is none, or there is no key; shows nothing of what may be a key.
    """
    names = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            raise CommandError(
                f"{path}, line {number}, is not NAME:SHA256 as `gkc key new NAME` prints it"
            )
        names[bytes.fromhex(found[2])] = found[1]
    if not names:
        raise CommandError(f"{path} holds no key; make one by `gkc key new NAME`")
    return names
