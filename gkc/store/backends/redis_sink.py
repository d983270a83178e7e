"""Writing a generation into Redis: users bucket by bucket, items block by block."""

from __future__ import annotations

import time
import zlib
from typing import Any, Final

import numpy as np
from redis.connection import ConnectionPool

from gkc.errors import GenerationCorruptError, GenerationImmutableError, LayoutError
from gkc.store.backends.redis_client import Command, WritePipe
from gkc.store.backends.redis_faults import as_store_errors
from gkc.store.backends.redis_format import (
    DIRECTORY,
    ITEM_BLOCKS,
    ITEMS,
    USER_BUCKETS,
    USERS,
    GenerationKeys,
)
from gkc.store.backends.redis_rows import ItemRows, UserRows
from gkc.store.codec import UserBlock
from gkc.store.generation import GenerationManifest, GenerationSpec, Totals, default_totals
from gkc.store.protocol import ItemBlock, Lease
from gkc.store.sealed import sealed_json, unsealed_json

CHECKPOINT_BYTES: Final = 64 << 20
_CHECKPOINT_SECONDS: Final = 5.0


class RedisSink:
    """Writes one staging generation (a ``GenerationSink``).

    Parameters
    ----------
    pool : ConnectionPool
    store : str
        The store's URL, for messages.
    keys : GenerationKeys
    generation : str
    spec : GenerationSpec
    lease : Lease
        Checked before every write.
    manifest : GenerationManifest or None
        Of a generation that an interrupted writer has sealed already.
    progress : dict or None
        What an interrupted writer noted, to go on with it.
    firsts : list of int
        The hash of the first item of each block that it stored.
    checkpoint_bytes : int
        After how many bytes the progress is noted.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        store: str,
        keys: GenerationKeys,
        generation: str,
        spec: GenerationSpec,
        lease: Lease,
        *,
        manifest: GenerationManifest | None,
        progress: dict[str, Any] | None,
        firsts: list[int],
        checkpoint_bytes: int,
    ) -> None:
        self._store = store
        self._keys = keys
        self._generation = generation
        self._spec = spec
        self._lease = lease
        self._manifest = manifest
        self._checkpoint_bytes = checkpoint_bytes
        self._pipe = WritePipe(pool)
        noted = progress or {USERS: {}, ITEMS: {}}
        self._users = UserRows(spec, keys, self._send, noted[USERS], generation)
        self._items = ItemRows(spec, keys, self._send, noted[ITEMS], firsts)
        self._stored = manifest.totals if manifest else self._totals()
        self._noted_bytes = self._totals().size_bytes
        self._noted_at = time.monotonic()

    def written(self) -> Totals:
        """Return what is stored durably: a resuming writer skips that many leading rows a kind."""
        return self._stored

    def write_items(self, block: ItemBlock) -> None:
        """Append items.

        Raises
        ------
        LayoutError
            If they are out of order, too many, or of another width.
        GenerationImmutableError
            If the generation is sealed.
        StoreUnavailableError, LeaseLostError
        """
        self._require_unsealed()
        with as_store_errors(self._store):
            self._items.write(block)
            self._note_progress_if_due()

    def write_users(self, block: UserBlock) -> None:
        """Append users with their pairs.

        Raises
        ------
        LayoutError
            If they are out of order, too many, or of another width.
        GenerationImmutableError
            If the generation is sealed.
        StoreUnavailableError, LeaseLostError
        """
        self._require_unsealed()
        with as_store_errors(self._store):
            self._users.write(block)
            self._note_progress_if_due()

    def seal(self) -> GenerationManifest:
        """Store what is left, then the manifest, and return it.

        Raises
        ------
        LayoutError
            If other counts were written than the spec promised.
        StoreUnavailableError, LeaseLostError
        """
        if self._manifest is not None:
            return self._manifest
        with as_store_errors(self._store):
            self._users.finish()
            self._items.finish()
            directory = np.array(self._items.firsts, dtype="<u8").tobytes()
            size_bytes = self._send(("SET", self._keys.directory, directory))
            self._pipe.drain()
            totals = self._totals().plus(Totals(size_bytes=size_bytes))
            self._require_promised(totals)
            manifest = GenerationManifest(
                self._generation, self._spec, totals, self._checksums(directory)
            )
            self._send(("SET", self._keys.manifest, sealed_json(manifest.to_json())))
            self._pipe.drain()
            self._send(("UNLINK", self._keys.progress))
            self._pipe.drain()
        self._manifest, self._stored = manifest, totals
        return manifest

    def close(self) -> None:
        """Give the connection back, sealed or not; what is stored stays."""
        self._pipe.close()

    def _totals(self) -> Totals:
        return default_totals(self._spec).plus(self._users.totals).plus(self._items.totals)

    def _checksums(self, directory: bytes) -> dict[str, int]:
        return {
            USER_BUCKETS: self._users.keys_stored,
            USERS: self._users.checksum,
            ITEM_BLOCKS: self._items.keys_stored,
            ITEMS: self._items.checksum,
            DIRECTORY: zlib.crc32(directory),
        }

    def _require_unsealed(self) -> None:
        if self._manifest is not None:
            raise GenerationImmutableError(self._generation)

    def _require_promised(self, totals: Totals) -> None:
        spec = self._spec
        found = (totals.users, totals.items, totals.user_categories)
        if found != (spec.users, spec.items, spec.user_categories):
            raise LayoutError(
                f"{found[0]} users, {found[1]} items and {found[2]} pairs were written of the "
                f"{spec.users}, {spec.items} and {spec.user_categories} that were promised"
            )

    def _send(self, command: Command) -> int:
        self._lease.check(self._generation)
        size_bytes = sum(len(part) for part in command[1:] if not isinstance(part, int))
        self._pipe.send(command, size_bytes)
        return size_bytes

    def _note_progress_if_due(self) -> None:
        """Note what is stored from time to time, once the server has confirmed it."""
        unnoted = self._totals().size_bytes - self._noted_bytes
        if unnoted < self._checkpoint_bytes and (
            not unnoted or time.monotonic() - self._noted_at < _CHECKPOINT_SECONDS
        ):
            return
        self._pipe.drain()
        progress = {USERS: self._users.progress(), ITEMS: self._items.progress()}
        self._send(("SET", self._keys.progress, sealed_json(progress)))
        self._pipe.drain()
        self._stored = self._totals()
        self._noted_bytes = self._stored.size_bytes
        self._noted_at = time.monotonic()


def unpack_progress(raw: bytes, generation: str) -> dict[str, Any]:
    """Return the progress that an interrupted writer noted.

    Raises
    ------
    GenerationCorruptError
        If it is damaged.
    """
    try:
        return unsealed_json(raw)
    except ValueError as exc:
        raise GenerationCorruptError(generation, f"the note of its progress: {exc}") from exc
