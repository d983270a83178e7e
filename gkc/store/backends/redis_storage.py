"""The Redis store's writing side: the catalogue's swap, leases, sinks, deletion."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import numpy as np
import redis

from gkc.errors import (
    GenerationCorruptError,
    GenerationImmutableError,
    StoreUnavailableError,
    UnsafeStoreError,
)
from gkc.store.backends.redis import parse_catalogue, parse_manifest
from gkc.store.backends.redis_client import (
    WRITE_TIMEOUT_SECONDS,
    WritePipe,
    connection_pool,
)
from gkc.store.backends.redis_faults import as_store_errors, unavailable
from gkc.store.backends.redis_format import (
    BLOCK_HEADER_BYTES,
    ITEMS,
    GenerationKeys,
    barrier_key,
    catalogue_key,
    lease_key,
)
from gkc.store.backends.redis_lease import LEASE_TTL_SECONDS, RedisLease
from gkc.store.backends.redis_sink import CHECKPOINT_BYTES, RedisSink, unpack_progress
from gkc.store.catalogue import Catalogue
from gkc.store.generation import GenerationLayout, GenerationSpec
from gkc.store.protocol import Lease, hash_ids
from gkc.store.urls import StoreUrl, require_namespace

REPLICA_TIMEOUT_SECONDS: Final = 120.0
_REPLICA_STEP_SECONDS: Final = 5.0
_NAMES_AT_ONCE: Final = 100
"""Then readers have their turn: the server frees a block as it unlinks it, 3 to 6 us each."""
_LEASE_TIMEOUT_SECONDS: Final = LEASE_TTL_SECONDS / 4
_BARRIER_TTL_SECONDS: Final = 60

_SWAP: Final = """
local stored = redis.call('GET', KEYS[1]) or ''
if stored ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisStorage:
    """The writing side of one namespace of a Redis store (a ``Storage``).

    Parameters
    ----------
    where : StoreUrl
    namespace : str
        Which of the centers that share the store.
    replica_timeout_seconds : float
        Longest wait for replicas.
    checkpoint_bytes : int
        After how many written bytes it is noted how far a writer is.

    Raises
    ------
    StoreUrlError
        If the URL or the namespace cannot be read.
    """

    def __init__(
        self,
        where: StoreUrl,
        namespace: str,
        *,
        replica_timeout_seconds: float = REPLICA_TIMEOUT_SECONDS,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self.store = where.shown
        require_namespace(self.store, namespace)
        self._namespace = namespace
        self._replica_timeout_seconds = replica_timeout_seconds
        self._checkpoint_bytes = checkpoint_bytes
        self._pool = connection_pool(where, WRITE_TIMEOUT_SECONDS)
        self._lease_pool = connection_pool(where, _LEASE_TIMEOUT_SECONDS)
        self._client = redis.Redis(connection_pool=self._pool)
        self._catalogue_key = catalogue_key(namespace)

    def check_safe(self) -> None:
        """Raise UnsafeStoreError if the store may lose what is published into it."""
        with as_store_errors(self.store):
            memory: dict[str, Any] = self._client.info("memory")
            replication: dict[str, Any] = self._client.info("replication")
        policy = str(memory.get("maxmemory_policy", ""))
        if policy.startswith("allkeys"):
            raise UnsafeStoreError(
                self.store,
                f"its maxmemory-policy is {policy}, so a full server would drop published data",
                "set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in its file)",
            )
        if replication.get("role") == "slave" and replication.get("slave_read_only", 1):
            primary = f"{replication.get('master_host')}:{replication.get('master_port')}"
            raise UnsafeStoreError(
                self.store, f"it is a read-only replica of {primary}", "name the primary instead"
            )

    def read_catalogue(self) -> Catalogue | None:
        """Read the catalogue; None if this namespace has never had one."""
        return parse_catalogue(self._get(self._catalogue_key), self.store)

    def swap_catalogue(self, expected: Catalogue | None, new: Catalogue) -> bool:
        """Replace the catalogue if it still is ``expected``; tell whether it was."""
        before = b"" if expected is None else expected.to_bytes()
        after = new.to_bytes()
        try:
            return bool(self._client.eval(_SWAP, 1, self._catalogue_key, before, after))
        except (redis.ConnectionError, redis.TimeoutError) as exc:
            # Whether it came to pass is not known; if it is there now, it did.
            if self._get(self._catalogue_key) == after:
                return True
            raise unavailable(exc, self.store) from exc
        except redis.RedisError as exc:
            raise unavailable(exc, self.store) from exc

    def acquire_lease(self, version: str, holder: str) -> Lease:
        """Become the one writer of a version, or raise VersionBusyError at once."""
        key = lease_key(self._namespace, version)
        with as_store_errors(self.store):
            return RedisLease(self._lease_pool, key, version, holder)

    def open_sink(
        self, generation: str, spec: GenerationSpec, lease: Lease, *, resume: bool
    ) -> RedisSink:
        """Start writing a generation, or go on with what an interrupted writer left of it.

        Raises
        ------
        GenerationImmutableError
            If it is sealed and not to be resumed.
        GenerationCorruptError
            If what the interrupted writer left is damaged.
        """
        lease.check(generation)
        keys = GenerationKeys(self._namespace, generation)
        raw = self._get(keys.manifest)
        manifest = parse_manifest(raw, generation) if raw is not None else None
        if manifest is not None and not resume:
            raise GenerationImmutableError(generation)
        noted = self._get(keys.progress) if resume and manifest is None else None
        progress = unpack_progress(noted, generation) if noted is not None else None
        firsts = self._firsts(keys, generation, progress[ITEMS]["keys_stored"]) if progress else []
        return RedisSink(
            self._pool,
            self.store,
            keys,
            generation,
            spec,
            lease,
            manifest=manifest,
            progress=progress,
            firsts=firsts,
            checkpoint_bytes=self._checkpoint_bytes,
        )

    def delete(self, generation: str, layout: GenerationLayout) -> None:
        """Delete all data of a generation by its known names; nothing happens if it is gone."""
        keys = GenerationKeys(self._namespace, generation)
        pipe = WritePipe(self._pool)
        with as_store_errors(self.store):
            try:
                # The manifest first: whoever then finds something missing knows why.
                pipe.send(("UNLINK", keys.manifest), 0)
                pipe.drain()
                for names in _in_chunks(keys.all_but_manifest(layout)):
                    pipe.send(("UNLINK", *names), sum(map(len, names)))
                    pipe.drain()
            finally:
                pipe.close()

    def wait_for_replicas(self) -> None:
        """Return when replicas, where there are any, have all that was written.

        Raises
        ------
        StoreUnavailableError
            If they do not catch up in time.
        """
        deadline = time.monotonic() + self._replica_timeout_seconds
        with as_store_errors(self.store):
            while True:
                replication: dict[str, Any] = self._client.info("replication")
                replicas = int(replication.get("connected_slaves", 0))
                if not replicas or (reached := self._wait(replicas)) >= replicas:
                    return
                if time.monotonic() >= deadline:
                    raise StoreUnavailableError(
                        self.store,
                        f"only {reached} of its {replicas} replicas have what was written after "
                        f"{self._replica_timeout_seconds:.0f} s",
                    )

    def close(self) -> None:
        """Let go of connections."""
        self._pool.disconnect()
        self._lease_pool.disconnect()

    def _wait(self, replicas: int) -> int:
        """Wait a while for replicas and return how many have all that was written before."""
        # WAIT is about the writes of its own connection: one made now comes after all others.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(barrier_key(self._namespace), b"", ex=_BARRIER_TTL_SECONDS)
        step = min(_REPLICA_STEP_SECONDS, self._replica_timeout_seconds)
        pipeline.wait(replicas, round(step * 1000))
        return int(pipeline.execute()[1])

    def _get(self, key: str) -> bytes | None:
        with as_store_errors(self.store):
            try:
                value: Any = self._client.get(key)
            except redis.ResponseError as exc:
                if not str(exc).startswith("WRONGTYPE"):
                    raise
                return b""
        return value if value is None else bytes(value)

    def _firsts(self, keys: GenerationKeys, generation: str, blocks: int) -> list[int]:
        """Read the hash of the first item of each block that is stored."""
        start, end = BLOCK_HEADER_BYTES, BLOCK_HEADER_BYTES + 7
        raw: list[bytes] = []
        with as_store_errors(self.store):
            for numbers in _in_chunks(str(n) for n in range(blocks)):
                pipeline = self._client.pipeline(transaction=False)
                for number in numbers:
                    pipeline.getrange(keys.block(int(number)), start, end)
                raw += pipeline.execute()
        if any(len(first) != 8 for first in raw):
            raise GenerationCorruptError(generation, "blocks of its items are missing")
        ids = np.frombuffer(b"".join(raw), dtype="<i8")
        return [int(first) for first in hash_ids(ids)]


def _in_chunks(names: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, _NAMES_AT_ONCE)):
        yield chunk
