"""The store's one front door: its names, and what its two openers open."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

import gkc.store
from gkc.errors import StoreUrlError
from gkc.store import Publisher, open_publisher, open_reader
from gkc.store.backends.file import FileReader
from gkc.store.backends.redis import RedisReader


def test_every_public_name_is_listed_and_every_listed_one_is_there() -> None:
    private = {"annotations", "Path"}
    public = {
        name
        for name, value in vars(gkc.store).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - private == set(gkc.store.__all__)
    assert list(gkc.store.__all__) == sorted(gkc.store.__all__, key=lambda n: (not n.isupper(), n))


def test_every_public_name_is_documented() -> None:
    for name in gkc.store.__all__:
        value = getattr(gkc.store, name)
        if isinstance(value, type | types.FunctionType):
            assert value.__doc__, name


def test_a_file_url_opens_the_embedded_store_and_writes_nothing(tmp_path: Path) -> None:
    reader = open_reader(f"file:{tmp_path}", "center")
    assert isinstance(reader, FileReader)
    assert reader.store == f"file:{tmp_path}"
    publisher = open_publisher(f"file:{tmp_path}", "center")
    assert isinstance(publisher, Publisher)
    assert publisher.store == reader.store
    publisher.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_redis_url_opens_the_redis_store(tmp_path: Path) -> None:
    reader = open_reader("redis://:secret@127.0.0.1:1/0", mirror_dir=tmp_path)
    assert isinstance(reader, RedisReader)
    assert reader.store == "redis://127.0.0.1:1/0"
    await reader.close()


@pytest.mark.parametrize("url", ["nothing", "ftp://host", "file:"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreUrlError):
        open_reader(url)
    with pytest.raises(StoreUrlError):
        open_publisher(url)


@pytest.mark.parametrize("namespace", ["", "..", "a/b", "{a}"])
@pytest.mark.parametrize("url", ["file:store", "redis://127.0.0.1:1/0"])
def test_a_namespace_is_a_plain_name(url: str, namespace: str) -> None:
    with pytest.raises(StoreUrlError, match="namespace"):
        open_reader(url, namespace)
    with pytest.raises(StoreUrlError, match="namespace"):
        open_publisher(url, namespace)
