"""What a lock holds, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gkc.errors import CommandError, LockMismatchError
from gkc.lock import Lock

STORE = "file:/there"


def listing(**changes: str) -> dict[str, Any]:
    """Return a body of GET /versions with two versions; ``changes`` are of the first."""
    first = {"version": "a", "vector_space": "s1", "generation": "7-x", "checksum": "c1"}
    second = {"version": "b", "vector_space": "s2", "generation": "8-y", "checksum": "c2"}
    return {"max_versions": 5, "versions": [first | changes, second]}


@pytest.mark.parametrize("exact", [False, True])
def test_what_was_locked_passes(exact: bool) -> None:
    lock = Lock.of(listing(), ["a", "b"], STORE, exact=exact)
    lock.check(listing(), STORE, exact=False)
    lock.check(listing(), STORE, exact=True)


@pytest.mark.parametrize("changed", [{"generation": "9-z"}, {"checksum": "c9"}])
def test_another_export_of_the_same_models_passes_unless_it_must_be_exact(
    changed: dict[str, str],
) -> None:
    lock = Lock.of(listing(), ["a"], STORE, exact=False)
    lock.check(listing(**changed), STORE, exact=False)
    with pytest.raises(LockMismatchError, match="is not the locked 7-x with c1"):
        lock.check(listing(**changed), STORE, exact=True)
    exact = Lock.of(listing(), ["a"], STORE, exact=True)
    with pytest.raises(LockMismatchError, match="is not the locked"):
        exact.check(listing(**changed), STORE, exact=False)


@pytest.mark.parametrize("exact", [False, True])
def test_another_vector_space_never_passes(exact: bool) -> None:
    lock = Lock.of(listing(), ["a"], STORE, exact=exact)
    with pytest.raises(LockMismatchError) as caught:
        lock.check(listing(vector_space="s9"), STORE, exact=False)
    message = str(caught.value)
    assert all(word in message for word in ("'a'", STORE, "s9", "s1", "7-x", "train it anew"))


def test_another_version_is_not_locked() -> None:
    lock = Lock.of(listing(), ["a", "b"], STORE, exact=False)
    lock.check_version("b", lock.versions["b"], STORE)
    with pytest.raises(LockMismatchError, match="the lock is of a, b"):
        lock.check_version("c", lock.versions["b"], STORE)


def test_a_version_that_is_not_there() -> None:
    with pytest.raises(LockMismatchError, match="versions there: a, b"):
        Lock.of(listing(), ["c"], STORE, exact=False)
    lock = Lock.of(listing(), ["a"], STORE, exact=False)
    with pytest.raises(LockMismatchError, match="versions there: none"):
        lock.check({"max_versions": 5, "versions": []}, STORE, exact=False)


def test_a_version_that_does_not_say_what_it_is_is_not_locked() -> None:
    silent = listing(checksum="")
    with pytest.raises(LockMismatchError, match="export it again"):
        Lock.of(silent, ["a"], STORE, exact=False)
    del silent["versions"][1]["vector_space"]
    with pytest.raises(LockMismatchError, match="export it again"):
        Lock.of(silent, ["b"], STORE, exact=False)


def test_only_one_version_need_not_be_named() -> None:
    assert Lock.of(listing(), ["b"], STORE, exact=False).only_version() == "b"
    assert Lock.of(listing(), ["a", "b"], STORE, exact=False).only_version() is None


def test_a_file_and_back(tmp_path: Path) -> None:
    lock = Lock.of(listing(), ["a", "b"], STORE, exact=True)
    file = tmp_path / "model.gkc-lock"
    file.write_bytes(lock.to_bytes())
    assert Lock.read(file) == lock
    assert msgspec.json.decode(file.read_bytes())["format"] == "gkc-lock/1"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no lock of gkc"),
        (b"\xff", "is no lock of gkc"),
        (b"[]", "is no lock of gkc"),
        (b'{"format": "gkc-lock/2", "versions": {}}', "format"),
        (b'{"format": "gkc-lock/1", "versions": {}}', "locks no version"),
        (b'{"format": "gkc-lock/1", "versions": {"a": {"generation": "7-x"}}}', "vector_space"),
        (b'{"format": "gkc-lock/1", "versions": {}, "exakt": true}', "exakt"),
    ],
)
def test_what_is_no_lock(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "lock"
    file.write_bytes(content)
    with pytest.raises(CommandError, match=told):
        Lock.read(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        Lock.read(tmp_path / "lock")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CommandError, match=f"lock {path} is no regular file"):
            Lock.read(path)
