"""What a gkc of format 1 left: told in words that lead on, deleted by known names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gkc.errors import (
    NoOldCatalogueError,
    OldCatalogueError,
    RecordError,
    VersionBusyError,
)
from gkc.store import Publisher, Storage, open_publisher, open_reader, parse_store_url
from gkc.store.backends import backend_of
from gkc.store.old_format import read_old_catalogue
from gkc.testing.samples import assert_serves, current_manifest, publish_sample, small_sample
from tests.gkc.store.old_stores import GENERATIONS, put_old_files, put_old_keys


class OldStore:
    """A namespace of format 1, and what is in it."""

    def __init__(self, url: str, namespace: str, root: Path, client: Any = None) -> None:
        self.url = url
        self.namespace = namespace
        self.root = root
        self._client = client

    def names(self) -> list[str]:
        """Names of all keys or files but locks'."""
        if self._client is None:
            found = self.root.rglob("*") if self.root.exists() else ()
            return [str(p) for p in found if p.is_file() and not p.name.endswith(".lock")]
        return [key.decode() for key in self._client.scan_iter(f"gkc:{self.namespace}:*")]


@pytest.fixture(params=["file", "redis"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OldStore]:
    if request.param == "file":
        root = tmp_path / "store" / "center"
        put_old_files(root)
        yield OldStore(f"file:{tmp_path / 'store'}", "center", root)
        return
    url = request.getfixturevalue("redis_server_url")
    namespace = request.getfixturevalue("redis_namespace")
    with redis.Redis.from_url(url) as client:
        put_old_keys(client, namespace)
        yield OldStore(url, namespace, tmp_path, client)


@pytest.fixture
def publisher(old: OldStore) -> Iterator[Publisher]:
    publisher = open_publisher(old.url, old.namespace)
    yield publisher
    publisher.close()


async def test_readers_and_writers_say_what_to_do_and_change_nothing(
    old: OldStore, publisher: Publisher
) -> None:
    before = old.names()
    words = r"earlier gkc.*another GKC_NAMESPACE.*switch the service.*--old-format --yes"
    with pytest.raises(OldCatalogueError, match=words):
        publisher.check_export("v1", 5)
    with pytest.raises(OldCatalogueError, match=words):
        publisher.set_pinned("v1", pinned=True)
    with (
        pytest.raises(OldCatalogueError, match=words),
        publisher.stage(small_sample("v1").spec, max_versions=5, resume=False),
    ):
        pytest.fail("staged beside generations of format 1")
    reader = open_reader(old.url, old.namespace)
    with pytest.raises(OldCatalogueError, match=words):
        await reader.catalogue()
    await reader.close()
    assert sorted(old.names()) == sorted(before)


async def test_all_of_it_is_deleted_and_nothing_else(
    old: OldStore, publisher: Publisher, tmp_path: Path
) -> None:
    beside = open_publisher(old.url, old.namespace + ".new")
    sample = small_sample("v1")
    publish_sample(beside, sample)
    assert len(old.names()) > 3 * GENERATIONS
    assert len(publisher.delete_old_format()) == GENERATIONS
    assert old.names() == []
    reader = open_reader(old.url, old.namespace + ".new", mirror_dir=tmp_path / "mirrors")
    await assert_serves(reader, await current_manifest(reader, "v1"), sample)
    await reader.close()
    with pytest.raises(NoOldCatalogueError, match="GKC_NAMESPACE"):
        publisher.delete_old_format()
    publish_sample(publisher, sample)  # the namespace is as good as new
    with pytest.raises(NoOldCatalogueError):
        publisher.delete_old_format()
    beside.close()


def test_nothing_is_deleted_while_somebody_writes(old: OldStore, publisher: Publisher) -> None:
    before = old.names()
    storage = _storage(old)
    lease = storage.acquire_lease("v2", "an old exporter")
    with pytest.raises(VersionBusyError, match="an old exporter"):
        publisher.delete_old_format()
    lease.release()
    storage.close()
    assert sorted(old.names()) == sorted(before)
    publisher.delete_old_format()
    assert old.names() == []


def _storage(old: OldStore) -> Storage:
    where = parse_store_url(old.url)
    return backend_of(where).open_storage(where, old.namespace)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"format":"gkc-catalogue/2","generations":{}}',
        b'{"format":"gkc-catalogue/1"}',
        b'{"format":"gkc-catalogue/1","generations":{"../x":{"version":"v","layout":{}}}}',
        b'{"format":"gkc-catalogue/1","generations":{"..":{"version":"v",'
        b'"layout":{"user_buckets":1,"item_blocks":1}}}}',
    ],
)
def test_what_is_no_catalogue_of_format_1_is_not_guessed_at(raw: bytes) -> None:
    with pytest.raises(RecordError):
        read_old_catalogue(raw)
