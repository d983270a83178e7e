from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from keep.errors import SourceFormatError
from keep.sources.csv_batches import BLOCK_BYTES, csv_batches, read_header


def test_a_file_larger_than_a_block_comes_in_batches_with_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    lines = 3 * BLOCK_BYTES // 2 // 8
    file.write_text("a,b\n" + "123,456\n" * lines)
    read: list[int] = []
    batches = list(csv_batches(file, {"b": pa.int64()}, read.append))
    assert len(batches) > 1
    assert batches[0][0] == 2
    assert batches[1][0] == 2 + batches[0][1].num_rows
    assert sum(batch.num_rows for _, batch in batches) == lines
    assert batches[0][1].schema.names == ["b"]
    assert sum(read) == file.stat().st_size


def test_an_empty_value_in_a_later_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "gap.csv"
    file.write_text("a,b\n1,2\n3,\n")
    with pytest.raises(SourceFormatError, match="line 3, column 'b': is empty"):
        list(csv_batches(file, {"b": pa.int64()}, abs))


def test_a_byte_order_mark_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "bom.csv"
    file.write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n")
    assert read_header(file) == ["a", "b"]
    ((line, batch),) = csv_batches(file, {"a": pa.int64()}, abs)
    assert line == 2
    assert batch.to_pydict() == {"a": [1]}


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(bytes(range(128, 256)))
    with pytest.raises(SourceFormatError, match="not UTF-8"):
        read_header(file)
