"""Each user read once a table, whatever the order of its rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gkc.center.plan import Records
from gkc.offline import spilled
from gkc.offline.form import KnowledgeForm
from gkc.offline.questions import RowQuestions
from gkc.offline.snapshot import Snapshot, SnapshotReader, StoreAddress
from gkc.offline.spilled import PacedFetch, SpilledAnswers
from gkc.store import GenerationManifest, id_fields
from gkc.strings import Ids
from tests.gkc.offline.tables import EQUALLY_WIDE, draw, expected, told, worlds_of
from tests.gkc.world import STRINGS, Worlds, versions_of

FORM = KnowledgeForm("f16")


class Counting:
    """Reads users, and counts how often each one was read of each version."""

    def __init__(self, reader: SnapshotReader) -> None:
        self._reader = reader
        self.reads: Counter[tuple[str, bytes]] = Counter()

    def __call__(self, manifest: GenerationManifest, users: Ids) -> Records:
        self.reads.update((manifest.spec.version, field) for field in id_fields(users))
        return self._reader.fetch(manifest, users)


@pytest.fixture
def reader(worlds: Worlds) -> Iterator[SnapshotReader]:
    with closing(SnapshotReader(Snapshot.take(StoreAddress(worlds.url)))) as opened:
        yield opened


def answered(
    table: pa.Table, reader: SnapshotReader, fetch: Counting, folder: Path, at_once: int = 100
) -> pa.Table:
    questions = RowQuestions("a table", table.schema, None, "version")
    asked = [questions.read(batch, 0) for batch in table.to_batches(at_once)]
    done: list[int] = []
    generations = reader.load(sorted(set(table["version"].to_pylist())))
    with closing(SpilledAnswers(folder, table.num_rows, generations, fetch, FORM)) as spill:
        for columns in asked:
            spill.ask(columns)
        spill.answer(done.append)
        pieces = [spill.columns(columns) for columns in asked]
        assert spill.counts.sum() == 4 * table.num_rows
    assert sum(done) == table.num_rows
    assert [*folder.iterdir()] == []
    added = [pa.chunked_array([c for piece in pieces for c in piece[k].chunks]) for k in (0, 1)]
    return pa.table(added, names=["knowledge", "status"])


@pytest.mark.parametrize("partitions", [1, 2, 5])
@pytest.mark.parametrize("strings", [(), *STRINGS])
def test_order_and_bits_and_one_read(
    worlds: Worlds,
    reader: SnapshotReader,
    tmp_path: Path,
    partitions: int,
    strings: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spilled, "_partitions", lambda *_: partitions)
    monkeypatch.setattr(spilled, "_USERS_AT_ONCE", 3)
    versions = versions_of(strings) if strings else EQUALLY_WIDE
    table = draw(700, 0, versions, strings).combine_chunks()
    fetch = Counting(reader)
    found = answered(table, reader, fetch, tmp_path)
    assert told(found) == expected(table, worlds_of(table, worlds), "f16")
    users = table["user_id"].to_pylist()
    fields = id_fields(np.array(users)) if "user" not in strings else [u.encode() for u in users]
    assert fetch.reads == Counter(set(zip(table["version"].to_pylist(), fields, strict=True)))


def test_all_rows_of_one_user(worlds: Worlds, reader: SnapshotReader, tmp_path: Path) -> None:
    table = draw(300, versions=("half",))
    table = table.set_column(1, "user_id", pa.array(np.full(300, 7)))
    found = answered(table, reader, Counting(reader), tmp_path, 300)
    assert told(found) == expected(table, [worlds["half"]], "f16")


def test_partitions_hold_so_many_bytes_of_users(reader: SnapshotReader) -> None:
    (loaded,) = reader.load(["half"]).values()
    spec = loaded.manifest.spec
    many = spilled._PARTITION_BYTES // spec.mean_record_bytes
    assert spilled._partitions(10, [loaded]) == 1
    assert spilled._partitions(many * 10, [loaded]) == 1  # there are but seven users


def test_reads_are_paced(reader: SnapshotReader) -> None:
    (loaded,) = reader.load(["half"]).values()
    fetch = PacedFetch(reader.fetch, 100)
    began = time.monotonic()
    for _ in range(4):
        fetch(loaded.manifest, np.arange(10))
    assert time.monotonic() - began >= 0.3  # never faster, however slow this machine is
