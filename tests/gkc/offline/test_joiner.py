"""One file at a time: read ahead, written behind, and nothing of it where something fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gkc.errors import CommandError, TableFileError
from gkc.offline.folders import FilePair
from gkc.offline.form import KnowledgeForm
from gkc.offline.joiner import FileJob, Joiner, JoinOptions, _read_ahead, _written_behind
from gkc.offline.parquet import ParquetTable
from gkc.offline.snapshot import Snapshot, StoreAddress
from tests.gkc.offline.tables import draw, expected, read, told, write
from tests.gkc.world import Worlds


def joiner_of(worlds: Worlds, version: str = "half", dtype: str = "f32") -> Joiner:
    store, form = StoreAddress(worlds.url), KnowledgeForm.of(dtype, ["user", "item"], "")
    options = JoinOptions(Path("in"), Path("out"), store, version, None, form)
    return Joiner(options, Snapshot.take(store), (version,))


def job(source: Path, target: Path) -> FileJob:
    return FileJob(FilePair(source, target), ParquetTable(source), ("half",), {"told": "x"})


def test_files_one_after_the_other(worlds: Worlds, tmp_path: Path) -> None:
    with closing(joiner_of(worlds)) as joiner:
        for name in "ab":
            table, steps = draw(200, ord(name)), list[int]()
            source = write(table, tmp_path / name)
            counts = joiner.join(job(source, tmp_path / "out" / name), steps.append)
            found = read(tmp_path / "out" / name)
            assert told(found) == expected(table, [worlds["half"]], parts=("user", "item"))
            assert found.schema.metadata[b"gkc.join"] == b'{"told": "x"}'
            assert (sum(steps), counts.sum()) == (200, 4 * 200)


def test_nothing_of_a_file_that_fails(worlds: Worlds, tmp_path: Path) -> None:
    source = write(draw(200), tmp_path / "in")

    def stop(_: int) -> None:
        raise CommandError("enough")

    with closing(joiner_of(worlds)) as joiner:
        with pytest.raises(CommandError, match="enough"):
            joiner.join(job(source, tmp_path / "out" / "a"), stop)
        assert [*(tmp_path / "out").iterdir()] == []
        of_source = job(source, tmp_path / "out" / "a")
        source.unlink()
        with pytest.raises(TableFileError, match="No such file"):
            joiner.join(of_source, lambda _: None)


def test_what_cannot_be_answered(worlds: Worlds) -> None:
    for version, dtype in (("half", "f16"), ("largest", "f32")):
        with closing(joiner_of(worlds, version, dtype)) as joiner:
            joiner.check([])
    with (
        closing(joiner_of(worlds, "largest", "f16")) as joiner,
        pytest.raises(CommandError, match="type f16 may overflow: user of version 'largest'"),
    ):
        joiner.check([])


def test_reading_ahead_gives_everything_and_every_failure() -> None:
    assert list(_read_ahead(iter(range(1, 50)))) == list(range(1, 50))
    readers = set()

    def failing() -> Iterator[int]:
        for number in range(1, 4):
            readers.add(threading.current_thread())
            yield number
        raise KeyError("at the end")

    with pytest.raises(KeyError):
        list(_read_ahead(failing()))
    assert threading.current_thread() not in readers


def test_writing_behind_gives_every_failure(tmp_path: Path) -> None:
    table = draw(10)
    with pq.ParquetWriter(tmp_path / "a", table.schema) as writer:
        assert list(_written_behind(writer, iter([table, table]))) == [10, 10]
        with pytest.raises(ValueError, match="schema"):
            list(_written_behind(writer, iter([table, pa.table({"other": [1]}), table])))
