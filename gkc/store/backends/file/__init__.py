"""The embedded store: table files in a directory, mapped by whoever reads them. No server.

::

    PATH/NAMESPACE/
        catalogue.json                  replaced in one step, under catalogue.lock
        leases/VERSION.lock             locked by the version's writer while it lives
        generations/ID/items.gkt        table files, see `gkc.store.table_format`
                       users.gkt
                       manifest.json    written last; progress.json until then

Everything is durable before anything that names it. A sealed generation never changes.
"""

from __future__ import annotations

from pathlib import Path

from gkc.store.backends.file.reader import FileReader
from gkc.store.backends.file.storage import FileStorage
from gkc.store.urls import StoreUrl

__all__ = ["FileReader", "FileStorage", "open_reader", "open_storage"]


def open_reader(
    where: StoreUrl,
    namespace: str,
    mirror_dir: Path | None,
    timeout_ms: int,
) -> FileReader:
    """Open a store for reading; it need not exist yet."""
    return FileReader(where.path, namespace, mirror_dir)


def open_storage(where: StoreUrl, namespace: str) -> FileStorage:
    """Open a store for writing; it is made at the first write."""
    return FileStorage(where.path, namespace)
