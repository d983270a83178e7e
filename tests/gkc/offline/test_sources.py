"""A lock of what joined rows came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import to_builtins

from gkc.center.listing import version_list
from gkc.errors import LockMismatchError, TableFileError
from gkc.lock import Lock
from gkc.offline.form import KnowledgeForm
from gkc.offline.join import Join
from gkc.offline.joiner import JoinOptions
from gkc.offline.snapshot import StoreAddress
from gkc.offline.sources import lock_of_joined
from gkc.store import open_publisher
from tests.gkc.offline.tables import draw, publish, write
from tests.gkc.world import make_world

VERSIONS = ("a", "b")


def join(url: str, source: Path, target: Path, version: str | None = None) -> None:
    column = "version" if version is None else None
    options = JoinOptions(source, target, StoreAddress(url), version, column, KnowledgeForm())
    Join(options).run(lambda _: None)


def check(lock: Lock, url: str, *, exact: bool = False) -> None:
    publisher = open_publisher(url)
    listing = to_builtins(version_list(publisher.catalogue(), lambda *_: True))
    publisher.close()
    lock.check(listing, url, exact=exact)


@pytest.mark.usefixtures("one_core")
def test_all_versions_of_all_files(url: str, tmp_path: Path) -> None:
    for version in VERSIONS:
        publish(url, version)
        write(draw(5, versions=(version,)), tmp_path / "in" / version)
    write(draw(0, versions=VERSIONS), tmp_path / "in" / "nothing")
    join(url, tmp_path / "in", tmp_path / "out")
    lock = lock_of_joined(tmp_path / "out")
    assert tuple(lock.versions) == VERSIONS
    assert tuple(lock_of_joined(tmp_path / "out" / "b").versions) == ("b",)
    check(lock, url, exact=True)
    publish(url, "b", seed=1)
    check(lock, url)
    with pytest.raises(LockMismatchError, match="is not the locked"):
        check(lock, url, exact=True)
    publish(url, "b", space="run-8")
    with pytest.raises(LockMismatchError, match="run-8"):
        check(lock, url)


def test_files_of_several_generations_of_one_space(url: str, tmp_path: Path) -> None:
    write(draw(5), tmp_path / "in")
    for day in (1, 2):
        publish(url, "a", seed=day)
        join(url, tmp_path / "in", tmp_path / "out" / str(day), "a")
    check(lock_of_joined(tmp_path / "out"), url, exact=True)  # the newest
    with pytest.raises(TableFileError, match=r"/out/2: came from .* other files from"):
        lock_of_joined(tmp_path / "out", exact=True)
    publish(url, "a", space="run-8")
    join(url, tmp_path / "in", tmp_path / "out" / "3", "a")
    with pytest.raises(TableFileError, match=r"/out/3: came from .* of vector space run-8"):
        lock_of_joined(tmp_path / "out")


def test_files_that_do_not_fit(url: str, tmp_path: Path) -> None:
    write(draw(5), tmp_path / "in")
    with pytest.raises(TableFileError, match="/in: tells of no generation"):
        lock_of_joined(tmp_path / "in")
    with pytest.raises(TableFileError, match="/none: there is no such file"):
        lock_of_joined(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableFileError, match="has no joined rows"):
        lock_of_joined(tmp_path / "empty")
    make_world("v1").publish(url)
    join(url, tmp_path / "in", tmp_path / "unknown", "v1")
    with pytest.raises(TableFileError, match="the vector space of version 'v1' is not known"):
        lock_of_joined(tmp_path / "unknown")
