"""Parquet files read and written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gkc.errors import TableFileError
from gkc.offline.form import fixed_lists
from gkc.offline.parquet import (
    ParquetTable,
    lock,
    parquet_writer,
    remove_unlocked,
    replacing,
    replacing_folder,
    schema_metadata,
)
from tests.gkc.offline.tables import draw, write


def test_a_table_comes_in_batches_that_know_their_rows(tmp_path: Path) -> None:
    table = draw(250)
    found = ParquetTable(write(table, tmp_path / "a", group=100))
    assert (found.rows, found.group_rows) == (250, [100, 100, 50])
    assert found.row_bytes > 0
    for at_once in (1000, 60):
        pieces = list(found.batches(at_once))
        assert pa.Table.from_batches([batch for _, batch in pieces]).equals(table)
        assert [first for first, _ in pieces] == list(
            np.cumsum([0, *(batch.num_rows for _, batch in pieces[:-1])])
        )
    ((first, last),) = found.batches(1000, ["label"], group=2)
    assert (first, last.num_rows, last.schema.names) == (200, 50, ["label"])


def test_columns_of_nothing_but_null(tmp_path: Path) -> None:
    nulls, numbers = pa.nulls(250, pa.int64()), pa.array(range(250))
    most = pa.array([None] * 249 + [1])
    table = pa.table({"numbers": numbers, "no": nulls, "most": most})
    assert ParquetTable(write(table, tmp_path / "a")).null_columns == {"no"}
    pq.write_table(table, tmp_path / "b", write_statistics=False)
    assert ParquetTable(tmp_path / "b").null_columns == set()
    assert ParquetTable(write(table[:0], tmp_path / "c")).null_columns == set()


def test_an_empty_table(tmp_path: Path) -> None:
    assert list(ParquetTable(write(draw(0), tmp_path / "a")).batches(10)) == []
    pq.ParquetWriter(tmp_path / "b", draw(0).schema).close()
    assert list(ParquetTable(tmp_path / "b").batches(10)) == []


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    with pytest.raises(TableFileError, match=r"/a: is no readable Parquet file: "):
        ParquetTable(tmp_path / "a")


def test_damage_is_named(tmp_path: Path) -> None:
    path = write(draw(2000), tmp_path / "a", group=2000)
    raw = bytearray(path.read_bytes())
    raw[4 : len(raw) // 2] = bytes(len(raw) // 2 - 4)
    path.write_bytes(raw)
    with pytest.raises(TableFileError, match=r"/a: cannot be read: "):
        list(ParquetTable(path).batches(500))


def test_another_file_of_the_name_is_not_read(tmp_path: Path) -> None:
    path, other = write(draw(200), tmp_path / "a"), write(draw(200, 1), tmp_path / "b")
    table = ParquetTable(path)
    os.utime(other, ns=(table.stamp.mtime_ns, table.stamp.mtime_ns))
    other.replace(path)
    with pytest.raises(TableFileError, match="/a: was changed while it was read; run it again"):
        next(table.batches(50))
    batches = ParquetTable(path).batches(50)
    next(batches)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(TableFileError, match="/a: was changed while it was read"):
        list(batches)


def test_noise_is_written_as_it_is_and_the_rest_small(tmp_path: Path) -> None:
    noise = fixed_lists(np.random.default_rng(0).random((300, 4)).astype(np.float16))
    table = draw(300).append_column("noise", noise)
    with parquet_writer(tmp_path / "a", table.schema, ["noise"]) as writer:
        writer.write_table(table)
    assert pq.read_table(tmp_path / "a").equals(table)
    metadata = pq.read_metadata(tmp_path / "a")
    columns = [metadata.row_group(0).column(k) for k in range(metadata.num_columns)]
    told = {c.path_in_schema.partition(".")[0]: (c.compression, c.is_stats_set) for c in columns}
    assert told.pop("noise") == ("UNCOMPRESSED", False)
    assert set(told.values()) == {("ZSTD", True)}


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target, temporary = tmp_path / "folder" / "a", tmp_path / "folder" / ".a.tmp"
    with replacing(temporary, target) as path:
        path.write_bytes(b"whole")
        assert not target.exists()
    assert [*target.parent.iterdir()] == [target]
    with pytest.raises(KeyError), replacing(temporary, target):
        raise KeyError
    assert [*target.parent.iterdir()] == [target]
    assert target.read_bytes() == b"whole"


def test_a_file_that_another_writes(tmp_path: Path) -> None:
    path = tmp_path / ".a.tmp"
    fd = lock(path)
    assert fd is not None
    with pytest.raises(TableFileError, match="/a: is being written by another process"):
        replacing(path, tmp_path / "a").__enter__()
    with pytest.raises(TableFileError, match="is being written by another process"):
        remove_unlocked(path)
    os.close(fd)
    remove_unlocked(path)
    assert not path.exists()


@pytest.fixture
def before_lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something happen once, between the opening of a file and its locking."""
    flock, waiting = fcntl.flock, list[Callable[[], object]]()

    def interrupted(fd: int, operation: int) -> None:
        if waiting:
            waiting.pop()()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", interrupted)
    return waiting.append


def test_a_file_that_another_removes_or_renames_before_it_is_locked(
    before_lock: Callable[[Callable[[], object]], None], tmp_path: Path
) -> None:
    path = tmp_path / ".a.tmp"
    for meanwhile in (path.unlink, lambda: path.rename(tmp_path / "a")):
        before_lock(meanwhile)
        fd = lock(path)
        assert fd is not None
        assert lock(path) is None
        os.close(fd)


def test_a_folder_that_another_renames_before_it_is_locked(
    before_lock: Callable[[Callable[[], object]], None], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    before_lock(lambda: (tmp_path / ".a.gkc-export-table").rename(other))
    with replacing_folder(tmp_path / "a") as folder:
        (folder / "b").touch()
    assert [*other.iterdir()] == []
    assert [*(tmp_path / "a").iterdir()] == [tmp_path / "a" / "b"]


def test_who_is_done_leaves_alone_what_the_next_one_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, target = tmp_path / ".a.tmp", tmp_path / "a"
    with replacing(temporary, target):
        _make_once_there_is(monkeypatch, target, temporary.touch)
    assert temporary.exists()
    temporary.unlink()
    of_folder = tmp_path / ".b.gkc-export-table"
    with replacing_folder(tmp_path / "b"):
        _make_once_there_is(monkeypatch, tmp_path / "b", of_folder.mkdir)
    assert of_folder.exists()


def _make_once_there_is(
    monkeypatch: pytest.MonkeyPatch, target: Path, make: Callable[[], None]
) -> None:
    def fsync(_: int) -> None:
        if target.exists():
            make()

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(TableFileError, match="/a/b: cannot be written: "):
        replacing(tmp_path / "a" / ".b.tmp", tmp_path / "a" / "b").__enter__()
    with pytest.raises(TableFileError, match="/a/b: cannot be written: "):
        replacing_folder(tmp_path / "a" / "b").__enter__()


def test_a_folder_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    (tmp_path / ".out.gkc-export-table").mkdir()
    (tmp_path / ".out.gkc-export-table" / "left").touch()
    with pytest.raises(KeyError), replacing_folder(target):
        raise KeyError
    assert [*tmp_path.iterdir()] == []
    with replacing_folder(target) as folder:
        (folder / "a").touch()
        with pytest.raises(TableFileError, match="is being written by another process"):
            replacing_folder(target).__enter__()
    assert [*tmp_path.iterdir()] == [target]
    assert [*target.iterdir()] == [target / "a"]


def test_metadata_of_what_is_no_table_is_nothing(tmp_path: Path) -> None:
    write(draw(3).replace_schema_metadata({"k": "v"}), tmp_path / "a")
    assert schema_metadata(tmp_path / "a")["k"] == "v"
    (tmp_path / "b").touch()
    assert schema_metadata(tmp_path / "b") == {}
    os.mkfifo(tmp_path / "pipe")
    for path, said in (("pipe", "is no regular file"), ("c", "there is no such file")):
        with pytest.raises(TableFileError, match=f"/{path}: {said}"):
            schema_metadata(tmp_path / path)
        with pytest.raises(TableFileError, match=f"/{path}: {said}"):
            ParquetTable(tmp_path / path)
