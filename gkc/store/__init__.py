"""The stores behind one front door: nobody outside this package imports below it."""

from __future__ import annotations

from pathlib import Path

from gkc.store import backends
from gkc.store.catalogue import (
    Catalogue,
    GenerationEntry,
    Summary,
    VersionEntry,
    succession,
)
from gkc.store.changes import Retention
from gkc.store.codec import (
    ELEMENT_TYPES,
    ID_BYTES,
    ElementType,
    ItemBlock,
    RecordCodec,
    UserBlock,
    decode_vectors,
    encode_vectors,
    id_fields,
    joined,
)
from gkc.store.generation import (
    Defaults,
    GenerationLayout,
    GenerationManifest,
    GenerationSpec,
    IdTypes,
    Origin,
    Totals,
    is_version_name,
)
from gkc.store.ids import hash_ids, hashes_of
from gkc.store.protocol import KnowledgeReader, Progress, Storage
from gkc.store.publishing import Published, Publisher, StagedGeneration
from gkc.store.sink import GenerationSink
from gkc.store.table import ItemTable
from gkc.store.urls import StoreUrl, parse_store_url, require_store

__all__ = [
    "ELEMENT_TYPES",
    "ID_BYTES",
    "Catalogue",
    "Defaults",
    "ElementType",
    "GenerationEntry",
    "GenerationLayout",
    "GenerationManifest",
    "GenerationSink",
    "GenerationSpec",
    "IdTypes",
    "ItemBlock",
    "ItemTable",
    "KnowledgeReader",
    "Origin",
    "Progress",
    "Published",
    "Publisher",
    "RecordCodec",
    "Retention",
    "StagedGeneration",
    "Storage",
    "StoreUrl",
    "Summary",
    "Totals",
    "UserBlock",
    "VersionEntry",
    "decode_vectors",
    "encode_vectors",
    "hash_ids",
    "hashes_of",
    "id_fields",
    "is_version_name",
    "joined",
    "open_publisher",
    "open_reader",
    "parse_store_url",
    "require_store",
    "succession",
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
        Where this host keeps mirrors of item tables, or notes which of a ``file:`` store are whole.
    timeout_ms : int
        Longest wait for one answer of the store.

    Raises
    ------
    StoreUrlError
        If the URL names no store.
    """
    where = parse_store_url(url)
    return backends.backend_of(where).open_reader(where, namespace, mirror_dir, timeout_ms)


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
    return Publisher(backends.backend_of(where).open_storage(where, namespace))
