"""Which Redis server the tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.redis_server import find_redis_server, version_of


def make_server(folder: Path, version: str) -> Path:
    """Write a program that tells a version as redis-server does."""
    folder.mkdir()
    binary = folder / "redis-server"
    binary.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 bits=64'\n")
    binary.chmod(0o755)
    return binary


def test_the_newest_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_server(tmp_path / "first", "98.9.9")
    newest = make_server(tmp_path / "second", "99.10.0")
    make_server(tmp_path / "third", "99.9.0")
    folders = ("nowhere", "first", "second", "third")
    monkeypatch.setenv("PATH", ":".join(str(tmp_path / folder) for folder in folders))
    assert find_redis_server() == newest


def test_what_does_not_run_is_no_server(tmp_path: Path) -> None:
    assert version_of(tmp_path / "redis-server") == ()
    binary = make_server(tmp_path / "locked", "7.0.15")
    assert version_of(binary) == (7, 0, 15)
    binary.chmod(0o644)
    assert version_of(binary) == ()
