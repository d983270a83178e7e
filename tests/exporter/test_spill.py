"""Rows are spilled into a file without a name and come back partition by partition."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import spill
from exporter.errors import SpillError
from exporter.partitions import (
    ROW,
)
from exporter.spill import KEY, Spill, partition_of
from gkc.store import hash_ids

SCHEMA = pa.schema([(KEY, pa.int64()), (ROW, pa.int64()), ("list", pa.large_list(pa.float32()))])
IDS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50)


def batch(ids: list[int], first: int = 0) -> pa.RecordBatch:
    lists = [[float(k)] * (k % 4) for k in range(first, first + len(ids))]
    rows = np.arange(first, first + len(ids))
    return pa.record_batch([pa.array(ids, pa.int64()), pa.array(rows), lists], schema=SCHEMA)


@given(IDS, st.integers(1, 4096))
def test_partitions_are_ranges_of_hashes(ids: list[int], partitions: int) -> None:
    values = np.array(ids, dtype=np.int64)
    place = partition_of(values, partitions)
    assert place.min() >= 0
    assert place.max() < partitions
    in_order = place[np.argsort(hash_ids(values))]
    assert (np.diff(in_order) >= 0).all()


@pytest.mark.parametrize("chunk_bytes", [1, 500, 1 << 20])
def test_every_row_comes_back_in_its_partition_in_the_order_of_the_table(
    chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "_CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(spill, "_PIECE_BYTES", 1)
    ids = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 300).tolist()
    whole = pa.Table.from_batches([batch(ids)])
    with Spill(SCHEMA, 7) as spilled:
        for start in range(0, 300, 30):
            spilled.append(batch(ids[start : start + 30], start))
        spilled.flush()
        place = partition_of(np.array(ids), 7)
        assert spilled.rows.tolist() == np.bincount(place, minlength=7).tolist()
        for partition in range(7):
            found = spilled.read(partition)
            assert found.equals(whole.take(np.flatnonzero(place == partition)))
            assert found.column(KEY).num_chunks <= 1


def test_a_partition_without_rows_is_an_empty_table() -> None:
    with Spill(SCHEMA, 3) as spilled:
        spilled.flush()
        assert spilled.read(2).num_rows == 0
        assert spilled.read(2).schema == SCHEMA


def test_no_file_is_left_even_while_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spill(SCHEMA, 2) as spilled:
        spilled.append(batch([1, 2, 3]))
        spilled.flush()
        assert list(tmp_path.iterdir()) == []
        assert sum(spilled.read(p).num_rows for p in range(2)) == 3


def test_no_temporary_directory_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(SpillError, match=r"gone: No such file or directory; .* in TMPDIR"):
        Spill(SCHEMA, 2)
