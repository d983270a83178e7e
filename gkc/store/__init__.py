"""The stores behind one front door: nobody outside this package imports below it."""

from __future__ import annotations

from pathlib import Path

from gkc.store.catalogue import Catalogue, GenerationEntry, Summary, VersionEntry, succession
from gkc.store.codec import (
    ELEMENT_TYPES,
    ElementType,
    UserBlock,
    decode_vectors,
    encode_vectors,
    unpack_records,
)
from gkc.store.generation import (
    Defaults,
    GenerationManifest,
    GenerationSpec,
    Totals,
    is_version_name,
)
from gkc.store.protocol import (
    GenerationSink,
    ItemBlock,
    ItemTable,
    KnowledgeReader,
    Progress,
    hash_ids,
)
from gkc.store.publishing import Published, Publisher, StagedGeneration
from gkc.store.urls import StoreUrl, parse_store_url

__all__ = [
    "ELEMENT_TYPES",
    "Catalogue",
    "Defaults",
    "ElementType",
    "GenerationEntry",
    "GenerationManifest",
    "GenerationSink",
    "GenerationSpec",
    "ItemBlock",
    "ItemTable",
    "KnowledgeReader",
    "Progress",
    "Published",
    "Publisher",
    "StagedGeneration",
    "StoreUrl",
    "Summary",
    "Totals",
    "UserBlock",
    "VersionEntry",
    "decode_vectors",
    "encode_vectors",
    "hash_ids",
    "is_version_name",
    "open_publisher",
    "open_reader",
    "parse_store_url",
    "succession",
    "unpack_records",
]


def open_reader(
    url: str, namespace: str = "default", *, mirror_dir: Path | None = None, timeout_ms: int = 1000
) -> KnowledgeReader:
    """Open a store for reading; connects at the first read.

    Parameters
    ----------
    url : str
        ``file:PATH``, ``redis://``, ``rediss://`` or ``unix://``.
    namespace : str
        Which of the centers that share the store.
    mirror_dir : Path, optional
        Where this host keeps mirrors of item tables; unused by ``file:`` stores.
    timeout_ms : int
        Longest wait for one answer of the store.

    Raises
    ------
    StoreUrlError
        If the URL names no store.
    """
    where = parse_store_url(url)
    if where.scheme == "file":
        from gkc.store.backends.file import FileReader

        return FileReader(where.path, namespace)
    from gkc.store.backends.redis import RedisReader

    return RedisReader(where, namespace, mirror_dir=mirror_dir, timeout_ms=timeout_ms)


def open_publisher(url: str, namespace: str = "default") -> Publisher:
    """Open a store for publishing: what the exporter and the ``gkc versions`` command use.

    Raises
    ------
    StoreUrlError
        If the URL names no store.
    StoreUnavailableError
        If the store cannot be reached.
    """
    where = parse_store_url(url)
    if where.scheme == "file":
        from gkc.store.backends.file import FileStorage

        return Publisher(FileStorage(where.path, namespace))
    from gkc.store.backends.redis_storage import RedisStorage

    return Publisher(RedisStorage(where, namespace))
