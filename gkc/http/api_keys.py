"""Keys of callers: how one is made, and the file of those that are let in.

A line each, ``NAME:SHA256``; empty lines and those that begin with ``#`` are skipped. A name may
have several keys. A key is 256 random bits, so that its plain digest gives nothing away.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from gkc.errors import CommandError
from gkc.http.followed_files import FollowedFiles, read_small_file
from gkc.settings import Settings

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE: Final = re.compile(rf"({NAME.pattern}):([0-9A-Fa-f]{{64}})")
_KEY_BYTES: Final = 32

Keys = FollowedFiles[Mapping[bytes, str]]
"""The names of callers by the digests of their keys."""


def new_key() -> str:
    """Return a new key, in characters that need no quoting; secret scanners know it by its head."""
    return f"gkc_{secrets.token_urlsafe(_KEY_BYTES)}"


def line_of(name: str, key: str) -> str:
    """Return the line that lets a key in."""
    return f"{name}:{digest_of(key.encode()).hex()}"


def digest_of(key: bytes) -> bytes:
    """Return the SHA-256 that stands for a key."""
    return hashlib.sha256(key).digest()


def follow_keys(settings: Settings) -> Keys | None:
    """Return the keys that the settings name, None if they name no file.

    Raises
    ------
    CommandError
        If the file cannot be read, or holds no keys.
    """
    path = settings.api_keys_file
    return FollowedFiles([path], partial(read_keys, path)) if path else None


def read_keys(path: Path) -> Mapping[bytes, str]:
    """Return the names of callers by the digests of their keys.

    Raises
    ------
    CommandError
        If the file cannot be read, a line is none, or there is no key. Shows nothing of a line,
        which may be the key itself.
    """
    names = {}
    lines = read_small_file(path).decode("utf-8", "replace").splitlines()
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise CommandError(
                f"{path}, line {number}, is not NAME:SHA256 as `gkc key new NAME` prints it"
            )
        names[bytes.fromhex(found[2])] = found[1]
    if not names:
        raise CommandError(f"{path} holds no key; make one by `gkc key new NAME`")
    return names
