"""One moment of a store, whatever happens to the store afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pickle
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from gkc.errors import CommandError, GenerationNotFoundError, VersionNotFoundError
from gkc.offline.snapshot import Snapshot, SnapshotReader, StoreAddress, _LoopThread
from gkc.offline.sources import Sources
from gkc.store import Origin, open_publisher
from gkc.testing.samples import publish_sample, small_sample
from tests.gkc.world import USERS, make_world

FOREVER_SECONDS = 10_000.0
"""Longer than a test may take."""


def test_it_stays_as_it_was(url: str) -> None:
    first = make_world("v1", 1).publish(url)
    snapshot = pickle.loads(pickle.dumps(Snapshot.take(StoreAddress(url))))
    second = make_world("v1", 2).publish(url)
    assert snapshot.generations == {"v1": first.generation}
    with closing(SnapshotReader(snapshot)) as reader:
        loaded = reader.load(["v1"])["v1"]
        assert loaded.manifest.generation == first.generation
        assert len(list(reader.fetch(loaded.manifest, np.array(USERS)))) == len(USERS)
        assert sum(len(block.ids) for block in reader.users("v1")) == len(USERS)
        reader.require_kept(["v1"])  # as the previous one
        make_world("v1", 3).publish(url)
        with pytest.raises(GenerationNotFoundError, match=first.generation):
            reader.require_kept(["v1"])
    assert Snapshot.take(StoreAddress(url)).generations["v1"] != second.generation


def test_versions_that_are_not_there(url: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no store at"):
        Snapshot.take(StoreAddress(url))
    make_world("v1").publish(url)
    snapshot = Snapshot.take(StoreAddress(url))
    with pytest.raises(VersionNotFoundError, match="versions there: v1"):
        snapshot.generation("v2")
    assert Snapshot.take(StoreAddress(url, "other")).generations == {}


def test_what_rows_come_from(url: str) -> None:
    sample = small_sample("v2")
    spec = structs.replace(sample.spec, origin=Origin(vector_space="of-run-7"))
    publisher = open_publisher(url)
    publish_sample(publisher, replace(sample, spec=spec))
    publisher.close()
    first = make_world("v1").publish(url)
    snapshot = Snapshot.take(StoreAddress(url))
    with closing(SnapshotReader(snapshot)) as reader:
        sources = Sources.of(reader.manifests(["v1", "v2"]))
    told = {key: json.loads(value) for key, value in sources.metadata().items()}
    assert told["gkc.versions"] == {"v1": first.generation, "v2": snapshot.generations["v2"]}
    assert told["gkc.vector_spaces"] == {"v2": "of-run-7"}
    root = Path(url.removeprefix("file:"))
    for version, generation in told["gkc.versions"].items():
        (manifest,) = root.rglob(f"{generation}/manifest.json")
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        assert told["gkc.checksums"][version] == f"sha256:{digest}"


def test_a_version_deleted_before_it_was_read(url: str) -> None:
    make_world("v1").publish(url)
    snapshot = Snapshot.take(StoreAddress(url))
    publisher = open_publisher(url)
    publisher.delete("v1", grace_seconds=0)
    publisher.delete_retired(wait=True)
    publisher.close()
    with closing(SnapshotReader(snapshot)) as reader, pytest.raises(GenerationNotFoundError):
        reader.load(["v1"])


def test_ctrl_c_ends_what_is_waited_for() -> None:
    with closing(_LoopThread()) as loop:
        assert loop.run(asyncio.sleep(0, "done")) == "done"
        with pytest.raises(KeyboardInterrupt):
            loop.run(_interrupted())


async def _interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)  # which the main thread gets
    await asyncio.sleep(FOREVER_SECONDS)
