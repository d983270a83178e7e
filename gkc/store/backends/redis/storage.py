"""The Redis store's writing side: the catalogue's swap, leases, sinks, deletion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import redis

from gkc.errors import StoreUnavailableError, UnsafeStoreError
from gkc.store.backends.redis.client import (
    WRITE_TIMEOUT_SECONDS,
    WritePipe,
    WrongTypeError,
    connection_pool,
    get_bytes,
    in_batches,
    no_catalogue,
)
from gkc.store.backends.redis.faults import SEVERAL_NODES, as_store_errors, unavailable
from gkc.store.backends.redis.layout import (
    GenerationKeys,
    barrier_key,
    catalogue_key,
    lease_key,
)
from gkc.store.backends.redis.lease import LEASE_TTL_SECONDS, RedisLease
from gkc.store.backends.redis.writer import RedisWriter
from gkc.store.generation import GenerationLayout, GenerationSpec
from gkc.store.sink import GenerationSink, Lease
from gkc.store.urls import StoreUrl, require_namespace

_REPLICA_TIMEOUT_SECONDS: Final = 120.0
_REPLICA_STEP_SECONDS: Final = 5.0
_LEASE_TIMEOUT_SECONDS: Final = LEASE_TTL_SECONDS / 4
_BARRIER_TTL_SECONDS: Final = 60

_SWAP: Final = """#!lua flags=allow-oom
local stored = redis.call('GET', KEYS[1]) or ''
if stored ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
"""
"""A few hundred bytes, which a full server takes, too: without them nothing of it can be freed."""


class RedisStorage:
    """The writing side of one namespace of a Redis store (a ``Storage``).

    Parameters
    ----------
    where : StoreUrl
    namespace : str
        Which of the centers that share the store.

    Raises
    ------
    StoreUrlError
        If the URL or the namespace cannot be read.
    """

    def __init__(self, where: StoreUrl, namespace: str) -> None:
        self.store = where.shown
        require_namespace(self.store, namespace)
        self._namespace = namespace
        self._pool = connection_pool(where, WRITE_TIMEOUT_SECONDS)
        self._lease_pool = connection_pool(where, _LEASE_TIMEOUT_SECONDS)
        self._client = redis.Redis(connection_pool=self._pool)
        self._catalogue_key = catalogue_key(namespace)

    def check_safe(self) -> None:
        """Raise StoreError if the store may lose what is published into it, or not take it all."""
        with as_store_errors(self.store):
            is_cluster = self._client.info("cluster").get("cluster_enabled")
            if is_cluster and int(self._cluster()["cluster_size"]) > 1:
                raise StoreUnavailableError(self.store, *SEVERAL_NODES)
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

    def read_catalogue(self) -> bytes | None:
        """Read the bytes of whatever catalogue is there; None if there is none."""
        with as_store_errors(self.store):
            try:
                return get_bytes(self._client, self._catalogue_key)
            except WrongTypeError as exc:
                raise no_catalogue(self.store, exc) from exc

    def swap_catalogue(self, expected: bytes | None, new: bytes | None) -> bool:
        """Replace the catalogue's bytes if they still are ``expected``; tell whether they were."""
        before, after = expected or b"", new or b""  # empty ones stand for none
        try:
            return bool(self._client.eval(_SWAP, 1, self._catalogue_key, before, after))
        except redis.RedisError as exc:
            # Without an answer it is not known whether it came to pass; if it is there now, it did.
            is_unknown = isinstance(exc, redis.ConnectionError | redis.TimeoutError)
            if is_unknown and (self.read_catalogue() or b"") == after:
                return True
            raise unavailable(exc, self.store) from exc

    def acquire_lease(self, version: str, holder: str) -> Lease:
        """Become the one writer of a version, or raise VersionBusyError at once."""
        key = lease_key(self._namespace, version)
        with as_store_errors(self.store):
            return RedisLease(self._lease_pool, key, version, holder)

    def open_sink(
        self,
        generation: str,
        spec: GenerationSpec,
        lease: Lease,
        *,
        resume: bool,
        categories: Sequence[bytes] = (),
    ) -> GenerationSink:
        """Start writing a generation, or go on with what an interrupted writer left of it."""
        lease.check(generation)
        keys = GenerationKeys(self._namespace, generation)
        writer = RedisWriter(self._pool, self.store, keys, generation, spec, lease)
        return GenerationSink(writer, generation, spec, resume=resume, categories=categories)

    def delete(self, generation: str, layout: GenerationLayout) -> None:
        """Delete all data of a generation by its known names; nothing happens if it is gone."""
        keys = GenerationKeys(self._namespace, generation)
        pipe = WritePipe(self._pool)
        with as_store_errors(self.store):
            try:
                # The manifest first: whoever then finds something missing knows why.
                pipe.send(("UNLINK", keys.manifest), 0)
                pipe.drain()
                # The server frees a chunk as it unlinks it.
                for names in in_batches(keys.all_but_manifest(layout)):
                    pipe.send(("UNLINK", *names), sum(map(len, names)))
                    pipe.drain()
            finally:
                pipe.close()

    def free(self, generation: str, layout: GenerationLayout) -> None:
        """Do nothing: a full server takes a catalogue, and a lease that ended proves no death."""

    def wait_for_replicas(self) -> None:
        """Return when replicas, where there are any, have all that was written.

        Raises
        ------
        StoreUnavailableError
            If they do not catch up in time.
        """
        deadline = time.monotonic() + _REPLICA_TIMEOUT_SECONDS
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
                        f"{_REPLICA_TIMEOUT_SECONDS:.0f} s",
                    )

    def close(self) -> None:
        """Let go of connections."""
        self._pool.disconnect()
        self._lease_pool.disconnect()

    def _cluster(self) -> dict[str, str]:
        """Ask a node of a cluster about it; its size is of the nodes that hold slots."""
        answer: dict[str, str] = self._client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
        return answer

    def _wait(self, replicas: int) -> int:
        """Wait a while for replicas and return how many have all that was written before."""
        # WAIT is about the writes of its own connection: one made now comes after all others.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(barrier_key(self._namespace), b"", ex=_BARRIER_TTL_SECONDS)
        pipeline.wait(replicas, round(_REPLICA_STEP_SECONDS * 1000))
        return int(pipeline.execute()[1])
